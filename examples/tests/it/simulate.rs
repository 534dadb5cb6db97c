//! What must hold of any traffic of a kind, whatever the seed.

use std::collections::HashMap;
use std::process::{Command, Output};

use crate::programs::output;

/// What the table says of one algorithm.
#[derive(Debug)]
struct Figures {
    p50: f64,
    p99: f64,
    uneven: f64,
    errors: f64,
    moved: Option<f64>,
}

fn simulate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulate"));
    command.args(arguments);
    command
}

fn figures(table: &str) -> HashMap<String, Figures> {
    let rows = table.lines().skip_while(|line| !line.starts_with("algorithm")).skip(1);
    let rows = rows.take_while(|line| !line.is_empty()).map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| cells[place].parse::<f64>();
        let told = |place: usize| number(place).expect("a figure");
        let (p50, p99, uneven, errors) = (told(1), told(2), told(3), told(4));
        (cells[0].to_owned(), Figures { p50, p99, uneven, errors, moved: number(5).ok() })
    });
    rows.collect()
}

/// Plays the same traffic with three seeds; what `holds` says must hold of each.
fn check(arguments: &[&str], holds: impl Fn(&HashMap<String, Figures>) -> bool) {
    for seed in ["1", "2", "3"] {
        let table = output(simulate(arguments).args(["--seed", seed, "--seconds", "20"]));
        assert!(holds(&figures(&table)), "seed {seed}:\n{table}");
    }
}

#[test]
fn slow_server_hurts_turns_and_spares_those_who_look_at_load() {
    let arguments = ["--slow", "3:3", "--fail", "none", "--algorithms", "rr,wlc,sed,twos,ewma,least_time"];
    check(&arguments, |of| {
        ["wlc", "sed", "twos", "ewma", "least_time"].iter().all(|name| of[*name].p99 < of["rr"].p99 / 2.0)
    });
}

#[test]
fn quiet_pool_is_shared_by_weight_and_loses_nothing() {
    let arguments =
        ["--rate", "100", "--slow", "none", "--fail", "none", "--algorithms", "wrr,swrr,wlc,random"];
    check(&arguments, |of| {
        let nothing_lost = of.values().all(|of| of.errors == 0.0 && of.moved.is_none() && of.p50 <= of.p99);
        nothing_lost && of["wrr"].uneven < 1.0 && of["swrr"].uneven < 1.0
    });
}

#[test]
fn failure_moves_few_clients_of_consistent_hashes_and_most_of_turns() {
    let arguments = ["--fail", "2@5-10", "--algorithms", "rr,mh,hash_consistent,rendezvous"];
    check(&arguments, |of| {
        let moved = |name: &str| of[name].moved.expect("a server failed");
        moved("rr") > 50.0 && ["mh", "hash_consistent", "rendezvous"].iter().all(|name| moved(name) < 35.0)
    });
}

#[test]
fn every_algorithm_plays_the_same_way_again() {
    let play = || output(&mut simulate(&["--seconds", "3", "--fail", "2@1-2", "--algorithms", "all"]));
    let table = play();
    assert_eq!(table, play());
    assert_eq!(figures(&table).len(), lvs_core::Algorithm::ALL.len());
}

#[test]
fn algorithm_that_refuses_many_is_not_called_the_quickest() {
    let arguments = ["--rate", "1100", "--slow", "none", "--fail", "none", "--algorithms", "ovf,wlc"];
    let table = output(simulate(&arguments).args(["--seconds", "20"]));
    assert!(figures(&table)["ovf"].errors > 220.0, "{table}");
    assert!(table.contains("quickest for this traffic: wlc,"), "{table}");
}

#[test]
fn chart_has_a_line_for_each_algorithm() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("chart.svg");
    let path = file.to_str().expect("UTF-8");
    output(&mut simulate(&["--seconds", "3", "--algorithms", "rr,wlc", "--svg", path]));
    let svg = std::fs::read_to_string(&file).expect("a chart");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(svg.contains(">rr</text>") && svg.contains(">wlc</text>"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn what_cannot_be_played_is_said() {
    for (arguments, reason) in [
        (["--algorithms", "rrr"], "unknown scheduler"),
        (["--rate", "-1"], "--rate -1: not a rate"),
        (["--fail", "9@1-2"], "there is no server 9"),
        (["--slow", "2@1-2"], "not SERVER:FACTOR"),
        (["--jump", "1"], "unknown option --jump"),
    ] {
        let Output { status, stdout, stderr } = simulate(&arguments).output().expect("simulate runs");
        let complaint = String::from_utf8_lossy(&stderr);
        assert_eq!((status.code(), stdout.len()), (Some(2), 0), "{arguments:?}: {complaint}");
        assert!(complaint.contains(reason), "{arguments:?}: {complaint}");
    }
}
