//! What the host has: its interfaces and their addresses, as the kernel told.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};

use super::settling::Settling;
use crate::router::Moment;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// It is switched on and there is something at the other end; or was, and that has not settled.
    pub(super) up: bool,
    /// Its address, where neighbours are found by asking for theirs.
    pub(super) mac: Option<[u8; 6]>,
    /// The interface below it, if it is one above another.
    pub(super) below: Option<u32>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) link: u32,
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
    /// It can be sent from: no other host was found to have it.
    usable: bool,
    scope: AddressScope,
}

/// The interfaces and their addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<u32, Link>,
    addresses: Vec<Held>,
    pub(super) settling: Settling,
}

impl Links {
    /// None of them, to learn all anew; whether they are up settles as before.
    pub(super) fn anew(&self) -> Links {
        Links { settling: self.settling.clone(), ..Links::default() }
    }

    /// Notes that all there is has been learned anew: what was not among it is gone, though that was not heard.
    pub(super) fn complete(&mut self) {
        self.settling.retain(|link| self.links.contains_key(&link));
    }

    /// Has changes count that are due; returns whether there are any.
    pub(super) fn settle(&mut self, now: Moment) -> bool {
        let settled = self.settling.settle(now);
        for (link, up) in &settled {
            if let Some(link) = self.links.get_mut(link) {
                link.up = *up;
            }
        }
        !settled.is_empty()
    }

    /// Takes in what the kernel said.
    pub(super) fn learn(&mut self, message: RouteNetlinkMessage, now: Moment) {
        match message {
            RouteNetlinkMessage::NewLink(message) => {
                let index = message.header.index;
                let known = self.links.get(&index).map(|link| link.name.clone());
                let Some(mut link) = link(&message, known) else { return };
                link.up = self.settling.judge(index, &link.name, link.up, now);
                self.links.insert(index, link);
            }
            RouteNetlinkMessage::DelLink(message) => {
                let gone = message.header.index;
                self.links.remove(&gone);
                self.settling.retain(|link| link != gone);
                self.addresses.retain(|held| held.link != gone);
            }
            RouteNetlinkMessage::NewAddress(message) => {
                let Some(new) = held(&message) else { return };
                match self.addresses.iter_mut().find(|held| held.is(&new)) {
                    Some(held) => *held = new,
                    None => self.addresses.push(new),
                }
            }
            RouteNetlinkMessage::DelAddress(message) => {
                let Some(gone) = held(&message) else { return };
                self.addresses.retain(|held| !held.is(&gone));
            }
            _ => {}
        }
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Whether there is such an interface.
    pub(super) fn exists(&self, link: u32) -> bool {
        self.links.contains_key(&link)
    }

    /// Whether there is such an interface, and it is up.
    pub(super) fn is_up(&self, link: u32) -> bool {
        self.links.get(&link).is_some_and(|link| link.up)
    }

    /// The address of an interface, where neighbours ask for addresses.
    pub(super) fn mac_of(&self, link: u32) -> Option<[u8; 6]> {
        self.links.get(&link)?.mac
    }

    /// Whether an interface has this address.
    pub(super) fn has_mac(&self, mac: [u8; 6]) -> bool {
        self.links.values().any(|link| link.mac == Some(mac))
    }

    /// Name of an interface.
    pub(super) fn name_of(&self, link: u32) -> Option<&str> {
        self.links.get(&link).map(|link| link.name.as_str())
    }

    /// Addresses of an interface.
    pub(super) fn addresses_of(&self, link: u32) -> impl Iterator<Item = &Held> {
        self.addresses.iter().filter(move |held| held.link == link)
    }

    /// Whether an interface of this host has the address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|held| held.address == address && held.usable)
    }

    /// The address that an interface speaks from: the first that is not among the virtual ones, in
    /// IPv6 the link's.
    pub(super) fn own_address(&self, link: u32, v6: bool, besides: &[IpAddr]) -> Option<IpAddr> {
        let speaks = |held: &&Held| {
            held.usable
                && held.address.is_ipv6() == v6
                && (!v6 || held.scope == AddressScope::Link)
                && !besides.contains(&held.address)
        };
        self.addresses_of(link).find(speaks).map(|held| held.address)
    }
}

impl Held {
    fn is(&self, other: &Held) -> bool {
        (self.link, self.address, self.prefix) == (other.link, other.address, other.prefix)
    }
}

fn link(message: &LinkMessage, known: Option<String>) -> Option<Link> {
    let header = &message.header;
    let (mut name, mut mac, mut below) = (known, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(found) => name = Some(found.clone()),
            LinkAttribute::Address(found) => mac = <[u8; 6]>::try_from(found.as_slice()).ok(),
            LinkAttribute::Link(found) => below = Some(*found),
            _ => {}
        }
    }
    let asked_for =
        header.link_layer_type == LinkLayerType::Ether && !header.flags.contains(LinkFlags::Noarp);
    let up = header.flags.contains(LinkFlags::Up | LinkFlags::Running);
    Some(Link { index: header.index, name: name?, up, mac: mac.filter(|_| asked_for), below })
}

fn held(message: &AddressMessage) -> Option<Held> {
    let (mut address, mut local, mut flags) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(found) => address = Some(*found),
            AddressAttribute::Local(found) => local = Some(*found),
            AddressAttribute::Flags(found) => flags = Some(*found),
            _ => {}
        }
    }
    let flags = flags.unwrap_or(AddressFlags::empty());
    Some(Held {
        link: message.header.index,
        // On a point-to-point interface the other one is that of the far end.
        address: local.or(address)?,
        prefix: message.header.prefix_len,
        usable: !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        scope: message.header.scope,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::os::settings::LinkDelay;

    const SECOND: Duration = Duration::from_secs(1);

    fn said(up: bool) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.flags = if up { LinkFlags::Up | LinkFlags::Running } else { LinkFlags::empty() };
        message.attributes.push(LinkAttribute::IfName("eth0".to_owned()));
        RouteNetlinkMessage::NewLink(message)
    }

    #[test]
    fn interface_that_went_while_news_were_lost_is_a_new_one_when_it_comes() {
        let mut links = Links::default();
        links.settling.wait_for(&[LinkDelay { interface: "eth0".to_owned(), down: SECOND * 9, up: SECOND }]);
        links.learn(said(true), SECOND);
        links.learn(said(false), SECOND);
        assert!(links.is_up(7) && links.settling.deadline().is_some());
        // It is there still.
        let mut again = links.anew();
        again.learn(said(false), SECOND);
        again.complete();
        assert!(again.is_up(7) && again.settling.deadline().is_some());
        // It is not.
        let mut again = links.anew();
        again.complete();
        assert_eq!(again.settling.deadline(), None);
        again.learn(said(false), SECOND);
        assert!(!again.is_up(7), "it counts as up because another one did");
    }
}
