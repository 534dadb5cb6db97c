//! Processes that start another of themselves: to go into the background, or as their successor.
//!
//! A program with threads cannot fork, so either way the program is run anew, by the name and with
//! the arguments that it was started with: after an upgrade that is the new file. Its standard
//! input is a socket on which it gets what it needs and says that it serves: listening sockets, and what the
//! other one knows of upstreams beyond its file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use l4_proxy::inherit::Inherited;
use l4_proxy::takeover::{read_text, sockets, write_text};
use rustix::process::{Pid, getppid, setsid};
use tokio::process::Command;

/// How this process came to be.
pub(crate) enum Origin {
    /// Somebody started it.
    Outside,
    /// It is to run in the background; who started it waits to hear that it serves.
    Background(Starter),
    /// It goes on where another process ends, with its sockets and what it had to say.
    Successor(Starter, Inherited, Vec<u8>),
}

/// The process that started this one.
pub(crate) struct Starter {
    process: Pid,
    stream: UnixStream,
}

/// A process that goes on where this one ends.
pub(crate) struct Successor {
    child: tokio::process::Child,
    /// Held so that the other one can tell that we are there.
    _stream: UnixStream,
}

impl Origin {
    /// Finds out, and takes what the starter has sent.
    ///
    /// # Errors
    /// The starter is gone, or sends something else.
    pub(crate) fn find() -> io::Result<Origin> {
        let Ok(text) = std::env::var(VARIABLE) else { return Ok(Origin::Outside) };
        let starter = text.split_once(' ').and_then(|(role, process)| Some((role, process.parse().ok()?)));
        // The variable goes on to whatever this process starts, and means nothing there.
        let Some((role, process)) =
            starter.filter(|(_, process)| getppid().map(Pid::as_raw_nonzero) == Some(*process))
        else {
            return Ok(Origin::Outside);
        };
        let process = Pid::from_raw(process.get()).ok_or(io::ErrorKind::InvalidInput)?;
        let stream = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut starter = Starter { process, stream };
        match role {
            BACKGROUND => {
                setsid()?;
                Ok(Origin::Background(starter))
            }
            _ => {
                let inherited = starter.receive()?;
                let legacy = read_text(&starter.stream)?;
                Ok(Origin::Successor(starter, inherited, legacy))
            }
        }
    }
}

impl Starter {
    fn receive(&mut self) -> io::Result<Inherited> {
        let mut count = [0; 8];
        self.stream.read_exact(&mut count)?;
        let count = usize::try_from(u64::from_be_bytes(count)).unwrap_or(usize::MAX);
        let mut inherited = Inherited::default();
        for socket in sockets::receive(&self.stream, count)? {
            let missing = || io::Error::other("this process may not have as many sockets");
            inherited.add(socket.ok_or_else(missing)?)?;
        }
        Ok(inherited)
    }

    /// Says that this process serves.
    pub(crate) fn tell(&self) {
        // One that has gone meanwhile need not know.
        let _ = (&self.stream).write_all(&[SERVES]);
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&self) -> bool {
        getppid() == Some(self.process)
    }
}

/// Runs the program in the background; returns when it serves.
///
/// # Errors
/// It cannot be started, or has ended: the code, and what it had to say it has said.
pub(crate) async fn background() -> io::Result<Result<(), ExitStatus>> {
    let (mut child, stream) = start(BACKGROUND)?;
    let heard = tokio::task::spawn_blocking(move || (&stream).read(&mut [0]));
    match heard.await {
        Ok(Ok(1)) => Ok(Ok(())),
        _ => child.wait().await.map(Err),
    }
}

impl Successor {
    /// Runs the program anew, to go on with these sockets and this legacy.
    ///
    /// # Errors
    /// It cannot be started, or does not take them.
    pub(crate) fn start(sockets: &[OwnedFd], legacy: &[u8]) -> io::Result<Successor> {
        let (mut child, stream) = start(SUCCESSOR)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let sent = (&stream)
            .write_all(&(sockets.len() as u64).to_be_bytes())
            .and_then(|()| sockets::send(&stream, sockets))
            .and_then(|()| write_text(&stream, legacy));
        if let Err(error) = sent {
            // Whatever it is, it is no successor.
            let _ = child.start_kill();
            return Err(error);
        }
        Ok(Successor { child, _stream: stream })
    }

    /// Its process id.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

fn start(role: &str) -> io::Result<(tokio::process::Child, UnixStream)> {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_else(|| OsString::from(env!("CARGO_BIN_NAME")));
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command.args(words).env(VARIABLE, format!("{role} {}", std::process::id()));
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    Ok((command.spawn()?, ours))
}

/// Says what a process is to its starter, and the starter's id.
const VARIABLE: &str = "L7_PROXY_STARTED_AS";

const BACKGROUND: &str = "background";
const SUCCESSOR: &str = "successor";

/// What a process says that serves.
const SERVES: u8 = 1;

/// How long one process waits for the other to say the next word.
const PATIENCE: Duration = Duration::from_secs(10);
