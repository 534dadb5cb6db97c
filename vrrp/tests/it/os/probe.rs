//! A virtual address that another host answers for, which speaks no VRRP.

use std::time::Duration;

use lab::{eventually_or, throughout};
use vrrp::os::{Advertises, Claim, Instance, Mac, Notice, VirtualAddress};
use vrrp::router::State;

use super::lab::{Lab, VIP};

const MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
const V6: &str = "fd00::100";

fn instance(address: &str) -> Instance {
    let mut instance = Instance::new("VI_1", "eth0", 51);
    instance.interval = Duration::from_millis(200);
    instance.priority = 150;
    instance.addresses = vec![VirtualAddress::new(address.parse().expect("an address"))];
    instance
}

fn check(address: &str, prefix: u8, instance: Instance, interface: &str) {
    let Some(lab) = Lab::new(2) else { return };
    lab.run(2, &["link", "set", "eth0", "address", "02:00:00:00:09:09"]);
    let line = format!("{address}/{prefix}");
    let own: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
    lab.run(2, &[&["address", "add", &line, "dev", "eth0"], own].concat());
    let router = lab.router(1, instance);
    let claim =
        Claim { address: address.parse().expect("an address"), mac: MAC, interface: interface.to_owned() };
    let told = || {
        let notices = router.notices();
        notices
            .into_iter()
            .filter(|notice| matches!(notice, Notice::Claimed { .. } | Notice::Unclaimed { .. }))
    };
    let (claimed, unclaimed) = (
        Notice::Claimed { instance: "VI_1".to_owned(), claim: claim.clone() },
        Notice::Unclaimed { instance: "VI_1".to_owned(), claim },
    );
    eventually_or(|| format!("{:#?}", router.log()), || told().eq([claimed.clone()]));
    // Longer than it is until it is asked for again.
    throughout(Duration::from_secs(4), "it is told once", || told().eq([claimed.clone()]));
    lab.run(2, &["address", "delete", &line, "dev", "eth0"]);
    eventually_or(|| format!("{:#?}", router.log()), || told().eq([claimed.clone(), unclaimed.clone()]));
    assert_eq!(router.state(), State::Master);
}

#[test]
fn another_host_that_answers_for_the_address_is_told_of_once_until_it_does_not() {
    check(VIP, 24, instance(VIP), "eth0");
}

#[test]
fn another_host_that_answers_for_an_ipv6_address_is_told_of_once_until_it_does_not() {
    check(V6, 64, instance(V6), "eth0");
}

#[test]
fn another_host_is_told_from_a_mac_address_of_the_router_itself() {
    let virtually = Mac::Virtual { name: None, advertises: Advertises::Virtually };
    check(VIP, 24, Instance { mac: virtually, ..instance(VIP) }, "vrrp.51");
}

/// A second interface of the master is in the same network, and the kernel answers there for all of its
/// addresses.
#[test]
fn lone_master_does_not_take_itself_for_another() {
    let Some(lab) = Lab::new(2) else { return };
    let virtually = Mac::Virtual { name: None, advertises: Advertises::Virtually };
    let of_its_own = Instance { mac: virtually, ..Instance::new("VI_2", "eth0", 52) };
    let of_its_own = Instance { addresses: instance("10.8.0.101").addresses, priority: 150, ..of_its_own };
    lab.run(1, &["link", "add", "second", "link", "eth0", "type", "macvlan", "mode", "bridge"]);
    lab.run(1, &["link", "set", "second", "up"]);
    let instances = vec![instance(VIP), of_its_own];
    let router = lab.node(1, vrrp::os::Settings { instances, ..Default::default() });
    let masters =
        || router.node.handle().statuses().is_ok_and(|all| all.iter().all(|one| one.state == State::Master));
    eventually_or(|| format!("{:#?}", router.log()), masters);
    // It has asked by then, and heard what there is to hear.
    throughout(Duration::from_secs(3), "it is alone", || {
        !router.notices().iter().any(|notice| matches!(notice, Notice::Claimed { .. }))
    });
}
