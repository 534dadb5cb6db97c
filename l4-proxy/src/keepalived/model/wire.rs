//! How an instance's adverts travel and its addresses are announced: its own words, or else those of
//! `global_defs`, or else keepalived's defaults.

use std::net::IpAddr;
use std::time::Duration;

use super::build::{Build, address, count, duration, switched_on};
use super::router::{Announcing, Instance, LinkDelay, Wire};
use crate::keepalived::schema;
use crate::keepalived::tree::Node;

impl<'a> Build<'a> {
    pub(super) fn wire(&self, node: &'a Node) -> Wire {
        let v6 = node
            .child("virtual_ipaddress")
            .is_some_and(|block| block.children().first().is_some_and(|first| first.name().contains(':')));
        let group = if v6 { "vrrp_mcast_group6" } else { "vrrp_mcast_group4" };
        let has = |name: &str| node.child(name).is_some();
        Wire {
            group: self
                .either(node, "mcast_dst_ip", group)
                .and_then(|word| address(word, 1))
                .filter(IpAddr::is_multicast),
            unicast_ttl: node
                .child("unicast_ttl")
                .and_then(|word| count(word, 1))
                .map_or(255, |ttl| ttl as u8),
            checks_source: has("check_unicast_src") || self.global_word("vrrp_check_unicast_src").is_some(),
            checksum_as_v2: has("v3_checksum_as_v2") || self.global_word("v3_checksum_as_v2").is_some(),
            down_adverts: self
                .either(node, "down_timer_adverts", "vrrp_down_timer_adverts")
                .and_then(|word| count(word, 1))
                .map_or(3, |count| count as u8),
            from_base: has("vmac_xmit_base"),
            answers_lower: !self
                .either(node, "lower_prio_no_advert", "vrrp_lower_prio_no_advert")
                .is_some_and(switched_on),
            // keepalived does not unless it is told to; then whom neighbours knew last is left to chance.
            answers_higher: self
                .either(node, "higher_prio_send_advert", "vrrp_higher_prio_send_advert")
                .is_none_or(switched_on),
        }
    }

    pub(super) fn announcing(&self, node: &'a Node) -> Announcing {
        let fewest = self.global_word("vrrp_min_garp").is_some_and(switched_on);
        let (usual_repeat, usual_again) = if fewest { (1, 0) } else { (5, 5) };
        let number = |own: &str, global: &str| self.either(node, own, global).and_then(|word| count(word, 1));
        let repeat = number("garp_master_repeat", "vrrp_garp_master_repeat").unwrap_or(usual_repeat);
        let again = number("garp_master_delay", "vrrp_garp_master_delay").unwrap_or(usual_again);
        let seconds = |count: u32| Duration::from_secs(count.into());
        let group =
            node.child("interface").and_then(|word| word.text(1)).and_then(|name| self.garp_group(name));
        let spacing = |own: &str, global: &str| {
            let own = group.and_then(|group| group.child(own));
            own.or_else(|| self.global_word(global)).and_then(duration).unwrap_or_default()
        };
        Announcing {
            repeat,
            again: seconds(again),
            refresh: seconds(number("garp_master_refresh", "vrrp_garp_master_refresh").unwrap_or(0)),
            refresh_repeat: number("garp_master_refresh_repeat", "vrrp_garp_master_refresh_repeat")
                .unwrap_or(1),
            contested_repeat: number("garp_lower_prio_repeat", "vrrp_garp_lower_prio_repeat")
                .unwrap_or(repeat),
            contested_again: seconds(
                number("garp_lower_prio_delay", "vrrp_garp_lower_prio_delay").unwrap_or(again),
            ),
            arp_spacing: spacing("garp_interval", "vrrp_garp_interval"),
            na_spacing: spacing("gna_interval", "vrrp_gna_interval"),
        }
    }

    /// What is wrong with the address that adverts are to go to, of IPv6 or of IPv4. keepalived leaves a wrong one
    /// out, so that a director hears none of those who have the right one.
    pub(super) fn check_group(&mut self, word: &Node, v6: bool) {
        let Some(group) = address(word, 1) else { return };
        let (name, text) = (word.name(), word.text(1).unwrap_or_default());
        let leaves_the_link = matches!(group, IpAddr::V6(group) if group.octets()[1] & 0x0F != LINK_LOCAL);
        let message = match group {
            _ if group.is_ipv6() != v6 && name == "mcast_dst_ip" => {
                format!("{text} is not of the family of the instance's addresses")
            }
            _ if group.is_ipv6() != v6 => format!("{text} is not {}", if v6 { "IPv6" } else { "IPv4" }),
            _ if !group.is_multicast() => format!("{text} is not multicast"),
            _ if leaves_the_link && name == "mcast_dst_ip" => format!("{text} is not link-local multicast"),
            _ if leaves_the_link => {
                let message = format!("{text} should be link-local multicast");
                return self.complain(word.blame(message).only_warns());
            }
            _ => return,
        };
        self.complain(word.blame(message));
    }

    /// `interface_up_down_delays`: each an interface, how long it is to be down, and up. One time is for both, as
    /// keepalived's manual has it.
    pub(super) fn link_delays(&mut self, instances: &[Instance]) -> Vec<LinkDelay> {
        let mut delays = Vec::new();
        let lines = self.blocks("interface_up_down_delays").into_iter().flat_map(Node::children);
        for line in lines.collect::<Vec<_>>() {
            let seconds = |index: usize| {
                line.text(index)
                    .and_then(schema::seconds)
                    .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            };
            let Some(mut down) = seconds(1) else { continue };
            let mut up = seconds(2).unwrap_or(down);
            let own = instances.iter().filter(|instance| instance.interface.as_deref() == Some(line.name()));
            // A backup that cannot hear anything must not take the master for gone first.
            let patience =
                |instance: &Instance| instance.advertisement * (u32::from(instance.wire.down_adverts) - 1);
            let longest = own.map(patience).min().unwrap_or(Duration::MAX);
            if down >= longest && !down.is_zero() {
                let message = format!(
                    "longer than a backup waits for its master: taken for {} s",
                    (longest * 255 / 256).as_secs_f64()
                );
                self.complaints.push(line.blame(message).only_warns());
                (down, up) = (longest * 255 / 256, if up == down { longest * 255 / 256 } else { up });
            }
            delays.push(LinkDelay { interface: line.name().to_owned(), down, up });
        }
        delays
    }

    /// How long after the start, and after the start of the host, instances only listen.
    pub(super) fn delays(&self) -> [Duration; 2] {
        ["vrrp_startup_delay", "vrrp_delay_after_boot"]
            .map(|name| self.global_word(name).and_then(duration).unwrap_or_default())
    }

    /// The `garp_group` that an interface belongs to.
    fn garp_group(&self, interface: &str) -> Option<&'a Node> {
        let lists = |group: &&Node| {
            let own = group.child("interface").and_then(|word| word.text(1)) == Some(interface);
            own || group
                .child("interfaces")
                .is_some_and(|list| list.children().iter().any(|item| item.name() == interface))
        };
        self.blocks("garp_group").into_iter().find(lists)
    }

    /// A word of an instance, or else one of `global_defs`.
    fn either(&self, node: &'a Node, own: &str, global: &str) -> Option<&'a Node> {
        node.child(own).or_else(|| self.global_word(global))
    }

    fn global_word(&self, name: &str) -> Option<&'a Node> {
        self.blocks("global_defs").into_iter().find_map(|block| block.child(name))
    }
}

/// The scope of IPv6 groups that stay on the link.
const LINK_LOCAL: u8 = 2;

/// What is read elsewhere than in `instance_word`.
pub(super) const WIRE_WORDS: [&str; 15] = [
    "mcast_dst_ip",
    "unicast_ttl",
    "check_unicast_src",
    "v3_checksum_as_v2",
    "down_timer_adverts",
    "vmac_xmit_base",
    "garp_master_delay",
    "garp_master_repeat",
    "garp_lower_prio_delay",
    "garp_lower_prio_repeat",
    "garp_master_refresh",
    "garp_master_refresh_repeat",
    "no_virtual_ipaddress",
    "native_ipv6",
    "unicast_fault_no_peer",
];

/// Words that would change what is done, and do not here.
pub(super) const UNFIT: [(&str, &str); 2] =
    [("use_ipvlan", "this director makes no ipvlan interfaces"), ("vrf", "this director knows no VRF")];
