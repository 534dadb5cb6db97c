//! A scenario, played: a director with one service, and the connection table that a kernel would
//! keep beside it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lvs_core::{Config, Director, Flow, Lease, ServerConfig, ServiceConfig, ServiceKey, Time};

use crate::scenario::{Added, Connection, Datagrams, Edit, Scenario, Step};
use crate::{Difference, Fault};

struct Player {
    director: Director,
    service: ServiceKey,
    /// Every server that was ever added, by name.
    servers: HashMap<String, Known>,
    entries: Vec<Entry>,
    /// Connections that got no server; their clients may close them all the same.
    refused: Vec<Connection>,
    now: Time,
}

struct Known {
    config: ServerConfig,
    configured: bool,
}

/// An entry of the connection table.
struct Entry {
    connection: Connection,
    lease: Lease,
    state: State,
}

/// States of the kernel's table, as far as they count.
#[derive(Clone, Copy, PartialEq)]
enum State {
    SynReceived,
    Established,
    /// Closed by the client after it was established; the server's half is open.
    CloseWait,
    /// Closed before it was established.
    TimeWait,
}

/// Plays a scenario; returns the picks that differ.
pub(crate) fn play(scenario: &Scenario) -> Result<Vec<Difference>, Fault> {
    let mut player = Player::new(scenario)?;
    for (place, added) in scenario.servers.iter().enumerate() {
        player.add(added).map_err(|fault| fault.within(format!("server {}", place + 1)))?;
    }
    let mut wanted = scenario.picks.iter();
    let mut differences = Vec::new();
    for (place, step) in scenario.steps.iter().enumerate() {
        let within = |fault: Fault| fault.within(format!("step {}", place + 1));
        if let Step::Connect { connection, draws, established } = step {
            let got = player.connect(*connection, *draws, *established).map_err(within)?;
            let wanted = wanted.next().cloned().flatten();
            if got != wanted {
                differences.push(Difference { step: place + 1, wanted, got });
            }
        } else {
            player.step(step).map_err(within)?;
        }
    }
    Ok(differences)
}

impl Player {
    fn new(scenario: &Scenario) -> Result<Player, Fault> {
        let first = scenario.servers.iter().find_map(|server| server.address);
        let vip: IpAddr = match first {
            Some(SocketAddr::V6(_)) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).into(),
            _ => Ipv4Addr::new(10, 9, 9, 9).into(),
        };
        let key = match scenario.datagrams {
            Datagrams::Yes => ServiceKey::udp(SocketAddr::new(vip, 80)),
            Datagrams::No => ServiceKey::tcp(SocketAddr::new(vip, 80)),
        };
        let mut service = ServiceConfig::new(key.clone(), scenario.algorithm);
        service.flags = scenario.flags;
        let director = Director::new();
        director.apply(Config { services: vec![service] }).map_err(|error| Fault(error.to_string()))?;
        Ok(Player {
            director,
            service: key,
            servers: HashMap::new(),
            entries: Vec::new(),
            refused: Vec::new(),
            now: Time::ZERO,
        })
    }

    fn step(&mut self, step: &Step) -> Result<(), Fault> {
        match step {
            Step::Connect { connection, draws, established } => {
                self.connect(*connection, *draws, *established)?;
            }
            Step::Close(connection) => {
                if let Some(place) = self.find(*connection)? {
                    let entry = &mut self.entries[place];
                    entry.lease.closing();
                    entry.state = match entry.state {
                        State::Established | State::CloseWait => State::CloseWait,
                        State::SynReceived | State::TimeWait => State::TimeWait,
                    };
                }
            }
            Step::Expire(connection) => {
                if let Some(place) = self.find(*connection)? {
                    self.entries.remove(place);
                }
            }
            Step::Add(added) => self.add(added)?,
            Step::Edit(name, wanted) => {
                let known = configured(&mut self.servers, name)?;
                edit(&mut known.config, wanted);
                let edited = self.director.edit_server(&self.service, known.config.clone());
                edited.map_err(|error| Fault(error.to_string()))?;
            }
            Step::Delete(name) => {
                let known = configured(&mut self.servers, name)?;
                known.configured = false;
                let deleted = self.director.delete_server(&self.service, known.config.address);
                deleted.map_err(|error| Fault(error.to_string()))?;
            }
            Step::Wait(span) => self.pass(self.now + *span),
            Step::Until(moment) => {
                let moment = Time::from_epoch(*moment);
                if moment < self.now {
                    return Err(Fault("time does not go back".to_owned()));
                }
                self.pass(moment);
            }
        }
        Ok(())
    }

    fn pass(&mut self, now: Time) {
        self.now = now;
        self.director.tick(now);
    }

    fn add(&mut self, added: &Added) -> Result<(), Fault> {
        let Added { name, address, edit: wanted } = added;
        let before = self.servers.get(name);
        if before.is_some_and(|known| known.configured) {
            return Err(Fault(format!("server {name} is there already")));
        }
        let address = address.or(before.map(|known| known.config.address));
        let mut config = ServerConfig::new(address.ok_or_else(|| Fault("no \"addr\"".to_owned()))?);
        edit(&mut config, wanted);
        let result = self.director.add_server(&self.service, config.clone());
        result.map_err(|error| Fault(format!("server {name}: {error}")))?;
        // Another name that the address went by is forgotten.
        self.servers.retain(|_, known| known.config.address != config.address);
        self.servers.insert(name.clone(), Known { config, configured: true });
        Ok(())
    }

    /// A SYN. What the kernel does if it has an entry for the client's port is decided as with
    /// `conn_reuse_mode` 1: an entry that waits out its time makes room for a new choice; any other
    /// goes on where it is, and is not answered if its server was deleted.
    fn connect(
        &mut self,
        connection: Connection,
        draws: Option<[u64; 2]>,
        established: bool,
    ) -> Result<Option<String>, Fault> {
        let state = if established { State::Established } else { State::SynReceived };
        self.refused.retain(|other| *other != connection);
        let place = self.entries.iter().position(|entry| entry.connection == connection);
        if let Some(place) = place
            && self.entries[place].state != State::TimeWait
        {
            let entry = &mut self.entries[place];
            let name = self.servers.iter().find(|(_, known)| known.config.address == entry.lease.server());
            let Some((name, _)) = name.filter(|(_, known)| known.configured) else { return Ok(None) };
            entry.lease.reopened();
            if entry.state != State::Established {
                entry.state = state;
            }
            return Ok(Some(name.clone()));
        }

        let mut flow = Flow::new(connection.client);
        if let Some(destination) = connection.destination {
            flow = flow.to(destination);
        }
        if let Some([first, second]) = draws {
            flow = flow.draws(first, second);
        }
        let scheduled = self.director.schedule(&self.service, &flow, self.now);
        // The entry that made room counts until the choice is made.
        if let Some(place) = place {
            self.entries.remove(place);
        }
        let Ok(lease) = scheduled else {
            self.refused.push(connection);
            return Ok(None);
        };
        let name = self.servers.iter().find(|(_, known)| known.config.address == lease.server());
        let (name, _) = name.ok_or_else(|| Fault(format!("{} has no name", lease.server())))?;
        let name = name.clone();
        self.entries.push(Entry { connection, lease, state });
        Ok(Some(name))
    }

    /// Where the entry of a connection is; nowhere if it was refused. Of a client's connections to
    /// several destinations, one that is named without its destination is the latest.
    fn find(&self, connection: Connection) -> Result<Option<usize>, Fault> {
        let is_named = |other: &Connection| {
            other.client == connection.client
                && (connection.destination.is_none() || other.destination == connection.destination)
        };
        let place = self.entries.iter().rposition(|entry| is_named(&entry.connection));
        if place.is_none() && !self.refused.iter().any(is_named) {
            return Err(Fault(format!("there is no connection from {}", connection.client)));
        }
        Ok(place)
    }
}

fn configured<'a>(servers: &'a mut HashMap<String, Known>, name: &str) -> Result<&'a mut Known, Fault> {
    let known = servers.get_mut(name).filter(|known| known.configured);
    known.ok_or_else(|| Fault(format!("there is no server {name}")))
}

fn edit(config: &mut ServerConfig, wanted: &Edit) {
    if let Some(weight) = wanted.weight {
        config.weight = weight;
    }
    if let Some(thresholds) = wanted.thresholds {
        config.thresholds = thresholds;
    }
}
