//! Who may connect: `allow` and `deny`, and networks in general.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: u128,
    mask: u128,
    v4: bool,
}

/// One `allow` or `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whom it is about; `None` is everybody.
    pub network: Option<Network>,
    /// What it says.
    pub verdict: Verdict,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They may.
    Allow,
    /// They may not.
    Deny,
}

impl Network {
    /// Reads `address`, `address/bits` or `unix:`, which is everybody who comes by a Unix socket; `None`
    /// if it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_address(if text == "unix:" { crate::unix::NETWORK } else { text })
    }

    /// Reads `address` or `address/bits`; `None` if it is neither.
    pub(crate) fn parse_address(text: &str) -> Option<Self> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.starts_with('+') => return None,
            Some(bits) => bits.parse::<u32>().ok().filter(|&bits| bits <= width)?,
            None => width,
        };
        let mask = u128::MAX.checked_shl(width - bits).unwrap_or(0);
        let (base, v4) = number(address);
        Some(Self { base: base & mask, mask, v4 })
    }

    /// Returns the network that is one address.
    pub(crate) fn host(address: IpAddr) -> Self {
        let (base, v4) = number(address);
        Self { base, mask: u128::MAX, v4 }
    }

    /// Returns the networks that hold all addresses.
    pub(crate) fn everything() -> [Self; 2] {
        [(u128::MAX << 32, true), (0, false)].map(|(mask, v4)| Self { base: 0, mask, v4 })
    }

    /// Returns the first address.
    pub fn base(&self) -> IpAddr {
        match u32::try_from(self.base) {
            Ok(base) if self.v4 => Ipv4Addr::from(base).into(),
            _ => Ipv6Addr::from(self.base).into(),
        }
    }

    /// Returns how many of the first bits its addresses have in common.
    pub fn bits(&self) -> u8 {
        let width = if self.v4 { 32 } else { 128 };
        // No mask has zeros above ones, nor more of them than an address has bits.
        u8::try_from(u32::saturating_sub(width, self.mask.trailing_zeros())).unwrap_or(0)
    }

    /// Returns whether `text`, from which this network was read, sets bits that do not count.
    pub(crate) fn leaves_out_bits_of(&self, text: &str) -> bool {
        let address = text.split_once('/').and_then(|(address, _)| address.parse().ok());
        address.is_some_and(|address| number(address).0 != self.base)
    }

    /// Returns whether an address is of this network; one of IPv4 in clothes of IPv6 is of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (number, v4) = number(address.to_canonical());
        v4 == self.v4 && number & self.mask == self.base
    }
}

fn number(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), true),
        IpAddr::V6(v6) => (u128::from(v6), false),
    }
}

/// Returns what the first rule says that is about a client; `None` if none is.
pub fn verdict(rules: &[Rule], client: IpAddr) -> Option<Verdict> {
    let concerns = |rule: &&Rule| rule.network.is_none_or(|network| network.contains(client));
    rules.iter().find(concerns).map(|rule| rule.verdict)
}

/// Returns whether a client may connect: by the first rule that is about it, else yes.
pub fn admits(rules: &[Rule], client: IpAddr) -> bool {
    verdict(rules, client).is_none_or(|verdict| verdict == Verdict::Allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_holds_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("192.0.2.77/24", "192.0.2.1", "::c000:201"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
            let shown = format!("{}/{}", parsed.base(), parsed.bits());
            assert_eq!(Network::parse(&shown), Some(parsed), "{network}");
        }
        for wrong in ["", "192.0.2", "192.0.2.0/33", "::/129", "192.0.2.0/", "10.0.0.0/+8", "x"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn first_rule_that_concerns_a_client_counts() {
        let rule =
            |network: Option<&str>, verdict| Rule { network: network.and_then(Network::parse), verdict };
        let rules = [
            rule(Some("192.0.2.1"), Verdict::Deny),
            rule(Some("192.0.2.0/24"), Verdict::Allow),
            rule(None, Verdict::Deny),
        ];
        assert!(!admits(&rules, "192.0.2.1".parse().unwrap()));
        assert!(admits(&rules, "192.0.2.2".parse().unwrap()));
        assert!(!admits(&rules, "::1".parse().unwrap()));
        assert!(admits(&[], "::1".parse().unwrap()));
    }
}
