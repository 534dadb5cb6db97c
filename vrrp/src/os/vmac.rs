//! The interface of a virtual router that has a MAC address of its own (`use_vmac`): a macvlan above
//! the interface that it speaks on.
//!
//! All routers of a network share the address 00:00:5e:00:01:VRID, so no frame may leave with it but the
//! master's, or the switches would look for it in the wrong place. Hence a backup's interface is down,
//! and advertisements are heard below it, where the kernel's own group reports go out as well.

use std::fs;
use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};

use super::netlink::Requests;

/// A macvlan as a virtual router needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// Name and index of the interface below.
    pub(super) below: (String, u32),
    pub(super) mac: [u8; 6],
    pub(super) is_v6: bool,
}

impl Wanted {
    /// The interface of a virtual router above another one.
    pub(super) fn new(name: Option<&str>, below: (String, u32), vrid: u8, is_v6: bool) -> Wanted {
        let usual = || format!("vrrp{}.{vrid}", if is_v6 { "6" } else { "" });
        let mac = [0, 0, 0x5e, 0, if is_v6 { 2 } else { 1 }, vrid];
        Wanted { name: name.map_or_else(usual, str::to_owned), below, mac, is_v6 }
    }

    /// Makes it, down as yet.
    pub(super) fn create(&self, kernel: &mut Requests) -> io::Result<()> {
        let mut message = LinkMessage::default();
        // Only in this mode do advertisements from the same address, another master's, also reach the
        // interface below.
        let mode = InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)]);
        message.attributes = vec![
            LinkAttribute::IfName(self.name.clone()),
            LinkAttribute::Link(self.below.1),
            LinkAttribute::Address(self.mac.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(mode)]),
        ];
        kernel.ask(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Has the kernel treat it as the second interface in one network that it is.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let v4 = |interface: &str, setting: &str| format!("/proc/sys/net/ipv4/conf/{interface}/{setting}");
        let v6 = |setting: &str| format!("/proc/sys/net/ipv6/conf/{}/{setting}", self.name);
        // Each answers for its own addresses only, and asks from its own: the one below would speak for
        // the virtual ones with the wrong MAC address. It stays so, as others may rely on it.
        set(&v4(&self.name, "arp_ignore"), "1")?;
        for (setting, wanted) in [("arp_ignore", 1), ("arp_announce", 2)] {
            let below = v4(&self.below.0, setting);
            if fs::read_to_string(&below)?.trim().parse().is_ok_and(|set: u8| set < wanted) {
                set(&below, &wanted.to_string())?;
            }
        }
        // The way back to who sends here leads through the interface below.
        set(&v4(&self.name, "rp_filter"), "2")?;
        if !fs::exists(v6("disable_ipv6"))? {
            return Ok(());
        }
        if !self.is_v6 {
            return set(&v6("disable_ipv6"), "1");
        }
        // No address of its own: it would be that of all others with this MAC address.
        set(&v6("addr_gen_mode"), "1")?;
        set(&v6("accept_ra"), "0")?;
        set(&v6("router_solicitations"), "0")
    }
}

/// Changes a setting of the kernel; the error says which, as a unit or container may have them read-only.
fn set(path: &str, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// Switches an interface on or off.
pub(super) fn switch(kernel: &mut Requests, link: u32, to: Switch) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = link;
    message.header.change_mask = LinkFlags::Up;
    if to == Switch::On {
        message.header.flags = LinkFlags::Up;
    }
    kernel.ask(RouteNetlinkMessage::SetLink(message), 0)
}

/// Removes an interface.
pub(super) fn delete(kernel: &mut Requests, link: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = link;
    kernel.ask(RouteNetlinkMessage::DelLink(message), 0)
}

/// Whether an interface is to be up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    On,
    Off,
}
