//! What a director counts, as Prometheus reads it.
//!
//! Names begin with `lvs_`, and what IPVS counts too has the labels of node_exporter's IPVS collector:
//! `local_address`, `local_port`, `proto`, `local_mark`, `remote_address`, `remote_port`. With
//! `?compat=node_ipvs` that collector's own names are there as well, so that its dashboards go on
//! working. Packets are there where packets are seen, which is with UDP, and left out elsewhere.
//!
//! A series is there for each service and server, and for nothing that a client can choose.

mod exposition;
mod failover;
mod http;

use lvs_core::{Condition, Director, Protocol, ServerStats, ServiceKey, ServiceStats};
use lvsadm::document::{SyncDaemon, VirtualRouter};

pub use self::exposition::{Exposition, Kind};
pub(crate) use self::http::serve;
use crate::connections::Connections;
use crate::udp::Dropped;

/// What there is to tell.
pub(crate) struct Sources<'a> {
    pub(crate) director: &'a Director,
    pub(crate) connections: &'a Connections,
    pub(crate) flows: &'a Connections,
    /// Datagrams that were dropped, by service and reason.
    pub(crate) dropped: Vec<(ServiceKey, Dropped, u64)>,
    pub(crate) routers: Vec<VirtualRouter>,
    pub(crate) sync: Vec<SyncDaemon>,
}

/// Whose names are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// This program's.
    Own,
    /// Those of node_exporter's IPVS collector as well.
    WithNodeExporters,
}

/// Writes everything in the text format, version 0.0.4.
pub(crate) fn render(sources: &Sources<'_>, names: Names) -> String {
    let services = sources.director.stats();
    let mut out = Exposition::default();
    out.family("lvs_build_info", Kind::Gauge, "The version that runs; always 1.");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    let own = [
        (
            "lvs_connections_open",
            "Connections that are open, those still connecting included.",
            sources.connections.count(),
        ),
        ("lvs_connections_max", "Connections that may be open.", sources.connections.max()),
        ("lvs_flows_open", "UDP flows that have not timed out.", sources.flows.count()),
        ("lvs_flows_max", "UDP flows that there may be.", sources.flows.max()),
    ];
    for (name, help, value) in own {
        out.family(name, Kind::Gauge, help);
        out.sample(&[], value as u64);
    }
    of_services(&mut out, &services);
    of_servers(&mut out, &services);
    out.family("lvs_datagrams_dropped_total", Kind::Counter, "Datagrams of clients that went nowhere.");
    for (service, why, count) in &sources.dropped {
        let service = Labels::of(service);
        let mut labels = service.pairs();
        labels.push(("reason", why.name()));
        out.sample(&labels, *count);
    }
    failover::of_routers(&mut out, &sources.routers);
    failover::of_sync(&mut out, &sources.sync);
    if names == Names::WithNodeExporters {
        of_node_exporter(&mut out, &services);
    }
    of_process(&mut out);
    out.finish()
}

/// Adds what a director has counted of its services and their servers.
pub fn of_director(out: &mut Exposition, director: &Director) {
    let services = director.stats();
    of_services(out, &services);
    of_servers(out, &services);
}

fn of_services(out: &mut Exposition, services: &[ServiceStats]) {
    type Value = fn(&ServiceStats) -> Option<u64>;
    let families: [(&str, &str, Value); 6] = [
        ("lvs_service_connections_total", "Connections, or flows, that were scheduled.", |service| {
            Some(service.connections)
        }),
        (
            "lvs_service_refused_total",
            "Connections, or datagrams, for which there was no server.",
            |service| Some(service.refused),
        ),
        ("lvs_service_incoming_bytes_total", "Bytes from clients.", |service| Some(service.bytes_in)),
        ("lvs_service_outgoing_bytes_total", "Bytes to clients.", |service| Some(service.bytes_out)),
        ("lvs_service_incoming_packets_total", "Datagrams from clients.", |service| {
            sees_packets(service).then_some(service.packets_in)
        }),
        ("lvs_service_outgoing_packets_total", "Datagrams to clients.", |service| {
            sees_packets(service).then_some(service.packets_out)
        }),
    ];
    for (name, help, value) in families {
        out.family(name, Kind::Counter, help);
        for service in services {
            if let Some(value) = value(service) {
                out.sample(&Labels::of(&service.config.key).pairs(), value);
            }
        }
    }
}

fn of_servers(out: &mut Exposition, services: &[ServiceStats]) {
    type Value = fn(&ServiceStats, &ServerStats) -> Option<u64>;
    let families: [(&str, Kind, &str, Value); 9] = [
        (
            "lvs_server_connections_total",
            Kind::Counter,
            "Connections, or flows, that were scheduled.",
            |_, server| Some(server.connections),
        ),
        ("lvs_server_incoming_bytes_total", Kind::Counter, "Bytes from clients.", |_, server| {
            Some(server.bytes_in)
        }),
        ("lvs_server_outgoing_bytes_total", Kind::Counter, "Bytes to clients.", |_, server| {
            Some(server.bytes_out)
        }),
        ("lvs_server_incoming_packets_total", Kind::Counter, "Datagrams from clients.", |service, server| {
            sees_packets(service).then_some(server.packets_in)
        }),
        ("lvs_server_outgoing_packets_total", Kind::Counter, "Datagrams to clients.", |service, server| {
            sees_packets(service).then_some(server.packets_out)
        }),
        (
            "lvs_server_connections_active",
            Kind::Gauge,
            "Connections on which both sides may speak.",
            |_, server| Some(server.load.active.into()),
        ),
        (
            "lvs_server_connections_inactive",
            Kind::Gauge,
            "Connections that are closing, and UDP flows.",
            |_, server| Some(server.load.inactive.into()),
        ),
        (
            "lvs_server_persistent_templates",
            Kind::Gauge,
            "Clients that persistence keeps on the server.",
            |_, server| Some(server.templates.into()),
        ),
        ("lvs_server_weight", Kind::Gauge, "The configured weight.", |_, server| {
            Some(server.config.weight.value().into())
        }),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for (service, server) in pairs(services) {
            if let Some(value) = value(service, server) {
                out.sample(&Labels::of_server(&service.config.key, server).pairs(), value);
            }
        }
    }
    out.family("lvs_server_status", Kind::Gauge, "1 for the state the server is in, 0 for the others.");
    for (service, server) in pairs(services) {
        let labels = Labels::of_server(&service.config.key, server);
        for state in STATES {
            let mut labels = labels.pairs();
            labels.push(("state", state));
            out.sample(&labels, u64::from(state_of(server) == state));
        }
    }
}

/// The collector's totals are over all services.
fn of_node_exporter(out: &mut Exposition, services: &[ServiceStats]) {
    let sum = |of: fn(&ServiceStats) -> u64| services.iter().map(of).fold(0, u64::wrapping_add);
    let totals = [
        (
            "node_ipvs_connections_total",
            "The total number of connections made.",
            sum(|service| service.connections),
        ),
        (
            "node_ipvs_incoming_bytes_total",
            "The total amount of incoming data.",
            sum(|service| service.bytes_in),
        ),
        (
            "node_ipvs_outgoing_bytes_total",
            "The total amount of outgoing data.",
            sum(|service| service.bytes_out),
        ),
    ];
    for (name, help, value) in totals {
        out.family(name, Kind::Counter, help);
        out.sample(&[], value);
    }
    type Value = fn(&ServerStats) -> u64;
    let backends: [(&str, &str, Value); 3] = [
        (
            "node_ipvs_backend_connections_active",
            "The current active connections by local and remote address.",
            |server| server.load.active.into(),
        ),
        (
            "node_ipvs_backend_connections_inactive",
            "The current inactive connections by local and remote address.",
            |server| server.load.inactive.into(),
        ),
        ("node_ipvs_backend_weight", "The current backend weight by local and remote address.", |server| {
            server.config.weight.value().into()
        }),
    ];
    for (name, help, value) in backends {
        out.family(name, Kind::Gauge, help);
        for (service, server) in pairs(services) {
            out.sample(&Labels::of_server(&service.config.key, server).pairs(), value(server));
        }
    }
}

/// The process as every exporter tells of it; what cannot be read is left out.
pub fn of_process(out: &mut Exposition) {
    use rustix::process::{Resource, getrlimit};
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        out.family("process_open_fds", Kind::Gauge, "Number of open file descriptors.");
        // One of them is the folder that is being read.
        out.sample(&[], descriptors.count().saturating_sub(1) as u64);
    }
    if let Some(max) = getrlimit(Resource::Nofile).current {
        out.family("process_max_fds", Kind::Gauge, "Maximum number of open file descriptors.");
        out.sample(&[], max);
    }
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    if let Some(resident) = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()) {
        out.family("process_resident_memory_bytes", Kind::Gauge, "Resident memory size in bytes.");
        out.sample(&[], resident.wrapping_mul(rustix::param::page_size() as u64));
    }
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    out.family(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Total user and system CPU time spent in seconds.",
    );
    out.sample(&[], cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
}

fn pairs(services: &[ServiceStats]) -> impl Iterator<Item = (&ServiceStats, &ServerStats)> {
    services.iter().flat_map(|service| service.servers.iter().map(move |server| (service, server)))
}

fn sees_packets(service: &ServiceStats) -> bool {
    matches!(service.config.key, ServiceKey::Address { protocol: Protocol::Udp, .. })
}

/// In the order in which reasons count.
fn state_of(server: &ServerStats) -> &'static str {
    match server.condition {
        Condition::Inhibited { .. } if server.config.weight.value() == 0 => "down",
        _ if server.config.weight.value() == 0 => "quiesced",
        Condition::Down { .. } => "down",
        Condition::Ejected { .. } => "ejected",
        _ if server.full => "full",
        _ => "up",
    }
}

const STATES: [&str; 5] = ["up", "full", "ejected", "down", "quiesced"];

/// The labels of a service or server, as node_exporter names them.
struct Labels(Vec<(&'static str, String)>);

impl Labels {
    fn of(service: &ServiceKey) -> Labels {
        let (address, port, protocol, mark) = match service {
            ServiceKey::Address { protocol, address } => {
                (address.ip().to_string(), address.port().to_string(), protocol.to_string(), String::new())
            }
            ServiceKey::Mark { mark, .. } => {
                (String::new(), String::new(), "FWM".to_owned(), format!("{:08X}", mark.get()))
            }
            ServiceKey::Name(name) => (name.to_string(), String::new(), String::new(), String::new()),
        };
        Labels(vec![
            ("local_address", address),
            ("local_port", port),
            ("proto", protocol),
            ("local_mark", mark),
        ])
    }

    fn of_server(service: &ServiceKey, server: &ServerStats) -> Labels {
        let mut labels = Labels::of(service);
        let address = server.config.address;
        labels.0.push(("remote_address", address.ip().to_string()));
        labels.0.push(("remote_port", address.port().to_string()));
        labels
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}
