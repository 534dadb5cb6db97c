//! A scheduler of one's own: clients stay in their zone while it has a server.
//!
//! `cargo run -p examples --example own_scheduler`
//!
//! The pool shows the servers that can be chosen. Health, weights of 0, thresholds and persistence
//! are taken care of before the scheduler is asked.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::error::Error;
use std::net::{IpAddr, SocketAddr};

use lvs_core::{
    Algorithm, Config, CustomScheduler, Director, Flow, Pool, Probe, Scheduler, ServerConfig, ServiceConfig,
    ServiceKey, Tickets, Time,
};

/// The least loaded server of the client's zone, else the least loaded of all.
struct Nearest {
    /// The zone of each server, in the order of the pool.
    zones: Box<[Option<u8>]>,
}

/// In this network the second byte of an address is the zone.
fn zone(address: IpAddr) -> Option<u8> {
    match address {
        IpAddr::V4(v4) => Some(v4.octets()[1]),
        IpAddr::V6(_) => None,
    }
}

impl Scheduler for Nearest {
    fn schedule(&self, pool: Pool<'_>, flow: &Flow, _ticket: u64) -> Option<usize> {
        let client = zone(flow.client().ip());
        pool.oldest_first().min_by_key(|server| (self.zones[*server] != client, pool.load(*server).total()))
    }

    fn tickets(&self) -> Tickets {
        Tickets::Unused
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let nearest = CustomScheduler::new("nearest", |setup| {
        let zones = setup.seats.iter().map(|seat| zone(seat.address.ip())).collect();
        Box::new(Nearest { zones })
    });
    let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
    let near: SocketAddr = "10.1.0.1:80".parse()?;
    let far: SocketAddr = "10.2.0.1:80".parse()?;
    let director = Director::new();
    director.apply(Config {
        services: vec![
            ServiceConfig::new(web.clone(), Algorithm::default())
                .scheduler(nearest)
                .server(ServerConfig::new(far))
                .server(ServerConfig::new(near)),
        ],
    })?;

    let client = Flow::new("10.1.7.7:40000".parse()?);
    let pick = || director.schedule(&web, &client, Time::ZERO).map(|lease| lease.server());
    println!("a client of zone 1 gets {}", pick()?);
    assert_eq!(pick()?, near, "its own zone has a server");

    director.probe(&web, near, Probe::Failed("connect refused".into()), Time::ZERO);
    println!("with its zone down it gets {}", pick()?);
    assert_eq!(pick()?, far, "another zone is better than nobody");

    director.probe(&web, near, Probe::Passed, Time::ZERO);
    assert_eq!(pick()?, near, "its zone is back");
    println!("and when that is back {}", pick()?);
    Ok(())
}
