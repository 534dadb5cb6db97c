//! What a virtual router does about the host that it is on: interfaces that fail, addresses that
//! disappear or were left behind, being late, and settings that change.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::{eventually, eventually_or, throughout};
use rustix::process::Signal;
use vrrp::os::{
    Announcing, Dependence, Dialect, Effect, Instance, LinkDelay, Notice, Scope, Settings, SyncGroup,
    Verdict, VirtualAddress, WatchedLink,
};
use vrrp::packet::Coverage;
use vrrp::router::{Reason, State};

use super::lab::{Lab, VIP};

const INTERVAL: Duration = Duration::from_millis(200);

/// A virtual router that is quick to decide.
fn instance(priority: u8) -> Instance {
    let mut instance = Instance::new("VI_1", "eth0", 51);
    instance.dialect = Dialect::V3(Coverage::PseudoHeader);
    instance.interval = INTERVAL;
    instance.priority = priority;
    instance.addresses = vec![VirtualAddress::new(VIP.parse().expect("an address"))];
    instance
}

fn group(members: &[&str], instances: Vec<Instance>) -> Settings {
    let members = members.iter().map(|name| (*name).to_owned()).collect();
    Settings { instances, groups: vec![SyncGroup { name: "G".to_owned(), members }], ..Settings::default() }
}

#[test]
fn cut_cable_is_a_fault_until_it_is_mended() {
    let Some(lab) = Lab::new(2) else { return };
    let (first, second) = (lab.router(1, instance(150)), lab.router(2, instance(100)));
    first.becomes(State::Master);
    lab.cable(1, "down");
    first.becomes(State::Fault);
    assert!(!lab.has(1, VIP));
    assert_eq!(first.status().faults[0].to_string(), "interface eth0: is down");
    second.becomes(State::Master);
    lab.cable(1, "up");
    first.becomes(State::Master);
    second.becomes(State::Backup);
    assert!(lab.has(1, VIP) && !lab.has(2, VIP));
}

#[test]
fn cable_that_is_back_before_its_delay_has_not_been_cut() {
    let Some(lab) = Lab::new(1) else { return };
    let link_delays = vec![LinkDelay { interface: "eth0".to_owned(), down: INTERVAL * 5, up: INTERVAL * 3 }];
    let router = lab.node(1, Settings { instances: vec![instance(150)], link_delays, ..Settings::default() });
    router.becomes(State::Master);
    for _ in 0..3 {
        lab.cable(1, "down");
        std::thread::sleep(INTERVAL);
        lab.cable(1, "up");
        std::thread::sleep(INTERVAL);
    }
    let began = Instant::now();
    lab.cable(1, "down");
    assert!(router.became_at(State::Fault) - began >= INTERVAL * 5);
    assert_eq!(router.status().faults[0].to_string(), "interface eth0: is down");
    let mended = Instant::now();
    lab.cable(1, "up");
    assert!(router.became_at(State::Backup) - mended >= INTERVAL * 3);
    router.becomes(State::Master);
    let faults = router.log().iter().filter(|line| line.contains("FAULT")).count();
    assert_eq!(faults, 1, "{:#?}", router.log());
}

#[test]
fn interface_that_does_not_count_may_be_down() {
    let Some(lab) = Lab::new(1) else { return };
    let router = lab.router(1, Instance { dependence: Dependence::Untracked, ..instance(150) });
    router.becomes(State::Master);
    lab.cable(1, "down");
    throughout(INTERVAL * 5, "it leads", || router.state() == State::Master && lab.has(1, VIP));
}

#[test]
fn interface_that_goes_and_comes_back_is_found_again() {
    let Some(lab) = Lab::new(2) else { return };
    let (first, second) = (lab.router(1, instance(150)), lab.router(2, instance(100)));
    first.becomes(State::Master);
    second.becomes(State::Backup);
    lab.run(1, &["link", "set", "eth0", "down"]);
    lab.run(1, &["link", "set", "eth0", "name", "eth9"]);
    first.becomes(State::Fault);
    eventually_or(
        || format!("{:?}", first.status().faults),
        || first.status().faults[0].to_string() == "interface eth0: does not exist",
    );
    second.becomes(State::Master);
    lab.run(1, &["link", "set", "eth9", "name", "eth0"]);
    lab.run(1, &["link", "set", "eth0", "up"]);
    first.becomes(State::Master);
    second.becomes(State::Backup);
}

#[test]
fn router_without_an_address_of_its_own_waits_for_one() {
    let Some(lab) = Lab::new(1) else { return };
    lab.run(1, &["address", "delete", "10.8.0.1/24", "dev", "eth0"]);
    let router = lab.router(1, instance(150));
    router.becomes(State::Fault);
    assert_eq!(router.status().faults[0].why, "has no IPv4 address to speak from");
    lab.run(1, &["address", "add", "10.8.0.7/24", "dev", "eth0"]);
    router.becomes(State::Master);
    assert_eq!(router.status().master, Some((IpAddr::from([10, 8, 0, 7]), 150)));
    lab.run(1, &["address", "delete", "10.8.0.7/24", "dev", "eth0"]);
    router.becomes(State::Fault);
    assert!(!lab.has(1, VIP));
}

#[test]
fn virtual_address_that_somebody_takes_away_is_put_back() {
    let Some(lab) = Lab::new(1) else { return };
    let router = lab.router(1, instance(150));
    router.becomes(State::Master);
    lab.run(1, &["address", "delete", &format!("{VIP}/32"), "dev", "eth0"]);
    router.says("10.8.0.100 was taken from its interface, and is put back");
    assert!(lab.has(1, VIP));
    assert_eq!(router.state(), State::Master);
}

#[test]
fn addresses_come_as_they_are_described() {
    let Some(lab) = Lab::new(1) else { return };
    lab.run(1, &["link", "add", "other", "type", "bridge"]);
    lab.run(1, &["link", "set", "other", "up"]);
    let plain = |address: &str| VirtualAddress::new(address.parse().expect("an address"));
    let mut described = instance(150);
    described.addresses.push(VirtualAddress {
        prefix: 24,
        label: Some("eth0:7".to_owned()),
        scope: Scope::Link,
        broadcast: Some([10, 9, 0, 255].into()),
        ..plain("10.9.0.100")
    });
    described.excluded = vec![
        VirtualAddress { device: Some("other".to_owned()), ..plain("10.7.0.100") },
        VirtualAddress { prefix: 64, ..plain("fd00::100") },
        VirtualAddress { prefix: 64, flags: Vec::new(), ..plain("fd00::101") },
    ];
    let router = lab.router(1, described);
    router.becomes(State::Master);
    let text = lab.addresses(1).join("\n");
    for wanted in [
        "eth0    inet 10.8.0.100/32 scope global eth0\\",
        "eth0    inet 10.9.0.100/24 brd 10.9.0.255 scope link eth0:7\\",
        "other    inet 10.7.0.100/32 scope global other\\",
        "eth0    inet6 fd00::100/64 scope global nodad deprecated \\",
        "eth0    inet6 fd00::101/64 scope global nodad \\",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    router.node.stop();
    for gone in [VIP, "10.9.0.100", "10.7.0.100", "fd00::100", "fd00::101"] {
        assert!(!lab.has(1, gone), "{gone}");
    }
}

#[test]
fn address_of_a_killed_predecessor_is_taken_away() {
    let Some(lab) = Lab::new(2) else { return };
    let first = lab.router(1, instance(150));
    first.becomes(State::Master);
    // As one that was killed would leave it, with another prefix before the settings changed.
    lab.run(2, &["address", "add", &format!("{VIP}/24"), "dev", "eth0"]);
    let second = lab.router(2, instance(100));
    second.says("it was left over, and is taken away");
    assert!(!lab.has(2, VIP));
    assert_eq!(second.state(), State::Backup);
}

#[test]
fn trackers_move_the_priority_and_are_faults() {
    let Some(lab) = Lab::new(2) else { return };
    let (first, second) = (lab.router(1, instance(110)), lab.router(2, instance(100)));
    first.becomes(State::Master);
    let report = |verdict| first.node.handle().report("VI_1", "script check", verdict).expect("it runs");
    report(Verdict::Weight(-20));
    second.becomes(State::Master);
    first.becomes(State::Backup);
    assert_eq!((first.status().priority, first.status().base_priority), (90, 110));
    report(Verdict::Well);
    first.becomes(State::Master);
    report(Verdict::Failed("exit code 1".to_owned()));
    first.becomes(State::Fault);
    first.says("VI_1 is FAULT now: script check: exit code 1");
    assert_eq!(second.status().counters.priority_zero_received, 1, "it said that it stops");
    report(Verdict::Well);
    first.becomes(State::Master);
}

#[test]
fn watched_interfaces_count() {
    let Some(lab) = Lab::new(1) else { return };
    for name in ["weighty", "needed", "unwanted"] {
        lab.run(1, &["link", "add", name, "type", "veth", "peer", "name", &format!("{name}-end")]);
        lab.run(1, &["link", "set", &format!("{name}-end"), "up"]);
        lab.run(1, &["link", "set", name, "up"]);
    }
    let watched = |interface: &str, up, down| WatchedLink { interface: interface.to_owned(), up, down };
    lab.run(1, &["link", "set", "unwanted", "down"]);
    let links = vec![
        watched("weighty", Effect::Adds(0), Effect::Adds(-30)),
        WatchedLink::needed("needed"),
        watched("unwanted", Effect::Fault, Effect::Adds(5)),
    ];
    let router = lab.router(1, Instance { links, ..instance(150) });
    router.becomes(State::Master);
    lab.run(1, &["link", "set", "weighty", "down"]);
    eventually("the priority falls", || router.status().priority == 125);
    lab.run(1, &["link", "set", "needed", "down"]);
    router.becomes(State::Fault);
    assert_eq!(router.status().faults[0].to_string(), "interface needed: is down");
    lab.run(1, &["link", "set", "needed", "up"]);
    router.becomes(State::Master);
    lab.run(1, &["link", "set", "unwanted", "up"]);
    router.becomes(State::Fault);
    assert_eq!(router.status().faults[0].to_string(), "interface unwanted: is up");
}

#[test]
fn group_is_master_together_or_not_at_all() {
    let Some(lab) = Lab::new(2) else { return };
    let other = |priority| Instance {
        name: "VI_2".to_owned(),
        vrid: 52,
        addresses: vec![VirtualAddress::new([10, 8, 0, 102].into())],
        ..instance(priority)
    };
    let both = |priority| group(&["VI_1", "VI_2"], vec![instance(priority), other(priority)]);
    let (first, second) = (lab.node(1, both(150)), lab.node(2, both(100)));
    let all = |host| lab.has(host, VIP) && lab.has(host, "10.8.0.102");
    let none = |host| !lab.has(host, VIP) && !lab.has(host, "10.8.0.102");
    eventually("the first has all", || all(1) && none(2));
    first.says("group G is MASTER now");
    first.node.handle().report("VI_2", "script check", Verdict::Failed("no".to_owned())).expect("it runs");
    eventually("the second has all", || all(2) && none(1));
    first.says("group G is FAULT now");
    first.node.handle().report("VI_2", "script check", Verdict::Well).expect("it runs");
    eventually("the first has all again", || all(1) && none(2));
    second.says("group G is BACKUP now");
}

#[test]
fn router_waits_for_the_trackers_that_it_awaits() {
    let Some(lab) = Lab::new(1) else { return };
    let router = lab.router(1, Instance { awaits: vec!["script check".to_owned()], ..instance(150) });
    throughout(INTERVAL * 5, "it has not begun", || router.state() == State::Init);
    router.node.handle().report("VI_1", "script check", Verdict::Weight(5)).expect("it runs");
    router.becomes(State::Master);
    assert_eq!(router.status().priority, 155);
}

#[test]
fn reload_keeps_the_place_of_what_stays() {
    let Some(lab) = Lab::new(2) else { return };
    let (first, second) = (lab.router(1, instance(150)), lab.router(2, instance(100)));
    first.becomes(State::Master);
    second.becomes(State::Backup);
    let reload = |instances| {
        let settings = Settings { instances, ..Settings::default() };
        first.node.handle().reload(settings).expect("it runs");
    };
    let transitions = || {
        let became =
            |notice: &Notice| matches!(notice, Notice::Became { instance, .. } if instance == "VI_1");
        first.notices().iter().filter(|notice| became(notice)).count()
    };
    let before = transitions();

    let added = Instance { name: "VI_2".to_owned(), vrid: 52, addresses: Vec::new(), ..instance(100) };
    reload(vec![added, instance(150)]);
    assert_eq!(first.node.handle().statuses().expect("it runs").len(), 2);

    // Another priority and another address: no election, and no moment without those that stay.
    let mut changed = instance(120);
    changed.announcing = Announcing { repeat: 1, ..Announcing::default() };
    changed.addresses.push(VirtualAddress::new([10, 8, 0, 101].into()));
    reload(vec![changed.clone()]);
    assert_eq!((first.state(), first.status().priority), (State::Master, 120));
    assert!(lab.has(1, VIP) && lab.has(1, "10.8.0.101"));
    changed.addresses.remove(0);
    reload(vec![changed]);
    assert!(!lab.has(1, VIP) && lab.has(1, "10.8.0.101"));
    assert_eq!(transitions(), before, "{:#?}", first.log());

    reload(Vec::new());
    assert!(!lab.has(1, "10.8.0.101"));
    second.becomes(State::Master);
    assert_eq!(second.status().reason, Some(Reason::Resigned));
}

#[test]
fn master_that_was_stopped_gives_way_before_it_speaks() {
    let Some(lab) = Lab::new(2) else { return };
    let words = ["--v3", "--interval", "0.2", "--priority", "100", "--address", VIP];
    let first = lab.program(1, &words);
    eventually_or(|| first.log(), || lab.has(1, VIP));
    // Of the same priority, but of a higher address: it would not have given way to the first.
    let second = lab.router(2, instance(101));
    second.becomes(State::Master);
    eventually("the first gave way", || first.log().contains("BACKUP now: 10.8.0.2"));
    drop(second);
    eventually("the first leads again", || lab.has(1, VIP));

    first.signal(Signal::STOP);
    let second = lab.router(2, instance(101));
    second.becomes(State::Master);
    let sent = second.status().counters.received;
    first.signal(Signal::CONT);
    eventually("it gives its address away", || !lab.has(1, VIP));
    eventually_or(
        || first.log(),
        || first.log().contains("the process was stopped, or the virtual machine was"),
    );
    // The last word of one that gave way, and none of a master that went on.
    let said = second.status().counters.received - sent;
    assert!(said <= 1, "it spoke {said} times before it listened");
    assert_eq!(second.state(), State::Master);
}

#[test]
fn busy_processors_do_not_delay_advertisements() {
    let Some(lab) = Lab::new(2) else { return };
    let quick = |priority| Instance { interval: Duration::from_millis(100), ..instance(priority) };
    let (first, second) = (lab.router(1, quick(150)), lab.router(2, quick(100)));
    first.becomes(State::Master);
    second.becomes(State::Backup);
    let before = (first.log().len(), second.log().len());
    let load = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(2, usize::from) * 3;
        for _ in 0..workers {
            scope.spawn(|| {
                while load.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
        }
        std::thread::sleep(Duration::from_millis(1500));
        load.store(false, Ordering::Relaxed);
    });
    // What is said of being late is said, too.
    assert_eq!((first.log().len(), second.log().len()), before, "{:#?} {:#?}", first.log(), second.log());
    assert_eq!((first.state(), second.state()), (State::Master, State::Backup));
}
