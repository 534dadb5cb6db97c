//! Who is at a server, played through every order that threads can run in.
//!
//! The files under test are `lvs-core`'s own; only what they find under `crate::sync` is loom's. The
//! director around them cannot be played so (arc-swap and the locks of std are not loom's), so what it
//! does to a server is done here by hand: `apply` is a new handle, thresholds and the end of the old
//! handle; a lease is a reference; a report is a connection that closes; a deletion folds the counts.
//!
//! `cargo test --manifest-path lvs-core/loom/Cargo.toml --target-dir target/loom`

#![cfg(test)]
#![allow(dead_code, unreachable_pub, reason = "the files serve all of lvs-core")]

#[path = "../../src/counter.rs"]
mod counter;
#[path = "../../src/occupancy.rs"]
mod occupancy;

mod sync {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic;
}

use loom::model;
use loom::thread;

use crate::counter::Counter;
use crate::occupancy::{Handle, Kind, Load, Occupancy, Occupied};
use crate::sync::Arc;

/// A server, with the counts of its service that outlive it.
struct Server {
    occupancy: Occupancy,
    departed: Arc<Counter>,
}

impl Occupied for Server {
    fn occupancy(&self) -> &Occupancy {
        &self.occupancy
    }
}

/// What was counted after the server was deleted, by those who still saw it, is the service's.
impl Drop for Server {
    fn drop(&mut self) {
        self.departed.add(self.occupancy.reset_connections());
    }
}

/// What a lease does when it ends while it closes.
fn end_closing(lease: Arc<Server>) {
    lease.occupancy.deactivate();
    lease.occupancy.reactivate();
}

fn server(upper: u32) -> (Handle<Server>, Arc<Counter>) {
    let departed = Arc::new(Counter::default());
    let server = Server { occupancy: Occupancy::new(Kind::Active), departed: Arc::clone(&departed) };
    let handle = Handle::new(Arc::new(server));
    handle.set_thresholds(upper, 0);
    (handle, departed)
}

/// Runs both at once, each with a handle; returns what they return and a handle for afterwards.
fn at_once<A: 'static, B: 'static>(
    server: Handle<Server>,
    one: impl FnOnce(&Handle<Server>) -> A + 'static,
    other: impl FnOnce(&Handle<Server>) -> B + 'static,
) -> (A, B, Handle<Server>) {
    let snapshot = loom::sync::Arc::new(server);
    let theirs = loom::sync::Arc::clone(&snapshot);
    let thread = thread::spawn(move || one(&theirs));
    let b = other(&snapshot);
    let a = thread.join().expect("no panic");
    (a, b, (*snapshot).clone())
}

#[test]
fn connections_that_come_together_fill_the_server() {
    model(|| {
        let (server, _) = server(2);
        let (one, other, server) = at_once(server, Handle::admit, Handle::admit);
        assert!(one.is_some() && other.is_some(), "there was room for two");
        assert!(server.is_full());
        assert_eq!(server.load(), Load { active: 2, inactive: 0 });
        assert!(server.admit().is_none());
    });
}

#[test]
fn last_place_is_taken_by_somebody_and_by_no_more_than_two() {
    model(|| {
        let (server, _) = server(1);
        let (one, other, server) = at_once(server, Handle::admit, Handle::admit);
        // A late read admits one more, as it does in IPVS.
        assert!(one.is_some() || other.is_some());
        assert!(server.is_full());
        assert!(server.admit().is_none());
    });
}

#[test]
fn server_that_everybody_left_is_open() {
    model(|| {
        let (server, _) = server(1);
        let comes_and_goes = |server: &Handle<Server>| drop(server.admit());
        let ((), (), server) = at_once(server, comes_and_goes, comes_and_goes);
        assert_eq!(server.load().total(), 0);
        assert!(server.admit().is_some());
    });
}

#[test]
fn server_that_one_left_while_another_came_knows_who_is_there() {
    model(|| {
        let (server, _) = server(2);
        let first = server.admit().expect("there is room");
        let (second, (), server) = at_once(server, Handle::admit, move |_| end_closing(first));
        let second = second.expect("there is room");
        assert_eq!(server.load(), Load { active: 1, inactive: 0 });
        // One of two has left, which is less than three quarters.
        let third = server.admit().expect("there is room");
        assert_eq!(server.load().total(), 2);
        assert!(server.is_full());
        drop((second, third));
        assert_eq!(server.load().total(), 0);
    });
}

#[test]
fn apply_of_other_thresholds_neither_loses_nor_invents_connections() {
    model(|| {
        let (server, departed) = server(1);
        let apply = |server: &Handle<Server>| {
            let next = server.clone();
            next.set_thresholds(3, 0);
            next
        };
        let (lease, next, server) = at_once(server, Handle::admit, apply);
        drop(server);
        let lease = lease.expect("there is room under both");
        assert_eq!(next.load(), Load { active: 1, inactive: 0 });
        assert!(next.admit().is_some(), "one of three");
        drop(lease);
        assert_eq!(next.load().total(), 0);
        assert_eq!(next.occupancy().connections() + departed.get(), 2);
    });
}

#[test]
fn every_connection_is_counted_once_although_the_server_is_deleted_meanwhile() {
    model(|| {
        let (server, departed) = server(0);
        let delete = |server: &Handle<Server>| server.occupancy().reset_connections();
        let (lease, folded, server) = at_once(server, Handle::begin, delete);
        departed.add(folded);
        drop(server);
        // Whatever was begun after the counts were folded is the service's when the server goes.
        drop(lease);
        assert_eq!(departed.get(), 1);
    });
}

#[test]
fn report_of_the_load_is_never_more_than_there_are() {
    model(|| {
        let (server, _) = server(0);
        let lease = server.begin();
        let ends = |_: &Handle<Server>| end_closing(lease);
        let ((), seen, server) = at_once(server, ends, |server| server.load());
        assert!(seen.total() <= 1 && seen.inactive <= seen.total());
        assert_eq!(server.load(), Load::default());
    });
}

#[test]
fn counter_that_is_zeroed_while_others_count_loses_nothing() {
    model(|| {
        let counter = Arc::new(Counter::default());
        let theirs = Arc::clone(&counter);
        let counting = thread::spawn(move || {
            theirs.add(1);
            theirs.add(1);
        });
        let before = counter.reset();
        assert!(counter.get() <= 2);
        counting.join().expect("no panic");
        assert_eq!(before + counter.get(), 2);
    });
}
