//! What the modules share: one service, servers by number, clients by number.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lvs_core::{
    Algorithm, Config, Director, Flow, Lease, Load, Refusal, ServerConfig, ServerStats, ServiceConfig,
    ServiceKey, Thresholds, Time, Weight,
};

pub(crate) fn vip() -> ServiceKey {
    ServiceKey::tcp("10.9.9.9:80".parse().expect("an address"))
}

/// The n-th server.
pub(crate) fn address(n: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 2, 0, n), 80))
}

pub(crate) fn server(n: u8, weight: u32) -> ServerConfig {
    ServerConfig::new(address(n)).weight(Weight::new(weight).expect("a weight"))
}

pub(crate) fn backup(n: u8, weight: u32) -> ServerConfig {
    let mut server = server(n, weight);
    server.backup = true;
    server
}

pub(crate) fn limited(n: u8, weight: u32, upper: u32, lower: u32) -> ServerConfig {
    let mut server = server(n, weight);
    server.thresholds = Thresholds::new(upper, lower).expect("thresholds");
    server
}

/// A service with servers 1, 2, … of these weights.
pub(crate) fn service(algorithm: Algorithm, weights: &[u32]) -> ServiceConfig {
    let servers = (1..).zip(weights).map(|(n, weight)| server(n, *weight));
    servers.fold(ServiceConfig::new(vip(), algorithm), ServiceConfig::server)
}

pub(crate) fn director(service: ServiceConfig) -> Director {
    let director = Director::new();
    director.apply(Config { services: vec![service] }).expect("a valid service");
    director
}

/// The n-th client.
pub(crate) fn flow(n: u16) -> Flow {
    Flow::new(SocketAddr::from((Ipv4Addr::from(0x0a01_0000 | u32::from(n)), 40_000)))
}

pub(crate) fn at(seconds: u64) -> Time {
    Time::from_epoch(Duration::from_secs(seconds))
}

/// A new connection of client 1 at the start of time.
pub(crate) fn connect(director: &Director) -> Result<Lease, Refusal> {
    director.schedule(&vip(), &flow(1), Time::ZERO)
}

/// Connects so many times; returns the numbers of the servers as digits, `-` for a refusal.
pub(crate) fn picks(director: &Director, count: usize) -> String {
    (0..count).map(|_| digit(&connect(director))).collect()
}

pub(crate) fn digit(lease: &Result<Lease, Refusal>) -> char {
    match lease {
        Ok(lease) => number(lease.server()),
        Err(_) => '-',
    }
}

/// The number of a server below 10, as a digit.
pub(crate) fn number(server: SocketAddr) -> char {
    let SocketAddr::V4(v4) = server else { return '?' };
    char::from(b'0' + v4.ip().octets()[3])
}

/// What the table says of the n-th server.
pub(crate) fn stats(director: &Director, n: u8) -> ServerStats {
    let services = director.stats();
    let mut servers = services.iter().flat_map(|service| &service.servers);
    servers.find(|server| server.config.address == address(n)).expect("a configured server").clone()
}

pub(crate) fn load(active: u32, inactive: u32) -> Load {
    Load { active, inactive }
}
