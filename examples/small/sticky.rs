//! Sticky clients: a network stays on its server, through weight 0 and through a restart.
//!
//! `cargo run -p examples --example sticky`
//!
//! `ipvsadm -A -t … -s rr -p 60 -M 255.255.255.0`, with the time as a parameter.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lvs_core::{
    Algorithm, Config, Director, Flow, Persistence, Refusal, ServerConfig, ServiceConfig, ServiceKey, Time,
    Weight,
};

/// Where a host of the n-th network goes at this second.
fn ask(director: &Director, shop: &ServiceKey, n: u8, host: u8, second: u64) -> Result<SocketAddr, Refusal> {
    let client = SocketAddr::from((Ipv4Addr::new(198, 51, n, host), 40_000));
    let now = Time::from_epoch(Duration::from_secs(second));
    Ok(director.schedule(shop, &Flow::new(client), now)?.server())
}

fn main() -> Result<(), Box<dyn Error>> {
    let shop = ServiceKey::tcp("192.0.2.10:443".parse()?);
    let one = ServerConfig::new("10.0.0.1:443".parse()?);
    let two = ServerConfig::new("10.0.0.2:443".parse()?);
    let mut service = ServiceConfig::new(shop.clone(), Algorithm::Rr).server(one).server(two);
    service.persistence =
        Some(Persistence::new(Duration::from_secs(60))?.mask(Ipv4Addr::new(255, 255, 255, 0)));
    let director = Director::new();
    director.apply(Config { services: vec![service] })?;

    let home = ask(&director, &shop, 100, 1, 0)?;
    for second in 1..50 {
        assert_eq!(ask(&director, &shop, 100, second as u8, second)?, home, "its whole network stays");
    }
    println!("198.51.100.0/24 stays on {home}");

    let quiesced = ServerConfig::new(home).weight(Weight::ZERO);
    director.edit_server(&shop, quiesced)?;
    assert_eq!(ask(&director, &shop, 100, 9, 60)?, home, "quiesced, but not to its own clients");
    assert_ne!(ask(&director, &shop, 101, 1, 60)?, home, "new clients go elsewhere");
    println!("with weight 0 it keeps them, and new clients go elsewhere");

    // Another process, or the standby, goes on with what was saved.
    let saved = director.save_templates(Time::from_epoch(Duration::from_secs(60)));
    let standby = Director::new();
    standby.apply(director.config())?;
    standby.restore_templates(&saved, Time::from_epoch(Duration::from_secs(70)))?;
    assert_eq!(ask(&standby, &shop, 100, 1, 70)?, home, "the standby knows the clients");
    println!("a standby with the {} saved bytes sends them there too", saved.len());

    assert_ne!(ask(&standby, &shop, 100, 1, 200)?, home, "a minute of silence ends it");
    println!("after more than a minute without a connection they are free again");
    Ok(())
}
