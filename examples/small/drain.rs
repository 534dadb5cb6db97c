//! Drain: take a server out without cutting anybody off, and cut off who is still there in time.
//!
//! `cargo run -p examples --example drain`
//!
//! The clock is a number here; a proxy would ask [`lvs_core::Lease::is_overdue`] between two pieces
//! of its work, and call `tick` once a second.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use lvs_core::{
    Algorithm, Config, Director, Flow, Notice, ServerConfig, ServiceConfig, ServiceKey, Time, Weight,
};

fn at(second: u64) -> Time {
    Time::from_epoch(Duration::from_secs(second))
}

fn main() -> Result<(), Box<dyn Error>> {
    let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
    let old: SocketAddr = "10.0.0.1:80".parse()?;
    let new: SocketAddr = "10.0.0.2:80".parse()?;
    let service = ServiceConfig::new(web.clone(), Algorithm::Rr);
    let director = Director::new();
    director.apply(Config {
        services: vec![service.server(ServerConfig::new(old)).server(ServerConfig::new(new))],
    })?;
    let flow = Flow::new("198.51.100.7:40000".parse()?);
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(director.schedule(&web, &flow, at(0))?);
    }
    held.retain(|lease| lease.server() == old);
    println!("{old} has {} connections and is to be drained within 30 s", held.len());

    director.drain(&web, old, at(30))?;
    for _ in 0..10 {
        assert_eq!(director.schedule(&web, &flow, at(1))?.server(), new, "nobody new comes");
    }
    held.truncate(1);
    let [draining] = &director.draining()[..] else { return Err("nothing drains".into()) };
    println!("at 10 s {} is left", draining.load.active);
    assert!(director.tick(at(10)).is_empty(), "it is not over yet");
    assert!(!held[0].is_overdue(at(10)), "the last client still has time");

    let notices = director.tick(at(30));
    let [Notice::Drained { server, load, .. }] = &notices[..] else {
        return Err(format!("the drain is not over: {notices:?}").into());
    };
    println!("at 30 s the time of {server} is over, with {} left", load.active);
    assert!(held[0].is_overdue(at(30)), "whoever is left is cut off");
    held.clear();
    director.delete_server(&web, old)?;

    // A server that empties in time is told about at the next tick.
    director.edit_server(&web, ServerConfig::new(new).weight(Weight::ONE))?;
    let last = director.schedule(&web, &flow, at(40))?;
    director.drain(&web, new, at(100))?;
    drop(last);
    assert!(matches!(director.tick(at(41))[..], [Notice::Drained { .. }]), "it is empty");
    println!("{new} was empty long before its time");
    Ok(())
}
