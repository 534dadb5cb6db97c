//! Signals to processes that a test has started.

use std::fs;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::patience::PATIENCE;

/// Sends a process a signal; if it is to stop, waits until it has.
pub fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).expect("it runs");
    // One of its threads has to run to stop them all, and on a busy machine the others work on meanwhile.
    let began = Instant::now();
    while signal == Signal::STOP && !is_stopped(process.id()) {
        assert!(began.elapsed() < PATIENCE, "it does not stop");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether every thread of a process is stopped.
fn is_stopped(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten();
    let mut states = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    // The state stands behind the name, which is in parentheses.
    states.all(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
}
