//! What of what arrives counts: the checks of keepalived in its order, each with its counter, and a
//! complaint the first time that a sender fails one.

use std::net::IpAddr;

use super::host::Host;
use super::member::Member;
use super::notice::Notice;
use super::settings::{Accepted, Reach};
use super::wire::{Bad, Incoming};
use crate::ah::Forged;
use crate::packet::{Advert, Authentication, Malformed, TTL, Version};
use crate::router::{Event, State};

/// Turns what arrived into what it means to the state machine, if it means anything.
pub(super) fn judge(member: &mut Member, incoming: Incoming, state: State, host: &mut Host) -> Option<Event> {
    let (from, ttl) = match &incoming {
        Incoming::Advert { from, ttl, .. } | Incoming::Bad { from, ttl, .. } => (*from, *ttl),
        Incoming::Nothing => return None,
    };
    let wire = member.wire.as_ref()?;
    if from == wire.own() {
        complain(member, from, "they are this host's own, or another host has its address".to_owned(), host);
        return None;
    }
    let is_multicast = wire.is_multicast();
    if let Some(why) = distance(member, from, ttl, is_multicast) {
        complain(member, from, why, host);
        return None;
    }
    let advert = match incoming {
        Incoming::Advert { received, .. } => received.advert,
        Incoming::Bad { why, .. } => {
            let counters = &mut member.counters;
            match why {
                Bad::Malformed(Malformed::Short { .. } | Malformed::Long { .. }) => {
                    counters.length_errors += 1
                }
                Bad::Malformed(Malformed::Version(_)) => counters.version_errors += 1,
                Bad::Malformed(Malformed::Checksum) => counters.checksum_errors += 1,
                Bad::Malformed(Malformed::Authentication(_)) => counters.auth_type_errors += 1,
                Bad::Malformed(_) => counters.type_errors += 1,
                Bad::Forged(Forged::Short | Forged::Header) => counters.auth_mismatches += 1,
                Bad::Forged(_) => counters.auth_failures += 1,
            }
            complain(member, from, why.to_string(), host);
            return None;
        }
        Incoming::Nothing => return None,
    };
    if let Some(why) = authenticity(member, &advert) {
        complain(member, from, why, host);
        return None;
    }
    compare(member, &advert, from, host);
    member.counters.received += 1;
    if advert.priority == 0 {
        member.counters.priority_zero_received += 1;
        member.heard = None;
    } else if state != State::Master {
        member.heard = Some((from, advert.priority));
    }
    Some(Event::Heard { from, priority: advert.priority, interval: advert.interval })
}

/// Why its way or its sender rule it out.
fn distance(member: &mut Member, from: IpAddr, ttl: u8, is_multicast: bool) -> Option<String> {
    if is_multicast {
        if ttl != TTL {
            member.counters.ttl_errors += 1;
            return Some(format!("their TTL is {ttl} in place of 255: a router has forwarded them"));
        }
        return None;
    }
    let Reach::Peers { peers, accepted, .. } = &member.instance.reach else { return None };
    match peers.iter().find(|peer| peer.address == from) {
        Some(peer) if !(peer.ttl.0..=peer.ttl.1).contains(&ttl) => {
            member.counters.ttl_errors += 1;
            Some(format!("their TTL is {ttl}, not from {} to {}", peer.ttl.0, peer.ttl.1))
        }
        None if *accepted == Accepted::Peers => {
            member.counters.peer_errors += 1;
            Some("it is none of the peers".to_owned())
        }
        _ => None,
    }
}

/// Why it does not prove what it has to, or speaks another version.
fn authenticity(member: &mut Member, advert: &Advert) -> Option<String> {
    let counters = &mut member.counters;
    match (member.instance.version(), advert.version) {
        (Version::V3, Version::V3) => None,
        (Version::V2(own), Version::V2(other)) if own == other => None,
        (Version::V2(Authentication::Password(_)), Version::V2(Authentication::Password(_))) => {
            counters.auth_failures += 1;
            Some("another password".to_owned())
        }
        (Version::V2(_), Version::V2(_)) => {
            counters.auth_mismatches += 1;
            Some("another way of authentication".to_owned())
        }
        (_, Version::V3) => {
            counters.version_errors += 1;
            Some("they are of version 3".to_owned())
        }
        (_, Version::V2(_)) => {
            counters.version_errors += 1;
            Some("they are of version 2".to_owned())
        }
    }
}

/// Notes where an advertisement that counts differs from the own ones.
fn compare(member: &mut Member, advert: &Advert, from: IpAddr, host: &mut Host) {
    if advert.interval != member.instance.interval {
        member.counters.interval_errors += 1;
    }
    let own = member.instance.addresses.iter().map(|own| own.address);
    let mut own: Vec<IpAddr> = own.filter(|own| own.is_ipv4() == from.is_ipv4()).collect();
    let mut theirs = advert.addresses.clone();
    own.sort_unstable();
    theirs.sort_unstable();
    if own != theirs && advert.priority != 0 {
        member.counters.address_list_errors += 1;
        let list =
            |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = format!("{from} advertises other addresses: {} in place of {}", list(&theirs), list(&own));
        if member.complaints.len() < COMPLAINTS && member.complaints.insert((from, what.clone())) {
            host.tell(Notice::Odd { instance: member.instance.name.clone(), what });
        }
    }
}

/// Says why a sender's advertisements do not count, once.
fn complain(member: &mut Member, from: IpAddr, why: String, host: &mut Host) {
    if member.complaints.len() < COMPLAINTS && member.complaints.insert((from, why.clone())) {
        host.tell(Notice::Rejected { instance: member.instance.name.clone(), from, why });
    }
}

/// Complaints that are kept; who fills them up with false senders is heard of no more.
const COMPLAINTS: usize = 64;
