//! The small programs: each checks what it shows, so to end well is to have held.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::programs::output;

/// Cargo builds a package's examples for its tests, beside the folder of the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test");
    test.ancestors().nth(2).expect("TARGET/PROFILE/deps/TEST").join("examples").join(name)
}

#[track_caller]
fn check(name: &str, says: &str) {
    let began = Instant::now();
    let said = output(&mut Command::new(example(name)));
    assert!(said.contains(says), "{name}: {said}");
    // They take well below two seconds; the rest is for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(20), "{name} took {:?}", began.elapsed());
}

#[test]
fn pick_follows_weights_and_ended_connections() {
    check("pick", "holds 300");
}

#[test]
fn accept_loop_serves_every_client_around_a_dead_server() {
    check("accept_loop", "ejected");
}

#[test]
fn two_directors_in_one_process_share_nothing() {
    check("two_directors", "web carried 2 connections, mail 1");
}

#[test]
fn own_scheduler_keeps_clients_in_their_zone() {
    check("own_scheduler", "10.1.0.1:80");
}

#[test]
fn sticky_clients_stay_through_weight_0_and_a_restart() {
    check("sticky", "standby");
}

#[test]
fn reload_under_load_refuses_nobody_and_ends_at_zero() {
    check("reload_under_load", " 0 refused");
}

#[test]
fn drain_ends_when_the_server_is_empty_or_its_time_is_over() {
    check("drain", "at 30 s the time of 10.0.0.1:80 is over");
}

#[test]
fn http_client_asks_a_slow_server_seldom() {
    check("http_client", "from the slow one");
}

#[test]
fn axum_app_serves_a_route_files_two_origins_and_streams() {
    check("axum_app", "three pieces came back one by one");
}
