//! Plays recorded scheduling scenarios against the load balancer and says where it picks otherwise.
//!
//! `replay FILE.json` runs every scenario of the file: servers that are added, edited and deleted,
//! connections that open, close and expire, time that passes. Each connection is scheduled through
//! the public interface of `lvs-core`, and the server it gets is compared with the recorded one.
//!
//! Exits with 0 if all picks match, with 1 if some differ, with 2 if the file cannot be played.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

mod play;
mod scenario;

use std::fmt;
use std::process::ExitCode;

use scenario::Scenario;

/// What stands in the way of playing a file, and where.
struct Fault(String);

impl Fault {
    /// The same fault, within this place.
    fn within(self, place: impl fmt::Display) -> Fault {
        Fault(format!("{place}: {}", self.0))
    }
}

/// A pick that is not the recorded one.
struct Difference {
    /// Which step of the scenario, from 1.
    step: usize,
    wanted: Option<String>,
    got: Option<String>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: replay FILE.json");
        return ExitCode::from(2);
    };
    match replay(&file) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("replay: {}", fault.within(&file).0);
            ExitCode::from(2)
        }
    }
}

/// Plays a file; returns how many picks differ.
fn replay(file: &str) -> Result<usize, Fault> {
    let text = std::fs::read_to_string(file).map_err(|error| Fault(error.to_string()))?;
    let json = serde_json::from_str(&text).map_err(|error| Fault(error.to_string()))?;
    // Read as a whole first, so that a fault is found before anything is printed.
    let scenarios = scenario::all(&json)?;
    let (mut steps, mut differences) = (0, 0);
    for Scenario { id, .. } in &scenarios {
        if scenarios.iter().filter(|other| other.id == *id).count() > 1 {
            return Err(Fault(format!("scenario {id} is there twice")));
        }
    }
    for scenario in &scenarios {
        let found =
            play::play(scenario).map_err(|fault| fault.within(format!("scenario {}", scenario.id)))?;
        for Difference { step, wanted, got } in &found {
            let name = |pick: &Option<String>| pick.clone().unwrap_or_else(|| "-".to_owned());
            println!("{} step {step}: wanted {}, got {}", scenario.id, name(wanted), name(got));
        }
        steps += scenario.steps.len();
        differences += found.len();
    }
    println!("{} scenarios, {steps} steps, {differences} differences", scenarios.len());
    Ok(differences)
}
