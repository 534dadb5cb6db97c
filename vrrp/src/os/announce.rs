//! Telling the neighbours who has an address: gratuitous ARP and unsolicited neighbour advertisements,
//! as often and as far apart as is asked for.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::frame;
use crate::router::Moment;

/// What is to be told, in the order it is to be told.
///
/// It is bounded by what there is to tell: what is told anew takes the place of what is still waiting
/// for the same address.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    waiting: VecDeque<Waiting>,
    /// When the last one of a family went out of an interface.
    last: Vec<(u32, bool, Moment)>,
}

#[derive(Debug)]
struct Waiting {
    /// Not before.
    from: Moment,
    times: u32,
    told: Told,
    spacing: Duration,
}

/// An address, and who has it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Index of the interface that it is told on.
    pub(super) link: u32,
    pub(super) mac: [u8; 6],
    pub(super) address: IpAddr,
}

impl Announcements {
    /// Has an address told: from each of these moments on, so many times.
    pub(super) fn add(&mut self, told: Told, spacing: Duration, bursts: &[(Moment, u32)]) {
        self.withdraw(told.link, told.address);
        for (from, times) in bursts.iter().copied().filter(|(_, times)| *times > 0) {
            self.waiting.push_back(Waiting { from, times, told, spacing });
        }
    }

    /// Takes an address back, which another one has now.
    pub(super) fn withdraw(&mut self, link: u32, address: IpAddr) {
        self.waiting.retain(|waiting| (waiting.told.link, waiting.told.address) != (link, address));
    }

    /// When there is something to tell.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.waiting.iter().map(|waiting| self.due(waiting)).min()
    }

    /// What is to be told now: one time each, round after round, so that every address is told once
    /// before any is told twice.
    pub(super) fn take(&mut self, now: Moment) -> Option<Told> {
        let place = self.waiting.iter().position(|waiting| self.due(waiting) <= now)?;
        let mut waiting = self.waiting.remove(place)?;
        let told = waiting.told;
        let family = (told.link, told.address.is_ipv6());
        self.last.retain(|(link, v6, _)| (*link, *v6) != family);
        if !waiting.spacing.is_zero() {
            self.last.push((family.0, family.1, now));
        }
        waiting.times -= 1;
        if waiting.times > 0 {
            self.waiting.push_back(waiting);
        }
        Some(told)
    }

    fn due(&self, waiting: &Waiting) -> Moment {
        let told = &waiting.told;
        let same = |(link, v6, _): &&(u32, bool, Moment)| (*link, *v6) == (told.link, told.address.is_ipv6());
        let spaced = self.last.iter().find(same).map(|(_, _, last)| *last + waiting.spacing);
        spaced.map_or(waiting.from, |spaced| spaced.max(waiting.from))
    }
}

impl Told {
    /// The frame that tells it.
    pub(super) fn frame(&self) -> Vec<u8> {
        match self.address {
            IpAddr::V4(address) => gratuitous_arp(self.mac, address),
            IpAddr::V6(address) => unsolicited_advertisement(self.mac, address),
        }
    }
}

/// A question to all for an address that the asker has: who knew it elsewhere learns better.
fn gratuitous_arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    frame::arp_request(mac, address, frame::BROADCAST, address)
}

/// Says to all who has an address, and that it takes the place of what they knew (RFC 4861, section
/// 4.4).
fn unsolicited_advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![frame::NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    message.extend([frame::TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend(mac);
    frame::icmpv6(mac, address, ALL_NODES, message)
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const OVERRIDE: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn told(host: u8) -> Told {
        Told { link: 3, mac: MAC, address: IpAddr::from([10, 8, 0, host]) }
    }

    fn hosts(announcements: &mut Announcements, now: u64) -> Vec<u8> {
        let taken = std::iter::from_fn(|| announcements.take(Duration::from_secs(now)));
        taken.map(|told| if let IpAddr::V4(v4) = told.address { v4.octets()[3] } else { 0 }).collect()
    }

    #[test]
    fn every_address_is_told_once_before_any_is_told_twice() {
        let mut announcements = Announcements::default();
        announcements.add(told(1), Duration::ZERO, &[(Duration::ZERO, 2)]);
        announcements.add(told(2), Duration::ZERO, &[(Duration::ZERO, 2)]);
        assert_eq!(hosts(&mut announcements, 0), [1, 2, 1, 2]);
        assert_eq!(announcements.deadline(), None);
    }

    #[test]
    fn announcements_keep_their_distance() {
        let mut announcements = Announcements::default();
        let second = Duration::from_secs(1);
        announcements.add(told(1), second, &[(Duration::ZERO, 2)]);
        announcements.add(told(2), second, &[(Duration::ZERO, 1)]);
        assert_eq!(hosts(&mut announcements, 0), [1]);
        assert_eq!(announcements.deadline(), Some(second));
        assert_eq!(hosts(&mut announcements, 1), [2]);
        assert_eq!(hosts(&mut announcements, 2), [1]);
    }

    #[test]
    fn an_address_that_was_given_away_is_not_told() {
        let mut announcements = Announcements::default();
        for _ in 0..2 {
            announcements.add(told(1), Duration::ZERO, &[(Duration::from_secs(5), 5)]);
        }
        assert_eq!(announcements.waiting.len(), 1, "asked for twice, told once");
        announcements.withdraw(3, IpAddr::from([10, 8, 0, 1]));
        assert_eq!(announcements.deadline(), None);
    }

    #[test]
    fn gratuitous_arp_is_that_of_keepalived() {
        let wanted = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0,
            0, 1, 10, 8, 0, 100, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 10, 8, 0, 100,
        ];
        assert_eq!(told(100).frame(), wanted);
    }
}
