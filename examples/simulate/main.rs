//! Which algorithm for my traffic: the same traffic is played against several, side by side.
//!
//! `cargo run --release -p examples --bin simulate` plays a pool with one strong server, one that
//! fails and one that is slow for a while; `--help` tells how to state another traffic. Time is
//! simulated, so a minute of traffic takes a moment, and a seed gives the same figures every time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

mod chart;
mod dice;
mod report;
mod traffic;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};
use lvs_core::Algorithm;

use crate::report::Row;
use crate::traffic::{Distribution, Traffic};

/// What is asked for.
struct Options {
    traffic: Traffic,
    algorithms: Vec<Algorithm>,
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    match options().and_then(|options| options.map_or_else(help, |options| run(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("simulate: {fault}");
            ExitCode::from(2)
        }
    }
}

fn help() -> Result<(), String> {
    print!("{HELP}");
    Ok(())
}

fn run(options: &Options) -> Result<(), String> {
    let Options { traffic, algorithms, svg } = options;
    let requests = traffic.requests();
    let mut rows = Vec::new();
    for algorithm in algorithms {
        let outcome = world::play(traffic, &requests, *algorithm).map_err(|error| error.to_string())?;
        rows.push(Row { algorithm: *algorithm, outcome });
    }
    print!("{}", report::table(traffic, &rows));
    if let Some(file) = svg {
        let chart = chart::svg(&traffic.to_string(), &rows);
        std::fs::write(file, chart).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

/// What the command line asks for; nothing if that is help.
fn options() -> Result<Option<Options>, String> {
    let (mut traffic, mut algorithms, mut svg) = (Traffic::default(), Vec::new(), None);
    let (mut slow, mut fail) = (None, None);
    let mut parser = Parser::from_env();
    let told = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(told)? {
        let Arg::Long(name) = argument else { return Err(argument.unexpected().to_string()) };
        let name = name.to_owned();
        if name == "help" {
            return Ok(None);
        }
        let unknown = || format!("unknown option --{name}; --help tells which there are");
        // Before a value is asked for, which an option that does not exist would seem to lack.
        if !HELP.contains(&format!(" --{name} ")) {
            return Err(unknown());
        }
        let value = parser.value().and_then(|value| value.string()).map_err(told)?;
        let wrong = |reason: &str| format!("--{name} {value}: {reason}");
        match name.as_str() {
            "rate" => traffic.rate = positive(&value).ok_or_else(|| wrong("not a rate"))?,
            "seconds" => traffic.seconds = positive(&value).ok_or_else(|| wrong("not a time"))?,
            "service-ms" => traffic.service_ms = positive(&value).ok_or_else(|| wrong("not a time"))?,
            "distribution" => {
                traffic.distribution = Distribution::named(&value).ok_or_else(|| wrong("not known"))?;
            }
            "weights" => traffic.weights = weights(&value).ok_or_else(|| wrong("not weights"))?,
            "workers" => {
                let workers = value.parse().ok().filter(|workers| (1..=10_000).contains(workers));
                traffic.workers = workers.ok_or_else(|| wrong("not 1 to 10000"))?;
            }
            "clients" => {
                let clients = value.parse().ok().filter(|clients| (1..=1_000_000).contains(clients));
                traffic.clients = clients.ok_or_else(|| wrong("not 1 to 1000000"))?;
            }
            "skew" => {
                let skew = value.parse().ok().filter(|skew| (0.0..=10.0).contains(skew));
                traffic.skew = skew.ok_or_else(|| wrong("not 0 to 10"))?;
            }
            "slow" if value == "none" => slow = Some(Vec::new()),
            "fail" if value == "none" => fail = Some(Vec::new()),
            "slow" => slow.get_or_insert_default().push(traffic::slow(&value).map_err(|r| wrong(&r))?),
            "fail" => fail.get_or_insert_default().push(traffic::failure(&value).map_err(|r| wrong(&r))?),
            "seed" => traffic.seed = value.parse().map_err(|_| wrong("not a number"))?,
            "algorithms" if value == "all" => algorithms.extend(Algorithm::ALL),
            "algorithms" => {
                for name in value.split(',') {
                    algorithms.push(name.parse().map_err(|error| format!("{error}"))?);
                }
            }
            "svg" => svg = Some(PathBuf::from(value)),
            _ => return Err(unknown()),
        }
    }
    if algorithms.is_empty() {
        algorithms.extend(ALGORITHMS);
    }
    if slow.is_some() || fail.is_some() || traffic.weights != Traffic::default().weights {
        (traffic.slow, traffic.failures) = (slow.unwrap_or_default(), fail.unwrap_or_default());
    }
    traffic.check()?;
    Ok(Some(Options { traffic, algorithms, svg }))
}

fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number| (0.001..=1e6).contains(number))
}

fn weights(text: &str) -> Option<Vec<u32>> {
    let weights: Option<Vec<u32>> = text.split(',').map(|weight| weight.parse().ok()).collect();
    weights.filter(|weights| weights.len() <= 250 && weights.iter().all(|weight| (1..=1000).contains(weight)))
}

/// What is compared where nothing else is asked for.
const ALGORITHMS: [Algorithm; 14] = [
    Algorithm::Rr,
    Algorithm::Wrr,
    Algorithm::Swrr,
    Algorithm::Random,
    Algorithm::Lc,
    Algorithm::Wlc,
    Algorithm::Sed,
    Algorithm::LeastTime,
    Algorithm::Twos,
    Algorithm::Ewma,
    Algorithm::Sh,
    Algorithm::Mh,
    Algorithm::HashConsistent,
    Algorithm::HashBounded { slack: 25 },
];

const HELP: &str = "\
usage: simulate [OPTION VALUE]...

Plays one traffic against several algorithms on a simulated clock.

  --rate N             requests per second (600); they come at random moments
  --seconds N          how long (60)
  --weights W,W,...    the servers, by weight (2,1,1,1,1)
  --workers N          requests that a server works at at once, for each unit of weight (4);
                       the others wait in its queue
  --service-ms N       mean time a server works at a request (20)
  --distribution NAME  of that time: exponential, fixed, heavy (exponential)
  --clients N          different clients, or keys (1000)
  --skew N             0: all ask as often; 1: the n-th asks 1/n as often as the first (0)
  --slow S:F[@A-B]     server S, from 1, takes F times as long from second A to B (3:3@35-50)
  --fail S@A-B         server S refuses and loses all it has from second A to B (2@15-25)
                       both can be repeated, and \"none\" stands for none; who gives one of them, or
                       weights, gives both
  --seed N             other traffic of the same kind (1)
  --algorithms A,A,... names as in ipvsadm and in the documentation of lvs-core, or \"all\"
  --svg FILE           writes a chart
";
