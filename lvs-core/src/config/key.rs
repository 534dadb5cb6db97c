//! What identifies a service: an address, a firewall mark or a name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use super::MalformedKey;

/// What identifies a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub enum ServiceKey {
    /// Protocol, virtual address and port (`-t`, `-u`).
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP and port.
        address: SocketAddr,
    },
    /// Packets with this firewall mark (`-f`).
    Mark {
        /// The mark.
        mark: NonZeroU32,
        /// Address family of the packets.
        family: Family,
    },
    /// A pool that no address leads to, such as an `upstream` block of nginx.
    Name(Arc<str>),
}

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams; a flow counts as inactive, as in IPVS.
    Udp,
    /// Associations; known to rules and listings.
    Sctp,
}

/// Address family of a firewall-mark service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6 (`-6`).
    V6,
}

impl ServiceKey {
    /// A TCP service.
    pub fn tcp(address: SocketAddr) -> ServiceKey {
        ServiceKey::Address { protocol: Protocol::Tcp, address }
    }

    /// A UDP service.
    pub fn udp(address: SocketAddr) -> ServiceKey {
        ServiceKey::Address { protocol: Protocol::Udp, address }
    }

    /// A named pool.
    pub fn name(name: &str) -> ServiceKey {
        ServiceKey::Name(name.into())
    }

    /// Virtual address and port, where the service has them.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            ServiceKey::Address { address, .. } => Some(*address),
            ServiceKey::Mark { .. } | ServiceKey::Name(_) => None,
        }
    }

    /// Address family that the service is bound to; a named pool takes both.
    pub fn family(&self) -> Option<Family> {
        match self {
            ServiceKey::Address { address, .. } => Some(Family::of(address.ip())),
            ServiceKey::Mark { family, .. } => Some(*family),
            ServiceKey::Name(_) => None,
        }
    }
}

/// Reads what [`Display`](fmt::Display) prints. What begins neither as an address nor as a mark does is a name.
///
/// ```
/// use lvs_core::ServiceKey;
/// assert_eq!("api".parse(), Ok(ServiceKey::name("api")));
/// // Somebody forgot the port; a pool of that name would never be asked for.
/// assert!("TCP 192.0.2.1".parse::<ServiceKey>().is_err());
/// ```
impl FromStr for ServiceKey {
    type Err = MalformedKey;

    fn from_str(text: &str) -> Result<ServiceKey, MalformedKey> {
        let address =
            |protocol, text: &str| text.parse().ok().map(|address| ServiceKey::Address { protocol, address });
        let mark = |text: &str, family| text.parse().ok().map(|mark| ServiceKey::Mark { mark, family });
        let found = match text.split_once(' ') {
            Some(("TCP", rest)) => address(Protocol::Tcp, rest),
            Some(("UDP", rest)) => address(Protocol::Udp, rest),
            Some(("SCTP", rest)) => address(Protocol::Sctp, rest),
            Some(("FWM", rest)) => match rest.strip_suffix(" IPv6") {
                Some(rest) => mark(rest, Family::V6),
                None => mark(rest, Family::V4),
            },
            _ => (!text.is_empty()).then(|| ServiceKey::name(text)),
        };
        found.ok_or_else(|| MalformedKey(text.to_owned()))
    }
}

/// As a listing of `ipvsadm -Ln` names it: `TCP 192.0.2.1:80`, `FWM 7 IPv6`.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceKey::Address { protocol, address } => write!(f, "{protocol} {address}"),
            ServiceKey::Mark { mark, family: Family::V4 } => write!(f, "FWM {mark}"),
            ServiceKey::Mark { mark, family: Family::V6 } => write!(f, "FWM {mark} IPv6"),
            ServiceKey::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}
