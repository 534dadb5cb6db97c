//! `virtual_server`, its group, and its servers.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use lvs_core::{Algorithm, Family, Forwarding, Protocol, SchedulerFlags, ServiceKey, Thresholds};

use super::build::{Build, count, endpoint, switched_on};
use super::checker::Inherited;
use super::{Mail, NumberFile, RealServer, Sorry, VirtualServer};
use crate::keepalived::complaint::Place;
use crate::keepalived::schema;
use crate::keepalived::tree::Node;

/// What a member of a group, or a virtual server of its own, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Address(SocketAddr),
    Mark(NonZeroU32, Option<Family>),
}

/// What a service says that its servers take over.
struct Defaults {
    checks: Inherited,
    weight: u32,
    forwarding: Forwarding,
    inhibit: bool,
}

impl Build<'_> {
    pub(super) fn services(&mut self) -> Vec<VirtualServer> {
        let groups: Vec<(String, Vec<Member>)> = self
            .unique_blocks("virtual_server_group")
            .into_iter()
            .map(|node| (node.text(1).unwrap_or_default().to_owned(), self.members(node)))
            .collect();
        let files = self.number_files();
        let mut services: Vec<VirtualServer> = Vec::new();
        for node in self.blocks("virtual_server") {
            let Some(service) = self.service(node, &groups, &files) else { continue };
            let twice = service.keys.iter().find_map(|key| {
                services.iter().find(|other| other.keys.contains(key)).map(|other| (key, &other.place))
            });
            match twice {
                Some((key, place)) => {
                    let message = format!("{key} is a virtual server already, see {place}");
                    self.complain(node.blame(message));
                }
                None => services.push(service),
            }
        }
        services
    }

    fn members(&mut self, group: &Node) -> Vec<Member> {
        let mut members = Vec::new();
        for node in group.children() {
            if node.name() == "fwmark" {
                let family = node.text(2).map(|name| if name == "inet6" { Family::V6 } else { Family::V4 });
                match node.text(1).and_then(|mark| mark.parse().ok()) {
                    Some(mark) => members.push(Member::Mark(mark, family)),
                    None => self.complain(node.blame("a firewall mark is a number above 0")),
                }
                continue;
            }
            let port = match node.text(1) {
                None => Some(0),
                Some(port) => schema::port(port),
            };
            match (addresses(node.name()), port) {
                (Some(addresses), Some(port)) => {
                    members
                        .extend(addresses.into_iter().map(|ip| Member::Address(SocketAddr::new(ip, port))));
                }
                (None, _) => {
                    self.complain(node.words[0].blame("wanted an IP address, a range of them, or fwmark"));
                }
                (_, None) => self.complain(node.words[1].blame("wanted a port")),
            }
        }
        if group.children().is_empty() {
            self.complain(group.blame("the group has no members"));
        }
        members
    }

    fn service(
        &mut self,
        node: &Node,
        groups: &[(String, Vec<Member>)],
        files: &[(String, NumberFile)],
    ) -> Option<VirtualServer> {
        let members = self.virtual_addresses(node, groups)?;
        let protocol =
            match node.child("protocol").and_then(|child| child.text(1)).map(str::to_ascii_uppercase) {
                Some(name) if name == "UDP" => Protocol::Udp,
                Some(name) if name == "SCTP" => Protocol::Sctp,
                Some(_) => Protocol::Tcp,
                None if members.iter().all(|member| matches!(member, Member::Mark(..))) => Protocol::Tcp,
                None => {
                    if !node.mentions("protocol") {
                        let message = "the virtual server has no protocol; keepalived would take UDP";
                        self.complain(node.blame(message));
                    }
                    Protocol::Udp
                }
            };
        let children = node.children();
        let algorithm = children.iter().rfind(|child| matches!(child.name(), "lb_algo" | "lvs_sched"));
        if algorithm.is_none() && !node.mentions("lb_algo") && !node.mentions("lvs_sched") {
            self.complain(node.blame("the virtual server has no lb_algo: wlc is taken").only_warns());
        }
        let algorithm = algorithm.and_then(|child| child.text(1)?.to_ascii_lowercase().parse().ok());
        let algorithm = algorithm.unwrap_or(Algorithm::Wlc);
        let forwarding = children.iter().rfind(|child| matches!(child.name(), "lb_kind" | "lvs_method"));
        if forwarding.is_none() && !node.mentions("lb_kind") && !node.mentions("lvs_method") {
            self.complain(node.blame("the virtual server has no lb_kind: NAT is taken").only_warns());
        }
        let forwarding = forwarding.and_then(|child| self.forwarding(child)).unwrap_or_default();

        let mut defaults = Defaults { checks: Inherited::default(), weight: 1, forwarding, inhibit: false };
        let mut service = VirtualServer {
            name: name(node, protocol),
            keys: Vec::new(),
            place: Place::of(&node.words[0]),
            algorithm,
            flags: self.flags(node, algorithm),
            one_packet: node.child("ops").is_some(),
            persistence: None,
            quorum: node.child("quorum").and_then(|child| count(child, 1)).unwrap_or(1),
            hysteresis: node.child("hysteresis").and_then(|child| count(child, 1)).unwrap_or(0),
            quorum_up: None,
            quorum_down: None,
            mail: Mail::AsGlobal,
            omega: false,
            ha_suspend: false,
            sorry: None,
            servers: Vec::new(),
        };
        for child in children {
            match child.name() {
                "weight" => defaults.weight = count(child, 1).unwrap_or(1),
                "inhibit_on_failure" => defaults.inhibit = switched_on(child),
                "quorum_up" => service.quorum_up = self.script(child),
                "quorum_down" => service.quorum_down = self.script(child),
                "omega" => service.omega = switched_on(child),
                "ha_suspend" => service.ha_suspend = switched_on(child),
                "smtp_alert" => service.mail = Mail::of(switched_on(child)),
                _ => _ = defaults.checks.take(child),
            }
        }
        if service.one_packet && protocol != Protocol::Udp {
            self.complain(node.blame("one-packet scheduling (ops) is for UDP only"));
            service.one_packet = false;
        }
        service.persistence = self.persistence(node, &members, protocol);
        service.servers = self.servers(node, &members, &defaults, files);
        service.sorry = self.sorry(node, &members, forwarding);
        service.keys = members
            .iter()
            .map(|member| match *member {
                Member::Address(address) => ServiceKey::Address { protocol, address },
                Member::Mark(mark, family) => {
                    let servers = service.servers.first().map(|server| Family::of(server.address.ip()));
                    ServiceKey::Mark { mark, family: family.or(servers).unwrap_or(Family::V4) }
                }
            })
            .collect();
        self.check_quorum(node, &mut service);
        if service.servers.is_empty() && !node.mentions("real_server") {
            self.complain(node.blame("the virtual server has no real server"));
        }
        Some(service).filter(|service| !service.servers.is_empty())
    }

    /// `IP [port]`, `fwmark N` or `group NAME`.
    fn virtual_addresses(&mut self, node: &Node, groups: &[(String, Vec<Member>)]) -> Option<Vec<Member>> {
        let value = node.text(2);
        match (node.text(1)?, value) {
            ("group", Some(name)) => match groups.iter().find(|(group, _)| group == name) {
                Some((_, members)) => Some(members.clone()).filter(|members| !members.is_empty()),
                None => {
                    self.complain(node.words[2].blame(format!("there is no virtual_server_group {name}")));
                    None
                }
            },
            ("fwmark", Some(mark)) => match mark.parse() {
                Ok(mark) => {
                    let family = node.child("ip_family").and_then(|child| child.text(1));
                    let family = family.map(|name| if name == "inet6" { Family::V6 } else { Family::V4 });
                    if let Some(protocol) = node.child("protocol") {
                        let message = "a firewall mark stands for any protocol: this one is ignored";
                        self.complain(protocol.blame(message).only_warns());
                    }
                    Some(vec![Member::Mark(mark, family)])
                }
                Err(_) => {
                    self.complain(node.words[2].blame("a firewall mark is a number above 0"));
                    None
                }
            },
            ("group" | "fwmark", None) => {
                self.complain(node.blame(format!("{} needs a value", node.words[1].text)));
                None
            }
            (_, port) => {
                let port_good = port.is_none_or(|port| schema::port(port).is_some());
                let found = endpoint(node, 1).filter(|_| port_good);
                if found.is_none() {
                    let word = &node.words[if node.text(1)?.parse::<IpAddr>().is_ok() { 2 } else { 1 }];
                    self.complain(word.blame("wanted IP [port], fwmark N or group NAME"));
                }
                Some(vec![Member::Address(found?)])
            }
        }
    }

    fn flags(&mut self, node: &Node, algorithm: Algorithm) -> SchedulerFlags {
        let mut flags = SchedulerFlags::default();
        for child in node.children() {
            let (own, bit) = match child.name() {
                "sh-fallback" => (Some(Algorithm::Sh), SchedulerFlags::FIRST),
                "mh-fallback" => (Some(Algorithm::Mh), SchedulerFlags::FIRST),
                "sh-port" => (Some(Algorithm::Sh), SchedulerFlags::SECOND),
                "mh-port" => (Some(Algorithm::Mh), SchedulerFlags::SECOND),
                "flag-1" => (None, SchedulerFlags::FIRST),
                "flag-2" => (None, SchedulerFlags::SECOND),
                "flag-3" => (None, SchedulerFlags::THIRD),
                _ => continue,
            };
            match own {
                Some(own) if own != algorithm => {
                    self.complain(child.blame(format!("{} is for the scheduler {own} only", child.name())));
                }
                _ => flags = flags.with(bit),
            }
        }
        flags
    }

    fn servers(
        &mut self,
        node: &Node,
        members: &[Member],
        defaults: &Defaults,
        files: &[(String, NumberFile)],
    ) -> Vec<RealServer> {
        let mut servers: Vec<RealServer> = Vec::new();
        for child in node.children().iter().filter(|child| child.name() == "real_server") {
            let Some(server) = self.server(child, members, defaults, files) else { continue };
            if servers.iter().any(|other| other.address == server.address) {
                // Without NAT they may have become one when they were given their service's port; what is told
                // then is that this director has NAT only.
                if server.forwarding == Forwarding::Masquerading {
                    self.complain(child.blame(format!("real_server {} is there already", server.address)));
                }
                continue;
            }
            servers.push(server);
        }
        servers
    }

    fn server(
        &mut self,
        node: &Node,
        members: &[Member],
        defaults: &Defaults,
        files: &[(String, NumberFile)],
    ) -> Option<RealServer> {
        let forwarding =
            node.children().iter().rfind(|child| matches!(child.name(), "lb_kind" | "lvs_method"));
        let forwarding = forwarding.and_then(|child| self.forwarding(child)).unwrap_or(defaults.forwarding);
        let address = self.server_address(node, members, forwarding)?;
        let mut checks = Inherited { server: Some(address), ..defaults.checks.clone() };
        let mut server = RealServer {
            address,
            weight: defaults.weight,
            forwarding,
            thresholds: Thresholds::default(),
            inhibit: defaults.inhibit,
            notify_up: None,
            notify_down: None,
            mail: Mail::AsGlobal,
            checkers: Vec::new(),
        };
        let (mut upper, mut lower) = (0, 0);
        for child in node.children() {
            match child.name() {
                "weight" => server.weight = count(child, 1).unwrap_or(1),
                "uthreshold" => upper = count(child, 1).unwrap_or_default(),
                "lthreshold" => lower = count(child, 1).unwrap_or_default(),
                "inhibit_on_failure" => server.inhibit = switched_on(child),
                "notify_up" => server.notify_up = self.script(child),
                "notify_down" => server.notify_down = self.script(child),
                "smtp_alert" => server.mail = Mail::of(switched_on(child)),
                _ => _ = checks.take(child),
            }
        }
        match Thresholds::new(upper, lower) {
            Ok(thresholds) => server.thresholds = thresholds,
            Err(error) => self.complain(node.blame(error.to_string())),
        }
        for child in node.children().iter().filter(|child| child.body.is_some()) {
            server.checkers.extend(self.checker(child, &checks, files));
        }
        Some(server)
    }

    /// The address of a real or sorry server; without a port it has that of its service.
    fn server_address(
        &mut self,
        node: &Node,
        members: &[Member],
        forwarding: Forwarding,
    ) -> Option<SocketAddr> {
        let mut address = endpoint(node, 1)?;
        let first = members.iter().find_map(|member| match member {
            Member::Address(address) => Some(*address),
            Member::Mark(..) => None,
        });
        let Some(first) = first else { return Some(address) };
        if forwarding == Forwarding::Masquerading && first.is_ipv4() != address.is_ipv4() {
            self.complain(node.blame("real server and virtual server are of different address families"));
            return None;
        }
        if address.port() == 0 {
            address.set_port(first.port());
        } else if forwarding != Forwarding::Masquerading && address.port() != first.port() {
            let message = "only NAT can change the port: that of the virtual server is taken";
            self.complain(node.blame(message).only_warns());
            address.set_port(first.port());
        }
        Some(address)
    }

    fn sorry(&mut self, node: &Node, members: &[Member], forwarding: Forwarding) -> Option<Sorry> {
        let own = node.child("sorry_server_lvs_method").and_then(|child| self.forwarding(child));
        let inhibit = node.child("sorry_server_inhibit");
        let Some(child) = node.child("sorry_server") else {
            for word in [inhibit, node.child("sorry_server_lvs_method")].into_iter().flatten() {
                self.complain(word.blame(format!("{} without a sorry_server", word.name())));
            }
            return None;
        };
        let forwarding = own.unwrap_or(forwarding);
        let address = self.server_address(child, members, forwarding)?;
        Some(Sorry { address, forwarding, inhibit: inhibit.is_some() })
    }

    /// A quorum that could never be reached, or never be lost, is not meant.
    fn check_quorum(&mut self, node: &Node, service: &mut VirtualServer) {
        let total = service.servers.iter().map(|server| u64::from(server.weight)).sum::<u64>();
        if u64::from(service.quorum) > total && !service.servers.is_empty() {
            let quorum = node.child("quorum").unwrap_or(node);
            let message = format!(
                "the quorum of {} is above the weight of all servers: {total} is taken",
                service.quorum
            );
            self.complain(quorum.blame(message).only_warns());
            service.quorum = total as u32;
        }
        if service.hysteresis >= service.quorum && service.hysteresis > 0 {
            let hysteresis = node.child("hysteresis").unwrap_or(node);
            let lower = service.quorum.saturating_sub(1);
            let message = format!("the hysteresis has to be below the quorum: {lower} is taken");
            self.complain(hysteresis.blame(message).only_warns());
            service.hysteresis = lower;
        }
        if let Some(sorry) = &service.sorry
            && service.servers.iter().any(|server| server.address == sorry.address)
        {
            if sorry.forwarding == Forwarding::Masquerading {
                self.complain(node.blame(format!("the sorry server {} is a real server too", sorry.address)));
            }
            service.sorry = None;
        }
    }
}

/// How keepalived calls a virtual server.
fn name(node: &Node, protocol: Protocol) -> String {
    let protocol = protocol.to_string().to_lowercase();
    match (node.text(1).unwrap_or_default(), node.text(2)) {
        ("group", Some(group)) => format!("[{group}]:{protocol}"),
        ("fwmark", Some(mark)) => format!("FWM {mark}"),
        _ => endpoint(node, 1)
            .map_or_else(String::new, |address| super::endpoint(address.ip(), &protocol, address.port())),
    }
}

/// One address, `a.b.c.d-e`, `a.b.c.d-e.f.g.h` or `a.b.c.d/n`, and likewise for IPv6; all but the
/// network's own and its broadcast address where a prefix is given.
fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    if let Some((first, last)) = text.split_once('-') {
        let first: IpAddr = first.parse().ok()?;
        let last = match last.parse() {
            Ok(last) => last,
            Err(_) => {
                let written = first.to_string();
                let (separator, whole) = if first.is_ipv4() { ('.', &written) } else { (':', &written) };
                let (before, _) = whole.rsplit_once(separator)?;
                format!("{before}{separator}{last}").parse().ok()?
            }
        };
        return range(first, last);
    }
    if text.contains('/') {
        let (address, length) = schema::network(text)?;
        return match address {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                let base = u32::from(address) & !host;
                let inner = u32::from(host > 1);
                range(
                    IpAddr::from((base + inner).to_be_bytes()),
                    IpAddr::from((base + host - inner).to_be_bytes()),
                )
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
                let base = u128::from(address) & !host;
                range(IpAddr::from(base.to_be_bytes()), IpAddr::from((base | host).to_be_bytes()))
            }
        };
    }
    Some(vec![text.parse().ok()?])
}

fn range(first: IpAddr, last: IpAddr) -> Option<Vec<IpAddr>> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (u32::from(first), u32::from(last));
            let good = first <= last && last - first < GROUP_MAX as u32;
            good.then(|| (first..=last).map(|bits| IpAddr::from(bits.to_be_bytes())).collect())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (first, last) = (u128::from(first), u128::from(last));
            let good = first <= last && last - first < GROUP_MAX;
            good.then(|| (first..=last).map(|bits| IpAddr::from(bits.to_be_bytes())).collect())
        }
        _ => None,
    }
}

/// A range larger than this is a typing error: each address has a listener.
const GROUP_MAX: u128 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_addresses_are_those_of_keepalived() {
        let check = |text: &str, first: &str, last: &str, count: usize| {
            let found = addresses(text).unwrap_or_default();
            let ends = (found.first().map(IpAddr::to_string), found.last().map(IpAddr::to_string));
            assert_eq!(
                (ends, found.len()),
                ((Some(first.to_owned()), Some(last.to_owned())), count),
                "{text}"
            );
        };
        check("10.0.0.1", "10.0.0.1", "10.0.0.1", 1);
        check("192.168.200.3-10", "192.168.200.3", "192.168.200.10", 8);
        check("10.0.0.250-10.0.1.10", "10.0.0.250", "10.0.1.10", 17);
        check("10.0.2.8/29", "10.0.2.9", "10.0.2.14", 6);
        check("ae00::2-9", "ae00::2", "ae00::9", 8);
        for wrong in ["10.0.0.9-3", "10.0.0.1-300", "x", "10.0.0.0/33", "0.0.0.0/0", "10.0.0.1-ae00::1"] {
            assert_eq!(addresses(wrong), None, "{wrong}");
        }
    }
}
