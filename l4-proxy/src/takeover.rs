//! One director goes on where another ends: sockets, rules, templates, health and counters pass from
//! process to process over the control socket.
//!
//! 1. The successor asks. The director refuses changes from now on, stops reading datagrams, which wait
//!    in the kernel meanwhile, and sends what it has.
//! 2. The successor takes it in and serves on the same sockets. If it has virtual routers, the director
//!    leaves them to it now, and falls silent. Then it says with one byte that it serves.
//! 3. The director stops accepting and drains: its connections end where they are, and count at the
//!    successor, which asks for them. Flows of datagrams have passed with their sockets, so neither clients nor
//!    servers notice.
//!
//! Sockets are the same in both processes, not bound twice, so there is no moment in which nobody listens
//! and no queue that is lost. If the successor dies before step 3, or says nothing for too long, the
//! director goes on as if nothing had been; a successor that was stopped meanwhile finds that out, and ends.
//!
//! What is sent is a text, its length before it, then the sockets that are listened on, then those of
//! flows, and then ways to directors before this one that still carry connections.

mod carried;
mod elders;
mod estate;
mod remains;
pub mod sockets;
mod tally;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lvs_core::{Director, Time};

use self::carried::Carried;
use self::elders::Elder;
pub(crate) use self::elders::Elders;
pub use self::estate::{Estate, Given};
pub(crate) use self::remains::{Remains, Successor, Told};
use crate::inherit::Inherited;
use crate::keepalived::keeper::Record;
use crate::udp::Passing;

/// The director whose place is taken, waiting to hear that this is done.
pub struct Predecessor {
    stream: UnixStream,
    /// When it was last asked for something: it waits for [`PATIENCE`] from then on at least.
    asked: Mutex<Instant>,
    estate: Estate,
    /// What it carries, as it is counted here.
    carried: Mutex<Carried>,
    elders: Vec<UnixStream>,
}

/// What a director hands over beside what its [`Director`] knows.
pub(crate) struct Belongings {
    pub(crate) timeouts: lvsadm::Timeouts,
    /// What its files said.
    pub(crate) given: Option<Given>,
    /// What is listened on.
    pub(crate) sockets: Vec<OwnedFd>,
    /// Flows of datagrams, each with the address it came to and the number of the socket there.
    pub(crate) flows: Vec<(SocketAddr, usize, Passing)>,
    /// What the checks of keepalived.conf have found.
    pub(crate) checks: Vec<Record>,
    /// Ways to the directors before it, and whether they answer what they have counted.
    pub(crate) elders: Vec<(OwnedFd, bool)>,
}

impl Predecessor {
    /// Asks the director at a control socket to hand over, and takes in what it has. It goes on serving,
    /// except datagrams, until it is told that another one serves ([`Daemon::succeed`](crate::daemon::Daemon::succeed));
    /// if this value is dropped before, for good.
    ///
    /// # Errors
    /// Nobody answers there, it refuses, or what it sends makes no sense.
    pub fn ask(control: &Path) -> io::Result<(Predecessor, Inherited)> {
        let asked = Mutex::new(Instant::now());
        let stream = lvsadm::client::ask_for_all(control)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let text = read_text(&stream).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("it refuses to hand over"),
            _ => error,
        })?;
        if let Some(why) = text.strip_prefix(REFUSES) {
            return Err(io::Error::other(format!("it refuses: {}", String::from_utf8_lossy(why))));
        }
        let estate = Estate::parse(&text).ok_or_else(|| io::Error::other("it speaks another language"))?;
        let mut inherited = Inherited::default();
        for socket in sockets::receive(&stream, estate.sockets)? {
            let socket =
                socket.ok_or_else(|| io::Error::other("this process may not have as many sockets"))?;
            inherited.add(socket)?;
        }
        let flows = sockets::receive(&stream, estate.flows.len())?;
        for (socket, (at, number, record)) in flows.into_iter().zip(&estate.flows) {
            if let Some(socket) = socket {
                inherited.add_flow(*at, *number, Passing { record: record.clone(), socket });
            }
        }
        let elders = sockets::receive(&stream, estate.elders)?;
        let elders = elders.into_iter().flatten().map(UnixStream::from).collect();
        Ok((Predecessor { stream, asked, estate, carried: Mutex::default(), elders }, inherited))
    }

    /// Its rules, with thresholds and timeouts, as [`lvsadm::rules`] reads them.
    pub fn rules(&self) -> &str {
        &self.estate.rules
    }

    /// What its files said.
    pub(crate) fn given(&self) -> Option<Given> {
        self.estate.given.clone()
    }

    /// What its checks have found.
    pub(crate) fn checks(&self) -> Vec<Record> {
        self.estate.checks.clone()
    }

    /// See [`Estate::bequeath`]. What it carries is counted in the director from now on.
    pub(crate) fn bequeath(&self, director: &Director, now: Time) {
        self.estate.bequeath(director, now);
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        carried.become_as(director, &self.estate.tally.open);
    }

    /// Has it leave the virtual routers that are wanted, with what it says of them; from now on it is
    /// silent.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn routers(&self, wanted: &[u8]) -> io::Result<Vec<u8>> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        (&self.stream).write_all(&[ROUTERS])?;
        write_text(&self.stream, wanted)?;
        read_text(&self.stream)
    }

    /// Whether it still waits. Where this process was kept from running for too long it does not: it goes
    /// on, and this one has to end.
    pub(crate) fn waits(&self) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.elapsed() + MARGIN < PATIENCE
    }

    /// Lets the other director drain: this one serves, and asks it and those before it for the
    /// connections that go on there.
    ///
    /// # Errors
    /// It is gone, and its connections with it.
    pub(crate) fn release(self, elders: &Elders) -> io::Result<()> {
        let Predecessor { stream, estate, carried, elders: older, .. } = self;
        let said = (&stream).write_all(&[SERVES]);
        // An earlier version says nothing of this.
        let mut telling = estate.telling.into_iter().chain(std::iter::repeat(false));
        let mut elder = |stream, carried| Elder { stream, tells: telling.next() == Some(true), carried };
        let carried = carried.into_inner().unwrap_or_else(PoisonError::into_inner);
        let predecessor = elder(stream, carried);
        let older = older.into_iter().map(|stream| elder(stream, Carried::default())).collect();
        elders.know(predecessor, older);
        said
    }
}

/// Says why nothing is handed over.
///
/// # Errors
/// Always: nothing was handed over.
pub(crate) fn refuse(stream: &UnixStream, why: &str) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    write_text(stream, &[REFUSES, why.as_bytes()].concat())?;
    Err(io::Error::other(why.to_owned()))
}

/// Sends what a director has, and waits until the successor serves. `leave` leaves it the virtual routers
/// that it asks for. Returns what it knows of the counts by then.
pub(crate) fn hand_over(
    stream: &UnixStream,
    director: &Director,
    belongings: Belongings,
    now: Time,
    leave: impl Fn(&[u8]) -> Vec<u8>,
) -> io::Result<Told> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Belongings { timeouts, given, sockets, flows, checks, elders } = belongings;
    let mut estate = Estate::of(director, timeouts, now);
    estate.flows = flows.iter().map(|(at, number, flow)| (*at, *number, flow.record.clone())).collect();
    (estate.sockets, estate.checks, estate.elders) = (sockets.len(), checks, elders.len());
    estate.given = given;
    let (elders, telling): (Vec<_>, Vec<_>) = elders.into_iter().unzip();
    estate.telling = std::iter::once(true).chain(telling).collect();
    let text = estate.write();
    let told = Told::of(estate.tally);
    write_text(stream, &text)?;
    sockets::send(stream, &sockets)?;
    sockets::send(stream, flows.iter().map(|(_, _, flow)| &flow.socket))?;
    sockets::send(stream, &elders)?;
    // They are there now, and not needed here.
    drop((sockets, flows, elders));
    loop {
        let mut said = [0];
        (&mut &*stream).read_exact(&mut said)?;
        match said {
            [SERVES] => return Ok(told),
            [ROUTERS] => write_text(stream, &leave(&read_text(stream)?))?,
            _ => return Err(io::Error::other("the successor speaks another language")),
        }
    }
}

/// Sends a text, its length before it.
///
/// # Errors
/// The other side is gone.
pub fn write_text(mut stream: &UnixStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(&(text.len() as u64).to_be_bytes())?;
    stream.write_all(text)
}

/// Receives a text that was [sent](write_text).
///
/// # Errors
/// The other side is gone, or sends something else.
pub fn read_text(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > TEXT_MAX {
        return Err(io::Error::other("it speaks another language"));
    }
    // Memory follows what arrives, not what was announced.
    let mut text = Vec::new();
    stream.take(length).read_to_end(&mut text)?;
    Ok(text)
}

/// What the successor says when it serves.
const SERVES: u8 = b'!';

/// What it says when it wants virtual routers, before their identities.
const ROUTERS: u8 = b'v';

/// What stands before the reason where nothing is handed over.
const REFUSES: &[u8] = b"l4-proxy refuses ";

/// How long one side waits for the other. The successor binds and starts threads meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long before that the successor takes it for over: what it says then would come too late.
const MARGIN: Duration = Duration::from_secs(1);

const TEXT_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::daemon::{Daemon, Options};

    #[test]
    fn successor_that_was_kept_from_running_for_too_long_serves_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sock");
        let control = UnixListener::bind(&path).expect("a socket");
        let director = thread::spawn(move || {
            let (mut successor, _) = control.accept().expect("it asks");
            let estate = Estate::of(&Director::new(), lvsadm::Timeouts::default(), crate::clock::now());
            write_text(&successor, &estate.write()).expect("it listens");
            let mut said = Vec::new();
            // It may leave with a reset.
            let _ = successor.read_to_end(&mut said);
            (control, said.contains(&SERVES))
        });
        let (mut predecessor, inherited) = Predecessor::ask(&path).expect("a director");
        let begun = *predecessor.asked.get_mut().expect("no panic");
        assert!(predecessor.waits());
        for (ago, waits) in [(PATIENCE - 2 * MARGIN, true), (PATIENCE - MARGIN, false), (PATIENCE, false)] {
            *predecessor.asked.get_mut().expect("no panic") =
                begun.checked_sub(ago).expect("not just booted");
            assert_eq!(predecessor.waits(), waits, "{ago:?}");
        }
        let options = Options { control: Some(path.clone()), workers: 1, probes: None, ..Options::default() };
        let late =
            Daemon::succeed(options, lvs_core::Config::default(), (predecessor, inherited), |_| Ok(()));
        let error = late.err().expect("it is too late").to_string();
        assert!(error.contains("has waited for too long, and goes on"), "{error}");
        let (control, served) = director.join().expect("no panic");
        assert!(!served, "it said that it serves");
        control.set_nonblocking(true).expect("open");
        drop(UnixStream::connect(&path).expect("the control socket is as it was"));
        lab::eventually("that came to the director before", || control.accept().is_ok());
    }
}
