//! Reload under load: threads schedule while the configuration changes under them.
//!
//! `cargo run -p examples --example reload_under_load`
//!
//! Servers come, go and change their weight five hundred times. No connection is refused, none is
//! sent to a server that is not configured, and when all have ended every count is zero.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::collections::VecDeque;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lvs_core::{
    Algorithm, Config, Director, Flow, Refusal, ServerConfig, ServiceConfig, ServiceKey, Time, Weight,
};

const RELOADS: u32 = 500;

/// Server 1 is always there; 2 to 5 come and go, and their weight turns.
fn config(web: &ServiceKey, reload: u32) -> Result<Config, Box<dyn Error>> {
    let mut service = ServiceConfig::new(web.clone(), Algorithm::Wlc);
    for n in 1..=5u8 {
        if n == 1 || !(reload + u32::from(n)).is_multiple_of(3) {
            let address = SocketAddr::from((Ipv4Addr::new(10, 0, 0, n), 80));
            let weight = Weight::new(1 + (reload + u32::from(n)) % 4)?;
            service = service.server(ServerConfig::new(address).weight(weight));
        }
    }
    Ok(Config { services: vec![service] })
}

/// Holds up to a hundred connections at a time; returns how many there were.
fn load(director: &Arc<Director>, web: &ServiceKey, stop: &AtomicBool) -> Result<u64, Refusal> {
    let mut picker = director.picker(web);
    let mut held = VecDeque::new();
    let mut connections = 0;
    while !stop.load(Ordering::Relaxed) {
        let client = SocketAddr::from((Ipv4Addr::from(connections as u32), 40_000));
        held.push_back(picker.schedule(&Flow::new(client), Time::ZERO)?);
        connections += 1;
        if held.len() > 100 {
            held.pop_front();
        }
    }
    Ok(connections)
}

fn main() -> Result<(), Box<dyn Error>> {
    let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
    let director = Arc::new(Director::new());
    director.apply(config(&web, 0)?)?;
    let stop = AtomicBool::new(false);

    let connections = std::thread::scope(|scope| -> Result<u64, Box<dyn Error>> {
        let threads = [(); 2].map(|()| scope.spawn(|| load(&director, &web, &stop)));
        let reloads = (1..=RELOADS).try_for_each(|reload| -> Result<(), Box<dyn Error>> {
            director.apply(config(&web, reload)?)?;
            std::thread::yield_now();
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        reloads?;
        let mut connections = 0;
        for thread in threads {
            connections += thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(connections)
    })?;

    let stats = director.stats();
    let [service] = &stats[..] else { return Err("the service is gone".into()) };
    println!("{RELOADS} reloads, {connections} connections, {} refused", service.refused);
    assert_eq!(service.refused, 0, "there was always a server");
    assert_eq!(service.connections, connections, "servers that came and went left their counts");
    for server in &service.servers {
        assert_eq!(server.load.total(), 0, "all connections to {} have ended", server.config.address);
    }
    println!("all have ended, and every count is zero");
    Ok(())
}
