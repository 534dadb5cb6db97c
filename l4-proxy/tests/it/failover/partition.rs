//! Two directors with etcd between them while the bridge is parted, with clients on both sides that never
//! stop: the address is never on both sides, and nobody is served through a director that does not have it,
//! whatever the clocks on their walls say, and also when the master was stopped and goes on.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::{Cluster, Protection, Seen, WallClock, Watch, eventually, eventually_or, throughout};
use rustix::process::Signal;

use super::instance;
use super::site::{
    CLIENTS, CLIENTS_HOST, DIRECTORS, Director, Lab, NEAR_CLIENTS, NEAR_CLIENTS_HOST, SERVER_HOSTS, SERVERS,
    VIP, ask,
};

const SECOND: Duration = Duration::from_secs(1);

/// What the directors and etcd take for the time of day while the bridge is parted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clocks {
    Right,
    /// They jump by hours and days, forth and back, twice a second.
    Jumping,
}

/// What becomes of the master when the bridge is parted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Master {
    Runs,
    /// It is stopped (SIGSTOP), and goes on when the bridge is whole again.
    Stopped,
}

fn check(time: Duration, clocks: Clocks, master: Master) {
    let Some(lab) = Lab::new() else { return };
    let etcd = lab.within(SERVER_HOSTS[1], || Cluster::start_at(SERVERS[1].into(), 1, Protection::None));
    let Some(etcd) = etcd else { return };
    let directors = [0, 1].map(|number| {
        let director = lab.director(number, &configuration(&lab, &etcd, number));
        director.says(["VI is MASTER now", "VI is BACKUP now"][number]);
        director
    });
    let [first, second] = &directors;
    let logs = || directors.each_ref().map(told).join("\n--\n");
    let watch = Watch::new(&lab, [1, 2], VIP);
    let mut walls = Vec::new();
    if clocks == Clocks::Jumping {
        for process in [first.process(), second.process(), etcd.process(0)] {
            let Some(wall) = WallClock::of(process) else { return };
            walls.push(wall);
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let near = visit(&lab, NEAR_CLIENTS_HOST, NEAR_CLIENTS, &stop);
    let far = visit(&lab, CLIENTS_HOST, CLIENTS, &stop);
    let (mut client, mut served) = open_connection(&lab);
    let served_through = |director: usize| {
        let served = lab.served.lock().expect("whole");
        served.iter().filter(|(_, from)| *from == IpAddr::from(DIRECTORS[director])).count()
    };
    eventually("clients are served", || served_through(0) > 20);

    let cut = Instant::now();
    lab.patch("down");
    if master == Master::Stopped {
        first.signal(Signal::STOP);
        // Waits in a socket of the stopped director's.
        client.write_all(b"late").expect("sent");
    }
    let mut hours = OFFSETS.iter().cycle();
    while cut.elapsed() < time {
        for wall in &walls {
            wall.set_off(hours.next().map_or(0, |hours| hours * 3600));
        }
        thread::sleep(SECOND / 2);
    }
    assert!(lab.holds(1), "the other side took over\n{}", logs());
    check_views(&lab, &directors, master);
    let taken = last_transition(&lab, second);
    let by_clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert_eq!((by_clock - taken).abs() > 3000.0, clocks == Clocks::Jumping, "{taken} is not {by_clock}");
    assert!(served_through(1) > 20, "clients of its side are served");

    lab.patch("up");
    if master == Master::Stopped {
        throughout(SECOND * 2, "the other director has the address", || lab.holds(1) && !lab.holds(0));
        first.signal(Signal::CONT);
        let mut heard = [0; 4];
        let heard = served.read(&mut heard);
        assert!(
            heard.as_ref().map_or(true, |length| *length == 0),
            "forwarded without the address: {heard:?}"
        );
    }
    walls.iter().for_each(|wall| wall.set_off(0));
    // It is preferred, and gets the address back in an orderly way.
    eventually_or(|| format!("the first one leads again\n{}", logs()), || lab.holds(0));
    throughout(SECOND * 4, "the first one has the address", || lab.holds(0));
    stop.store(true, Ordering::Relaxed);
    let near = near.join().expect("clients");
    let far = far.join().expect("clients");
    let seen = watch.end();
    assert_eq!(seen.iter().filter(|seen| seen.has == [true, true]).count(), 0, "{}", logs());
    for (at, from) in lab.served.lock().expect("whole").iter() {
        let through = usize::from(*from == IpAddr::from(DIRECTORS[1]));
        let after = at.saturating_duration_since(cut);
        assert!(
            might_serve(&seen, through, *at),
            "served through {from}, which had not the address, {after:?} after the cut\n{}",
            logs()
        );
    }
    assert_eq!(logs().matches("VI is MASTER now").count(), 3, "{}", logs());
    for came in [&near, &far] {
        let again = came.iter().rev().take(50).filter(|served| **served).count();
        assert!(again > 40, "of the last 50 clients {again} were served");
    }
    let looked = seen.windows(2).map(|pair| pair[1].at - pair[0].at);
    let slow = looked.filter(|gap| *gap > SECOND / 20).count();
    assert!(slow < seen.len() / 20, "{slow} of {} looks came late", seen.len());
}

/// What a director runs: the address, its arbiter, and two services. One has both servers, and finds out which
/// of them it reaches; the other one has the first alone.
pub(super) fn configuration(lab: &Lab, etcd: &Cluster, number: usize) -> String {
    let dump = lab.folder.path().join(format!("{number}.json"));
    let arbiter = format!("arbiter {{\netcd {}\nkey /vrrp/web\nttl 5\n}}", etcd.endpoints().join(" "));
    let service = |port: u16, servers: &[Ipv4Addr], check: &str| {
        let servers: String =
            servers.iter().map(|server| format!("real_server {server} {port} {{\n{check}\n}}\n")).collect();
        let words = "delay_loop 1\nlb_algo rr\nlb_kind NAT\nprotocol TCP";
        format!("virtual_server {VIP} {port} {{\n{words}\n{servers}}}\n")
    };
    format!(
        "global_defs {{\nstate_dump_file {}\n}}\n{}{}{}",
        dump.display(),
        instance(number, &arbiter),
        service(80, &SERVERS, "PING_CHECK {\nconnect_timeout 1\nretry 0\n}"),
        service(81, &SERVERS[..1], "")
    )
}

/// What a director's log says beside its connections.
pub(super) fn told(director: &Director) -> String {
    let log = director.log();
    log.lines().filter(|line| !line.contains(" connection: ")).collect::<Vec<_>>().join("\n")
}

/// What `lvsadm` and Prometheus are told in a partition.
fn check_views(lab: &Lab, directors: &[Director; 2], master: Master) {
    let state = |director: usize, state: &str| {
        let series =
            format!("lvs_vrrp_arbiter_state{{instance=\"VI\",interface=\"eth0\",state=\"{state}\"}}");
        lab.metrics(director)[&series]
    };
    let view = directors[1].lvsadm(&["-L", "--vrrp"]);
    let whom = "\n  arbiter etcd 10.97.0.12:";
    assert!(view.contains(whom) && view.contains(": held, ") && view.contains(" s left\n"), "{view}");
    assert_eq!((state(1, "held"), state(1, "lost")), (1.0, 0.0));
    if master == Master::Runs {
        let view = directors[0].lvsadm(&["-L", "--vrrp"]);
        let lost = ": lost; it does not answer: 10.97.0.12:";
        assert!(view.contains(whom) && view.contains(lost), "{view}");
        assert_eq!((state(0, "held"), state(0, "lost")), (0.0, 1.0));
    }
    for director in directors {
        let asked = director.count("VI: asks for the arbiter's consent");
        assert!(
            (1..4).contains(&asked),
            "it is said {asked} times that the arbiter is asked\n{}",
            told(director)
        );
    }
}

/// Clients that come fifty times a second until they are told to stop: whether each was served.
fn visit(lab: &Lab, host: usize, clients: Range<u8>, stop: &Arc<AtomicBool>) -> JoinHandle<Vec<bool>> {
    let stop = Arc::clone(stop);
    lab.begin_within(host, move || {
        let mut came = Vec::new();
        let mut numbers = clients.cycle();
        while !stop.load(Ordering::Relaxed) {
            came.push(numbers.next().and_then(ask).is_some());
            thread::sleep(SECOND / 50);
        }
        came
    })
}

/// A connection through the first director to the first server: the client's end and the server's.
pub(super) fn open_connection(lab: &Lab) -> (TcpStream, TcpStream) {
    let listener = lab.within(SERVER_HOSTS[0], || {
        TcpListener::bind(SocketAddr::from((SERVERS[0], 81))).expect("a free port")
    });
    let mut client = lab.within(NEAR_CLIENTS_HOST, || {
        TcpStream::connect_timeout(&SocketAddr::from((VIP, 81)), SECOND * 5).expect("the director accepts")
    });
    client.write_all(b"here").expect("sent");
    let (mut served, _) = listener.accept().expect("the director connects");
    served.set_read_timeout(Some(SECOND * 10)).expect("an open socket");
    let mut heard = [0; 4];
    served.read_exact(&mut heard).expect("heard");
    (client, served)
}

/// When a director says that it last changed its state.
fn last_transition(lab: &Lab, director: &Director) -> f64 {
    director.signal(Signal::USR1);
    let path = lab.folder.path().join("1.json");
    eventually("it writes a file", || path.exists());
    let text = std::fs::read_to_string(path).expect("a file");
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    document[0]["data"]["last_transition"].as_f64().expect("a number")
}

/// Whether a director may have served somebody then: it had the address, or had it just before, since what it
/// had taken in may be on its way, and the kernel takes an address away up to a second before the consent
/// ends; and the other one did not have it all that while, as far as somebody looked.
fn might_serve(seen: &[Seen], director: usize, at: Instant) -> bool {
    let within = |before: Duration, after: Duration| {
        seen.iter().filter(move |seen| seen.at + before >= at && seen.at <= at + after)
    };
    let mut had = within(SECOND * 13 / 10, SECOND / 10).peekable();
    let had = had.peek().is_none() || had.any(|seen| seen.has[director]);
    let mut looks = within(SECOND * 3 / 10, Duration::ZERO).peekable();
    had && (looks.peek().is_none() || !looks.all(|seen| seen.has[1 - director]))
}

/// Hours that clocks are set off, at least one.
const OFFSETS: [i64; 7] = [3, -5, 100, -1, 48, -1000, 1];

const SHORT: Duration = Duration::from_secs(12);

#[test]
fn address_is_on_one_side_of_a_partition_at_most() {
    check(SHORT, Clocks::Right, Master::Runs);
}

#[test]
fn address_is_on_one_side_of_a_partition_at_most_while_clocks_jump() {
    check(SHORT, Clocks::Jumping, Master::Runs);
}

#[test]
fn master_that_was_stopped_in_a_partition_goes_on_without_the_address_and_forwards_nothing() {
    check(SHORT, Clocks::Right, Master::Stopped);
}

#[test]
fn master_that_was_stopped_in_a_partition_goes_on_without_the_address_while_clocks_jump() {
    check(SHORT, Clocks::Jumping, Master::Stopped);
}

#[test]
#[ignore = "takes more than a minute"]
fn address_is_on_one_side_of_a_long_partition_at_most_whatever_clocks_and_the_master_do() {
    thread::scope(|scope| {
        for clocks in [Clocks::Right, Clocks::Jumping] {
            for master in [Master::Runs, Master::Stopped] {
                scope.spawn(move || check(SECOND * 60, clocks, master));
            }
        }
    });
}
