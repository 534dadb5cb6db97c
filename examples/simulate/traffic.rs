//! The traffic that is played: who asks when, how much work it is, and what befalls the servers.

use std::fmt;

use crate::dice::Dice;

/// A traffic as it is stated.
pub(crate) struct Traffic {
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    /// One for each server.
    pub(crate) weights: Vec<u32>,
    /// Requests that a server works at at once, for each unit of weight.
    pub(crate) workers: usize,
    pub(crate) service_ms: f64,
    pub(crate) distribution: Distribution,
    pub(crate) clients: u32,
    pub(crate) skew: f64,
    pub(crate) slow: Vec<Slow>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) seed: u64,
}

/// How the time that a server works at a request is spread around its mean.
#[derive(Clone, Copy)]
pub(crate) enum Distribution {
    Exponential,
    Fixed,
    /// Pareto with exponent 2.2: one in a thousand takes twelve times the mean.
    Heavy,
}

/// A server that takes longer for a while.
#[derive(Clone, Copy)]
pub(crate) struct Slow {
    /// From 0.
    pub(crate) server: usize,
    pub(crate) factor: f64,
    /// In seconds.
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// A server that is gone for a while.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    /// From 0.
    pub(crate) server: usize,
    /// In seconds.
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// One request, the same for every algorithm.
pub(crate) struct Request {
    /// In seconds.
    pub(crate) at: f64,
    pub(crate) client: u32,
    /// Seconds that a server works at it.
    pub(crate) work: f64,
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic {
            rate: 600.0,
            seconds: 60.0,
            weights: vec![2, 1, 1, 1, 1],
            workers: 4,
            service_ms: 20.0,
            distribution: Distribution::Exponential,
            clients: 1000,
            skew: 0.0,
            slow: vec![Slow { server: 2, factor: 3.0, from: 35.0, to: 50.0 }],
            failures: vec![Failure { server: 1, from: 15.0, to: 25.0 }],
            seed: 1,
        }
    }
}

impl Traffic {
    /// Says what contradicts itself.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.rate * self.seconds > REQUESTS_MAX {
            return Err(format!("more than {REQUESTS_MAX} requests"));
        }
        let servers = self.slow.iter().map(|slow| slow.server);
        let unknown = servers.chain(self.failures.iter().map(|failure| failure.server));
        match unknown.into_iter().find(|server| *server >= self.weights.len()) {
            Some(server) => Err(format!("there is no server {}", server + 1)),
            None => Ok(()),
        }
    }

    /// The requests, in the order they come.
    pub(crate) fn requests(&self) -> Vec<Request> {
        // Each kind of chance has dice of its own, so that one can be changed alone.
        let [mut arrivals, mut clients, mut works] =
            [0, 1, 2].map(|kind| Dice::new(self.seed.wrapping_mul(3).wrapping_add(kind)));
        let mut total = 0.0;
        let sums: Vec<f64> = (1..=self.clients)
            .map(|n| {
                total += f64::from(n).powf(-self.skew);
                total
            })
            .collect();
        let (mut at, mut requests) = (0.0, Vec::new());
        loop {
            at += arrivals.exponential() / self.rate;
            if at > self.seconds {
                return requests;
            }
            let drawn = clients.unit() * total;
            let client = sums.partition_point(|sum| *sum < drawn).min(sums.len() - 1) as u32;
            let work = self.service_ms / 1000.0 * self.distribution.draw(&mut works);
            requests.push(Request { at, client, work });
        }
    }

    /// How many times longer than usual a server takes at this second.
    pub(crate) fn slowness(&self, server: usize, at: f64) -> f64 {
        let spells =
            self.slow.iter().filter(|slow| slow.server == server && (slow.from..slow.to).contains(&at));
        spells.map(|slow| slow.factor).product()
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traffic { rate, seconds, workers, service_ms, clients, seed, .. } = self;
        let weights: Vec<String> = self.weights.iter().map(u32::to_string).collect();
        let capacity = f64::from(self.weights.iter().sum::<u32>()) * *workers as f64 * 1000.0 / service_ms;
        write!(
            f,
            "{rate} requests/s ({:.0} % of capacity) for {seconds} s, {} {service_ms} ms, {clients} clients; servers {}",
            rate / capacity * 100.0,
            self.distribution,
            weights.join(" "),
        )?;
        for Failure { server, from, to } in self.failures.iter().filter(|failure| failure.from < *seconds) {
            write!(f, "; {} fails {from}-{} s", server + 1, to.min(*seconds))?;
        }
        for Slow { server, factor, from, to } in self.slow.iter().filter(|slow| slow.from < *seconds) {
            write!(f, "; {} is {factor} x slower {from}-{} s", server + 1, to.min(*seconds))?;
        }
        write!(f, "; seed {seed}")
    }
}

impl Distribution {
    pub(crate) fn named(name: &str) -> Option<Distribution> {
        let all = [Distribution::Exponential, Distribution::Fixed, Distribution::Heavy];
        all.into_iter().find(|distribution| distribution.to_string() == name)
    }

    /// A time, in parts of the mean.
    fn draw(self, dice: &mut Dice) -> f64 {
        match self {
            Distribution::Exponential => dice.exponential(),
            Distribution::Fixed => 1.0,
            Distribution::Heavy => (HEAVY - 1.0) / HEAVY * dice.unit().powf(-1.0 / HEAVY),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Distribution::Exponential => "exponential",
            Distribution::Fixed => "fixed",
            Distribution::Heavy => "heavy",
        })
    }
}

/// Reads `SERVER:FACTOR` or `SERVER:FACTOR@FROM-TO`.
pub(crate) fn slow(text: &str) -> Result<Slow, String> {
    let (what, when) = text.split_once('@').unwrap_or((text, "0-1000000"));
    let (number, factor) = what.split_once(':').ok_or("not SERVER:FACTOR")?;
    let factor =
        factor.parse().ok().filter(|factor| (0.01..=10_000.0).contains(factor)).ok_or("not a factor")?;
    let (from, to) = spell(when)?;
    Ok(Slow { server: server(number)?, factor, from, to })
}

/// Reads `SERVER@FROM-TO`.
pub(crate) fn failure(text: &str) -> Result<Failure, String> {
    let (number, when) = text.split_once('@').ok_or("not SERVER@FROM-TO")?;
    let (from, to) = spell(when)?;
    Ok(Failure { server: server(number)?, from, to })
}

fn server(text: &str) -> Result<usize, String> {
    let number: Option<usize> = text.parse().ok();
    number.and_then(|number| number.checked_sub(1)).ok_or_else(|| "servers are numbered from 1".to_owned())
}

fn spell(text: &str) -> Result<(f64, f64), String> {
    let seconds = |text: &str| text.parse().ok().filter(|second| (0.0..=1e6).contains(second));
    let (from, to) = text.split_once('-').ok_or("not FROM-TO")?;
    match (seconds(from), seconds(to)) {
        (Some(from), Some(to)) if from < to => Ok((from, to)),
        _ => Err("not FROM-TO in seconds".to_owned()),
    }
}

/// Exponent of the heavy distribution.
const HEAVY: f64 = 2.2;

/// Half a gigabyte of them.
const REQUESTS_MAX: f64 = 20_000_000.0;
