//! How a proxy treats its connections: plain data with a safe default for everything.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::proxy_protocol::Version;
use crate::relay::{Engine, Timeouts};

/// How a proxy treats its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How bytes are moved.
    pub engine: Engine,
    /// How long a connection may be silent.
    pub timeouts: Timeouts,
    /// How long one server may take to accept a connection.
    pub connect: Duration,
    /// How many servers are tried for one client.
    pub attempts: usize,
    /// Most connections that [`Proxy::serve`](crate::Proxy::serve) lets in at a time, beside the
    /// bound on all; more wait in the listener's queue.
    pub connections_max: Option<usize>,
    /// How many bytes of a client are held until its server has said something, so that they can be
    /// given to another server if that one closes or resets first. 0, the default, tries another
    /// server only when one does not accept: a server that took a request and fell silent may have
    /// acted on it, and would act twice.
    pub redispatch: usize,
    /// How long bytes may stay unacknowledged before a client or server counts as gone (`TCP_USER_TIMEOUT`); the
    /// kernel's about 15 minutes if not given.
    pub user_timeout: Option<Duration>,
    /// Whether packets of clients' connections are counted. It costs a system call more for each (about 0.3 µs,
    /// one hundredth of what a short connection costs), so nobody pays for it unasked.
    pub count_packets: bool,
    /// Which address servers see a connection come from.
    pub source: Source,
    /// The PROXY header that servers are sent first, if they want one.
    pub send_proxy: Option<Version>,
    /// From whom a PROXY header is taken, and then expected.
    pub accept_proxy: Option<AcceptProxy>,
}

/// Which address servers see a connection come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The one that the system chooses.
    #[default]
    System,
    /// These in turn; one that has no free port left is passed over.
    Addresses(Vec<IpAddr>),
    /// The client's (`IP_TRANSPARENT`): the route from the server back to the client must lead
    /// through this host, and the process needs `CAP_NET_ADMIN`.
    Client,
}

/// From whom a PROXY header is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptProxy {
    /// A connection from one of these must begin with a header. One from elsewhere is an ordinary
    /// client: what it sends first is passed on unread.
    pub from: Vec<Network>,
    /// How long the header may take.
    pub deadline: Duration,
}

/// Addresses that share a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Text that is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANetwork;

impl Default for Settings {
    /// IPVS's timeouts: 900 s idle, 120 s half-closed; 3 s to connect, three servers tried.
    fn default() -> Settings {
        Settings {
            engine: Engine::Auto,
            timeouts: Timeouts { idle: Duration::from_secs(900), half_closed: Duration::from_secs(120) },
            connect: Duration::from_secs(3),
            attempts: 3,
            connections_max: None,
            redispatch: 0,
            user_timeout: None,
            count_packets: false,
            source: Source::System,
            send_proxy: None,
            accept_proxy: None,
        }
    }
}

impl AcceptProxy {
    /// Headers from these networks, in three seconds.
    pub fn from(networks: impl IntoIterator<Item = Network>) -> AcceptProxy {
        AcceptProxy { from: networks.into_iter().collect(), deadline: Duration::from_secs(3) }
    }

    /// Whether this peer must send a header.
    pub fn expects(&self, peer: IpAddr) -> bool {
        self.from.iter().any(|network| network.contains(peer))
    }
}

impl Network {
    /// The addresses that share the first `prefix` bits of `address`; `None` if it has fewer.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Network> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Network { address, prefix })
    }

    /// Whether the address is one of them. An IPv4 address in IPv6's clothes is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = (own.to_bits() ^ other.to_bits()).leading_zeros();
                differ >= u32::from(self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = (own.to_bits() ^ other.to_bits()).leading_zeros();
                differ >= u32::from(self.prefix)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    /// `ADDRESS` or `ADDRESS/PREFIX`.
    fn from_str(text: &str) -> Result<Network, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| NotANetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        Network::new(address, prefix.unwrap_or(whole)).ok_or(NotANetwork)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wanted ADDRESS or ADDRESS/PREFIX")
    }
}

impl std::error::Error for NotANetwork {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_holds_the_addresses_of_its_prefix_and_no_others() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let network: Network = network.parse().expect("a network");
            assert_eq!(network.contains(address.parse().expect("an address")), inside, "{network} {address}");
        }
        for text in ["10.0.0.0/33", "2001:db8::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/x", ""] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }
}
