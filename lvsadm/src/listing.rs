//! The listings of services and servers (`-L`), to the letter.
//!
//! Columns are as wide as ipvsadm's, and what does not fit pushes the rest of its line to the
//! right; scripts that split at blanks never notice. The packet counters of `--stats` are there
//! for them too, and are 0 where a proxy sees bytes and no packets, and is not asked to count them.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use lvs_core::{
    Condition, Family, Forwarding, History, Protocol, Rates, SchedulerFlags, ServerStats, ServiceConfig,
    ServiceKey, ServiceStats, Tunnel, TunnelChecksum, Weight,
};

use crate::arguments::{Layout, Numbers, Order};
use crate::names::Names;
use crate::order;
use crate::standing::{Besides, Standing, short};

/// How services are written.
pub(crate) struct Style<'a> {
    pub(crate) layout: Layout,
    pub(crate) numbers: Numbers,
    /// `None` writes numbers.
    pub(crate) names: Option<&'a Names>,
    pub(crate) besides: &'a Besides,
}

/// Puts services and their servers in the order in which they are listed.
pub(crate) fn in_order(mut services: Vec<ServiceStats>, order: Order) -> Vec<ServiceStats> {
    if order == Order::ByAddress {
        order::services(&mut services, |service| &service.config.key);
    }
    for service in &mut services {
        service.servers.reverse();
        if order == Order::ByAddress {
            order::servers(&mut service.servers, |server| server.config.address);
        }
    }
    services
}

impl Style<'_> {
    /// The listing of all services.
    pub(crate) fn table(&self, services: &[ServiceStats]) -> String {
        let mut out = format!("{IPVS_LINE}\n{}", self.title());
        for service in services {
            self.service(&mut out, service);
        }
        out
    }

    /// The listing of one service, which goes without the first line.
    pub(crate) fn single(&self, service: &ServiceStats) -> String {
        let mut out = self.title().to_owned();
        self.service(&mut out, service);
        out
    }

    fn title(&self) -> &'static str {
        match self.layout {
            Layout::Plain => {
                "Prot LocalAddress:Port Scheduler Flags\n  \
                 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
            }
            Layout::Stats => {
                "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  \
                 -> RemoteAddress:Port\n"
            }
            Layout::Rate => {
                "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  \
                 -> RemoteAddress:Port\n"
            }
            Layout::Health => {
                "Prot LocalAddress:Port Scheduler Flags\n  \
                 -> RemoteAddress:Port           State    For     Avail    Reason\n"
            }
            Layout::Thresholds => {
                "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  \
                 -> RemoteAddress:Port\n"
            }
            Layout::PersistentConn => {
                "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  \
                 -> RemoteAddress:Port\n"
            }
            Layout::TunInfo => {
                "Prot LocalAddress:Port Scheduler Flags\n  \
                 -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
            }
        }
    }

    fn service(&self, out: &mut String, service: &ServiceStats) {
        let title = service_title(&service.config.key, self.names);
        let numbers = match self.layout {
            Layout::Stats => {
                let packets = (service.packets_in, service.packets_out);
                Some(self.counters(service.connections, packets, (service.bytes_in, service.bytes_out)))
            }
            Layout::Rate => {
                let Rates { connections, packets_in, packets_out, bytes_in, bytes_out, .. } = service.rates;
                Some(self.counters(connections, (packets_in, packets_out), (bytes_in, bytes_out)))
            }
            _ => None,
        };
        match numbers {
            Some(numbers) => out.push_str(&format!("{title:<33}{numbers}\n")),
            None => out.push_str(&format!("{title} {}\n", service_rule(&service.config))),
        }
        for server in &service.servers {
            self.server(out, &service.config.key, server);
        }
    }

    fn server(&self, out: &mut String, service: &ServiceKey, server: &ServerStats) {
        let config = &server.config;
        let address = endpoint(config.address, protocol(service), self.names, Fit::Column);
        // keepalived takes a server that is down out of the table, or gives it weight 0.
        let down = matches!(server.condition, Condition::Down { .. });
        let (weight, method) = (if down { Weight::ZERO } else { config.weight }, method(config.forwarding));
        let (active, inactive) = (server.load.active, server.load.inactive);
        let columns = match self.layout {
            Layout::Stats => {
                let packets = (server.packets_in, server.packets_out);
                self.counters(server.connections, packets, (server.bytes_in, server.bytes_out))
            }
            Layout::Rate => {
                // As ipvsadm: of a server, bytes only are written short.
                let Rates { connections, packets_in, packets_out, bytes_in, bytes_out, .. } = server.rates;
                let (bytes_in, bytes_out) = (self.number(bytes_in), self.number(bytes_out));
                format!(" {connections:>8} {packets_in:>8} {packets_out:>8} {bytes_in:>8} {bytes_out:>8}")
            }
            Layout::Health => format!(" {}", self.health(service, server)),
            Layout::Plain => format!(" {method:<7} {weight:<6} {active:<10} {inactive:<10}"),
            Layout::Thresholds => {
                let (upper, lower) = (config.thresholds.upper(), config.thresholds.lower());
                format!(" {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
            }
            Layout::PersistentConn => {
                let templates = server.templates;
                format!(" {weight:<9} {templates:<11} {active:<10} {inactive:<10}")
            }
            Layout::TunInfo => {
                let tunnel = tunnel(config.forwarding);
                format!(" {method:<7} {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}")
            }
        };
        out.push_str(&format!("  -> {address:<28}{columns}\n"));
    }

    /// `down     5m07s    99.95 %  2 × connect refused`.
    fn health(&self, service: &ServiceKey, server: &ServerStats) -> String {
        let address = server.config.address;
        let Standing { state, reason } = self.besides.standing(service, server);
        let history = self.besides.history_of(service, address);
        let since = history.and_then(|history| history.spells.back()).map(|spell| spell.since);
        let since = since.map_or_else(|| "-".to_owned(), |since| short(self.besides.now.since(since)));
        let availability = history.and_then(History::availability);
        let availability =
            availability.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0));
        format!("{state:<8} {since:<7} {availability:<8} {reason}").trim_end().to_owned()
    }

    fn counters(&self, connections: u64, packets: (u64, u64), bytes: (u64, u64)) -> String {
        let counters = [connections, packets.0, packets.1, bytes.0, bytes.1];
        counters.iter().map(|counter| format!(" {:>8}", self.number(*counter))).collect()
    }

    fn number(&self, number: u64) -> String {
        match number {
            _ if self.numbers == Numbers::Exact => number.to_string(),
            0..100_000_000 => number.to_string(),
            100_000_000..1_000_000_000 => format!("{}K", number / 1_000),
            1_000_000_000..100_000_000_000 => format!("{}M", number / 1_000_000),
            100_000_000_000..100_000_000_000_000 => format!("{}G", number / 1_000_000_000),
            _ => format!("{}T", number / 1_000_000_000_000),
        }
    }
}

/// Whether an address may be longer than its column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// A host name is cut so that the port stays in sight. Numbers are never cut.
    Column,
    /// In full, to be read back.
    Whole,
}

/// An address and port, as names if there are any.
pub(crate) fn endpoint(
    address: SocketAddr,
    protocol: Option<Protocol>,
    names: Option<&Names>,
    fit: Fit,
) -> String {
    let service = names.zip(protocol).and_then(|(names, protocol)| names.service(address.port(), protocol));
    let port = service.map_or_else(|| Cow::Owned(address.port().to_string()), Cow::Borrowed);
    match (address.ip(), names.and_then(|names| names.host(address.ip()))) {
        (IpAddr::V6(host), _) => format!("[{host}]:{port}"),
        (host, None) => format!("{host}:{port}"),
        (_, Some(host)) => {
            let room = ENDPOINT_WIDTH.saturating_sub(1 + port.len());
            let host = if fit == Fit::Column { host.get(..room).unwrap_or(host) } else { host };
            format!("{host}:{port}")
        }
    }
}

/// The transport protocol that names ports; a firewall mark has none.
pub(crate) fn protocol(service: &ServiceKey) -> Option<Protocol> {
    match service {
        ServiceKey::Address { protocol, .. } => Some(*protocol),
        ServiceKey::Mark { .. } | ServiceKey::Name(_) => None,
    }
}

/// The flags of `-b`, as a list.
pub(crate) fn scheduler_flags(service: &ServiceConfig) -> String {
    flag_names(service).collect::<Vec<_>>().join(",")
}

pub(crate) fn flag_names(service: &ServiceConfig) -> impl Iterator<Item = &'static str> {
    let flags = service.flags;
    let names = match service.algorithm.name() {
        "sh" => ["sh-fallback", "sh-port", "flag-3"],
        "mh" => ["mh-fallback", "mh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    let all = [SchedulerFlags::FIRST, SchedulerFlags::SECOND, SchedulerFlags::THIRD];
    all.into_iter().zip(names).filter(move |(flag, _)| flags.contains(*flag)).map(|(_, name)| name)
}

/// The mask of a persistent service, where it is not that of a single host.
pub(crate) fn mask(service: &ServiceConfig) -> Option<String> {
    let persistence = service.persistence?;
    if service.key.family() == Some(Family::V6) {
        return (persistence.prefix_v6() != 128).then(|| persistence.prefix_v6().to_string());
    }
    (!persistence.mask_v4().is_broadcast()).then(|| persistence.mask_v4().to_string())
}

/// `TCP  192.0.2.10:80`, `FWM  8 IPv6`.
fn service_title(key: &ServiceKey, names: Option<&Names>) -> String {
    match key {
        ServiceKey::Address { protocol, address } => {
            let address = endpoint(*address, Some(*protocol), names, Fit::Column);
            format!("{:<4} {address}", protocol.to_string())
        }
        ServiceKey::Mark { mark, family: Family::V4 } => format!("FWM  {mark}"),
        ServiceKey::Mark { mark, family: Family::V6 } => format!("FWM  {mark} IPv6"),
        ServiceKey::Name(name) => format!("POOL {name}"),
    }
}

/// `sh (sh-fallback,sh-port) persistent 360 mask 255.255.255.0`.
fn service_rule(service: &ServiceConfig) -> String {
    let mut rule = service.algorithm.to_string();
    if !service.flags.is_empty() {
        rule.push_str(&format!(" ({})", scheduler_flags(service)));
    }
    if let Some(persistence) = &service.persistence {
        rule.push_str(&format!(" persistent {}", persistence.timeout().as_secs()));
        if let Some(mask) = mask(service) {
            rule.push_str(&format!(" mask {mask}"));
        }
        if let Some(engine) = persistence.persistence_engine() {
            rule.push_str(&format!(" pe {}", engine.name()));
        }
    }
    if service.one_packet {
        rule.push_str(" ops");
    }
    rule
}

pub(crate) fn method(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Masquerading => "Masq",
        Forwarding::Gatewaying => "Route",
        Forwarding::Tunneling(_) => "Tunnel",
        _ => "Bypass",
    }
}

fn tunnel(forwarding: Forwarding) -> String {
    let checksum = |checksum| match checksum {
        TunnelChecksum::Absent => "-c",
        TunnelChecksum::Present => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match forwarding {
        Forwarding::Tunneling(Tunnel::Ipip) => "ipip".to_owned(),
        Forwarding::Tunneling(Tunnel::Gue { port, checksum: sum }) => format!("gue:{port}:{}", checksum(sum)),
        Forwarding::Tunneling(Tunnel::Gre { checksum: sum }) => format!("gre:{}", checksum(sum)),
        _ => "n/a".to_owned(),
    }
}

/// The version of IPVS that is spoken, with the usual size of its connection table: scripts look
/// for this line. A director in userspace has no such table.
const IPVS_LINE: &str = "IP Virtual Server version 1.2.1 (size=4096)";
const ENDPOINT_WIDTH: usize = 28;
