//! The order in which ipvsadm lists services and servers.
//!
//! It compares addresses by subtracting them as signed 32-bit numbers, so the order is a circle:
//! `172.31.0.1` comes before `10.0.0.1`, which comes before `126.0.0.1`, which comes before
//! `172.31.0.1`. Where a list goes all the way round, what ipvsadm makes of it depends on the order
//! in which the kernel names its members; here it does not, so that rules saved twice are the same.

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};

use lvs_core::{Family, Protocol, ServiceKey};

/// Sorts services: by firewall mark, family, protocol, address, port. Named pools, which ipvsadm
/// does not know, come last.
pub(crate) fn services<T>(list: &mut [T], key: impl Fn(&T) -> &ServiceKey) {
    list.sort_by(|a, b| key(a).cmp(key(b)));
    sort(list, &|a, b| compare_services(key(a), key(b)));
}

/// Sorts servers: by address, whatever its family, and port.
pub(crate) fn servers<T>(list: &mut [T], address: impl Fn(&T) -> SocketAddr) {
    list.sort_by_key(|server| address(server));
    sort(list, &|a, b| compare_addresses(address(a), address(b)));
}

fn compare_services(a: &ServiceKey, b: &ServiceKey) -> Ordering {
    let by_mark = is_name(a).cmp(&is_name(b)).then_with(|| compare_numbers(mark(a), mark(b)));
    by_mark.then_with(|| match (a, b) {
        (
            ServiceKey::Address { protocol: protocol_a, address: a },
            ServiceKey::Address { protocol: protocol_b, address: b },
        ) => Family::of(a.ip())
            .cmp(&Family::of(b.ip()))
            .then_with(|| protocol_number(*protocol_a).cmp(&protocol_number(*protocol_b)))
            .then_with(|| compare_addresses(*a, *b)),
        (ServiceKey::Mark { family: a, .. }, ServiceKey::Mark { family: b, .. }) => a.cmp(b),
        (ServiceKey::Name(a), ServiceKey::Name(b)) => a.cmp(b),
        _ => Ordering::Equal,
    })
}

/// Compares addresses word by word, an IPv4 address as the first word of an IPv6 one.
fn compare_addresses(a: SocketAddr, b: SocketAddr) -> Ordering {
    let words = |address: SocketAddr| {
        let bits = match address.ip() {
            IpAddr::V4(host) => u128::from(host.to_bits()) << 96,
            IpAddr::V6(host) => host.to_bits(),
        };
        [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
    };
    let pairs = words(a).into_iter().zip(words(b));
    let by_ip = pairs.fold(Ordering::Equal, |order, (a, b)| order.then_with(|| compare_numbers(a, b)));
    by_ip.then_with(|| a.port().cmp(&b.port()))
}

/// The sign of a difference that is taken for a signed number.
fn compare_numbers(a: u32, b: u32) -> Ordering {
    a.wrapping_sub(b).cast_signed().cmp(&0)
}

fn is_name(key: &ServiceKey) -> bool {
    matches!(key, ServiceKey::Name(_))
}

fn mark(key: &ServiceKey) -> u32 {
    match key {
        ServiceKey::Mark { mark, .. } => mark.get(),
        ServiceKey::Address { .. } | ServiceKey::Name(_) => 0,
    }
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// Merge sort, which ends whatever is compared: the sorts of the standard library may panic when an
/// order contradicts itself.
fn sort<T>(list: &mut [T], compare: &impl Fn(&T, &T) -> Ordering) {
    let mut order: Vec<usize> = (0..list.len()).collect();
    merge_sort(&mut order, &mut Vec::with_capacity(list.len()), &|a, b| compare(&list[a], &list[b]));
    permute(list, order);
}

fn merge_sort(order: &mut [usize], merged: &mut Vec<usize>, compare: &impl Fn(usize, usize) -> Ordering) {
    if order.len() < 2 {
        return;
    }
    let middle = order.len() / 2;
    merge_sort(&mut order[..middle], merged, compare);
    merge_sort(&mut order[middle..], merged, compare);
    merged.clear();
    let (mut left, mut right) = (0, middle);
    while left < middle && right < order.len() {
        if compare(order[left], order[right]).is_le() {
            merged.push(order[left]);
            left += 1;
        } else {
            merged.push(order[right]);
            right += 1;
        }
    }
    merged.extend_from_slice(&order[left..middle]);
    order[..merged.len()].copy_from_slice(merged);
}

/// Brings to each place what `order` says stands at its index.
fn permute<T>(list: &mut [T], mut order: Vec<usize>) {
    for place in 0..list.len() {
        let mut from = order[place];
        while from < place {
            from = order[from];
        }
        list.swap(place, from);
        order[place] = from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &[&str], expected: &[&str]) {
        let mut list: Vec<SocketAddr> = given.iter().map(|text| text.parse().unwrap()).collect();
        servers(&mut list, |address| *address);
        let expected: Vec<SocketAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(list, expected);
    }

    #[test]
    fn address_in_the_upper_half_comes_before_a_far_lower_one() {
        check(&["10.0.0.1:80", "172.31.0.1:80"], &["172.31.0.1:80", "10.0.0.1:80"]);
        check(&["10.0.0.1:80", "192.168.0.1:80"], &["192.168.0.1:80", "10.0.0.1:80"]);
        check(&["128.0.0.0:80", "126.0.0.1:80"], &["126.0.0.1:80", "128.0.0.0:80"]);
        check(&["10.0.0.1:8081", "10.0.0.1:8080"], &["10.0.0.1:8080", "10.0.0.1:8081"]);
    }

    #[test]
    fn circle_is_sorted_alike_from_any_order() {
        let sorted =
            ["9.31.0.9:80", "9.31.0.9:81", "126.0.0.1:80", "128.0.0.0:80", "172.16.0.9:80", "172.31.0.9:80"];
        let mut given = sorted;
        for turn in 0..sorted.len() {
            given.rotate_left(1);
            given.swap(0, turn);
            check(&given, &sorted);
        }
    }

    #[test]
    fn families_are_mixed_and_compared_by_signed_words() {
        check(
            &["[2001:db8::a1]:80", "[::1]:80", "10.0.0.1:80", "[fe80::1]:80", "192.2.0.1:80"],
            &["192.2.0.1:80", "[fe80::1]:80", "[::1]:80", "10.0.0.1:80", "[2001:db8::a1]:80"],
        );
    }

    #[test]
    fn long_list_keeps_all_its_members() {
        let mut list: Vec<SocketAddr> = (0..1000u32)
            .map(|n| SocketAddr::new(IpAddr::from(n.wrapping_mul(2_654_435_761).to_be_bytes()), 80))
            .collect();
        let mut before = list.clone();
        servers(&mut list, |address| *address);
        assert_ne!(list, before);
        list.sort();
        before.sort();
        assert_eq!(list, before);
    }
}
