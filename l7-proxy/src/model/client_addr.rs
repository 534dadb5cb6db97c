//! Who a client is, and whether it may come in.

use std::net::{IpAddr, SocketAddr};

use ::http::{HeaderMap, HeaderName};

use crate::stream::access::Network;

/// Whose word on the client's address is taken (`set_real_ip_from`, `real_ip_header`,
/// `real_ip_recursive`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealIp {
    /// Peers whose word is taken.
    pub from: Vec<Network>,
    /// Where they say it.
    pub source: RealIpSource,
    /// How far back a list of addresses is believed.
    pub depth: Depth,
}

/// Where a peer says the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RealIpSource {
    /// In this field.
    Field(HeaderName),
    /// In the header of the PROXY protocol.
    ProxyProtocol,
}

/// How far back a list of addresses is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The last address is the client's.
    Last,
    /// The last one that is not itself a peer whose word is taken.
    Recursive,
}

impl Default for RealIp {
    fn default() -> Self {
        let source = RealIpSource::Field(HeaderName::from_static("x-real-ip"));
        Self { from: Vec::new(), source, depth: Depth::Last }
    }
}

impl RealIp {
    /// Returns the client's address by the word of `peer`; `None` if that has no say, or no word.
    ///
    /// `proxied` is what a header of the PROXY protocol said.
    pub fn client(
        &self,
        peer: SocketAddr,
        headers: &HeaderMap,
        proxied: Option<SocketAddr>,
    ) -> Option<SocketAddr> {
        let is_trusted = |address: IpAddr| self.from.iter().any(|network| network.contains(address));
        if !is_trusted(peer.ip()) {
            return None;
        }
        let name = match &self.source {
            RealIpSource::ProxyProtocol => return proxied,
            RealIpSource::Field(name) => name,
        };
        let lines = headers.get_all(name).iter().rev();
        // What stands between two addresses is as many commas and blanks as it likes, as in nginx.
        let words = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| matches!(byte, b',' | b' ')));
        let mut found = None;
        for word in words.filter(|word| !word.is_empty()) {
            let Some(address) = parse(word) else { break };
            found = Some(address);
            if self.depth == Depth::Last || !is_trusted(address.ip()) {
                break;
            }
        }
        found
    }
}

/// Reads an address with or without a port.
fn parse(word: &[u8]) -> Option<SocketAddr> {
    let word = std::str::from_utf8(word.trim_ascii()).ok()?;
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
    match bare.parse::<IpAddr>() {
        Ok(address) => Some(SocketAddr::new(address, 0)),
        Err(_) => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(depth: Depth, peer: &str, lines: &[&str], expected: Option<&str>) {
        let name = HeaderName::from_static("x-forwarded-for");
        let from = ["10.0.0.0/8", "127.0.0.1"].iter().filter_map(|text| Network::parse(text)).collect();
        let real = RealIp { from, source: RealIpSource::Field(name.clone()), depth };
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|line| _ = headers.append(&name, HeaderValue::from_str(line).unwrap()));
        let found = real.client(peer.parse().unwrap(), &headers, None);
        assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{lines:?}");
    }

    #[test]
    fn word_of_a_stranger_is_not_taken() {
        check(Depth::Last, "192.0.2.1:1", &["192.0.2.9"], None);
        check(Depth::Last, "127.0.0.1:1", &["192.0.2.9"], Some("192.0.2.9:0"));
        check(Depth::Last, "127.0.0.1:1", &[], None);
        check(Depth::Last, "127.0.0.1:1", &["nonsense"], None);
    }

    #[test]
    fn list_is_believed_from_its_end_as_far_as_peers_are_known() {
        let lines = ["192.0.2.1, 192.0.2.2:99", "10.0.0.1"];
        check(Depth::Last, "127.0.0.1:1", &lines, Some("10.0.0.1:0"));
        check(Depth::Recursive, "127.0.0.1:1", &lines, Some("192.0.2.2:99"));
        check(Depth::Recursive, "127.0.0.1:1", &["10.0.0.3, 10.0.0.2"], Some("10.0.0.3:0"));
        check(Depth::Recursive, "127.0.0.1:1", &["192.0.2.1,, 10.0.0.2 10.0.0.3 ,"], Some("192.0.2.1:0"));
        check(Depth::Recursive, "127.0.0.1:1", &["192.0.2.1, unknown, 10.0.0.2"], Some("10.0.0.2:0"));
        check(
            Depth::Recursive,
            "127.0.0.1:1",
            &["2001:db8::1, [::ffff:10.0.0.2]:7"],
            Some("[2001:db8::1]:0"),
        );
    }
}
