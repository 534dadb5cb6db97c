//! What arbitrary bytes can do: as a datagram to the parser, and as events to a group of routers.
//!
//! The fuzz targets and a test of the crate share this file. Whatever the bytes say, nothing panics.

#![allow(dead_code, reason = "each target plays one of them")]

use std::net::IpAddr;
use std::time::Duration;

use vrrp::ah::{self, Envelope};
use vrrp::group::Group;
use vrrp::packet::{Advert, Authentication, GROUP_V4, GROUP_V6, Version};
use vrrp::router::{Action, Answer, Config, Consent, Event, Moment, Preempt, Router, State};

/// A datagram: its first byte says how it came, the rest is it. What is read is what would be written.
pub(crate) fn datagram(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    let (source, to): (IpAddr, IpAddr) = match how & 1 {
        0 => ([10, 8, 0, 2].into(), GROUP_V4.into()),
        _ => ([0xfe80, 0, 0, 0, 0, 0, 0, 2].into(), GROUP_V6.into()),
    };
    let mut message = rest.to_vec();
    if how & 2 != 0 {
        mend(&mut message);
    }
    if let Ok(received) = Advert::parse(&message, source, to) {
        let coverage = received.coverage.unwrap_or_default();
        let written = received.advert.encode(source, to, coverage);
        let again = Advert::parse(&written, source, to).expect("what was written can be read");
        assert_eq!(again.advert, received.advert);
    }
    let envelope = Envelope { source: [10, 8, 0, 2].into(), destination: GROUP_V4, identification: 1 };
    let sealed = ah::seal(b"key", envelope, 7, &message);
    assert_eq!(ah::open(b"key", envelope, None, &sealed), Ok((7, &message[..])));
    assert!(ah::open(b"key", envelope, None, &message).is_err(), "nobody guesses a signature");
}

/// Gives a message the checksum of its own bytes, which chance does not find.
fn mend(message: &mut [u8]) {
    if message.len() < 8 {
        return;
    }
    message[6..8].fill(0);
    let mut sum = 0_u64;
    for word in message.chunks(2) {
        sum += u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    message[6..8].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// A group of routers: each byte pair is an event for one of them, some time after the last one.
pub(crate) fn group(bytes: &[u8]) {
    let Some((how, mut rest)) = bytes.split_first() else { return };
    let configs: Vec<Config> = (0..1 + how % 3).map(|place| config(*how, place)).collect();
    let mut held = vec![false; configs.len()];
    let mut group = Group::new(configs.iter().cloned().map(Router::new).collect());
    let mut now = Moment::from_secs(1);
    while let [what, with, after @ ..] = rest {
        rest = after;
        now += Duration::from_millis(u64::from(with & 0xf) * 100);
        let place = usize::from(what >> 4) % configs.len();
        let actions = match event(what & 0xf, *with, now) {
            Some(event) => group.handle(place, event, now),
            None => group.reconfigure(place, config(*with, place as u8), now),
        };
        for (place, action) in actions {
            act(&mut held[place], &action);
        }
        check(&group, &held);
        // The others are late if their consent has ended, and have not been asked yet.
        let asked = group.routers().nth(place).expect("a router");
        assert!(asked.consent().is_none_or(|until| until > now), "nobody leads beyond its consent");
    }
}

fn config(how: u8, place: u8) -> Config {
    Config {
        vrid: 51 + place,
        version: if how & 4 == 0 { Version::V3 } else { Version::V2(Authentication::None) },
        priority: if how & 8 == 0 { 100 + place } else { 255 },
        interval: Duration::from_secs(1),
        down_adverts: 3,
        preempt: match how >> 4 & 3 {
            0 => Preempt::Never,
            1 => Preempt::After(Duration::from_secs(2)),
            _ => Preempt::AtOnce,
        },
        address: [10, 8, place, 2].into(),
        addresses: vec![[10, 8, place, 100].into()],
        announce_again: Some(Duration::from_secs(5)),
        announce_every: (how & 64 != 0).then_some(Duration::from_secs(3)),
        consent: if how & 128 == 0 { Consent::NotNeeded } else { Consent::Needed },
        to_lower: if how & 2 == 0 { Answer::Advert } else { Answer::Nothing },
        to_higher: if how & 2 == 0 { Answer::Advert } else { Answer::Nothing },
        begins: if how & 1 == 0 { Moment::ZERO } else { Duration::from_secs(5) },
    }
}

/// An event, or none for another configuration.
fn event(what: u8, with: u8, now: Moment) -> Option<Event> {
    Some(match what {
        0 => return None,
        1 => Event::Start,
        2 => Event::Weighed(i32::from(with.cast_signed())),
        3 => Event::Failed,
        4 => Event::Recovered,
        5 => Event::Take,
        6 => Event::GiveWay,
        7 => Event::Granted { until: now + Duration::from_millis(u64::from(with) * 20) },
        8 => Event::Refused,
        9 if with & 1 == 0 => Event::Stop,
        9 => Event::Withdrawn,
        10..=12 => Event::Heard {
            from: [10, 8, 0, 1 + (with & 3)].into(),
            priority: with,
            interval: Duration::from_secs(1 + u64::from(with & 1)),
        },
        _ => Event::Timer,
    })
}

fn act(held: &mut bool, action: &Action) {
    match action {
        Action::AddAddresses => *held = true,
        Action::RemoveAddresses => *held = false,
        Action::Announce(_) => assert!(*held, "announced what it has not"),
        _ => {}
    }
}

fn check(group: &Group, held: &[bool]) {
    for (router, held) in group.routers().zip(held) {
        assert_eq!(*held, router.state() == State::Master, "only a master has its addresses");
        let active = matches!(router.state(), State::Backup | State::Master);
        assert_eq!(router.deadline().is_some(), active, "who takes part waits for something");
    }
}
