//! What a director that has handed over tells its successor of, for as long as it carries connections.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use lvs_core::{Director, Protocol};
use lvsadm::{Connection, ConnectionState, Moved, Timeouts};

use super::tally::Tally;
use super::{read_text, write_text};
use crate::clock;
use crate::connections::{Connections, Open};
use crate::consents::Consents;
use crate::relay::Side;

/// What goes on in a director when another one serves.
pub(crate) struct Remains {
    pub(crate) connections: [Weak<Connections>; 2],
    pub(crate) timeouts: Timeouts,
    pub(crate) consents: Consents,
    pub(crate) director: Arc<Director>,
    pub(crate) told: Told,
}

/// What the successor knows of the counts.
pub(crate) struct Told(Tally);

/// The way to the successor.
#[derive(Clone)]
pub(crate) struct Successor(Arc<Mutex<Way>>);

struct Way {
    stream: UnixStream,
    director: Arc<Director>,
    told: Tally,
}

impl Told {
    pub(super) fn of(tally: Tally) -> Told {
        Told(tally)
    }
}

impl Remains {
    /// Answers the successor, on a thread of its own, until one of both ends.
    pub(crate) fn answer(self, stream: &UnixStream) -> io::Result<Successor> {
        let Remains { connections, timeouts, consents, director, told: Told(told) } = self;
        let heard = stream.try_clone()?;
        heard.set_read_timeout(None)?;
        let stream = stream.try_clone()?;
        let way = Way { stream, director: Arc::clone(&director), told };
        let successor = Successor(Arc::new(Mutex::new(way)));
        let way = successor.clone();
        let obey = move || -> io::Result<()> {
            loop {
                let mut said = [0];
                (&heard).read_exact(&mut said)?;
                match said {
                    [CONNECTIONS] => {
                        let lists = connections.iter().filter_map(Weak::upgrade);
                        let open = lists.flat_map(|connections| connections.list());
                        let text: String = open.map(|open| written(&open.listed(timeouts))).collect();
                        way.say(text.as_bytes())?;
                    }
                    [COUNTS] => way.count(b"")?,
                    [TEMPLATES] => way.say(&director.save_templates(clock::now()))?,
                    [CONSENTS] => consents.hear(&String::from_utf8_lossy(&read_text(&heard)?)),
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
        };
        // It ends as it may: nobody is there to be told.
        thread::Builder::new().name("successor".to_owned()).spawn(obey)?;
        Ok(successor)
    }
}

impl Successor {
    /// Tells what was counted since it was told last, and says nothing more: this director ends.
    pub(crate) fn part(&self) {
        let way = self.lock();
        // It may have ended, too, and is not waited for.
        let _ = way.stream.set_write_timeout(Some(TAKES));
        drop(way);
        let _ = self.count(FAREWELL);
        let _ = self.lock().stream.shutdown(std::net::Shutdown::Write);
    }

    fn say(&self, text: &[u8]) -> io::Result<()> {
        write_text(&self.lock().stream, text)
    }

    fn count(&self, beginning: &[u8]) -> io::Result<()> {
        let mut way = self.lock();
        let now = Tally::of(&way.director);
        let mut text = String::new();
        now.clone().since(&way.told).write(&mut text);
        way.told = now;
        write_text(&way.stream, &[beginning, text.as_bytes()].concat())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Way> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

pub(super) fn read_connection(line: &str) -> Option<Connection> {
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

/// What a successor asks for.
pub(super) const CONNECTIONS: u8 = b'c';

/// It asks what was counted since it asked last, and how many connections there are.
pub(super) const COUNTS: u8 = b'k';

/// It asks for the templates once more.
pub(super) const TEMPLATES: u8 = b't';

/// What it tells, before a text.
pub(super) const CONSENTS: u8 = b'u';

/// What stands before the last that is counted, which is said without a question.
pub(super) const FAREWELL: &[u8] = b"farewell\n";

/// How long a successor may take nothing when its predecessor ends.
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
            assert_eq!(read_connection(written(&connection).trim_end()), Some(connection));
        }
        for odd in ["", "TCP", "TCP x ESTABLISHED 10.0.0.1:1 10.0.0.1:1 10.0.0.1:1", "TCP 1 ASLEEP a b c"] {
            assert_eq!(read_connection(odd), None, "{odd}");
        }
    }
}
