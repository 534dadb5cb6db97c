//! Frames that a virtual router sends itself, for which no socket of the kernel would do: ARP, and
//! neighbour discovery of IPv6.

use std::net::{Ipv4Addr, Ipv6Addr};

/// An ARP request to all (RFC 826): where is an address, asked from another one.
pub(super) fn arp_request(mac: [u8; 6], from: Ipv4Addr, target_mac: [u8; 6], target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ARP);
    frame.extend(ETHERNET_IPV4);
    frame.extend(ARP_REQUEST.to_be_bytes());
    frame.extend(mac);
    frame.extend(from.octets());
    frame.extend(target_mac);
    frame.extend(target.octets());
    frame
}

/// A message of neighbour discovery to a group; its checksum, zero as yet, is filled in.
pub(super) fn icmpv6(mac: [u8; 6], from: Ipv6Addr, group: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = message.len() as u16;
    let sum = words(&from.octets()) + words(&group.octets()) + u32::from(length) + u32::from(ICMPV6);
    let sum = folded(sum + words(&message));
    message[2..4].copy_from_slice(&(!sum).to_be_bytes());
    let [.., a, b, c, d] = group.octets();
    let mut frame = ethernet([0x33, 0x33, a, b, c, d], mac, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    // Whoever gets it with a lower hop limit knows that it came from elsewhere (RFC 4861, section 7.1).
    frame.extend([ICMPV6, 255]);
    frame.extend(from.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(to);
    frame.extend(from);
    frame.extend(kind.to_be_bytes());
    frame
}

fn words(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum()
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

pub(super) const BROADCAST: [u8; 6] = [0xff; 6];
/// Kinds of frames.
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
/// How ARP between Ethernet and IPv4 begins.
pub(super) const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_REQUEST: u16 = 1;
pub(super) const ARP_REPLY: u16 = 2;
pub(super) const ICMPV6: u8 = 58;
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
pub(super) const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_has_a_checksum_that_holds() {
        let address: Ipv6Addr = "fd00::100".parse().expect("an address");
        let group = "ff02::1".parse().expect("an address");
        let mut message = vec![0x5a; 32];
        message[2..4].fill(0);
        let frame = icmpv6([2, 0, 0, 0, 0, 1], address, group, message);
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        // The pseudo header's length and protocol, the addresses, the message with its own sum.
        assert_eq!(folded(32 + u32::from(ICMPV6) + words(&frame[22..])), 0xffff);
    }
}
