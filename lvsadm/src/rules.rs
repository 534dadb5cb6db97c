//! The rules of a director as text: what `ipvsadm-save` writes.
//!
//! A file of rules has one command a line, as ipvsadm takes it, with or without the word `ipvsadm`
//! in front. Empty lines and lines that begin with `#` are left out. What ipvsadm does not save is
//! saved on request ([`Extent::Full`]): thresholds, timeouts, backups, named pools.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lvs_core::{
    Config, Forwarding, Protocol, ServerConfig, ServiceConfig, ServiceKey, Tunnel, TunnelChecksum,
};

pub use crate::arguments::Extent;
use crate::arguments::{self, Command};
use crate::control::{CommitError, Edit, Timeouts};
use crate::edit;
use crate::listing::{Fit, endpoint, mask, protocol, scheduler_flags};
use crate::message::Failure;
use crate::names::{Names, Naming};
use crate::order;

/// What a file of rules says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// The services and their servers.
    pub config: Config,
    /// The last `--set`, if there is one.
    pub timeouts: Option<TimeoutRule>,
}

/// Timeouts as `--set` says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutRule {
    /// For TCP, TCP after FIN, UDP; 0 leaves one as it is.
    seconds: [u32; 3],
}

/// What is wrong in a file of rules, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, with the word to blame.
    pub message: String,
}

/// Reads the rules of a file whose text this is.
///
/// Only commands that configure are rules: `-A -E -D -C -a -e -d`, and `--set`. Names of hosts and services are
/// looked up now, and what they lead to is kept.
///
/// ```
/// # use lvsadm::rules;
/// let config = rules::parse("director.rules", "-A -t 192.0.2.1:80 -s wrr\n-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -m\n")?;
/// assert_eq!(config.services[0].servers.len(), 1);
///
/// let error = rules::parse("director.rules", "-A -t 192.0.2.1:80\n-a -t 192.0.2.1:80 -r 10.0.0.1 -w x\n");
/// assert_eq!(error.unwrap_err().to_string(), "director.rules:2: illegal weight specified: \"x\"");
/// # Ok::<(), rules::RulesError>(())
/// ```
///
/// # Errors
/// The first line that is no rule, or does not fit what the lines before it say.
pub fn parse(file: impl AsRef<Path>, text: &str) -> Result<Config, RulesError> {
    read(file, text, |_| Ok(())).map(|rules| rules.config)
}

/// The same for a director that cannot do everything: each rule must also pass `accepts`, so that
/// what it refuses has a line.
///
/// # Errors
/// The first line that is no rule, does not fit what the lines before it say, or is not accepted.
pub fn parse_for(
    file: impl AsRef<Path>,
    text: &str,
    accepts: impl Fn(&Edit) -> Result<(), CommitError>,
) -> Result<Config, RulesError> {
    read(file, text, accepts).map(|rules| rules.config)
}

/// The same with the timeouts that the file sets.
///
/// # Errors
/// As for [`parse_for`].
pub fn read(
    file: impl AsRef<Path>,
    text: &str,
    accepts: impl Fn(&Edit) -> Result<(), CommitError>,
) -> Result<Rules, RulesError> {
    let names = Names::default();
    let mut rules = Rules::default();
    for (line, words) in lines(text) {
        if words[0].starts_with('#') {
            continue;
        }
        let wrong = |message| RulesError { file: file.as_ref().to_owned(), line, message };
        match arguments::parse(&words, &names) {
            Ok(Command::Edit(edit)) => {
                edit::make(&edit, &mut rules.config).map_err(|failure| wrong(failure.reason()))?;
                accepts(&edit).map_err(|refused| wrong(refused.to_string()))?;
            }
            Ok(Command::SetTimeouts(seconds)) => rules.timeouts = Some(TimeoutRule { seconds }),
            Ok(_) => return Err(wrong(Failure::words("the command is no rule").blame(&words[0]).reason())),
            Err(failure) => return Err(wrong(failure.reason())),
        }
    }
    Ok(rules)
}

impl TimeoutRule {
    pub(crate) fn new(seconds: [u32; 3]) -> TimeoutRule {
        TimeoutRule { seconds }
    }

    /// The timeouts after the rule, where these hold before it.
    pub fn apply_to(self, before: Timeouts) -> Timeouts {
        let choose = |seconds: u32, before| match seconds {
            0 => before,
            seconds => Duration::from_secs(seconds.into()),
        };
        let [tcp, tcp_fin, udp] = self.seconds;
        Timeouts {
            tcp: choose(tcp, before.tcp),
            tcp_fin: choose(tcp_fin, before.tcp_fin),
            udp: choose(udp, before.udp),
        }
    }
}

/// The commands in a text with their line numbers, split into words. A leading word `ipvsadm` is
/// dropped, and lines without a command are left out.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<String>)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let mut words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        if words.first().is_some_and(|word| word == "ipvsadm") {
            words.remove(0);
        }
        (!words.is_empty()).then_some((index + 1, words))
    })
}

/// Writes rules, one command a line, in the order of a listing.
///
/// What ipvsadm would not read is left out; [`save_full`] writes it.
pub fn save(config: &Config, naming: Naming) -> String {
    write(config, naming, Extent::Ipvsadm)
}

/// Writes all that a command line can say: thresholds, timeouts, backups and named pools too.
pub fn save_full(config: &Config, timeouts: Timeouts, naming: Naming) -> String {
    let seconds = [timeouts.tcp, timeouts.tcp_fin, timeouts.udp].map(|timeout| timeout.as_secs().to_string());
    format!("--set {}\n{}", seconds.join(" "), write(config, naming, Extent::Full))
}

fn write(config: &Config, naming: Naming, extent: Extent) -> String {
    let names = Names::default();
    let names = (naming == Naming::Named).then_some(&names);
    let mut services: Vec<&ServiceConfig> = config.services.iter().collect();
    order::services(&mut services, |service| &service.key);
    let mut out = String::new();
    for service in services {
        let Some(key) = key_words(&service.key, names, extent) else { continue };
        out.push_str(&format!("-A {key} {}\n", service_words(service)));
        let mut servers: Vec<&ServerConfig> = service.servers.iter().rev().collect();
        order::servers(&mut servers, |server| server.address);
        for server in servers {
            let address = endpoint(server.address, protocol(&service.key), names, Fit::Whole);
            let words = server_words(server, extent);
            out.push_str(&format!("-a {key} -r {address} {words}\n"));
        }
    }
    out
}

fn key_words(key: &ServiceKey, names: Option<&Names>, extent: Extent) -> Option<String> {
    match key {
        ServiceKey::Address { protocol, address } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            Some(format!("{option} {}", endpoint(*address, Some(*protocol), names, Fit::Whole)))
        }
        ServiceKey::Mark { mark, family: lvs_core::Family::V4 } => Some(format!("-f {mark}")),
        ServiceKey::Mark { mark, family: lvs_core::Family::V6 } => Some(format!("-f {mark} -6")),
        ServiceKey::Name(name) => (extent == Extent::Full).then(|| format!("--pool {name}")),
    }
}

/// What `-A` says of a service after its address.
pub(crate) fn service_words(service: &ServiceConfig) -> String {
    let mut words = format!("-s {}", service.algorithm);
    if let Some(persistence) = &service.persistence {
        words.push_str(&format!(" -p {}", persistence.timeout().as_secs()));
    }
    if let Some(mask) = mask(service) {
        words.push_str(&format!(" -M {mask}"));
    }
    if let Some(engine) = service.persistence.and_then(|rule| rule.persistence_engine()) {
        words.push_str(&format!(" --pe {}", engine.name()));
    }
    if service.one_packet {
        words.push_str(" -o");
    }
    if !service.flags.is_empty() {
        words.push_str(&format!(" -b {}", scheduler_flags(service)));
    }
    words
}

/// What `-a` says of a server after its address.
pub(crate) fn server_words(server: &ServerConfig, extent: Extent) -> String {
    let checksum = |checksum| match checksum {
        TunnelChecksum::Absent => "--tun-nocsum",
        TunnelChecksum::Present => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    let weight = server.weight;
    let mut words = match server.forwarding {
        Forwarding::Gatewaying => format!("-g -w {weight}"),
        Forwarding::Tunneling(Tunnel::Gue { port, checksum: sum }) => {
            format!("-i -w {weight} --tun-type gue --tun-port {port} {}", checksum(sum))
        }
        Forwarding::Tunneling(Tunnel::Gre { checksum: sum }) => {
            format!("-i -w {weight} --tun-type gre {}", checksum(sum))
        }
        Forwarding::Tunneling(_) => format!("-i -w {weight} --tun-type ipip"),
        _ => format!("-m -w {weight}"),
    };
    if extent == Extent::Full {
        let thresholds = server.thresholds;
        if thresholds.upper() > 0 {
            words.push_str(&format!(" -x {}", thresholds.upper()));
        }
        if thresholds.lower() > 0 {
            words.push_str(&format!(" -y {}", thresholds.lower()));
        }
        if server.backup {
            words.push_str(" --backup");
        }
    }
    words
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

impl std::error::Error for RulesError {}
