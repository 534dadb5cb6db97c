//! What arbitrary bytes can do to a director: configurations, flows, events, time.
//!
//! The fuzz target and a test of the crate share this file. Bytes are read one by one; where they
//! end, zeros follow, and the play ends. Whatever they say, nothing panics, the counts are those of
//! the leases that are held, and when all has ended nothing is left.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use lvs_core::{
    Algorithm, AllEjected, Config, Director, Event, Family, Flow, Forwarding, HealthPolicy, Lease, Load,
    Passive, Persistence, Probe, Protocol, SchedulerFlags, ServerConfig, ServiceConfig, ServiceKey,
    SlowStart, Thresholds, Time, Tunnel, Weight,
};

/// Plays the bytes to their end.
pub(crate) fn play(bytes: &[u8]) {
    let mut world = World {
        director: Director::new(),
        bytes,
        now: Time::ZERO,
        latest: Time::ZERO,
        held: Vec::new(),
        keys: Vec::new(),
    };
    world.keys.extend((0..KEYS).map(key));
    // A service to begin with, so that short inputs get somewhere.
    let config = world.config();
    let _ = world.director.apply(config);
    while !world.bytes.is_empty() {
        world.step();
        world.check();
    }
    world.end();
}

struct World<'a> {
    director: Director,
    bytes: &'a [u8],
    now: Time,
    /// The latest moment there was.
    latest: Time,
    held: Vec<Held>,
    keys: Vec<ServiceKey>,
}

/// A connection, and whether one side of it has ended.
struct Held {
    lease: Lease,
    closing: bool,
}

impl World<'_> {
    fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((byte, rest)) => {
                self.bytes = rest;
                *byte
            }
            None => 0,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == one_in - 1
    }

    /// A number of up to 64 bits: two bytes of it, and where they stand.
    fn number(&mut self) -> u64 {
        let shift = self.below(64);
        u64::from(u16::from_le_bytes([self.byte(), self.byte()])) << shift
    }

    fn step(&mut self) {
        match self.below(24) {
            0..=6 | 20..=23 => self.connect(),
            7 | 8 => {
                if let Some(lease) = self.any_lease() {
                    drop(self.held.swap_remove(lease));
                }
            }
            9 => {
                if let Some(lease) = self.any_lease() {
                    let Held { lease, closing } = &mut self.held[lease];
                    if *closing {
                        lease.reopened();
                    } else {
                        lease.closing();
                    }
                    *closing = !*closing;
                }
            }
            10 | 11 => self.report(),
            12 => {
                let (service, server) = (self.service(), self.address());
                let probe = if self.chance(2) { Probe::Passed } else { Probe::Failed("no answer".into()) };
                self.director.probe(&service, server, probe, self.now);
            }
            13 => {
                // Steps back are allowed; the end of time is not reached, so that timeouts end.
                let to =
                    if self.chance(8) { self.number() } else { self.now.as_nanos() + self.number() % LONG };
                self.now = Time::from_nanos(to % CLOCK_MAX);
                self.latest = self.latest.max(self.now);
            }
            14 => drop(self.director.tick(self.now)),
            15 => {
                let config = self.config();
                let plan = self.director.plan(&config);
                assert_eq!(self.director.apply(config), plan);
            }
            16 | 17 => self.edit(),
            18 => self.look(),
            19.. => self.templates(),
        }
    }

    fn connect(&mut self) {
        let (service, flow) = (self.service(), self.flow());
        let mut tried = Vec::new();
        for _ in 0..self.below(8).saturating_sub(5) {
            tried.push(self.address());
        }
        let said = self.director.explain(&service, &flow, self.now);
        let lease = self.director.schedule_except(&service, &flow, &tried, self.now);
        assert!(lease.is_err() || said.is_ok(), "{said:?}");
        if let Ok(lease) = lease {
            assert!(lease.is_persistent() || !tried.contains(&lease.server()), "{lease:?} was tried");
            let _ = (lease.target(&flow), lease.is_cut_off(), lease.is_overdue(self.now));
            if self.held.len() < HELD_MAX {
                self.held.push(Held { lease, closing: false });
            }
        }
    }

    fn report(&mut self) {
        let Some(lease) = self.any_lease() else { return };
        let event = match self.below(4) {
            0 => Event::Succeeded,
            1 => Event::Responded { latency: Duration::from_nanos(self.number()) },
            2 => Event::ConnectFailed("connect refused".into()),
            _ => Event::Failed("reset".into()),
        };
        // Sums of bytes have room for 2^64.
        let bytes = self.number() % BYTES_MAX;
        let Held { lease, .. } = &self.held[lease];
        lease.count_to_server(bytes);
        lease.count_to_client(bytes);
        self.director.report(lease, event, self.now);
    }

    /// One of ipvsadm's verbs; most of what bytes ask for is refused.
    fn edit(&mut self) {
        let (service, address) = (self.service(), self.address());
        // What is refused is as good as what is done.
        match self.below(8) {
            0 => {
                let config = self.service_config();
                drop(self.director.add_service(config));
            }
            1 => {
                let config = self.service_config();
                drop(self.director.edit_service(config));
            }
            2 => drop(self.director.delete_service(&service)),
            3 | 4 => {
                let server = self.server_config(service.family(), LIGHT);
                drop(self.director.add_server(&service, server));
            }
            5 => {
                let weight = self.weight(LIGHT);
                drop(self.director.edit_server(&service, ServerConfig::new(address).weight(weight)));
            }
            6 => drop(self.director.delete_server(&service, address)),
            _ => {
                let deadline = self.now + Duration::from_nanos(self.number());
                drop(self.director.drain(&service, address, deadline));
            }
        }
    }

    fn look(&mut self) {
        let (service, flow) = (self.service(), self.flow());
        if let Some(history) = self.director.history(&service) {
            for (_, history) in &history.servers {
                let _ = (history.mtbf(), history.mttr());
                assert!(history.availability().is_none_or(|part| (0.0..=1.0).contains(&part)));
            }
        }
        let _ = self.director.draining();
        for service in self.director.stats() {
            for server in service.servers {
                let _ = server.condition.to_string();
            }
        }
        if let Ok(said) = self.director.explain(&service, &flow, self.now) {
            let _ = said.to_string();
        }
        if self.chance(4) {
            let _ = self.director.zero(self.keys.first());
        }
    }

    fn templates(&mut self) {
        let mut saved = self.director.save_templates(self.now);
        if self.chance(2) && !saved.is_empty() {
            let place = self.number() as usize % saved.len();
            saved[place] ^= self.byte();
        }
        let _ = self.director.restore_templates(&saved, self.now);
        let _ = self.director.restore_templates(self.bytes, self.now);
    }

    fn any_lease(&mut self) -> Option<usize> {
        (!self.held.is_empty()).then(|| self.below(self.held.len()))
    }

    /// A service, one that is there mostly.
    fn service(&mut self) -> ServiceKey {
        let byte = usize::from(self.byte());
        let there = self.director.config().services;
        match there.len() {
            count if count > 0 && byte < 240 => there[byte % count].key.clone(),
            _ => self.keys[byte % self.keys.len()].clone(),
        }
    }

    fn config(&mut self) -> Config {
        let mut config = Config::default();
        for _ in 0..=self.below(3) {
            // Of two with one key the second is refused, and the others stand.
            let _ = config.add_service(self.service_config());
        }
        config
    }

    fn service_config(&mut self) -> ServiceConfig {
        let algorithm = match self.below(Algorithm::ALL.len() + 1) {
            place if place < Algorithm::ALL.len() => Algorithm::ALL[place],
            _ => Algorithm::HashBounded { slack: self.number() as u16 },
        };
        let place = self.below(self.keys.len());
        let key = self.keys[place].clone();
        let mut config = Config::default();
        let _ = config.add_service(ServiceConfig::new(key.clone(), algorithm));
        // A ring as large as it can be takes seconds to lay out: nothing is found while it is.
        let rings = matches!(algorithm, Algorithm::HashConsistent | Algorithm::HashBounded { .. });
        let heaviest = if rings { LIGHT } else { Weight::MAX.value() };
        for _ in 0..self.below(8) {
            let server = self.server_config(key.family(), heaviest);
            let _ = config.add_server(&key, server);
        }
        let mut service = config.services.swap_remove(0);
        let bits = self.byte();
        for (bit, flag) in FLAGS.into_iter().enumerate() {
            if bits >> bit & 1 == 1 {
                service.flags = service.flags.with(flag);
            }
        }
        service.seed = u64::from(bits);
        service.one_packet = bits & 0xF0 == 0x80;
        service.expire_nodest_conn = bits & 8 != 0;
        // Without it a service on port 0 is refused.
        let needed = key.address().is_some_and(|address| address.port() == 0);
        if needed || self.chance(3) {
            service.persistence = self.persistence();
        }
        if self.chance(3) {
            service.health = self.health();
        }
        service
    }

    fn persistence(&mut self) -> Option<Persistence> {
        let timeout = Duration::from_secs(1 + self.number() % Persistence::TIMEOUT_MAX.as_secs());
        let rule = Persistence::new(timeout).ok()?.mask(Ipv4Addr::from(self.number() as u32));
        let rule = rule.prefix(1 + self.byte() % 128).ok()?.capacity(self.below(8) * 7);
        Some(if self.chance(2) { rule.expire_quiescent_template() } else { rule })
    }

    fn health(&mut self) -> HealthPolicy {
        let mut health = HealthPolicy::default();
        health.rise = self.below(4) as u32;
        health.fall = self.below(4) as u32;
        health.passive = self.passive();
        health.all_ejected = if self.chance(2) { AllEjected::Refuse } else { AllEjected::TryAll };
        health.ejected_percent_max = self.byte();
        health.ejection_max = Duration::from_nanos(self.number());
        health.panic_percent = self.byte();
        health.slow_start = Duration::from_nanos(self.number());
        health.slow_start_for =
            if self.chance(2) { SlowStart::RecoveredAndAdded } else { SlowStart::Recovered };
        health
    }

    fn passive(&mut self) -> Option<Passive> {
        let fails = self.below(8) as u32;
        let rule = |window, eject| Passive {
            fails,
            window: Duration::from_nanos(window),
            eject: Duration::from_nanos(eject),
        };
        (fails < 5).then(|| rule(self.number(), self.number()))
    }

    /// A server of this family, now and then of the other.
    fn server_config(&mut self, family: Option<Family>, heaviest: u32) -> ServerConfig {
        let weight = self.weight(heaviest);
        let mut address = self.address();
        let bits = self.byte();
        if bits & 0xF0 != 0 && family.is_some_and(|family| Family::of(address.ip()) != family) {
            address = other_family(address);
        }
        let mut server = ServerConfig::new(address).weight(weight);
        if bits & 1 == 1 {
            let (upper, lower) = (self.below(8) as u32, self.below(8) as u32);
            server.thresholds = Thresholds::new(upper, lower).unwrap_or_default();
        }
        server.backup = bits & 6 == 6;
        if bits & 24 == 24 {
            server.passive = self.passive();
        }
        if bits & 32 == 32 {
            server.forwarding = Forwarding::Tunneling(Tunnel::Ipip);
        }
        server
    }

    fn weight(&mut self, heaviest: u32) -> Weight {
        Weight::new(WEIGHTS[self.below(WEIGHTS.len())].min(heaviest)).unwrap_or_default()
    }

    /// One of few servers, so that they meet again; one that is there mostly.
    fn address(&mut self) -> SocketAddr {
        let byte = usize::from(self.byte());
        let there = self.director.config().services;
        let mut there = there.iter().flat_map(|service| &service.servers).map(|server| server.address);
        if byte & 0x80 == 0
            && let Some(address) = there.nth(byte % 16)
        {
            return address;
        }
        let port = if byte & 0x40 == 0 { 80 } else { 0 };
        SocketAddr::from((Ipv4Addr::new(10, 0, 0, byte as u8 % 13), port))
    }

    fn flow(&mut self) -> Flow {
        let client = self.client();
        let mut flow = Flow::new(SocketAddr::new(client, u16::from(self.byte())));
        if self.chance(3) {
            let destination = self.client();
            flow = flow.to(SocketAddr::new(destination, 80));
        }
        if self.chance(3) {
            flow = flow.key(&self.bytes[..self.bytes.len().min(5)]);
        }
        flow
    }

    fn client(&mut self) -> IpAddr {
        let (kind, n) = (self.below(4), self.byte());
        let v4 = Ipv4Addr::new(192, 168, n / 16, n);
        match kind {
            0 | 1 => v4.into(),
            2 => v4.to_ipv6_mapped().into(),
            _ => Ipv6Addr::new(0xfd00, 1, 0, u16::from(n / 16), 0, 0, 0, u16::from(n)).into(),
        }
    }

    /// What is counted is what is held.
    fn check(&self) {
        for service in self.director.stats() {
            let key = &service.config.key;
            // IPVS counts them as inactive from the beginning.
            let datagrams = matches!(key, ServiceKey::Address { protocol: Protocol::Udp, .. });
            for server in &service.servers {
                let mut load = Load::default();
                for Held { lease, closing } in &self.held {
                    if lease.service() == key && lease.server() == server.config.address {
                        let count = if *closing || datagrams { &mut load.inactive } else { &mut load.active };
                        *count += 1;
                    }
                }
                assert_eq!(server.load, load, "{server:?}");
            }
        }
    }

    fn end(mut self) {
        self.held.clear();
        self.check();
        // A clock that stepped back makes for late timeouts, no more.
        self.now = self.latest;
        // Longer than any template lasts; the second time for those that had a connection.
        for _ in 0..2 {
            self.now = self.now + Persistence::TIMEOUT_MAX + Persistence::TIMEOUT_MAX;
            self.director.tick(self.now);
        }
        assert_eq!(self.director.templates(self.now), []);
        for service in self.director.stats() {
            for server in service.servers {
                assert_eq!(server.templates, 0, "{server:?}");
            }
        }
    }
}

/// The server of the same number in the other family.
fn other_family(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(v4.octets()[3])).into(),
        IpAddr::V6(v6) => Ipv4Addr::new(10, 0, 0, v6.octets()[15]).into(),
    };
    SocketAddr::new(ip, address.port())
}

/// The n-th service: each kind, with and without a port.
fn key(n: u16) -> ServiceKey {
    let v4 = |port| SocketAddr::from((Ipv4Addr::new(192, 0, 2, 10), port));
    let v6 = |port| SocketAddr::from((Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1), port));
    match n {
        0 => ServiceKey::tcp(v4(80)),
        1 => ServiceKey::tcp(v4(0)),
        2 => ServiceKey::udp(v4(53)),
        3 => ServiceKey::tcp(v6(80)),
        4 => ServiceKey::Mark { mark: NonZeroU32::MIN, family: Family::V4 },
        5 => ServiceKey::Mark { mark: NonZeroU32::MAX, family: Family::V6 },
        6 => ServiceKey::Address { protocol: Protocol::Sctp, address: v4(80) },
        _ => ServiceKey::name("pool"),
    }
}

const KEYS: u16 = 8;

const FLAGS: [SchedulerFlags; 3] = [SchedulerFlags::FIRST, SchedulerFlags::SECOND, SchedulerFlags::THIRD];

const HELD_MAX: usize = 200;

/// A petabyte at a time.
const BYTES_MAX: u64 = 1 << 50;

const WEIGHTS: [u32; 12] = [0, 1, 1, 1, 2, 3, 7, 10, 100, 4000, 65_535, i32::MAX as u32];

/// What a server of a ring weighs at most.
const LIGHT: u32 = 100;

/// Most that one step moves the clock, in nanoseconds: about three hours.
const LONG: u64 = 10_000_000_000_000;

/// Centuries before the end of time.
const CLOCK_MAX: u64 = u64::MAX / 4;
