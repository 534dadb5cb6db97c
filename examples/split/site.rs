//! The split itself: a director, two HTTP proxies, two origins, in one process on loopback.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use l4_proxy::probe::Schedule;
use lvsadm::Control;

use crate::origin::Origin;

/// Everything that runs.
pub(crate) struct Site {
    ports: Ports,
    files: Files,
    director: l4_proxy::daemon::Daemon,
    proxies: [Option<l7_proxy::daemon::Daemon>; 2],
    origins: [Option<Origin>; 2],
}

/// The ports in use: six in a row.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    first: u16,
}

/// The configuration files: those checked in, or copies of them with other ports.
struct Files {
    folder: PathBuf,
    /// Whether the folder is a copy, to be removed at the end.
    copy: bool,
}

impl Site {
    /// Starts all of it.
    pub(crate) fn start(ports: Ports) -> Result<Site, String> {
        ports.check()?;
        let files = Files::with(ports).map_err(|error| format!("cannot write the configuration: {error}"))?;
        let origins = [start_origin(ports, 0)?, start_origin(ports, 1)?].map(Some);
        let proxies = [start_proxy(&files, 0)?, start_proxy(&files, 1)?].map(Some);
        let director = start_director(&files)?;
        Ok(Site { ports, files, director, proxies, origins })
    }

    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// What `ipvsadm` talks to.
    pub(crate) fn control(&self) -> Arc<dyn Control> {
        self.director.control()
    }

    pub(crate) fn kill_origin(&mut self, index: usize) {
        self.origins[index] = None;
    }

    pub(crate) fn revive_origin(&mut self, index: usize) -> Result<(), String> {
        self.origins[index] = Some(start_origin(self.ports, index)?);
        Ok(())
    }

    pub(crate) fn kill_proxy(&mut self, index: usize) {
        self.proxies[index] = None;
    }

    pub(crate) fn revive_proxy(&mut self, index: usize) -> Result<(), String> {
        self.proxies[index] = Some(start_proxy(&self.files, index)?);
        Ok(())
    }

    /// Lets connections end, the director's first, since everything reaches the others through it.
    pub(crate) async fn drain(mut self) {
        self.director.drain(DRAIN).await;
        for proxy in self.proxies.iter_mut().filter_map(Option::take) {
            proxy.shutdown(DRAIN).await;
        }
    }
}

fn start_director(files: &Files) -> Result<l4_proxy::daemon::Daemon, String> {
    let path = files.folder.join("director.rules");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let config = lvsadm::rules::parse(path, &text).map_err(|error| error.to_string())?;
    let mut options = l4_proxy::daemon::Options { probes: Some(PROBES), ..Default::default() };
    (options.health.rise, options.health.fall) = (1, 1);
    // Probes are quick enough here to be the only judge.
    options.health.passive = None;
    l4_proxy::daemon::Daemon::start(options, config).map_err(|error| error.to_string())
}

fn start_proxy(files: &Files, index: usize) -> Result<l7_proxy::daemon::Daemon, String> {
    let source = l7_proxy::conf::Source {
        file: files.folder.join(format!("nginx{}.conf", index + 1)),
        prefix: files.folder.clone(),
        globals: String::new(),
    };
    let loaded = l7_proxy::conf::load(&source).map_err(|error| error.to_string())?;
    let options = l7_proxy::daemon::Options::default();
    l7_proxy::daemon::Daemon::start(loaded.config, options).map_err(|error| error.to_string())
}

fn start_origin(ports: Ports, index: usize) -> Result<Origin, String> {
    let address = ports.at(FIRST_ORIGIN + index as u16);
    Origin::start(address, index + 1).map_err(|error| format!("cannot listen on {address}: {error}"))
}

impl Ports {
    /// The ports from `first` on.
    pub(crate) fn from(first: u16) -> Ports {
        Ports { first }
    }

    /// Where clients connect.
    pub(crate) fn web(self) -> SocketAddr {
        self.at(0)
    }

    /// Where clients connect who want to stay with one proxy.
    pub(crate) fn sticky(self) -> SocketAddr {
        self.at(1)
    }

    fn at(self, offset: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.first + offset).into()
    }

    /// Says which ports are taken, all of them at once.
    fn check(self) -> Result<(), String> {
        let taken = |offset: &u16| TcpListener::bind(self.at(*offset)).is_err();
        let taken: Vec<String> =
            (0..COUNT).filter(taken).map(|offset| (self.first + offset).to_string()).collect();
        if taken.is_empty() {
            return Ok(());
        }
        Err(format!(
            "in use on 127.0.0.1: {}; choose six others in a row with --port FIRST, such as --port 18080",
            taken.join(", ")
        ))
    }

    /// The text with the ports of the checked-in files replaced by these.
    fn rewrite(self, text: &str) -> String {
        let mut parts = text.split(LOOPBACK);
        let mut written = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
            let port: Option<u16> = part[..digits].parse().ok();
            let offset = port.and_then(|port| port.checked_sub(FIRST)).filter(|offset| *offset < COUNT);
            written += LOOPBACK;
            match offset {
                Some(offset) => written += &format!("{}{}", self.first + offset, &part[digits..]),
                None => written += part,
            }
        }
        written
    }
}

impl Files {
    fn with(ports: Ports) -> io::Result<Files> {
        let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("split");
        if ports.first == FIRST {
            return Ok(Files { folder: checked_in, copy: false });
        }
        let folder = std::env::temp_dir().join(format!("split-{}", std::process::id()));
        let files = Files { folder, copy: true };
        for page in ["html1", "html2"] {
            fs::create_dir_all(files.folder.join(page))?;
            for entry in fs::read_dir(checked_in.join(page))? {
                let entry = entry?;
                fs::copy(entry.path(), files.folder.join(page).join(entry.file_name()))?;
            }
        }
        for name in ["director.rules", "nginx1.conf", "nginx2.conf", "mime.types"] {
            let text = fs::read_to_string(checked_in.join(name))?;
            fs::write(files.folder.join(name), ports.rewrite(&text))?;
        }
        Ok(files)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if self.copy {
            // What cannot be removed lies in the folder for temporary files.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Prints a line; a reader that has gone is no reason to stop.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// The first port of the checked-in files.
pub(crate) const FIRST: u16 = 8080;

/// How many ports there are from the first on: two of the director, two proxies, two origins.
pub(crate) const COUNT: u16 = 6;

const FIRST_ORIGIN: u16 = 4;

const LOOPBACK: &str = "127.0.0.1:";

const DRAIN: Duration = Duration::from_secs(5);

/// Often, so that a death and a return show at once.
const PROBES: Schedule =
    Schedule { interval: Duration::from_millis(250), timeout: Duration::from_millis(250) };
