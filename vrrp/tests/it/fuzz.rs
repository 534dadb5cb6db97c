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
    fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..600), version in 0..5u8, v6: bool) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | 1;
        }
        let source: IpAddr = if v6 { [0xfe80, 0, 0, 0, 0, 0, 0, 2].into() } else { [10, 8, 0, 2].into() };
        let _ = Advert::parse(&bytes, source, source);
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
