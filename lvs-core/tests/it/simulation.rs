//! A director's life by the dice: connections begin, change and end, servers fail and recover, are
//! added, edited and removed, the clock runs. After every step the director must agree with a model
//! that counts on its fingers.
//!
//! `SIMULATION_SEED=n` plays one seed again; a failure prints which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lvs_core::{
    Algorithm, Condition, Config, Director, Event, Flow, Lease, Outcome, Passive, Persistence, Probe,
    Refusal, ServiceConfig, Time,
};

use crate::setup::{address, backup, flow, limited, vip};

const SEEDS: u64 = 75;
const STEPS: u32 = 300;

/// splitmix64: the same numbers everywhere for a seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}

/// What the model knows.
struct World {
    director: Director,
    dice: Dice,
    now: Time,
    wanted: ServiceConfig,
    /// Leases, and whether they are closing.
    held: Vec<(Lease, bool)>,
    /// Servers whose last probe failed.
    down: BTreeSet<SocketAddr>,
    scheduled: u64,
    refused: u64,
}

/// Names the seed of a run that panics.
struct Named(u64, Algorithm);

impl Drop for Named {
    #[allow(clippy::print_stderr, reason = "a failure is of no use without its seed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with SIMULATION_SEED={} ({})", self.0, self.1);
        }
    }
}

impl World {
    fn new(seed: u64, algorithm: Algorithm) -> World {
        let mut dice = Dice(seed);
        let mut wanted = ServiceConfig::new(vip(), algorithm);
        wanted.health.passive = Some(Passive { fails: 2, ..Passive::default() });
        wanted.health.slow_start = Duration::from_secs(dice.below(2) * 5);
        if dice.one_in(3) {
            let rule = Persistence::new(Duration::from_secs(20)).expect("a timeout").capacity(20);
            wanted.persistence = Some(rule);
        }
        let director = Director::new();
        director.apply(Config { services: vec![wanted.clone()] }).expect("a valid service");
        World {
            director,
            dice,
            now: Time::ZERO,
            wanted,
            held: Vec::new(),
            down: BTreeSet::new(),
            scheduled: 0,
            refused: 0,
        }
    }

    fn step(&mut self) {
        match self.dice.below(21) {
            20 => self.hand_over(),
            0..=8 => self.connect(),
            9..=11 => self.end(),
            12 => self.close(),
            13 => self.fail(),
            14 => self.probe(),
            15..=17 => self.change(),
            _ => {
                self.now = self.now + Duration::from_millis(self.dice.below(4000));
                self.director.tick(self.now);
            }
        }
    }

    fn connect(&mut self) {
        let flow = flow(self.dice.below(40) as u16);
        let said = self.director.explain(&vip(), &flow, self.now).expect("the service is there");
        match (self.director.schedule(&vip(), &flow, self.now), said.outcome) {
            (Ok(lease), said) => {
                let server = self.wanted.servers.iter().find(|server| server.address == lease.server());
                let server = server.expect("a configured server");
                assert!(!self.down.contains(&server.address), "{server:?} is down");
                assert!(lease.is_persistent() || server.weight.value() > 0, "{server:?} is quiesced");
                assert!(
                    self.is_asked_twice() || said == Outcome::Server(server.address),
                    "{said:?}, {server:?}"
                );
                self.scheduled += 1;
                self.held.push((lease, false));
            }
            (Err(refusal), said) => {
                assert_eq!(said, Outcome::Refused(refusal));
                assert_ne!(refusal, Refusal::NoService);
                if self.wanted.servers.is_empty() {
                    assert_eq!(refusal, Refusal::NoServers);
                } else if self.wanted.servers.iter().all(|server| server.weight.value() == 0) {
                    assert_eq!(refusal, Refusal::AllQuiesced);
                }
                self.refused += 1;
            }
        }
    }

    /// Whether a scheduler that remembers its choices may be asked twice for one connection: a server
    /// that warms up leaves its turn to another. What comes after the first is not foretold.
    fn is_asked_twice(&self) -> bool {
        use Algorithm::{Lblc, Lblcr, LeastConn, LeastTime, Rr, Wrr};
        let remembers = [Rr, Wrr, LeastConn, LeastTime, Lblc, Lblcr].contains(&self.wanted.algorithm);
        remembers && self.wanted.health.slow_start > Duration::ZERO
    }

    fn end(&mut self) {
        if !self.held.is_empty() {
            let place = self.dice.below(self.held.len() as u64) as usize;
            drop(self.held.swap_remove(place));
        }
    }

    fn close(&mut self) {
        if let Some((lease, closing)) = self.held.last_mut() {
            lease.closing();
            *closing = true;
        }
    }

    fn fail(&mut self) {
        if let Some((lease, _)) = self.held.last() {
            let event = match self.dice.below(3) {
                0 => Event::Succeeded,
                _ => Event::ConnectFailed("connect refused".into()),
            };
            if self.director.report(lease, event, self.now).is_none() {
                return;
            }
            let stats = self.director.stats();
            let weighted = stats[0].servers.iter().filter(|server| server.config.weight.value() > 0);
            let (mut up, mut ejected, mut all) = (0, 0, 0);
            for server in weighted {
                up += usize::from(server.condition == Condition::Up);
                // A server can be down and ejected, and is called down then.
                ejected += usize::from(matches!(server.condition, Condition::Ejected { .. }));
                all += 1;
            }
            assert!(up > 0, "the last one was ejected");
            assert!(ejected * 2 <= all + 1, "{ejected} of {all} are ejected");
        }
    }

    fn probe(&mut self) {
        let Some(server) = self.any_server() else { return };
        if self.dice.one_in(2) {
            self.down.insert(server);
            self.director.probe(&vip(), server, Probe::Failed("no answer".into()), self.now);
        } else {
            self.down.remove(&server);
            self.director.probe(&vip(), server, Probe::Passed, self.now);
        }
    }

    fn any_server(&mut self) -> Option<SocketAddr> {
        let count = self.wanted.servers.len() as u64;
        (count > 0).then(|| self.wanted.servers[self.dice.below(count) as usize].address)
    }

    /// Adds, edits or removes a server, or several at once.
    fn change(&mut self) {
        for _ in 0..=self.dice.below(2) {
            let n = self.dice.below(9) as u8 + 1;
            let weight = self.dice.below(4) as u32;
            let new = if self.dice.one_in(6) {
                backup(n, weight)
            } else {
                limited(n, weight, self.dice.below(8) as u32, 0)
            };
            let place = self.wanted.servers.iter().position(|server| server.address == address(n));
            match place {
                Some(place) if self.dice.one_in(2) => {
                    let gone = self.wanted.servers.remove(place).address;
                    // A server that has no connections left and comes back is a new one; one that
                    // has keeps its health, which the model does not follow: it is told.
                    self.director.probe(&vip(), gone, Probe::Passed, self.now);
                    self.down.remove(&gone);
                }
                Some(place) => self.wanted.servers[place] = new,
                None => self.wanted.servers.push(new),
            }
        }
        let config = Config { services: vec![self.wanted.clone()] };
        let plan = self.director.plan(&config).expect("a valid configuration");
        assert_eq!(self.director.apply(config).expect("a valid configuration"), plan);
    }

    /// Templates are saved and come to a standby that is configured alike, one server aside at times;
    /// and back to where they are already.
    fn hand_over(&mut self) {
        let held = self.director.templates(self.now);
        let saved = self.director.save_templates(self.now);
        let back = self.director.restore_templates(&saved, self.now).expect("saved just now");
        // Of a server that is not configured any more a client may still have its template.
        assert_eq!((back.present + back.unknown_server, back.restored), (held.len(), 0));
        assert_eq!(self.director.templates(self.now).len(), held.len());

        let mut wanted = self.wanted.clone();
        let lost = if self.dice.one_in(3) { self.any_server() } else { None };
        wanted.servers.retain(|server| Some(server.address) != lost);
        let standby = Director::new();
        standby.apply(Config { services: vec![wanted] }).expect("a valid service");
        let restored = standby.restore_templates(&saved, self.now).expect("saved just now");
        let known =
            |server: SocketAddr| standby.stats()[0].servers.iter().any(|s| s.config.address == server);
        let (kept, gone): (Vec<_>, Vec<_>) = held.into_iter().partition(|template| known(template.server));
        assert_eq!((restored.restored, restored.unknown_server), (kept.len(), gone.len()));

        // What ran out and was held by its connections has nothing left to hold it there.
        let mut kept: Vec<_> = kept.into_iter().filter(|template| !template.left.is_zero()).collect();
        let mut there = standby.templates(self.now);
        kept.sort_by_key(|template| template.client);
        there.sort_by_key(|template| template.client);
        assert_eq!(there, kept);
        for template in kept {
            let flow = Flow::new((template.client, 1).into());
            let lease = standby.schedule(&vip(), &flow, self.now).expect("the template's server");
            assert_eq!((lease.server(), lease.is_persistent()), (template.server, true));
        }

        let mut broken = saved;
        let place = self.dice.below(broken.len() as u64) as usize;
        broken[place] ^= 1 << self.dice.below(8);
        let empty = Director::new();
        empty.apply(Config { services: vec![self.wanted.clone()] }).expect("a valid service");
        assert!(empty.restore_templates(&broken, self.now).is_err(), "byte {place}");
        assert_eq!(empty.templates(self.now), []);
    }

    fn check(&self) {
        let [service] = &self.director.stats()[..] else { panic!("one service") };
        assert_eq!(service.config, self.wanted);
        assert_eq!((service.connections, service.refused), (self.scheduled, self.refused));
        let mut loads: BTreeMap<SocketAddr, (u32, u32)> = BTreeMap::new();
        for (lease, closing) in &self.held {
            let load = loads.entry(lease.server()).or_default();
            if *closing { load.1 += 1 } else { load.0 += 1 }
        }
        for server in &service.servers {
            let (active, inactive) = loads.get(&server.config.address).copied().unwrap_or_default();
            assert_eq!((server.load.active, server.load.inactive), (active, inactive), "{server:?}");
            let down = self.down.contains(&server.config.address);
            assert_eq!(matches!(server.condition, Condition::Down { .. }), down, "{server:?}");
            let upper = server.config.thresholds.upper();
            assert!(!server.full || upper > 0, "{server:?}");
        }
        let templates = self.director.templates(self.now).len();
        assert!(templates <= 20, "{templates} templates");
        let counted: u32 = service.servers.iter().map(|server| server.templates).sum();
        assert!(counted <= 20, "{counted} templates counted");
    }

    /// When all connections have ended and all templates have run out, nothing is left.
    fn end_of_days(mut self) {
        self.held.clear();
        self.now = self.now + Duration::from_secs(3600);
        for _ in 0..2 {
            self.director.tick(self.now);
        }
        self.check();
        assert_eq!(self.director.templates(self.now), []);
        for server in &self.director.stats()[0].servers {
            assert_eq!((server.load.total(), server.templates), (0, 0), "{server:?}");
            assert!(!matches!(server.condition, Condition::Ejected { .. }), "{server:?}");
        }
    }
}

#[test]
fn director_agrees_with_a_simple_model_after_every_step() {
    let replayed = std::env::var("SIMULATION_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = replayed.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        let algorithm = Algorithm::ALL[seed as usize % Algorithm::ALL.len()];
        let _named = Named(seed, algorithm);
        let mut world = World::new(seed, algorithm);
        for _ in 0..STEPS {
            world.step();
            world.check();
        }
        world.end_of_days();
    }
}
