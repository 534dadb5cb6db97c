//! Putting virtual addresses on an interface and taking them away.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::netlink::Requests;
use super::settings::{AddressFlag, Scope, VirtualAddress};

/// The kernel counts lifetimes in whole seconds.
pub(super) const LIFETIME_MIN: Duration = Duration::from_secs(1);

/// Puts an address on an interface; one that is there already is made to be as wanted.
///
/// With a lifetime, the kernel takes it away by itself if nobody prolongs that. It counts in whole
/// seconds, so that one that ends within a second cannot be kept.
pub(super) fn place(
    kernel: &mut Requests,
    link: u32,
    wanted: &VirtualAddress,
    lifetime: Option<Duration>,
) -> io::Result<()> {
    if lifetime.is_some_and(|lifetime| lifetime < LIFETIME_MIN) {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the arbiter's consent ends within a second"));
    }
    let mut message = identified(link, wanted.address, wanted.prefix);
    message.header.scope = match wanted.scope {
        Scope::Global => AddressScope::Universe,
        Scope::Site => AddressScope::Site,
        Scope::Link => AddressScope::Link,
        Scope::Host => AddressScope::Host,
        Scope::Other(number) => AddressScope::from(number),
    };
    if let Some(peer) = wanted.peer {
        message.attributes.push(AddressAttribute::Address(peer));
    } else {
        message.attributes.push(AddressAttribute::Address(wanted.address));
    }
    message.attributes.extend(wanted.broadcast.map(AddressAttribute::Broadcast));
    message.attributes.extend(wanted.label.clone().map(AddressAttribute::Label));
    let mut flags = AddressFlags::empty();
    if wanted.address.is_ipv6() {
        // The last master may still answer for it, and there is no time to ask.
        flags |= AddressFlags::Nodad;
    }
    for flag in &wanted.flags {
        match flag {
            AddressFlag::Home => flags |= AddressFlags::Homeaddress,
            AddressFlag::ManageTemporary => flags |= AddressFlags::Managetempaddr,
            AddressFlag::NoPrefixRoute => flags |= AddressFlags::Noprefixroute,
            AddressFlag::AutoJoin => flags |= AddressFlags::Mcautojoin,
            AddressFlag::Deprecated => {}
        }
    }
    let valid = lifetime.map_or(FOR_EVER, |lifetime| lifetime.as_secs().min(u64::from(FOR_EVER - 1)) as u32);
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = valid;
    lifetimes.ifa_preferred = if wanted.flags.contains(&AddressFlag::Deprecated) { 0 } else { valid };
    message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
    message.header.flags = AddressHeaderFlags::from_bits_truncate((flags.bits() & 0xff) as u8);
    message.attributes.push(AddressAttribute::Flags(flags));
    kernel.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Takes an address from an interface; that it is gone already, or the interface is, will do.
pub(super) fn remove(kernel: &mut Requests, link: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    match kernel.ask(RouteNetlinkMessage::DelAddress(identified(link, address, prefix)), 0) {
        Err(error) if GONE.iter().any(|gone| error.raw_os_error() == Some(gone.raw_os_error())) => Ok(()),
        result => result,
    }
}

fn identified(link: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix;
    message.header.index = link;
    message.attributes.push(AddressAttribute::Local(address));
    message
}

const FOR_EVER: u32 = u32::MAX;
const GONE: [Errno; 2] = [Errno::ADDRNOTAVAIL, Errno::NODEV];
