//! Pick only: which server, and nothing else.
//!
//! `cargo run -p examples --example pick`
//!
//! Two servers, one of them three times as strong, under `wlc`. A lease that is held counts as a
//! connection; one that is dropped counts no longer.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::error::Error;
use std::net::SocketAddr;

use lvs_core::{Algorithm, Config, Director, Flow, ServerConfig, ServiceConfig, ServiceKey, Time, Weight};

fn main() -> Result<(), Box<dyn Error>> {
    let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
    let strong: SocketAddr = "10.0.0.1:8080".parse()?;
    let weak: SocketAddr = "10.0.0.2:8080".parse()?;
    let director = Director::new();
    director.apply(Config {
        services: vec![
            ServiceConfig::new(web.clone(), Algorithm::Wlc)
                .server(ServerConfig::new(strong).weight(Weight::new(3)?))
                .server(ServerConfig::new(weak)),
        ],
    })?;

    let flow = Flow::new("198.51.100.7:40000".parse()?);
    let mut leases = Vec::new();
    for _ in 0..400 {
        leases.push(director.schedule(&web, &flow, Time::ZERO)?);
    }
    let on_strong = leases.iter().filter(|lease| lease.server() == strong).count();
    println!("of 400 connections {strong} holds {on_strong}, {weak} {}", 400 - on_strong);
    assert_eq!(on_strong, 300, "connections follow the weights, 3 to 1");

    // Ten connections on the weak server end: the next ten go there.
    let mut ended = 0;
    leases.retain(|lease| {
        let ends = lease.server() == weak && ended < 10;
        ended += usize::from(ends);
        !ends
    });
    for _ in 0..10 {
        let lease = director.schedule(&web, &flow, Time::ZERO)?;
        assert_eq!(lease.server(), weak, "there was room on the weak server");
        leases.push(lease);
    }
    println!("ten ended on {weak}, and the next ten went there");
    println!("{}", director.explain(&web, &flow, Time::ZERO)?);
    Ok(())
}
