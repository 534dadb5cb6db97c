//! Whatever arrives is read or refused, and what was written is read as it was meant.

#[path = "../../fuzz/play.rs"]
mod play;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use vrrp::ah;
use vrrp::packet::{Advert, Authentication, Coverage, GROUP_V4, GROUP_V6, Version};

fn versions() -> impl Strategy<Value = Version> {
    prop_oneof![
        Just(Version::V3),
        Just(Version::V2(Authentication::None)),
        Just(Version::V2(Authentication::Header)),
        any::<[u8; 8]>().prop_map(|password| Version::V2(Authentication::Password(password))),
    ]
}

prop_compose! {
    fn adverts()(
        version in versions(),
        vrid in 1..=255u8,
        priority: u8,
        tick in 1..4096u64,
        v6: bool,
        hosts in prop::collection::vec(any::<u16>(), 0..20),
    ) -> Advert {
        let v6 = v6 && version == Version::V3;
        let interval = match version {
            Version::V2(_) => Duration::from_secs(tick % 256),
            Version::V3 => Duration::from_millis(tick * 10),
        };
        let address = |host: u16| -> IpAddr {
            let [high, low] = host.to_be_bytes();
            if v6 { [0xfd00, 0, 0, 0, 0, 0, 0, host].into() } else { [10, 8, high, low].into() }
        };
        Advert { version, vrid, priority, interval, addresses: hosts.into_iter().map(address).collect() }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(advert in adverts(), message_only: bool) {
        let v6 = advert.addresses.first().is_some_and(IpAddr::is_ipv6);
        let (source, group): (IpAddr, IpAddr) = if v6 {
            ([0xfe80, 0, 0, 0, 0, 0, 0, 2].into(), GROUP_V6.into())
        } else {
            ([10, 8, 0, 2].into(), GROUP_V4.into())
        };
        let coverage = if message_only { Coverage::Message } else { Coverage::PseudoHeader };
        let bytes = advert.encode(source, group, coverage);
        prop_assert_eq!(Advert::parse(&bytes, source, group).map(|received| received.advert), Ok(advert));
    }

    #[test]
    fn no_bytes_are_too_odd(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        version in 0..5u8,
        v6: bool,
        is_summed: bool,
    ) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | 1;
        }
        if is_summed && bytes.len() >= 8 {
            // Else hardly anything would come further than the sum.
            let width = if v6 && version == 3 { 16 } else { 4 };
            let trailer = if version == 2 { 8 } else { 0 };
            bytes[3] = ((bytes.len() - 8).saturating_sub(trailer) / width) as u8;
            bytes.truncate(8 + usize::from(bytes[3]) * width + trailer);
            bytes[6..8].fill(0);
            let sum = sum_of(&bytes);
            bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        let source: IpAddr = if v6 { [0xfe80, 0, 0, 0, 0, 0, 0, 2].into() } else { [10, 8, 0, 2].into() };
        if let Ok(received) = Advert::parse(&bytes, source, source) {
            // What is taken says what the bytes say, and would be written as them but for what is reserved.
            let advert = received.advert;
            let is_v3 = advert.version == Version::V3;
            prop_assert_eq!((bytes[0], is_v3), (if is_v3 { 0x31 } else { 0x21 }, version == 3));
            prop_assert_eq!((advert.vrid, advert.priority), (bytes[1], bytes[2]));
            prop_assert_eq!(advert.addresses.len(), usize::from(bytes[3]));
            let again = advert.encode(source, source, Coverage::PseudoHeader);
            prop_assert_eq!(again.len(), bytes.len());
            let read = Advert::parse(&again, source, source).map(|received| received.advert);
            prop_assert_eq!(read, Ok(advert));
        } else if is_summed && version == 2 && !v6 && bytes.len() >= 16 {
            // Whole, summed and of a version that is spoken: only the way to authenticate can be unknown.
            prop_assert!(bytes[4] > 2, "{:?}", Advert::parse(&bytes, source, source));
        }
        let envelope =
            ah::Envelope { source: [10, 8, 0, 2].into(), destination: GROUP_V4, identification: 1 };
        prop_assert!(ah::open(b"key", envelope, None, &bytes).is_err());
    }

    #[test]
    fn no_changed_bit_goes_unseen(advert in adverts(), bit: usize) {
        let v6 = advert.addresses.first().is_some_and(IpAddr::is_ipv6);
        let source: IpAddr = if v6 { [0xfe80, 0, 0, 0, 0, 0, 0, 2].into() } else { [10, 8, 0, 2].into() };
        let mut bytes = advert.encode(source, source, Coverage::PseudoHeader);
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A changed bit changes the sum; a changed version or number of addresses is seen before.
        let read = Advert::parse(&bytes, source, source).map(|received| received.advert);
        prop_assert_ne!(read, Ok(advert));
    }
}

/// The Internet checksum (RFC 1071) of bytes in which its own place is zero.
fn sum_of(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Plays what the fuzzer kept; the name of the one that fails is in the message.
fn play_kept(target: &str, play: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut played = 0;
    for file in corpus.read_dir().expect("a corpus") {
        let path = file.expect("a file").path();
        let bytes = std::fs::read(&path).expect("bytes");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(&bytes)));
        assert!(result.is_ok(), "{}", path.display());
        played += 1;
    }
    assert!(played >= 20, "{played} inputs");
}

#[test]
fn datagrams_that_the_fuzzer_kept_do_no_harm() {
    play_kept("datagram", play::datagram);
}

#[test]
fn events_that_the_fuzzer_kept_do_no_harm() {
    play_kept("group", play::group);
}

proptest! {
    #[test]
    fn no_events_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        play::group(&bytes);
    }
}
