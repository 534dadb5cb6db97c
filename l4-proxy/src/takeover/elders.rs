//! Directors that have handed over and still carry connections, as the one that serves now knows them.
//!
//! The control connection that a director handed over on stays open. Its successor asks there which
//! connections are left, for `lvsadm -L -c`, and says until when addresses may be served that need an
//! arbiter's consent: the consent is the successor's now, and the connections are still the other one's.
//! Whoever takes over next is handed these ways too, so that nobody depends on one in between.
//!
//! A director that hears nothing serves such addresses until the consent ends that it was told of last.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use lvs_core::Protocol;
use lvsadm::{Connection, ConnectionState, Moved, Timeouts};

use super::{read_text, write_text};
use crate::connections::{Connections, Open};
use crate::consents::Consents;
use crate::relay::Side;

/// The ways to those that are left. A clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Elders {
    links: Arc<Mutex<Vec<Arc<Link>>>>,
    /// Held while they are told something.
    telling: Arc<Mutex<()>>,
}

struct Link {
    stream: UnixStream,
    /// Held while an answer is awaited.
    asked: Mutex<()>,
}

impl Elders {
    /// Knows one more.
    pub(crate) fn add(&self, stream: UnixStream) {
        // An elder that does not answer is passed over, and one that takes nothing more is not waited for.
        let patient =
            stream.set_read_timeout(Some(ANSWERS)).and_then(|()| stream.set_write_timeout(Some(TAKES)));
        if patient.is_ok() {
            lock(&self.links).push(Arc::new(Link { stream, asked: Mutex::default() }));
        }
    }

    /// Ways to them once more, for a successor.
    pub(crate) fn streams(&self) -> io::Result<Vec<OwnedFd>> {
        let links = lock(&self.links);
        links.iter().map(|link| link.stream.try_clone().map(OwnedFd::from)).collect()
    }

    /// They are a successor's.
    pub(crate) fn forget(&self) {
        lock(&self.links).clear();
    }

    /// The connections that they carry.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        let links = lock(&self.links).clone();
        let mut all = Vec::new();
        for link in links {
            let _asked = lock(&link.asked);
            let answer = (&link.stream).write_all(&[CONNECTIONS]).and_then(|()| read_text(&link.stream));
            match answer {
                Ok(text) => all.extend(String::from_utf8_lossy(&text).lines().filter_map(read)),
                // It has ended, or its answer would be taken for that to a later question.
                Err(_) => self.lose(&link),
            }
        }
        all
    }

    /// Tells them until when they may serve what addresses.
    pub(crate) fn tell(&self, consents: &Consents) {
        let links = lock(&self.links).clone();
        if links.is_empty() {
            return;
        }
        // What was read earlier may not arrive later: it might say that an address is still to be served.
        let _telling = lock(&self.telling);
        let text = consents.tell();
        // In one piece, since questions are written to the same socket.
        let message = [&[CONSENTS][..], &(text.len() as u64).to_be_bytes(), text.as_bytes()].concat();
        for link in links {
            if (&link.stream).write_all(&message).is_err() {
                self.lose(&link);
            }
        }
    }

    fn lose(&self, lost: &Arc<Link>) {
        lock(&self.links).retain(|link| !Arc::ptr_eq(link, lost));
    }
}

/// What a director that has handed over tells its successor of.
pub(crate) struct Remains {
    pub(crate) connections: [Weak<Connections>; 2],
    pub(crate) timeouts: Timeouts,
    pub(crate) consents: Consents,
}

impl Remains {
    /// Answers the successor, on a thread of its own, until one of both ends.
    pub(crate) fn answer(self, stream: &UnixStream) -> io::Result<()> {
        let stream = stream.try_clone()?;
        stream.set_read_timeout(None)?;
        thread::Builder::new().name("successor".to_owned()).spawn(move || {
            // It ends as it may: nobody is there to be told.
            while self.obey(&stream).is_ok() {}
        })?;
        Ok(())
    }

    fn obey(&self, mut stream: &UnixStream) -> io::Result<()> {
        let mut said = [0];
        stream.read_exact(&mut said)?;
        match said {
            [CONNECTIONS] => {
                let lists = self.connections.iter().filter_map(Weak::upgrade);
                let open = lists.flat_map(|connections| connections.list());
                let text: String = open.map(|open| written(&open.listed(self.timeouts))).collect();
                write_text(stream, text.as_bytes())
            }
            [CONSENTS] => {
                self.consents.hear(&String::from_utf8_lossy(&read_text(stream)?));
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Open {
    /// As IPVS would list it: the state follows from which side ended first.
    pub(crate) fn listed(&self, timeouts: Timeouts) -> Connection {
        let (state, timeout) = match self.progress.ended_first() {
            _ if self.protocol == Protocol::Udp => (ConnectionState::Udp, timeouts.udp),
            None => (ConnectionState::Established, timeouts.tcp),
            Some(Side::Client) => (ConnectionState::CloseWait, timeouts.tcp_fin),
            Some(Side::Server) => (ConnectionState::FinWait, timeouts.tcp_fin),
        };
        Connection {
            protocol: self.protocol,
            expires: timeout.saturating_sub(self.progress.silent_for()),
            state,
            client: self.client,
            virtual_address: self.virtual_address,
            server: self.server,
            moved: Some(Moved {
                to_server: self.progress.bytes_to_server(),
                to_client: self.progress.bytes_to_client(),
            }),
        }
    }
}

fn written(connection: &Connection) -> String {
    let Connection { protocol, expires, state, client, virtual_address, server, moved } = connection;
    let (expires, state) = (expires.as_millis(), state.name());
    let moved = moved.map_or_else(String::new, |moved| format!(" {} {}", moved.to_server, moved.to_client));
    format!("{protocol} {expires} {state} {client} {virtual_address} {server}{moved}\n")
}

fn read(line: &str) -> Option<Connection> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    let protocol = match next()? {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        _ => return None,
    };
    let expires = Duration::from_millis(next()?.parse().ok()?);
    let state = ConnectionState::named(next()?)?;
    let mut address = || next()?.parse::<SocketAddr>().ok();
    let (client, virtual_address, server) = (address()?, address()?, address()?);
    // An earlier version does not tell.
    let mut count = || next()?.parse().ok();
    let moved = count().zip(count()).map(|(to_server, to_client)| Moved { to_server, to_client });
    Some(Connection { protocol, expires, state, client, virtual_address, server, moved })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a successor asks for.
const CONNECTIONS: u8 = b'c';

/// What it tells, before a text.
const CONSENTS: u8 = b'u';

/// How long one that is asked may take: it lists what it has.
const ANSWERS: Duration = Duration::from_secs(2);

/// How long one may take nothing.
const TAKES: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_arrive_as_they_were_told() {
        let connection = Connection {
            protocol: Protocol::Tcp,
            expires: Duration::from_millis(898_765),
            state: ConnectionState::FinWait,
            client: "[2001:db8::1]:40000".parse().expect("an address"),
            virtual_address: "192.0.2.1:80".parse().expect("an address"),
            server: "10.0.0.1:8080".parse().expect("an address"),
            moved: None,
        };
        for moved in [None, Some(Moved { to_server: 1, to_client: 2 })] {
            let connection = Connection { moved, ..connection };
            assert_eq!(read(written(&connection).trim_end()), Some(connection));
        }
        for odd in ["", "TCP", "TCP x ESTABLISHED 10.0.0.1:1 10.0.0.1:1 10.0.0.1:1", "TCP 1 ASLEEP a b c"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
