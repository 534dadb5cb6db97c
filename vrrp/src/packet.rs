//! Advertisements on the wire: VRRPv2 (RFC 3768) and v3 (RFC 5798, RFC 9568), as keepalived writes
//! and reads them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;

/// Where advertisements of IPv4 routers go.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// Where advertisements of IPv6 routers go.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// Hop limit of every multicast advertisement; one that a router has forwarded has less.
pub const TTL: u8 = 255;

/// Type of service of every advertisement: internetwork control.
pub const TOS: u8 = 0xc0;

/// One advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Version, with what belongs to one version only.
    pub version: Version,
    /// Which virtual router it speaks for.
    pub vrid: u8,
    /// 255 owns the addresses, 0 stops.
    pub priority: u8,
    /// From one advertisement to the next: whole seconds up to 255 in v2, hundredths up to 40.95 s in
    /// v3. Finer parts are cut off.
    pub interval: Duration,
    /// The virtual addresses, of one family.
    pub addresses: Vec<IpAddr>,
}

/// What the versions have of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4 only.
    V2(Authentication),
    /// IPv4 and IPv6.
    V3,
}

/// How a v2 advertisement is authenticated. RFC 3768 took both ways out again: neither keeps anybody
/// out who can listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all.
    None,
    /// A password in clear, padded with zeros.
    Password([u8; 8]),
    /// By the authentication header before it ([`crate::ah`]).
    Header,
}

/// What the checksum of a v3 advertisement over IPv4 covers.
///
/// RFC 5798 was read both ways; RFC 9568 settled on the message alone. keepalived and Wireshark add the
/// pseudo header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// The message and a pseudo header of the addresses: what keepalived sends.
    #[default]
    PseudoHeader,
    /// The message alone: RFC 9568, and keepalived with `v3_checksum_as_v2`.
    Message,
}

/// An advertisement that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What it says.
    pub advert: Advert,
    /// What its checksum covers; none for versions and families that leave no choice.
    pub coverage: Option<Coverage>,
}

/// Why bytes are no advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Fewer bytes than the header has, or than it announces.
    Short {
        /// Bytes that are there.
        have: usize,
        /// Bytes that there have to be.
        want: usize,
    },
    /// Bytes behind the end.
    Long {
        /// Bytes that are there.
        have: usize,
        /// Bytes that there have to be.
        want: usize,
    },
    /// Neither 2 nor 3.
    Version(u8),
    /// Not an advertisement.
    Type(u8),
    /// There is no virtual router 0.
    Vrid,
    /// An unknown way of authentication.
    Authentication(u8),
    /// v2 over IPv6.
    Family,
    /// No reading of the checksum fits.
    Checksum,
}

impl Advert {
    /// The bytes behind the IP header, as sent from one address to another.
    ///
    /// At most 255 addresses are announced, and none of another family than the sender's.
    pub fn encode(&self, source: IpAddr, destination: IpAddr, coverage: Coverage) -> Vec<u8> {
        let announced =
            self.addresses.iter().filter(|address| address.is_ipv4() == source.is_ipv4()).take(255);
        let mut bytes = vec![0, self.vrid, self.priority, announced.clone().count() as u8, 0, 0, 0, 0];
        match self.version {
            Version::V2(authentication) => {
                bytes[0] = 2 << 4 | ADVERTISEMENT;
                bytes[4] = authentication.kind();
                bytes[5] = u8::try_from(self.interval.as_secs()).unwrap_or(u8::MAX);
            }
            Version::V3 => {
                bytes[0] = 3 << 4 | ADVERTISEMENT;
                let hundredths = (self.interval.as_millis() / 10).min(HUNDREDTHS_MAX) as u16;
                bytes[4..6].copy_from_slice(&hundredths.to_be_bytes());
            }
        }
        for address in announced {
            match address {
                IpAddr::V4(v4) => bytes.extend(v4.octets()),
                IpAddr::V6(v6) => bytes.extend(v6.octets()),
            }
        }
        if let Version::V2(authentication) = self.version {
            bytes.extend(authentication.data());
        }
        let pseudo = match (self.version, coverage, source) {
            (Version::V2(_), ..) | (Version::V3, Coverage::Message, IpAddr::V4(_)) => 0,
            _ => pseudo_header(source, destination, bytes.len()),
        };
        let checksum = checksum(pseudo, &bytes);
        bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Reads the bytes behind the IP header.
    ///
    /// # Errors
    /// Says in what they are no advertisement; first what can be said before the rest is looked at.
    pub fn parse(bytes: &[u8], source: IpAddr, destination: IpAddr) -> Result<Received, Malformed> {
        let have = bytes.len();
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Malformed::Short { have, want: HEADER });
        };
        let (version, kind) = (header[0] >> 4, header[0] & 0xf);
        let size = if source.is_ipv4() { 4 } else { 16 };
        let want = HEADER + usize::from(header[3]) * size + if version == 2 { AUTHENTICATION } else { 0 };
        if !matches!(version, 2 | 3) {
            return Err(Malformed::Version(version));
        }
        if version == 2 && source.is_ipv6() {
            return Err(Malformed::Family);
        }
        if kind != ADVERTISEMENT {
            return Err(Malformed::Type(kind));
        }
        if have < want {
            return Err(Malformed::Short { have, want });
        }
        if have > want {
            return Err(Malformed::Long { have, want });
        }
        if header[1] == 0 {
            return Err(Malformed::Vrid);
        }
        let (addresses, authentication) = rest.split_at(usize::from(header[3]) * size);
        let with = |pseudo| checksum(pseudo, bytes) == 0;
        let pseudo = || pseudo_header(source, destination, have);
        let coverage = match (version, source) {
            (2, _) => with(0).then_some(None),
            (_, IpAddr::V6(_)) => with(pseudo()).then_some(None),
            _ if with(pseudo()) => Some(Some(Coverage::PseudoHeader)),
            _ => with(0).then_some(Some(Coverage::Message)),
        };
        let coverage = coverage.ok_or(Malformed::Checksum)?;
        let (version, interval) = match version {
            2 => {
                let authentication = Authentication::read(header[4], authentication)?;
                (Version::V2(authentication), Duration::from_secs(header[5].into()))
            }
            _ => {
                let hundredths = u16::from_be_bytes([header[4] & 0xf, header[5]]);
                (Version::V3, Duration::from_millis(u64::from(hundredths) * 10))
            }
        };
        let addresses = addresses.chunks(size).filter_map(|address| {
            let v4 = <[u8; 4]>::try_from(address).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(address).map(IpAddr::from)).ok()
        });
        let (vrid, priority) = (header[1], header[2]);
        let advert = Advert { version, vrid, priority, interval, addresses: addresses.collect() };
        Ok(Received { advert, coverage })
    }
}

impl Authentication {
    /// By a password of which the first 8 bytes count.
    pub fn password(password: &[u8]) -> Authentication {
        let mut data = [0; AUTHENTICATION];
        let used = password.len().min(AUTHENTICATION);
        data[..used].copy_from_slice(&password[..used]);
        Authentication::Password(data)
    }

    fn read(kind: u8, data: &[u8]) -> Result<Authentication, Malformed> {
        match kind {
            0 => Ok(Authentication::None),
            1 => Ok(Authentication::password(data)),
            2 => Ok(Authentication::Header),
            unknown => Err(Malformed::Authentication(unknown)),
        }
    }

    fn kind(self) -> u8 {
        match self {
            Authentication::None => 0,
            Authentication::Password(_) => 1,
            Authentication::Header => 2,
        }
    }

    fn data(self) -> [u8; AUTHENTICATION] {
        match self {
            Authentication::Password(password) => password,
            Authentication::None | Authentication::Header => [0; AUTHENTICATION],
        }
    }
}

/// The sum over the pseudo header of RFC 8200, section 8.1, or its counterpart in IPv4.
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    };
    address(source) + address(destination) + u64::from(PROTOCOL) + length as u64
}

fn sum(bytes: &[u8]) -> u64 {
    let words =
        bytes.chunks(2).map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |low| u64::from(*low)));
    words.sum()
}

/// The Internet checksum (RFC 1071). It is 0 where the bytes hold their own.
fn checksum(pseudo: u64, bytes: &[u8]) -> u16 {
    let mut sum = pseudo + sum(bytes);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Short { have, want } => write!(f, "{have} bytes where {want} have to be"),
            Malformed::Long { have, want } => write!(f, "{have} bytes where {want} are announced"),
            Malformed::Version(version) => write!(f, "version {version}"),
            Malformed::Type(kind) => write!(f, "type {kind}, which is not an advertisement"),
            Malformed::Vrid => f.write_str("virtual router 0"),
            Malformed::Authentication(kind) => write!(f, "authentication type {kind}"),
            Malformed::Family => f.write_str("version 2 over IPv6"),
            Malformed::Checksum => f.write_str("wrong checksum"),
        }
    }
}

impl std::error::Error for Malformed {}

const ADVERTISEMENT: u8 = 1;
const HEADER: usize = 8;
const AUTHENTICATION: usize = 8;
/// Twelve bits.
const HUNDREDTHS_MAX: u128 = 0xfff;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn advert(version: Version, priority: u8, interval: u64, addresses: &[&str]) -> Advert {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        Advert { version, vrid: 51, priority, interval: Duration::from_millis(interval), addresses }
    }

    fn check(advert: &Advert, source: &str, destination: IpAddr, wire: &str) {
        let source = source.parse().expect("an address");
        let encoded = advert.encode(source, destination, Coverage::PseudoHeader);
        assert!(encoded.starts_with(&bytes(wire)), "{encoded:02x?}");
        let received = Advert::parse(&encoded, source, destination).expect("an advertisement");
        assert_eq!(received.advert, *advert);
    }

    #[test]
    fn bytes_are_those_of_keepalived() {
        let (plain, group) = (Version::V2(Authentication::None), IpAddr::from(GROUP_V4));
        let v4 = ["10.8.0.100"];
        check(
            &advert(plain, 150, 1000, &v4),
            "10.8.0.2",
            group,
            "2133960100013e5e 0a080064 0000000000000000",
        );
        check(&advert(plain, 0, 1000, &v4), "10.8.0.2", group, "213300010001d45e 0a080064 0000000000000000");
        let password = Version::V2(Authentication::password(b"secret12"));
        let wire = "213396010101cfdf 0a080064 7365637265743132";
        check(&advert(password, 150, 1000, &v4), "10.8.0.2", group, wire);
        let header = Version::V2(Authentication::Header);
        check(
            &advert(header, 150, 1000, &v4),
            "10.8.0.2",
            group,
            "2133960102013c5e 0a080064 0000000000000000",
        );
        check(&advert(Version::V3, 150, 500, &v4), "10.8.0.2", group, "3133960100324394 0a080064");
        let (v6, group) = (["fe80::100", "fd00::100"], IpAddr::from(GROUP_V6));
        let source = "fe80::4cdb:9ff:fefb:aa52";
        check(&advert(Version::V3, 150, 1000, &v6), source, group, "3133960200643c8d");
        check(&advert(Version::V3, 0, 1000, &v6), source, group, "313300020064d28d");
    }

    #[test]
    fn both_readings_of_the_checksum_are_taken_and_told_apart() {
        let (source, group) = (IpAddr::from([10, 8, 0, 2]), IpAddr::from(GROUP_V4));
        for coverage in [Coverage::PseudoHeader, Coverage::Message] {
            let encoded = advert(Version::V3, 100, 1000, &["10.8.0.100"]).encode(source, group, coverage);
            assert_eq!(Advert::parse(&encoded, source, group).expect("valid").coverage, Some(coverage));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (source, group) = (IpAddr::from([10, 8, 0, 2]), IpAddr::from(GROUP_V4));
        let parse = |wire: &str| Advert::parse(&bytes(wire), source, group).map(|received| received.advert);
        let good = "2133960100013e5e 0a080064 0000000000000000";
        assert!(parse(good).is_ok());
        assert_eq!(parse(""), Err(Malformed::Short { have: 0, want: 8 }));
        assert_eq!(parse(&good[..36]), Err(Malformed::Short { have: 17, want: 20 }));
        assert_eq!(parse(&format!("{good}00")), Err(Malformed::Long { have: 21, want: 20 }));
        assert_eq!(parse(&good.replacen('2', "4", 1)), Err(Malformed::Version(4)));
        assert_eq!(parse(&good.replacen("21", "22", 1)), Err(Malformed::Type(2)));
        assert_eq!(parse(&good.replacen("33", "00", 1)), Err(Malformed::Vrid));
        assert_eq!(parse(&good.replacen("96", "97", 1)), Err(Malformed::Checksum));
        assert_eq!(parse("2133960103013b5e 0a080064 0000000000000000"), Err(Malformed::Authentication(3)));
        let v6 = IpAddr::from(GROUP_V6);
        assert_eq!(Advert::parse(&bytes(good), v6, v6), Err(Malformed::Family));
    }
}
