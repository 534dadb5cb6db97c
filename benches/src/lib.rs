//! Micro-benchmarks of the schedulers: the cases, and a small harness that measures them.
//!
//! A measurement is the CPU time of the threads that did the work, not the time on the wall, so
//! that whatever else the machine does costs it rounds and not truth. All cases take turns within a
//! round, so that a slow moment meets each of them; the median of the rounds is the result. Compare
//! results of one run only.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use lvs_core::{
    Algorithm, Config, Director, Flow, Persistence, ServerConfig, ServiceConfig, ServiceKey, Time, Weight,
};
use rustix::time::{ClockId, clock_gettime};

/// Sizes of the pools that are measured.
pub const SERVERS: [u16; 4] = [3, 10, 100, 1000];

/// One thing to measure.
pub struct Case<'a> {
    name: &'static str,
    work: Box<dyn Fn(u32) + Sync + 'a>,
}

/// How much is spent on a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    rounds: usize,
    /// CPU time of one thread for one sample of one case.
    sample: Duration,
}

impl<'a> Case<'a> {
    /// `work` does the thing so many times, on any number of threads at once.
    pub fn new(name: &'static str, work: impl Fn(u32) + Sync + 'a) -> Case<'a> {
        Case { name, work: Box::new(work) }
    }

    /// `schedule` and the drop of its lease, on a pool of this size, each time for another client.
    pub fn schedule(algorithm: Algorithm, servers: u16) -> Case<'static> {
        let director = Arc::new(director(algorithm, servers));
        Case::new(algorithm.name(), move |calls| {
            let mut picker = director.picker(&vip());
            for call in 0..calls {
                drop(black_box(picker.schedule(black_box(&client(call)), Time::ZERO)));
            }
        })
    }

    /// `schedule` and drop for clients that all have a template, so many, in no order that a cache
    /// could follow.
    pub fn template(clients: u32) -> Case<'static> {
        let director = Arc::new(director(Algorithm::Rr, 10));
        let mut service = director.config().services.remove(0);
        service.persistence = Persistence::new(Duration::from_secs(3600)).ok();
        director.edit_service(service).expect("the service is there");
        let mut picker = director.picker(&vip());
        for n in 0..clients {
            drop(picker.schedule(&client(n), Time::ZERO));
        }
        Case::new("template", move |calls| {
            let (mut picker, mut n) = (director.picker(&vip()), 0u32);
            for _ in 0..calls {
                n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let place = ((u64::from(n) * u64::from(clients)) >> 32) as u32;
                drop(black_box(picker.schedule(&client(place), Time::ZERO)));
            }
        })
    }

    /// `apply` of a configuration in which one weight of so many servers differs from the present one,
    /// with the copy of the configuration that it takes and the end of the snapshot that it replaces.
    pub fn apply(algorithm: Algorithm, servers: u16) -> Case<'static> {
        let director = director(algorithm, servers);
        let present = director.config();
        let mut other = present.clone();
        other.services[0].servers[usize::from(servers / 2)].weight = Weight::new(7).expect("7 is a weight");
        Case::new(algorithm.name(), move |calls| {
            for wanted in [&other, &present].into_iter().cycle().take(calls as usize) {
                drop(black_box(director.apply(black_box(wanted.clone()))));
            }
        })
    }

    /// Does the thing so many times.
    pub fn run(&self, calls: u32) {
        (self.work)(calls);
    }

    /// Column title.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Effort {
    /// About 10 s for twenty cases.
    pub const MEASURE: Effort = Effort { rounds: 21, sample: Duration::from_millis(10) };
    /// Enough to see that the cases run; the numbers say nothing.
    pub const TRY: Effort = Effort { rounds: 1, sample: Duration::from_micros(10) };

    /// What the command line asks for: cargo passes `--bench` to benchmarks, and not when it only
    /// wants to see them run among the tests.
    pub fn from_args() -> Effort {
        if std::env::args().any(|argument| argument == "--bench") { Effort::MEASURE } else { Effort::TRY }
    }
}

/// Nanoseconds of CPU time per call for each case, with the work done on `threads` threads at once.
pub fn measure(cases: &[Case<'_>], threads: usize, effort: Effort) -> Vec<f64> {
    // Finding out how many calls fill a sample is also the warm-up.
    let calls: Vec<u32> = cases.iter().map(|case| calls_per_sample(case, effort.sample)).collect();
    let mut samples = vec![Vec::with_capacity(effort.rounds); cases.len()];
    for _ in 0..effort.rounds {
        for (place, case) in cases.iter().enumerate() {
            let spent = on_threads(case, calls[place], threads);
            samples[place].push(spent.as_nanos() as f64 / f64::from(calls[place]) / threads as f64);
        }
    }
    samples.into_iter().map(median).collect()
}

fn calls_per_sample(case: &Case<'_>, sample: Duration) -> u32 {
    let mut calls = 16;
    while on_threads(case, calls, 1) < sample && calls < u32::MAX / 2 {
        calls *= 2;
    }
    calls
}

/// CPU time of all threads together.
fn on_threads(case: &Case<'_>, calls: u32, threads: usize) -> Duration {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let work = || {
            start.wait();
            let before = thread_time();
            (case.work)(calls);
            thread_time() - before
        };
        let working: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        working.into_iter().map(|thread| thread.join().expect("a case does not panic")).sum()
    })
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// A director with one service. Weights run from 1 to 5, so that the weighted schedulers have
/// something to weigh.
fn director(algorithm: Algorithm, servers: u16) -> Director {
    let servers = (0..servers).map(|n| {
        let weight = Weight::new(u32::from(n % 5) + 1).expect("5 is a weight");
        ServerConfig::new(address(n)).weight(weight)
    });
    let service = servers.fold(ServiceConfig::new(vip(), algorithm), ServiceConfig::server);
    let director = Director::new();
    director.apply(Config { services: vec![service] }).expect("the addresses differ");
    director
}

/// Address of the n-th server.
pub fn address(n: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0a02_0000 | u32::from(n)), 80))
}

fn vip() -> ServiceKey {
    ServiceKey::tcp(SocketAddr::from(([10, 9, 9, 9], 80)))
}

/// The n-th client of 16 millions.
fn client(n: u32) -> Flow {
    Flow::new(SocketAddr::from((Ipv4Addr::from(0x0b00_0000 | n & 0x00ff_ffff), 40_000)))
}
