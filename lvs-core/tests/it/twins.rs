//! The director beside a slow and obvious model of the same rules, through random histories:
//! every pick, count and overload mark must agree at every step.

mod chance;
mod hashing;
mod kernel;
mod keys;
mod locality;
mod nginx;
mod pace;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lvs_core::{
    Algorithm, Config, Director, Event, Flow, Lease, Outcome, Probe, ServerConfig, ServiceConfig, Thresholds,
    Weight,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::setup::{address, at, director, load, service, stats, vip};

/// What an operator may say of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wish {
    weight: u32,
    upper: u32,
    lower: u32,
}

/// One event in the life of a service. What makes no sense at the moment does nothing.
#[derive(Clone, Debug)]
enum Step {
    /// Adds the server, or edits it if it is there.
    Put(u8, Wish),
    /// Edits the server without changing anything.
    Touch(u8),
    Delete(u8),
    /// Makes these the servers, in one reload; those that stay keep their place.
    Reload(BTreeMap<u8, Wish>),
    Fail(u8),
    Recover(u8),
    /// A connection of this client.
    Open(u16),
    /// So many seconds pass.
    Wait(u32),
    Close(Index),
    Expire(Index),
    /// A connection's server answers after so many milliseconds, or fails.
    Answer(Index, Option<u64>),
}

/// A model: servers are known by number, the list is the model's own affair.
trait Twin {
    fn add(&mut self, server: u8, wish: Wish);
    fn edit(&mut self, server: u8, wish: Wish);
    fn delete(&mut self, server: u8);
    fn set_down(&mut self, server: u8, down: bool);
    fn open(&mut self, call: &Call) -> Option<u8>;
    fn close(&mut self, server: u8);
    fn expire(&mut self, server: u8, closed: bool);
    /// Milliseconds; a failure has none.
    fn answer(&mut self, _server: u8, _millis: Option<u64>, _now: u64) {}
    /// Active and inactive connections, and whether the server is full.
    fn state(&self, server: u8) -> (u32, u32, bool);
}

/// What a connection brings with it.
struct Call {
    client: u16,
    /// Seconds.
    now: u64,
    /// Connections that came before.
    ticket: u64,
}

impl Call {
    /// Address of the client.
    fn source(&self) -> u32 {
        0x0a01_0000 | u32::from(self.client)
    }

    /// One of a few destinations.
    fn destination(&self) -> u32 {
        0x0a09_0900 | u32::from(self.client % 5)
    }

    fn draws(&self) -> [u64; 2] {
        [7_919, 104_729].map(|prime| u64::from(self.client) * prime)
    }

    fn flow(&self) -> Flow {
        let address = |address: u32, port| SocketAddr::from((Ipv4Addr::from(address), port));
        let flow = Flow::new(address(self.source(), 40_000)).to(address(self.destination(), 80));
        let [first, second] = self.draws();
        flow.draws(first, second)
    }
}

/// A connection as both sides know it.
struct Connection {
    lease: Lease,
    server: u8,
    closed: bool,
}

/// The director and its twin.
struct Pair<T> {
    director: Director,
    twin: T,
    /// In the order they were added.
    servers: Vec<(u8, Wish)>,
    connections: Vec<Connection>,
    /// Seconds.
    now: u64,
    ticket: u64,
}

impl<T: Twin> Pair<T> {
    fn new(algorithm: Algorithm, twin: T) -> Pair<T> {
        Pair::of(service(algorithm, &[]), twin)
    }

    fn of(service: ServiceConfig, twin: T) -> Pair<T> {
        let (servers, connections) = (Vec::new(), Vec::new());
        Pair { director: director(service), twin, servers, connections, now: 0, ticket: 0 }
    }

    fn play(mut self, steps: Vec<Step>) -> Result<(), TestCaseError> {
        for step in steps {
            self.step(step)?;
            for (server, _) in &self.servers {
                let (active, inactive, full) = self.twin.state(*server);
                let seen = stats(&self.director, *server);
                prop_assert_eq!((seen.load, seen.full), (load(active, inactive), full), "server {}", server);
            }
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Put(server, wish) => self.put(server, wish),
            Step::Touch(server) => {
                if let Some(wish) = self.wish(server) {
                    self.put(server, wish);
                }
            }
            Step::Delete(server) => {
                if self.wish(server).is_some() {
                    self.director.delete_server(&vip(), address(server)).expect("a known server");
                    self.twin.delete(server);
                    self.servers.retain(|(other, _)| *other != server);
                }
            }
            Step::Reload(wanted) => self.reload(wanted),
            Step::Fail(server) => self.probe(server, Probe::Failed("no answer".into())),
            Step::Recover(server) => self.probe(server, Probe::Passed),
            Step::Wait(seconds) => self.now += u64::from(seconds),
            Step::Open(client) => {
                let call = Call { client, now: self.now, ticket: self.ticket };
                self.ticket += 1;
                let said = self.director.explain(&vip(), &call.flow(), at(self.now)).map(|said| said.outcome);
                let lease = self.director.schedule(&vip(), &call.flow(), at(self.now));
                let told =
                    lease.as_ref().map_or_else(|r| Outcome::Refused(*r), |l| Outcome::Server(l.server()));
                prop_assert_eq!(said, Ok(told));
                let (lease, twin) = (lease.ok(), self.twin.open(&call));
                prop_assert_eq!(lease.as_ref().map(Lease::server), twin.map(address));
                if let (Some(lease), Some(server)) = (lease, twin) {
                    self.connections.push(Connection { lease, server, closed: false });
                }
            }
            Step::Close(index) => {
                if !self.connections.is_empty() {
                    let connection = index.get_mut(&mut self.connections);
                    connection.lease.closing();
                    if !connection.closed {
                        self.twin.close(connection.server);
                    }
                    connection.closed = true;
                }
            }
            Step::Expire(index) => {
                if !self.connections.is_empty() {
                    let connection = self.connections.swap_remove(index.index(self.connections.len()));
                    drop(connection.lease);
                    self.twin.expire(connection.server, connection.closed);
                }
            }
            Step::Answer(index, millis) => {
                if !self.connections.is_empty() {
                    let connection = index.get(&self.connections);
                    let event = match millis {
                        Some(millis) => Event::Responded { latency: Duration::from_millis(millis) },
                        None => Event::Failed("no answer".into()),
                    };
                    self.director.report(&connection.lease, event, at(self.now));
                    self.twin.answer(connection.server, millis, self.now);
                }
            }
        }
        Ok(())
    }

    fn wish(&self, server: u8) -> Option<Wish> {
        self.servers.iter().find(|(other, _)| *other == server).map(|(_, wish)| *wish)
    }

    fn put(&mut self, server: u8, wish: Wish) {
        if let Some((_, known)) = self.servers.iter_mut().find(|(other, _)| *other == server) {
            *known = wish;
            self.director.edit_server(&vip(), wanted(server, wish)).expect("a known server");
            self.twin.edit(server, wish);
        } else {
            self.servers.push((server, wish));
            self.director.add_server(&vip(), wanted(server, wish)).expect("a new server");
            self.twin.add(server, wish);
        }
    }

    fn reload(&mut self, mut wishes: BTreeMap<u8, Wish>) {
        let before = std::mem::take(&mut self.servers);
        let staying = before.iter().filter_map(|(server, _)| Some((*server, wishes.remove(server)?)));
        self.servers = staying.collect();
        let stayed = self.servers.len();
        self.servers.extend(wishes);

        let mut config = self.director.config();
        config.services[0].servers =
            self.servers.iter().map(|(server, wish)| wanted(*server, *wish)).collect();
        self.director.apply(Config { services: config.services }).expect("a valid service");

        for (server, _) in &before {
            if self.wish(*server).is_none() {
                self.twin.delete(*server);
            }
        }
        for (server, wish) in &self.servers[..stayed] {
            if !before.contains(&(*server, *wish)) {
                self.twin.edit(*server, *wish);
            }
        }
        for (server, wish) in &self.servers[stayed..] {
            self.twin.add(*server, *wish);
        }
    }

    fn probe(&mut self, server: u8, probe: Probe) {
        if self.wish(server).is_some() {
            self.twin.set_down(server, probe != Probe::Passed);
            self.director.probe(&vip(), address(server), probe, at(self.now));
        }
    }
}

fn wanted(server: u8, wish: Wish) -> ServerConfig {
    let mut config = ServerConfig::new(address(server)).weight(Weight::new(wish.weight).expect("a weight"));
    config.thresholds = Thresholds::new(wish.upper, wish.lower).expect("thresholds");
    config
}

/// Few servers and small weights, so that ties, common divisors and full servers are the rule.
fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..6u32, 2 => (0..4u32).prop_map(|n| n * 100), 1 => 90..110u32]
}

fn limited_wish() -> impl Strategy<Value = Wish> {
    let thresholds = prop_oneof![
        2 => Just((0, 0)),
        3 => (1..6u32).prop_flat_map(|upper| (Just(upper), 0..=upper)),
    ];
    (weight(), thresholds).prop_map(|(weight, (upper, lower))| Wish { weight, upper, lower })
}

fn unlimited_wish() -> impl Strategy<Value = Wish> {
    weight().prop_map(|weight| Wish { weight, upper: 0, lower: 0 })
}

fn steps<W: Strategy<Value = Wish> + Clone>(wish: W) -> impl Strategy<Value = Vec<Step>>
where
    W::Value: 'static,
{
    let server = || 1..6u8;
    let step = prop_oneof![
        6 => (server(), wish.clone()).prop_map(|(server, wish)| Step::Put(server, wish)),
        1 => server().prop_map(Step::Touch),
        2 => server().prop_map(Step::Delete),
        1 => prop::collection::btree_map(server(), wish, 0..5).prop_map(Step::Reload),
        2 => server().prop_map(Step::Fail),
        3 => server().prop_map(Step::Recover),
        24 => (0..64u16).prop_map(Step::Open),
        1 => prop_oneof![0..100u32, 1_700..2_000u32, 80_000..100_000u32].prop_map(Step::Wait),
        4 => any::<Index>().prop_map(Step::Close),
        8 => any::<Index>().prop_map(Step::Expire),
    ];
    prop::collection::vec(step, 0..120)
}

/// The same with answers, few and slow enough that they are compared.
fn answering_steps<W: Strategy<Value = Wish> + Clone>(wish: W) -> impl Strategy<Value = Vec<Step>>
where
    W::Value: 'static,
{
    let millis = prop_oneof![6 => (1..5u64).prop_map(|n| Some(n * 10)), 1 => (0..20_000u64).prop_map(Some), 1 => Just(None)];
    let answer = (any::<Index>(), millis).prop_map(|(index, millis)| Step::Answer(index, millis));
    (steps(wish), prop::collection::vec((any::<Index>(), answer), 0..60)).prop_map(|(mut steps, answers)| {
        for (place, answer) in answers {
            steps.insert(place.index(steps.len() + 1), answer);
        }
        steps
    })
}

/// A service in which failures in traffic eject nobody: the twins know nothing of that.
fn without_ejection(algorithm: Algorithm) -> ServiceConfig {
    let mut service = service(algorithm, &[]);
    service.health.passive = None;
    service
}
