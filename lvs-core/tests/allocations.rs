//! What the hot path asks of the allocator: nothing; and what a director leaves behind: nothing.
//!
//! A binary of its own, since it replaces the global allocator. Counts are kept per thread, so that
//! the test runner's other threads do not disturb.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lvs_core::{
    Algorithm, Config, Director, Event, Flow, Persistence, Probe, ServerConfig, ServiceConfig, ServiceKey,
    Thresholds, Time,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is; the counters are plain cells
// without destructor, which never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `dealloc`, and `alloc` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn key() -> ServiceKey {
    ServiceKey::tcp("10.9.9.9:80".parse().expect("an address"))
}

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 2, 0, 1], n))
}

fn service(algorithm: Algorithm, servers: u16) -> ServiceConfig {
    (1..=servers).fold(ServiceConfig::new(key(), algorithm), |service, n| {
        let mut server = ServerConfig::new(address(n));
        server.thresholds = Thresholds::new(1_000, 0).expect("thresholds");
        server.backup = n % 10 == 0;
        service.server(server)
    })
}

fn director(service: ServiceConfig) -> Director {
    let director = Director::new();
    director.apply(Config { services: vec![service] }).expect("a valid configuration");
    director
}

/// Connections of a few clients, held and dropped, with what a proxy reports of them.
fn connections(director: &Director) {
    for port in 1..=200 {
        let flow = Flow::new(SocketAddr::from(([10, 1, 0, 1], port % 8)));
        let first = director.schedule(&key(), &flow, Time::ZERO).expect("a server");
        let tried = [first.server()];
        let second = director.schedule_except(&key(), &flow, &tried, Time::ZERO).expect("another server");
        director.report(&second, Event::Succeeded, Time::ZERO);
        second.closing();
        second.count_to_client(1);
    }
}

fn allocations_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn connection_allocates_nothing() {
    for algorithm in Algorithm::ALL {
        for servers in [3, 200] {
            let director = director(service(algorithm, servers));
            // The thread's first look at a snapshot sets up its place in arc-swap.
            connections(&director);
            let count = allocations_of(|| connections(&director));
            assert_eq!(count, 0, "{algorithm} with {servers} servers");
        }
    }
}

#[test]
fn connection_of_a_known_persistent_client_allocates_nothing() {
    for algorithm in Algorithm::ALL {
        let mut service = service(algorithm, 3);
        service.persistence = Some(Persistence::new(Duration::from_secs(60)).expect("a timeout"));
        let director = Arc::new(director(service));
        let mut picker = director.picker(&key());
        let flow = Flow::new(SocketAddr::from(([10, 1, 0, 1], 1)));
        let mut connect = || {
            let lease = director.schedule(&key(), &flow, Time::ZERO).expect("a server");
            director.report(&lease, Event::Responded { latency: Duration::from_millis(1) }, Time::ZERO);
            let picked = picker.schedule(&flow, Time::ZERO).expect("a server");
            assert!(lease.is_persistent() && picked.is_persistent());
        };
        connect();
        assert_eq!(allocations_of(connect), 0, "{algorithm}");
    }
}

#[test]
fn picked_connection_allocates_nothing() {
    for algorithm in Algorithm::ALL {
        let director = Arc::new(director(service(algorithm, 30)));
        let mut picker = director.picker(&key());
        let mut connect = || {
            for port in 1..=100 {
                let flow = Flow::new(SocketAddr::from(([10, 1, 0, 1], port % 8)));
                drop(picker.schedule(&flow, Time::ZERO).expect("a server"));
            }
        };
        connect();
        assert_eq!(allocations_of(connect), 0, "{algorithm}");
    }
}

/// A life of everything that is shared and counted: templates, retired servers, a deleted service,
/// leases that outlive all of it.
fn life(algorithm: Algorithm) {
    let mut persistent = service(algorithm, 20);
    persistent.persistence = Some(Persistence::new(Duration::from_secs(60)).expect("a timeout"));
    let director = director(persistent.clone());
    connections(&director);
    let flow = Flow::new(SocketAddr::from(([10, 1, 0, 99], 1)));
    let held = director.schedule(&key(), &flow, Time::ZERO).expect("a server");
    for n in 1..=5 {
        director.probe(&key(), address(n), Probe::Failed("no answer".into()), Time::ZERO);
        director.delete_server(&key(), address(n + 5)).expect("a known server");
        connections(&director);
    }
    director.delete_service(&key()).expect("a known service");
    director.add_service(persistent).expect("a new service");
    connections(&director);
    let outlives = director.schedule(&key(), &flow, Time::ZERO).expect("a server");
    drop(director);
    drop((held, outlives));
}

#[test]
fn director_leaves_nothing_behind() {
    for algorithm in Algorithm::ALL {
        // What libraries set up once per thread or process stays, and is not the director's.
        life(algorithm);
        let before = BYTES.get();
        life(algorithm);
        assert_eq!(BYTES.get() - before, 0, "{algorithm}");
    }
}
