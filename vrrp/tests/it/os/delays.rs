//! Delays, beside keepalived with the same ones: how long a start is only listened in, and how long an
//! interface has to be down before that counts.

use std::thread;
use std::time::{Duration, Instant};

use lab::{eventually_or, is_installed, skip};
use vrrp::os::{Instance, LinkDelay, Settings, VirtualAddress};
use vrrp::router::State;

use super::keepalived::Keepalived;
use super::lab::{Lab, VIP};

/// The host that is alone with its switch.
const HOST: usize = 2;

fn instance() -> Instance {
    let mut instance = Instance::new("VI_1", "eth0", 51);
    instance.addresses = vec![VirtualAddress::new(VIP.parse().expect("an address"))];
    instance
}

const BLOCK: &str = "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 100
    advert_int 1
    virtual_ipaddress {
        10.8.0.100
    }
}
";

/// How long a master is waited for at priority 100.
const MASTER_DOWN: Duration = Duration::from_millis(3_609);

#[test]
fn start_is_only_listened_in_for_as_long_as_by_keepalived() {
    if !is_installed("keepalived") {
        return skip("keepalived");
    }
    let delay = Duration::from_millis(2_500);
    let (Some(ours), Some(theirs)) = (Lab::new(2), Lab::new(2)) else { return };
    let began = Instant::now();
    let begins = vrrp::os::now() + delay;
    let router = ours.router(HOST, Instance { begins, ..instance() });
    let global = "global_defs {\n vrrp_startup_delay 2.5\n}\n";
    let keepalived = Keepalived::start(&theirs, &format!("{global}{BLOCK}"));
    let least = delay + MASTER_DOWN;
    let waited = |has: &dyn Fn() -> bool| {
        eventually_or(|| keepalived.log(), has);
        began.elapsed()
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| waited(&|| theirs.has(HOST, VIP)));
        let (own, other) = (waited(&|| ours.has(HOST, VIP)), other.join().expect("it leads"));
        for waited in [own, other] {
            assert!(waited >= least && waited < least + SLACK, "ours {own:?}, keepalived {other:?}");
        }
    });
    assert_eq!(router.status().counters.became_master, 1);
}

#[test]
fn interface_has_to_be_down_for_as_long_as_with_keepalived() {
    if !is_installed("keepalived") {
        return skip("keepalived");
    }
    let (Some(ours), Some(theirs)) = (Lab::new(2), Lab::new(2)) else { return };
    let down = Duration::from_millis(1_500);
    let link_delays = vec![LinkDelay { interface: "eth0".to_owned(), down, up: Duration::ZERO }];
    let settings = Settings { instances: vec![instance()], link_delays, ..Settings::default() };
    let router = ours.node(HOST, settings);
    let delays = "interface_up_down_delays {\n eth0 1.5 0\n}\n";
    let keepalived = Keepalived::start(&theirs, &format!("{delays}{BLOCK}"));
    let labs = [&ours, &theirs];
    eventually_or(|| keepalived.log(), || labs.iter().all(|lab| lab.has(HOST, VIP)));
    labs.iter().for_each(|lab| lab.cable(HOST, "down"));
    thread::sleep(down / 3);
    labs.iter().for_each(|lab| lab.cable(HOST, "up"));
    thread::sleep(down * 2);
    assert_eq!(router.state(), State::Master, "{:#?}", router.log());
    assert!(!keepalived.log().contains("FAULT STATE"), "{}", keepalived.log());
    let cut = Instant::now();
    labs.iter().for_each(|lab| lab.cable(HOST, "down"));
    keepalived.says("Entering FAULT STATE");
    let other = cut.elapsed();
    let own = router.became_at(State::Fault) - cut;
    for waited in [own, other] {
        assert!(waited >= down && waited < down + SLACK, "ours {own:?}, keepalived {other:?}");
    }
    // It may be back at once.
    labs.iter().for_each(|lab| lab.cable(HOST, "up"));
    router.becomes(State::Backup);
    eventually_or(
        || keepalived.log(),
        || keepalived.log().rfind("BACKUP STATE") > keepalived.log().rfind("FAULT STATE"),
    );
}

/// What a busy machine may add to a time.
const SLACK: Duration = Duration::from_millis(1500);
