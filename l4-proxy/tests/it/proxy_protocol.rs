//! The codec of the PROXY protocol: properties, known headers, and what mutation makes of them.

use std::net::SocketAddr;

use l4_proxy::proxy_protocol::{Addresses, Header, LENGTH_MAX, ParseError, Parsed, Tlvs, Version, parse};
use proptest::collection::vec;
use proptest::prelude::*;

fn any_address() -> impl Strategy<Value = SocketAddr> {
    any::<SocketAddr>().prop_map(|address| SocketAddr::new(address.ip(), address.port()))
}

fn any_header() -> impl Strategy<Value = Header> {
    let pair = || (any_address(), any_address());
    let addresses = prop_oneof![
        Just(Addresses::Own),
        pair().prop_map(|(from, to)| Addresses::Tcp(from, to)),
        pair().prop_map(|(from, to)| Addresses::Udp(from, to)),
    ];
    // Type 3 is the checksum, which is calculated and not kept.
    let tlvs = vec((4_u8.., vec(any::<u8>(), 0..40)), 0..6);
    (addresses, tlvs).prop_map(|(addresses, list)| {
        let mut tlvs = Tlvs::default();
        for (kind, value) in &list {
            assert!(tlvs.push(*kind, value));
        }
        Header { addresses, tlvs }
    })
}

fn of_one_family(addresses: Addresses) -> bool {
    match addresses {
        Addresses::Own => true,
        Addresses::Tcp(from, to) | Addresses::Udp(from, to) => {
            let mapped = |address: SocketAddr| address.ip().to_canonical() != address.ip();
            from.is_ipv4() == to.is_ipv4() && !mapped(from) && !mapped(to)
        }
    }
}

proptest! {
    #[test]
    fn header_of_version_2_comes_back_with_its_tlvs(header in any_header(), after in vec(any::<u8>(), 0..9)) {
        prop_assume!(of_one_family(header.addresses));
        let mut bytes = header.encode(Version::V2);
        let length = bytes.len();
        bytes.extend(after);
        prop_assert_eq!(parse(&bytes), Ok(Parsed::Whole(header, length)));
    }

    #[test]
    fn header_of_version_1_comes_back_without_what_it_cannot_say(header in any_header(), after in vec(any::<u8>(), 0..9)) {
        prop_assume!(of_one_family(header.addresses));
        let mut bytes = header.encode(Version::V1);
        let length = bytes.len();
        prop_assert!(length <= 107);
        bytes.extend(after);
        let addresses = match header.addresses {
            tcp @ Addresses::Tcp(..) => tcp,
            _ => Addresses::Own,
        };
        prop_assert_eq!(parse(&bytes), Ok(Parsed::Whole(Header { addresses, tlvs: Tlvs::default() }, length)));
    }

    #[test]
    fn beginning_of_a_header_is_partial_wherever_it_is_cut(header in any_header(), cut in any::<prop::sample::Index>()) {
        for version in [Version::V1, Version::V2] {
            let bytes = header.encode(version);
            prop_assert_eq!(parse(&bytes[..cut.index(bytes.len())]), Ok(Parsed::Partial));
        }
    }

    #[test]
    fn damaged_header_is_read_within_its_bytes_or_refused(
        header in any_header(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for version in [Version::V1, Version::V2] {
            let mut bytes = header.encode(version);
            for (place, byte) in &damage {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            if let Ok(Parsed::Whole(_, length)) = parse(&bytes) {
                prop_assert!((1..=bytes.len()).contains(&length), "{length} of {}", bytes.len());
            }
        }
    }
}

fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().expect("an escape") {
            b'r' => b'\r',
            b'n' => b'\n',
            b'0' => 0,
            b'x' => {
                let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                let digits = std::str::from_utf8(&digits).expect("text");
                u8::from_str_radix(digits, 16).expect("hexadecimal")
            }
            other => panic!("unknown escape {other}"),
        });
    }
    bytes
}

fn corpus() -> Vec<Vec<u8>> {
    let lines = include_str!("../corpus/proxy_protocol.txt").lines();
    lines.filter(|line| !line.starts_with('#')).map(unescape).collect()
}

/// What must hold of any bytes: bounds, and that a header that was read can be written and read.
fn check(bytes: &[u8]) {
    match parse(bytes) {
        Ok(Parsed::Whole(header, length)) => {
            assert!((1..=bytes.len().min(LENGTH_MAX)).contains(&length), "{bytes:?}");
            assert_eq!(parse(&bytes[..length]), Ok(Parsed::Whole(header.clone(), length)), "{bytes:?}");
            assert_eq!(parse(&bytes[..length - 1]), Ok(Parsed::Partial), "{bytes:?}");
            let again = header.encode(Version::V2);
            match parse(&again) {
                Ok(Parsed::Whole(_, whole)) => assert_eq!(whole, again.len(), "{bytes:?}"),
                // A mapped address may be written in the longer family.
                other => assert_eq!(other, Err(ParseError::TooLong), "{bytes:?}"),
            }
        }
        Ok(Parsed::Partial) => assert!(bytes.len() < LENGTH_MAX, "{bytes:?}"),
        Err(_) => {
            // No more bytes can mend it.
            assert!(parse(&[bytes, b"\r\n"].concat()).is_err(), "{bytes:?}");
        }
    }
}

#[test]
fn mutated_headers_are_read_within_their_bounds_or_refused() {
    let corpus = corpus();
    corpus.iter().for_each(|bytes| check(bytes));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for _ in 0..60_000 {
        let mut bytes = corpus[below(corpus.len())].clone();
        for _ in 0..=below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = below(bytes.len());
            match below(6) {
                0 => bytes[at] ^= 1 << below(8),
                1 => bytes[at] = below(256) as u8,
                2 => bytes.truncate(at),
                3 => bytes.insert(at, below(256) as u8),
                4 => drop(bytes.remove(at)),
                _ => bytes.extend(corpus[below(corpus.len())].clone()),
            }
        }
        check(&bytes);
    }
}

#[test]
fn known_headers_are_read_as_the_specification_says() {
    let read = |text: &str| parse(&unescape(text));
    let tcp = |from: &str, to: &str| {
        Addresses::Tcp(from.parse().expect("an address"), to.parse().expect("an address"))
    };
    let addresses = |text: &str| match read(text) {
        Ok(Parsed::Whole(header, _)) => header.addresses,
        other => panic!("{text}: {other:?}"),
    };
    let v2 = r"\r\n\r\n\0\r\nQUIT\n";
    assert_eq!(
        addresses(&format!(r"{v2}\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb")),
        tcp("192.0.2.1:56324", "198.51.100.1:443")
    );
    assert_eq!(
        addresses(r"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n"),
        tcp("[2001:db8::1]:56324", "[2001:db8::2]:443")
    );
    assert_eq!(addresses(r"PROXY UNKNOWN whatever follows\r\n"), Addresses::Own);
    assert_eq!(
        addresses(&format!(r"{v2}\x20\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x50\x00\x51")),
        Addresses::Own
    );
    for (text, error) in [
        (r"GET / HTTP/1.1\r\n\r\n".to_owned(), ParseError::NotAHeader),
        (r"PROXY TCP4 192.0.2.1 198.51.100.1 056324 443\r\n".to_owned(), ParseError::Line),
        (r"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n".to_owned(), ParseError::Line),
        (format!("PROXY UNKNOWN {}", "x".repeat(93)), ParseError::Line),
        (format!(r"{v2}\x11\x11\x00\x00"), ParseError::Command),
        (format!(r"{v2}\x21\x41\x00\x00"), ParseError::Family),
        (format!(r"{v2}\x21\x11\x00\x02\x00\x00"), ParseError::Length),
        (format!(r"{v2}\x21\x11\xff\xff"), ParseError::TooLong),
    ] {
        assert_eq!(read(&text), Err(error), "{text}");
    }
}

#[test]
fn checksum_is_written_and_a_wrong_one_is_refused() {
    let mut header = Header::tcp(([192, 0, 2, 1], 1).into(), ([198, 51, 100, 1], 2).into());
    assert!(header.tlvs.push(3, &[0; 4]));
    assert!(header.tlvs.push(5, b"id"));
    let mut bytes = header.encode(Version::V2);
    assert!(matches!(parse(&bytes), Ok(Parsed::Whole(..))));
    *bytes.last_mut().expect("bytes") ^= 1;
    assert_eq!(parse(&bytes), Err(ParseError::Checksum));
}

#[test]
fn tlv_that_would_make_a_header_too_long_is_not_added() {
    let mut tlvs = Tlvs::default();
    assert!(tlvs.push(5, &[0; 4000]));
    assert!(!tlvs.push(5, &[0; 60]));
    assert_eq!(tlvs.iter().count(), 1);
}
