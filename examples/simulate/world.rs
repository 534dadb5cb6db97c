//! Plays a traffic against one algorithm: requests, queues, failures and probes on a simulated clock.
//!
//! The servers are queues with some workers each. A server that has failed refuses at once, and the
//! client is sent to another one, as a proxy would; what it was working at is lost. The director is
//! told what a proxy would tell it: refusals, answers with their time, a probe a second.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lvs_core::{
    Algorithm, Config, ConfigError, Director, Event, Flow, Lease, Probe, ServerConfig, ServiceConfig,
    ServiceKey, Time, Weight,
};

use crate::traffic::{Request, Traffic};

/// What became of the traffic.
pub(crate) struct Outcome {
    /// Median time from request to answer, in milliseconds.
    pub(crate) p50: f64,
    /// The time that 99 of 100 answers were within, in milliseconds.
    pub(crate) p99: f64,
    /// Coefficient of variation of requests for weight, over the servers, while all were up.
    pub(crate) unevenness: f64,
    pub(crate) requests: usize,
    /// Requests without an answer.
    pub(crate) errors: usize,
    /// What part of the clients got another server when the first failure began; none if there was
    /// no failure.
    pub(crate) moved: Option<f64>,
}

struct World<'a> {
    traffic: &'a Traffic,
    requests: &'a [Request],
    director: Director,
    service: ServiceKey,
    servers: Vec<Server>,
    /// What is to come; of what comes at one moment, what was put in first.
    agenda: BinaryHeap<Reverse<(Time, u64, Step)>>,
    entries: u64,
    /// Requests on servers.
    open: HashMap<usize, Open>,
    latencies: Vec<f64>,
    errors: usize,
    /// Where each client went last.
    homes: HashMap<u32, usize>,
    /// Of the clients that came again during the first failure: whether they went elsewhere.
    moved: BTreeMap<u32, bool>,
}

struct Server {
    workers: usize,
    busy: usize,
    queue: VecDeque<usize>,
    up: bool,
    /// Requests taken while all servers were up.
    taken: u64,
}

struct Open {
    lease: Lease,
    server: usize,
    since: Time,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Recover(usize),
    Fail(usize),
    Probe,
    Arrive(usize),
    Answer(usize),
}

/// Plays the requests against this algorithm until all have ended.
pub(crate) fn play(
    traffic: &Traffic,
    requests: &[Request],
    algorithm: Algorithm,
) -> Result<Outcome, ConfigError> {
    let service = ServiceKey::tcp(VIP);
    let mut wanted = ServiceConfig::new(service.clone(), algorithm);
    wanted.seed = traffic.seed;
    for (server, weight) in traffic.weights.iter().enumerate() {
        wanted = wanted.server(ServerConfig::new(address(server)).weight(Weight::new(*weight)?));
    }
    let director = Director::new();
    director.apply(Config { services: vec![wanted] })?;
    let servers = traffic.weights.iter().map(|weight| Server {
        workers: traffic.workers * *weight as usize,
        busy: 0,
        queue: VecDeque::new(),
        up: true,
        taken: 0,
    });
    let mut world = World {
        traffic,
        requests,
        director,
        service,
        servers: servers.collect(),
        agenda: BinaryHeap::new(),
        entries: 0,
        open: HashMap::new(),
        latencies: Vec::with_capacity(requests.len()),
        errors: 0,
        homes: HashMap::new(),
        moved: BTreeMap::new(),
    };
    world.begin();
    while let Some(Reverse((now, _, step))) = world.agenda.pop() {
        world.step(step, now);
    }
    Ok(world.outcome())
}

impl World<'_> {
    fn begin(&mut self) {
        for failure in &self.traffic.failures {
            self.add(time(failure.from), Step::Fail(failure.server));
            self.add(time(failure.to), Step::Recover(failure.server));
        }
        self.add(Time::ZERO, Step::Probe);
        if let Some(first) = self.requests.first() {
            self.add(time(first.at), Step::Arrive(0));
        }
    }

    fn add(&mut self, at: Time, step: Step) {
        self.entries += 1;
        self.agenda.push(Reverse((at, self.entries, step)));
    }

    fn step(&mut self, step: Step, now: Time) {
        match step {
            Step::Arrive(request) => {
                if let Some(next) = self.requests.get(request + 1) {
                    self.add(time(next.at), Step::Arrive(request + 1));
                }
                self.arrive(request, now);
            }
            Step::Answer(request) => self.answer(request, now),
            Step::Fail(server) => self.fail(server, now),
            Step::Recover(server) => self.servers[server].up = true,
            Step::Probe => self.probe(now),
        }
    }

    fn arrive(&mut self, request: usize, now: Time) {
        let client = self.requests[request].client;
        let mut tried = Vec::new();
        while tried.len() < TRIES {
            let Ok(lease) = self.director.schedule_except(&self.service, &flow(client), &tried, now) else {
                break;
            };
            let server = usize::from(lease.server().port() - FIRST_PORT);
            if self.servers[server].up {
                self.director.report(&lease, Event::Succeeded, now);
                self.settle(client, server, now);
                self.open.insert(request, Open { lease, server, since: now });
                self.servers[server].queue.push_back(request);
                self.work(server, now);
                return;
            }
            self.director.report(&lease, Event::ConnectFailed("connect refused".into()), now);
            tried.push(lease.server());
        }
        self.errors += 1;
    }

    /// Notes where a client went.
    fn settle(&mut self, client: u32, server: usize, now: Time) {
        let first = self.traffic.failures.first();
        let fails = first.is_some_and(|failure| (time(failure.from)..time(failure.to)).contains(&now));
        if let Some(home) = self.homes.insert(client, server)
            && fails
        {
            self.moved.entry(client).or_insert(home != server);
        }
        if self.servers.iter().all(|server| server.up) {
            self.servers[server].taken += 1;
        }
    }

    /// Lets idle workers take what waits.
    fn work(&mut self, server: usize, now: Time) {
        while self.servers[server].busy < self.servers[server].workers
            && let Some(request) = self.servers[server].queue.pop_front()
        {
            self.servers[server].busy += 1;
            let slowness = self.traffic.slowness(server, now.since_epoch().as_secs_f64());
            let work = Duration::from_secs_f64(self.requests[request].work * slowness);
            self.add(now + work, Step::Answer(request));
        }
    }

    fn answer(&mut self, request: usize, now: Time) {
        // Its server may have failed meanwhile.
        let Some(Open { lease, server, since }) = self.open.remove(&request) else { return };
        let latency = now.since(since);
        self.director.report(&lease, Event::Responded { latency }, now);
        self.latencies.push(latency.as_secs_f64() * 1000.0);
        self.servers[server].busy -= 1;
        self.work(server, now);
    }

    /// A server and all that it has are gone.
    fn fail(&mut self, server: usize, now: Time) {
        let Server { busy, queue, up, .. } = &mut self.servers[server];
        (*busy, *up) = (0, false);
        queue.clear();
        let mut lost: Vec<usize> =
            self.open.iter().filter(|(_, open)| open.server == server).map(|(request, _)| *request).collect();
        // A map has no order, and a run must have one.
        lost.sort_unstable();
        for open in lost.iter().filter_map(|request| self.open.remove(request)) {
            self.errors += 1;
            self.director.report(&open.lease, Event::Failed("connection reset".into()), now);
        }
    }

    fn probe(&mut self, now: Time) {
        for (server, Server { up, .. }) in self.servers.iter().enumerate() {
            let probe = if *up { Probe::Passed } else { Probe::Failed("connect refused".into()) };
            self.director.probe(&self.service, address(server), probe, now);
        }
        self.director.tick(now);
        if now < time(self.traffic.seconds) {
            self.add(now + PROBE_INTERVAL, Step::Probe);
        }
    }

    fn outcome(mut self) -> Outcome {
        self.latencies.sort_unstable_by(f64::total_cmp);
        let taken = self.servers.iter().zip(&self.traffic.weights);
        let taken: Vec<f64> =
            taken.map(|(server, weight)| server.taken as f64 / f64::from(*weight)).collect();
        let moved = self.moved.values().filter(|moved| **moved).count() as f64 / self.moved.len() as f64;
        Outcome {
            p50: quantile(&self.latencies, 0.5),
            p99: quantile(&self.latencies, 0.99),
            unevenness: variation(&taken),
            requests: self.requests.len(),
            errors: self.errors,
            moved: (!self.moved.is_empty()).then_some(moved),
        }
    }
}

/// The n-th server, known by its port.
fn address(server: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), FIRST_PORT + server as u16))
}

/// A client has a network of its own, a key of its own, and one thing that it asks for: every
/// scheduler that hashes finds what it looks at.
fn flow(client: u32) -> Flow {
    let host = Ipv4Addr::from(0x0A00_0007_u32.wrapping_add(client << 8));
    let wanted = Ipv4Addr::from(0xC612_0000_u32.wrapping_add(client));
    Flow::new(SocketAddr::from((host, 40_000))).to(SocketAddr::from((wanted, 80))).key(&client.to_le_bytes())
}

fn time(seconds: f64) -> Time {
    Time::from_epoch(Duration::from_secs_f64(seconds))
}

/// The value that this part of the sorted values does not exceed; 0 if there are none.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Standard deviation by mean.
fn variation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    if mean > 0.0 { square.sqrt() / mean } else { 0.0 }
}

const VIP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 80);

const FIRST_PORT: u16 = 8001;

/// Servers that a request is sent to before it is given up.
const TRIES: usize = 3;

const PROBE_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_variation_are_those_of_the_textbook() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99)), (50.0, 99.0));
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(variation(&[1.0, 1.0]), 0.0);
        assert_eq!(variation(&[1.0, 3.0]), 0.5);
    }
}
