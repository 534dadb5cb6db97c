//! How a director runs.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use lvs_core::{HealthPolicy, ServiceKey};

use crate::fwmark::Entrance;
use crate::probe::Schedule;
use crate::settings::Settings;

/// How a director runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker threads.
    pub workers: usize,
    /// How connections are treated.
    pub settings: Settings,
    /// How those of services are treated that differ. Their timeouts are `settings`', which
    /// `ipvsadm --set` changes.
    pub services: HashMap<ServiceKey, Settings>,
    /// Where what belongs to services by firewall mark comes in; without one for it, such a service is
    /// refused.
    pub entrances: Vec<Entrance>,
    /// Addresses that come and go with VRRP, and need not be on this host to be listened on; until a
    /// `keepalived.conf` is [followed](super::Daemon::follow), which has its own.
    pub floating: HashSet<IpAddr>,
    /// When servers are probed, if at all.
    pub probes: Option<Schedule>,
    /// What probes and failures do to a server.
    pub health: HealthPolicy,
    /// Most connections at a time.
    pub connections_max: usize,
    /// Most flows of datagrams at a time.
    pub flows_max: usize,
    /// Where `lvsadm` finds the director, if it may.
    pub control: Option<PathBuf>,
    /// Where Prometheus finds its metrics, if it may.
    pub metrics: Option<SocketAddr>,
}

impl Default for Options {
    /// One worker per core, probes every two seconds, two failures down and two successes up, ten
    /// thousand connections and as many flows, no control socket.
    fn default() -> Options {
        let mut health = HealthPolicy::default();
        (health.rise, health.fall) = (2, 2);
        Options {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            settings: Settings::default(),
            services: HashMap::new(),
            entrances: Vec::new(),
            floating: HashSet::new(),
            probes: Some(Schedule::default()),
            health,
            connections_max: 10_000,
            flows_max: 10_000,
            control: None,
            metrics: None,
        }
    }
}
