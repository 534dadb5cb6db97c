//! Debian's keepalived on the other side, as master and as backup, in every dialect that both speak.

use std::fmt::Write as _;
use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab::{eventually, eventually_or, is_installed, skip, throughout};
use rustix::process::{Pid, Signal, kill_process};
use vrrp::os::{
    Accepted, Advertises, Authentication, Counters, Dialect, Instance, Mac, Peer, Reach, VirtualAddress,
};
use vrrp::packet::Coverage;
use vrrp::router::{Preempt, Reason, State};

use super::lab::{Lab, Watched};

/// Host of the virtual router that is tested, and of keepalived.
const OURS: usize = 1;
const THEIRS: usize = 2;

/// A way to speak, as both sides are told of it.
#[derive(Clone)]
struct Speech {
    name: &'static str,
    dialect: Dialect,
    peers: bool,
    v6: bool,
    /// Both have a MAC address of the virtual router's own.
    vmac: bool,
}

fn speeches() -> Vec<Speech> {
    let speech = |name, dialect, peers, v6| Speech { name, dialect, peers, v6, vmac: false };
    let v2 = |proof| Dialect::V2(proof);
    let v3 = Dialect::V3(Coverage::PseudoHeader);
    vec![
        speech("v2", v2(Authentication::None), false, false),
        speech("v2 to peers", v2(Authentication::None), true, false),
        speech("v2 PASS", v2(Authentication::Password(b"secret12".to_vec())), false, false),
        speech("v2 AH", v2(Authentication::Header(b"secret12".to_vec())), false, false),
        speech("v3", v3.clone(), false, false),
        speech("v3 to peers", v3.clone(), true, false),
        Speech { vmac: true, ..speech("v3 use_vmac", v3.clone(), false, false) },
        speech("v3 IPv6", v3.clone(), false, true),
        speech("v3 IPv6 to peers", v3, true, true),
    ]
}

impl Speech {
    fn interval(&self) -> Duration {
        match self.dialect {
            Dialect::V2(_) => Duration::from_secs(1),
            Dialect::V3(_) => Duration::from_millis(200),
        }
    }

    fn vip(&self) -> &'static str {
        if self.v6 { "fe80::100" } else { super::lab::VIP }
    }

    fn address(&self, lab: &Lab, host: usize) -> IpAddr {
        if self.v6 { lab.link_local(host) } else { IpAddr::from([10, 8, 0, host as u8]) }
    }

    fn instance(&self, lab: &Lab, priority: u8) -> Instance {
        let mut instance = Instance::new("VI_1", "eth0", 51);
        instance.dialect = self.dialect.clone();
        instance.priority = priority;
        instance.interval = self.interval();
        instance.addresses = vec![VirtualAddress::new(self.vip().parse().expect("an address"))];
        if self.peers {
            let peers = vec![Peer { address: self.address(lab, THEIRS), ttl: (0, 255) }];
            instance.reach = Reach::Peers { peers, ttl: 255, accepted: Accepted::Peers };
        }
        if self.vmac {
            instance.mac = Mac::Virtual { name: None, advertises: Advertises::Virtually };
        }
        instance
    }

    /// Where the address is put.
    fn device(&self) -> &'static str {
        if self.vmac { "vrrp.51" } else { "eth0" }
    }

    /// The same for the program.
    fn words(&self, lab: &Lab, priority: u8) -> Vec<String> {
        let (priority, interval) = (priority.to_string(), self.interval().as_secs_f64().to_string());
        let mut words = vec!["--priority", &priority, "--interval", &interval, "--address", self.vip()];
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        let (secret, peer);
        match &self.dialect {
            Dialect::V2(Authentication::None) => {}
            Dialect::V2(Authentication::Password(word)) => {
                secret = text(word);
                words.extend(["--password", &secret]);
            }
            Dialect::V2(Authentication::Header(word)) => {
                secret = text(word);
                words.extend(["--key", &secret]);
            }
            Dialect::V3(_) => words.push("--v3"),
        }
        if self.vmac {
            words.push("--vmac");
        }
        if self.peers {
            peer = self.address(lab, THEIRS).to_string();
            words.extend(["--peer", &peer]);
        }
        words.into_iter().map(str::to_owned).collect()
    }

    /// How long a silent master is waited for.
    fn master_down(&self, priority: u8) -> Duration {
        self.interval() * 3 + self.skew(priority)
    }

    fn skew(&self, priority: u8) -> Duration {
        self.interval() * (256 - u32::from(priority)) / 256
    }

    /// The same for keepalived.
    fn block(&self, lab: &Lab, priority: u8, further: &str) -> String {
        let version = if matches!(self.dialect, Dialect::V2(_)) { 2 } else { 3 };
        let mut text = format!(
            "vrrp_instance VI_1 {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n version {version}\n \
             priority {priority}\n advert_int {}\n {further}\n",
            self.interval().as_secs_f64()
        );
        if let Dialect::V2(Authentication::Password(word) | Authentication::Header(word)) = &self.dialect {
            let kind =
                if matches!(self.dialect, Dialect::V2(Authentication::Password(_))) { "PASS" } else { "AH" };
            let word = String::from_utf8_lossy(word);
            write!(text, " authentication {{\n auth_type {kind}\n auth_pass {word}\n }}\n")
                .expect("a string");
        }
        if self.vmac {
            text.push_str(" use_vmac\n");
        }
        if self.peers {
            let (own, other) = (self.address(lab, THEIRS), self.address(lab, OURS));
            write!(text, " unicast_src_ip {own}\n unicast_peer {{\n {other}\n }}\n").expect("a string");
        }
        write!(text, " virtual_ipaddress {{\n {}\n }}\n}}\n", self.vip()).expect("a string");
        text
    }
}

/// A running keepalived.
pub(super) struct Keepalived {
    child: Child,
    ids: [PathBuf; 2],
    log: PathBuf,
}

impl Keepalived {
    pub(super) fn start(lab: &Lab, block: &str) -> Keepalived {
        let path = |name: &str| lab.folder.path().join(name);
        let (settings, log) = (path("keepalived.conf"), path("keepalived.log"));
        let ids = [path("keepalived.pid"), path("vrrp.pid")];
        // A killed one leaves them, and the next one would take them for its own.
        for id in &ids {
            let _ = std::fs::remove_file(id);
        }
        // Before all others, so that a busy machine does not keep it from speaking.
        let global = "global_defs {\n vrrp_priority -20\n vrrp_garp_master_delay 1\n}\n";
        std::fs::write(&settings, format!("{global}{block}")).expect("a configuration");
        let mut command = lab.command(THEIRS, "keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file"]).arg(&settings);
        command.arg("--pid").arg(&ids[0]).arg("--vrrp_pid").arg(&ids[1]);
        let output = File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stderr(output.try_clone().expect("a log")).stdout(output);
        Keepalived { child: command.spawn().expect("keepalived"), ids, log }
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    #[track_caller]
    pub(super) fn says(&self, text: &str) {
        eventually_or(|| format!("keepalived says {text:?}: {}", self.log()), || self.log().contains(text));
    }

    /// Kills both its processes at once, so that neither can resign or be replaced.
    fn kill(mut self) {
        let id = |path: &PathBuf| -> Option<Pid> {
            Pid::from_raw(std::fs::read_to_string(path).ok()?.trim().parse().ok()?)
        };
        for id in self.ids.iter().rev().filter_map(id) {
            kill_process(id, Signal::KILL).expect("it is there");
        }
        self.child.wait().expect("it ends");
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it is there");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Plays a scene in every way to speak, all at the same time.
fn in_every_speech(scene: impl Fn(&Speech, &Lab) + Sync) {
    if !is_installed("keepalived") {
        return skip("keepalived");
    }
    let scene = &scene;
    thread::scope(|scope| {
        for speech in speeches() {
            let name = speech.name.to_owned();
            let play = move || {
                let Some(lab) = Lab::new(2) else { return };
                scene(&speech, &lab);
            };
            thread::Builder::new().name(name).spawn_scoped(scope, play).expect("a thread");
        }
    });
}

#[test]
fn backup_of_a_keepalived_takes_over_and_gives_back() {
    in_every_speech(|speech, lab| {
        let vip = speech.vip();
        let theirs = Keepalived::start(lab, &speech.block(lab, 150, ""));
        eventually("keepalived leads", || lab.has(THEIRS, vip));
        let ours = lab.router(OURS, speech.instance(lab, 100));
        let master = Some((speech.address(lab, THEIRS), 150));
        eventually_or(|| format!("{:?}", ours.log()), || ours.status().master == master);
        throughout(speech.interval() * 5, "one master", || {
            ours.state() == State::Backup && !lab.has(OURS, vip)
        });

        let killed = Instant::now();
        theirs.kill();
        let (waited, down) = (ours.became_at(State::Master) - killed, speech.master_down(100));
        assert!(waited > down - speech.interval() * 2 && waited < down + SLACK, "{waited:?}");
        assert!(lab.has(OURS, vip));
        assert!(matches!(ours.status().reason, Some(Reason::Silence(_))));

        // What is dead keeps its address until somebody takes it away.
        lab.run(THEIRS, &["address", "delete", &lab.line(THEIRS, vip), "dev", speech.device()]);
        let theirs = Keepalived::start(lab, &speech.block(lab, 150, ""));
        ours.becomes(State::Backup);
        assert!(!lab.has(OURS, vip));
        let by = speech.address(lab, THEIRS);
        assert_eq!(ours.status().reason, Some(Reason::Outranked { by, priority: 150 }));
        eventually("keepalived leads again", || lab.has(THEIRS, vip));

        // On a busy machine keepalived takes its time to resign and to end; what counts is when that is heard.
        let (began, resigned) = (Instant::now(), ours.status().counters.priority_zero_received);
        let heard = thread::scope(|scope| {
            let heard = scope.spawn(|| before_resignation(&ours, began, resigned));
            theirs.stop();
            heard.join().expect("it resigned")
        });
        let waited = ours.became_at(State::Master) - heard;
        assert!(waited < speech.skew(100) + SLACK, "{waited:?}");
        assert_eq!(ours.status().reason, Some(Reason::Resigned));
        check_counters(&ours);
        ours.node.stop();
        assert!(!lab.has(OURS, vip));
    });
}

/// The last moment at which a router had not heard yet that its master resigns, more often than before.
fn before_resignation(ours: &Watched, began: Instant, before: u64) -> Instant {
    let mut last = began;
    eventually("the master resigns", || {
        let looked = Instant::now();
        let still = ours.status().counters.priority_zero_received == before;
        if still {
            last = looked;
        }
        !still
    });
    last
}

/// Everything that arrived counted.
fn check_counters(ours: &Watched) {
    let counters = ours.status().counters;
    assert!(counters.received > 5 && counters.sent > 0, "{counters:?}");
    assert_eq!((counters.became_master, counters.released_master), (2, 1));
    assert!(counters.priority_zero_received > 0, "{counters:?}");
    let Counters { length_errors, ttl_errors, type_errors, version_errors, checksum_errors, .. } = counters;
    assert_eq!([length_errors, ttl_errors, type_errors, version_errors, checksum_errors], [0; 5]);
    let Counters { interval_errors, address_list_errors, peer_errors, auth_type_errors, .. } = counters;
    assert_eq!([interval_errors, address_list_errors, peer_errors, auth_type_errors], [0; 4]);
    assert_eq!([counters.auth_mismatches, counters.auth_failures, counters.send_failures], [0; 3]);
}

#[test]
fn keepalived_is_a_backup_of_ours_and_gives_back() {
    in_every_speech(|speech, lab| {
        let vip = speech.vip();
        let words = speech.words(lab, 150);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let leads = |host, other| lab.has(host, vip) && !lab.has(other, vip);
        let ours = lab.program(OURS, &words);
        eventually_or(|| ours.log(), || lab.has(OURS, vip));
        let theirs = Keepalived::start(lab, &speech.block(lab, 100, ""));
        theirs.says("Entering BACKUP STATE");
        throughout(speech.interval() * 5, "one master", || leads(OURS, THEIRS));
        assert!(!theirs.log().contains("MASTER STATE"), "{}", theirs.log());

        let stopped = Instant::now();
        ours.stop();
        eventually_or(|| theirs.log(), || leads(THEIRS, OURS));
        assert!(stopped.elapsed() < speech.skew(100) + SLACK, "{:?}", stopped.elapsed());

        let ours = lab.program(OURS, &words);
        eventually_or(|| format!("{} {}", ours.log(), theirs.log()), || leads(OURS, THEIRS));

        let killed = Instant::now();
        ours.kill();
        eventually_or(|| theirs.log(), || lab.has(THEIRS, vip));
        assert!(killed.elapsed() < speech.master_down(100) + SLACK, "{:?}", killed.elapsed());
        assert!(lab.has(OURS, vip), "a killed one leaves its address");

        let ours = lab.program(OURS, &words);
        eventually_or(|| ours.log(), || ours.log().contains("left over"));
        eventually_or(|| format!("{} {}", ours.log(), theirs.log()), || leads(OURS, THEIRS));
        // One that complains of what it hears says so; keepalived's words differ by what it is.
        for complaint in ["bogus", "invalid", "mismatch", "incorrect"] {
            assert!(!theirs.log().to_lowercase().contains(complaint), "{}", theirs.log());
        }
    });
}

#[test]
fn who_does_not_preempt_leaves_a_lower_master_alone_on_both_sides() {
    in_every_speech(|speech, lab| {
        let vip = speech.vip();
        let long = speech.master_down(100) + speech.interval();
        let leads = |host, other| lab.has(host, vip) && !lab.has(other, vip);
        let theirs = Keepalived::start(lab, &speech.block(lab, 100, ""));
        eventually("keepalived leads", || lab.has(THEIRS, vip));
        let ours = lab.router(OURS, Instance { preempt: Preempt::Never, ..speech.instance(lab, 150) });
        throughout(long, "the lower one leads", || leads(THEIRS, OURS));
        theirs.stop();
        ours.becomes(State::Master);
        let theirs = Keepalived::start(lab, &speech.block(lab, 200, "nopreempt"));
        theirs.says("Entering BACKUP STATE");
        throughout(long, "the lower one leads", || leads(OURS, THEIRS));
        ours.node.stop();
        eventually_or(|| theirs.log(), || leads(THEIRS, OURS));
    });
}

/// What a busy machine may add to a time.
const SLACK: Duration = Duration::from_millis(1500);
