//! Waiting for what is to come, never for ever.

use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything: a test that would hang fails instead.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something is true.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_or(|| what.to_owned(), condition);
}

/// Waits until something is true; what it was is put together only where it never came.
#[track_caller]
pub fn eventually_or(what: impl FnOnce() -> String, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > PATIENCE {
            panic!("never came true: {}", what());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until there is something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(what, || {
        found = look();
        found.is_some()
    });
    found.expect("it came true")
}

/// Checks that something stays true for a while.
#[track_caller]
pub fn throughout(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(condition(), "not any more: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
