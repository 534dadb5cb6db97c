//! Two directors that share an address: what clients see when one of them goes.

mod arbitrated;
mod partition;
mod site;

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::eventually;
use rustix::process::Signal;

use self::site::{CLIENTS, CLIENTS_HOST, DIRECTORS, Director, Lab, SERVERS, VIP, ask};

/// An instance of director 0 or 1, the first of which has the higher priority, and these lines.
fn instance(number: usize, lines: &str) -> String {
    format!(
        "vrrp_instance VI {{\ninterface eth0\nvirtual_router_id 51\npriority {}\nvirtual_ipaddress {{\n{VIP}/24\n}}\n{lines}\n}}\n",
        [150, 100][number]
    )
}

/// By multicast, told by whoever is master.
const SYNC: &str =
    "global_defs {\nlvs_sync_daemon eth0 VI id 3\nlvs_sync_key \"a key of this test alone\"\n}\n";

/// Between the two alone, told by both.
const SYNC_OF_PEERS: &str = "global_defs {\nlvs_sync_daemon eth0 maxlen 512\nlvs_sync_key hex:00112233445566778899aabbccddeeff\nlvs_sync_peers {\n10.97.0.1\n10.97.0.2\n}\n}\n";

/// The skew of the second director at an interval.
fn skew(interval: Duration) -> Duration {
    interval * (256 - 100) / 256
}

/// Both directors, the first of which is master and has told the second everything.
fn pair(lab: &Lab, sync: &str, lines: &str) -> [Director; 2] {
    let text = |number| format!("{sync}{}{}", instance(number, lines), lab.service());
    let first = lab.director(0, &text(0));
    first.says("VI is MASTER now");
    let second = lab.director(1, &text(1));
    second.says("VI is BACKUP now");
    second.says("all templates of another director are known here");
    [first, second]
}

/// Clients that come 200 times a second until they are told to stop; when they came and whether they
/// were served.
fn crowd(lab: &Lab, stop: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<Vec<(Instant, bool)>>> {
    const THREADS: u32 = 4;
    let clients = (0..THREADS).map(|thread_number| {
        let stop = Arc::clone(stop);
        lab.begin_within(CLIENTS_HOST, move || {
            let mut came = Vec::new();
            let mut next = Instant::now() + Duration::from_millis(5) * thread_number;
            let mut numbers = CLIENTS.cycle();
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(next.saturating_duration_since(Instant::now()));
                next += Duration::from_millis(5) * THREADS;
                let served = numbers.next().and_then(ask).is_some();
                came.push((Instant::now(), served));
            }
            came
        })
    });
    clients.collect()
}

/// Kills the master under load; returns how long nobody was served.
fn outage(lab: &Lab, directors: &mut [Director; 2]) -> Duration {
    let stop = Arc::new(AtomicBool::new(false));
    let clients = crowd(lab, &stop);
    thread::sleep(Duration::from_millis(500));
    let killed = directors[0].kill();
    directors[1].says("VI is MASTER now");
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let came: Vec<_> = clients.into_iter().flat_map(|client| client.join().expect("clients")).collect();
    let before = came.iter().filter(|(at, served)| *served && *at < killed).count();
    assert!(before > 30, "only {before} clients were served before the director was killed");
    let again = came.iter().filter(|(at, served)| *served && *at > killed + Duration::from_millis(5));
    let again = again.map(|(at, _)| *at).min().expect("clients are served again");
    for (at, from) in lab.served.lock().expect("whole").iter() {
        let holder = if *at < again { DIRECTORS[0] } else { DIRECTORS[1] };
        // What the first one had accepted may arrive while the second one begins.
        let close = *at >= killed && *at <= again + Duration::from_millis(50);
        assert!(*from == IpAddr::from(holder) || close, "a connection came through {from}");
    }
    again - killed
}

fn check_outage(sync: &str, lines: &str, interval: Duration) {
    let Some(lab) = Lab::new() else { return };
    let bound = interval * 3 + skew(interval) + Duration::from_millis(200);
    let mut directors = pair(&lab, sync, lines);
    let servers = lab.ask_all();
    assert_eq!(servers.len(), CLIENTS.len());
    assert!(CLIENTS.clone().any(|number| servers[&number] != servers[&CLIENTS.start]), "both servers serve");
    eventually("the other director knows all clients", || {
        directors[1].lvsadm(&["-L", "-c", "-n"]).matches("10.97.0.").count() >= 3 * CLIENTS.len()
    });
    let outage = outage(&lab, &mut directors);
    assert!(outage <= bound, "nobody was served for {outage:?}, which is more than {bound:?}");
    assert_eq!(lab.ask_all(), servers, "clients keep their servers");
}

#[test]
fn clients_are_served_again_in_time_and_by_their_servers_when_the_master_is_killed() {
    check_outage(SYNC, "advert_int 1", Duration::from_secs(1));
}

#[test]
fn clients_are_served_again_within_a_second_where_adverts_come_every_tenth() {
    check_outage(SYNC_OF_PEERS, "version 3\nadvert_int 0.1", Duration::from_millis(100));
}

#[test]
fn director_that_is_told_to_end_resigns_and_one_that_comes_back_knows_all_clients() {
    let Some(lab) = Lab::new() else { return };
    let told = lab.folder.path().join("told");
    let notify =
        format!("version 3\nadvert_int 0.2\nnotify \"/bin/sh -c 'echo $* >> {}' sh\"", told.display());
    let mut directors = pair(&lab, SYNC, &notify);
    let servers = lab.ask_all();
    assert_eq!(servers.len(), CLIENTS.len());
    let began = Instant::now();
    directors[0].signal(Signal::TERM);
    directors[1].says("VI is MASTER now: the master resigned");
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    assert!(!lab.holds(0) && lab.holds(1));
    eventually("clients find their servers", || lab.ask_all() == servers);
    assert!(directors[0].ends());
    let text = std::fs::read_to_string(&told).expect("it was told");
    assert!(text.contains("INSTANCE VI STOP 150\n"), "{text}");

    // It takes the address back, and the clients find their servers.
    directors[0] = pair_again(&lab, &notify);
    eventually("the first one leads again", || lab.holds(0) && !lab.holds(1));
    eventually("clients find their servers", || lab.ask_all() == servers);
    assert_eq!(directors[0].count("split brain") + directors[1].count("split brain"), 0);
}

#[test]
fn host_that_has_the_address_and_speaks_no_vrrp_is_told_of() {
    let Some(lab) = Lab::new() else { return };
    let told = lab.folder.path().join("told");
    let lines = format!(
        "version 3\nadvert_int 0.1\nnotify_split_brain \"/bin/sh -c 'echo $* >> {}' sh\"",
        told.display()
    );
    let mac = lab.takes_the_address(1);
    let director = lab.director(0, &format!("{}{}", instance(0, &lines), lab.service()));
    let evidence = format!("{mac} on eth0 answers for {VIP}");
    director.says(&format!("ERROR l4_proxy::failover: VI: split brain: {evidence}"));
    eventually("its program is told", || {
        std::fs::read_to_string(&told)
            .is_ok_and(|text| text == format!("INSTANCE VI SPLIT_BRAIN 150 {evidence}\n"))
    });
    let view = director.lvsadm(&["-L", "--vrrp"]);
    assert!(view.contains(&format!("SPLIT BRAIN: {evidence}")), "{view}");
}

fn pair_again(lab: &Lab, lines: &str) -> Director {
    let director = lab.director(0, &format!("{SYNC}{}{}", instance(0, lines), lab.service()));
    director.says("all templates of another director are known here");
    director
}

#[test]
fn reload_leaves_instances_alone_that_stay_the_same() {
    let Some(lab) = Lab::new() else { return };
    let text = |more: &str| format!("{}{more}{}", instance(0, "version 3\nadvert_int 0.1"), lab.service());
    let director = lab.director(0, &text(""));
    director.says("VI is MASTER now");
    eventually("it serves", || lab.ask_all().len() == CLIENTS.len());
    let other = instance(0, "version 3\nadvert_int 0.1\npriority 90")
        .replace("vrrp_instance VI ", "vrrp_instance V2 ")
        .replace("virtual_router_id 51", "virtual_router_id 52")
        .replace(&VIP.to_string(), "10.97.0.101");
    director.reload(&text(&other));
    director.says("V2 is MASTER now");
    director.reload(&text(""));
    director.says("V2 is INIT now");
    assert_eq!(director.count("VI is "), 2, "BACKUP at the start, then MASTER: {}", director.log());
    assert!(lab.holds(0));
    let view = director.lvsadm(&["-L", "--vrrp"]);
    assert!(view.starts_with("VI MASTER for ") && !view.contains("V2"), "{view}");

    // A file that is wrong changes nothing.
    std::fs::write(lab.folder.path().join("0.conf"), text("vrrp_instance V3 {\n}\n")).expect("a file");
    director.signal(Signal::HUP);
    director.says("not reloaded, still serving as before");
    assert!(lab.holds(0));
}

/// A script that is tracked and takes its time, and what is told of states in a file.
fn tracked(lab: &Lab) -> (String, std::path::PathBuf) {
    let told = lab.folder.path().join("told");
    let script = "vrrp_script slow {\nscript \"/bin/sleep 0.4\"\ninterval 1\nweight 5\n}\n";
    let lines = format!(
        "version 3\nadvert_int 0.1\ntrack_script {{\nslow\n}}\nnotify \"/bin/sh -c 'echo $* >> {}' sh\"",
        told.display()
    );
    (format!("{SYNC}{script}{}{}", instance(0, &lines), lab.service()), told)
}

#[test]
fn successor_of_a_master_leads_at_once_and_nobody_else_hears_of_it() {
    let Some(lab) = Lab::new() else { return };
    let (text, told) = tracked(&lab);
    let mut first = lab.director(0, &text);
    first.says("VI is MASTER now");
    let second =
        lab.director(1, &format!("{SYNC}{}{}", instance(1, "version 3\nadvert_int 0.1"), lab.service()));
    second.says("VI is BACKUP now");
    second.says("all templates of another director are known here");
    let servers = lab.ask_all();
    let stop = Arc::new(AtomicBool::new(false));
    let clients = crowd(&lab, &stop);
    thread::sleep(Duration::from_millis(300));

    let successor = lab.successor(0, &text);
    successor.says("VI is MASTER now: goes on where another process of this host ended");
    assert!(first.ends(), "{}", first.log());
    // Longer than the other one waits for a master, and than the script takes.
    thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    let came: Vec<_> = clients.into_iter().flat_map(|client| client.join().expect("clients")).collect();
    let lost = came.iter().filter(|(_, served)| !served).count();
    assert!(lost == 0 && came.len() > 200, "{lost} of {} clients were not served", came.len());
    assert_eq!(second.count("MASTER"), 0, "{}", second.log());
    assert_eq!(first.count("INIT"), 0, "it does not resign: {}", first.log());
    assert!(lab.holds(0) && !lab.holds(1));
    assert_eq!(lab.ask_all(), servers, "clients keep their servers");
    let view = successor.lvsadm(&["-L", "--vrrp"]);
    assert!(
        view.starts_with("VI MASTER for ") && view.contains("priority 155 (150 +5 script slow)"),
        "{view}"
    );
    let text = std::fs::read_to_string(&told).expect("it was told");
    assert_eq!(text.matches("MASTER").count(), 1, "{text}");

    // It is a director like any other.
    successor.signal(Signal::TERM);
    second.says("VI is MASTER now: the master resigned");
    eventually("the address moves", || !lab.holds(0) && lab.holds(1));
}

#[test]
fn successor_that_knows_an_instance_no_more_has_its_address_taken_away() {
    let Some(lab) = Lab::new() else { return };
    let lines = "version 3\nadvert_int 0.1";
    let other = instance(0, lines)
        .replace("vrrp_instance VI ", "vrrp_instance V2 ")
        .replace("virtual_router_id 51", "virtual_router_id 52")
        .replace(&VIP.to_string(), "10.97.0.101");
    let mut first = lab.director(0, &format!("{}{other}{}", instance(0, lines), lab.service()));
    first.says("VI is MASTER now");
    first.says("V2 is MASTER now");
    // An address more is had at once.
    let more = instance(0, lines).replace(&format!("{VIP}/24"), &format!("{VIP}/24\n10.97.0.102/24"));
    let successor = lab.successor(0, &format!("{more}{}", lab.service()));
    successor.says("VI is MASTER now: goes on where another process of this host ended");
    assert!(first.ends(), "{}", first.log());
    assert_eq!((first.count("V2 is INIT now"), first.count("VI is INIT now")), (1, 0), "{}", first.log());
    let view = successor.lvsadm(&["-L", "--vrrp"]);
    assert!(view.starts_with("VI MASTER for ") && !view.contains("V2"), "{view}");
    let held = lab.addresses(0);
    assert!(held.contains("10.97.0.102/") && !held.contains("10.97.0.101/"), "{held}");
}

#[test]
fn interface_with_the_virtual_mac_address_stays_up_when_a_successor_leads() {
    let Some(lab) = Lab::new() else { return };
    let text = format!("{}{}", instance(0, "version 3\nadvert_int 0.1\nuse_vmac"), lab.service());
    let mut first = lab.director(0, &text);
    first.says("VI is MASTER now");
    eventually("it serves", || lab.ask_all().len() == CLIENTS.len());
    let stop = Arc::new(AtomicBool::new(false));
    let clients = crowd(&lab, &stop);
    let successor = lab.successor(0, &text);
    successor.says("VI is MASTER now: goes on where another process of this host ended");
    assert!(first.ends(), "{}", first.log());
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let came: Vec<_> = clients.into_iter().flat_map(|client| client.join().expect("clients")).collect();
    assert!(came.iter().all(|(_, served)| *served) && came.len() > 50, "all {} are served", came.len());
    let view = successor.lvsadm(&["-L", "--vrrp"]);
    assert!(view.contains(&VIP.to_string()), "{view}");
}

#[test]
fn director_goes_on_leading_when_its_successor_fails() {
    let Some(lab) = Lab::new() else { return };
    let (text, told) = tracked(&lab);
    let first = lab.director(0, &text);
    first.says("VI is MASTER now");
    let second = lab.director(1, &format!("{}{}", instance(1, "version 3\nadvert_int 0.1"), lab.service()));
    second.says("VI is BACKUP now");
    // It takes the virtual router, and goes before it serves.
    let stream = lvsadm::client::ask_for_all(first.path("sock")).expect("it answers");
    let wanted = format!("[[{:?}, null]]", vrrp::os::Instance::new("VI", "eth0", 51).identity());
    let question = [b"v", &(wanted.len() as u64).to_be_bytes()[..], wanted.as_bytes()].concat();
    (&stream).write_all(&question).expect("it listens");
    let mut said = Vec::new();
    while !said.ends_with(b"}]") {
        let mut byte = [0];
        (&stream).read_exact(&mut byte).expect("it answers");
        said.extend(byte);
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("\"state\":\"master\"") && said.contains("10.97.0.100"), "{said}");
    drop(stream);
    first.says("not handed over, still serving as before");
    thread::sleep(Duration::from_secs(1));
    assert_eq!((second.count("MASTER"), first.count("INIT")), (0, 0), "{}", second.log());
    assert!(lab.holds(0));
    assert_eq!(lab.ask_all().len(), CLIENTS.len());
    let text = std::fs::read_to_string(&told).expect("it was told");
    assert_eq!(text.matches("MASTER").count(), 1, "{text}");
}

#[test]
fn reload_with_another_arbiter_gives_the_address_away_first_and_one_with_none_keeps_it() {
    let Some(lab) = Lab::new() else { return };
    let text = |arbiter: &str| {
        format!("{}{}", instance(0, &format!("version 3\nadvert_int 0.1\n{arbiter}")), lab.service())
    };
    let [one, other] = SERVERS.map(|gateway| text(&format!("arbiter {{\nping {gateway}\nttl 4\n}}")));
    let director = lab.director(0, &one);
    director.says("VI is MASTER now");
    let view = director.lvsadm(&["-L", "--vrrp"]);
    assert!(view.contains("\n  arbiter gateway 10.97.0.11: held, 2."), "{view}");
    director.reload(&one);
    assert_eq!(director.count("VI is BACKUP now"), 1, "an arbiter that stays is asked no other way");
    director.reload(&other);
    director.says("VI is BACKUP now: it has another arbiter now, whose consent it does not have yet");
    eventually("it is master again", || director.count("VI is MASTER now") == 2);
    eventually("clients are served", || lab.ask_all().len() == CLIENTS.len());
    director.reload(&text(""));
    assert!(lab.holds(0));
    assert_eq!(lab.ask_all().len(), CLIENTS.len());
    assert_eq!(director.count("VI is BACKUP now"), 2, "{}", director.log());
    let view = director.lvsadm(&["-L", "--vrrp"]);
    assert!(!view.contains("arbiter"), "{view}");
}

#[test]
fn what_is_tracked_moves_the_address() {
    let Some(lab) = Lab::new() else { return };
    let path = |name: &str| lab.folder.path().join(name);
    std::fs::write(path("number"), "0").expect("a file");
    let tracked = format!(
        "vrrp_script check {{\nscript \"/usr/bin/test ! -e {}\"\ninterval 0.1\n}}\ntrack_file number {{\nfile {}\n}}\n",
        path("broken").display(),
        path("number").display()
    );
    let lines = "version 3\nadvert_int 0.1\n";
    let watched = format!("{lines}track_script {{\ncheck\n}}\ntrack_file {{\nnumber weight 1\n}}");
    let first = lab.director(0, &format!("{tracked}{}{}", instance(0, &watched), lab.service()));
    first.says("VI is MASTER now");
    let _second = lab.director(1, &format!("{}{}", instance(1, lines), lab.service()));
    let moves_to = |number: usize| {
        eventually("the address moves", || lab.holds(number) && !lab.holds(1 - number));
        // One that asks before it hears of the new place has its packet lost.
        eventually("clients are served", || lab.ask_all().len() == CLIENTS.len());
    };
    moves_to(0);
    std::fs::write(path("broken"), "").expect("a file");
    moves_to(1);
    assert!(first.lvsadm(&["-L", "--vrrp"]).contains("down: script check: it exited with 1"));
    std::fs::remove_file(path("broken")).expect("it is there");
    moves_to(0);
    std::fs::write(path("number"), "-60").expect("a file");
    moves_to(1);
    eventually("its priority is told", || {
        first.lvsadm(&["-L", "--vrrp"]).contains("priority 90 (150 -60 file number)")
    });
    std::fs::write(path("number"), "60").expect("a file");
    moves_to(0);
    lab.link(0, "down");
    first.says("VI is FAULT now");
}

#[test]
fn reload_moves_what_is_tracked_to_whoever_tracks_it_now() {
    let Some(lab) = Lab::new() else { return };
    let broken = lab.folder.path().join("broken");
    let script = format!(
        "vrrp_script check {{\nscript \"/usr/bin/test ! -e {}\"\ninterval 0.1\n}}\n",
        broken.display()
    );
    let fast = |lines: &str| instance(0, &format!("version 3\nadvert_int 0.1\n{lines}"));
    let other = |lines: &str| {
        fast(lines)
            .replace("vrrp_instance VI ", "vrrp_instance V2 ")
            .replace("virtual_router_id 51", "virtual_router_id 52")
            .replace(&VIP.to_string(), "10.97.0.101")
    };
    const TRACKED: &str = "track_script {\ncheck\n}";
    let director = lab.director(0, &format!("{script}{}{}", fast(TRACKED), lab.service()));
    director.says("VI is MASTER now");
    // One that comes later hears of a script that has run before.
    director.reload(&format!("{script}{}{}{}", fast(TRACKED), other(TRACKED), lab.service()));
    director.says("V2 is MASTER now");
    assert_eq!(director.count("VI is "), 2, "BACKUP at the start, then MASTER: {}", director.log());
    std::fs::write(&broken, "").expect("a file");
    director.says("VI is FAULT now: script check: it exited with 1");
    director.says("V2 is FAULT now");
    // Who does not track it any more is well, be the script still there for others or not.
    director.reload(&format!("{script}{}{}{}", fast(""), other(TRACKED), lab.service()));
    eventually("the first one leads", || lab.holds(0));
    director.reload(&format!("{script}{}{}{}", fast(""), other(""), lab.service()));
    eventually("both lead", || director.lvsadm(&["-L", "--vrrp"]).matches(" MASTER for ").count() == 2);
}

#[test]
fn one_who_may_not_speak_vrrp_is_told_what_it_needs() {
    let Some(lab) = Lab::new() else { return };
    let text = format!("{}{}", instance(0, ""), lab.service());
    let path = lab.folder.path().join("user.conf");
    std::fs::write(&path, text).expect("a file");
    let output = lab.within(1, move || {
        let mut command = std::process::Command::new("setpriv");
        command.args([
            "--bounding-set",
            "-net_raw",
            "--inh-caps",
            "-net_raw",
            env!("CARGO_BIN_EXE_l4-proxy"),
        ]);
        command.arg("--config").arg(path).output()
    });
    let output = output.expect("setpriv (util-linux)");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("run it as root, or with CAP_NET_ADMIN and CAP_NET_RAW"), "{said}");
}
