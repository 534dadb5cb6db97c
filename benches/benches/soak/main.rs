//! The L4 director for ten minutes under everything that wears a process out: connections that open, idle
//! and close, datagrams, servers that die, rules that change. At the end it must hold what it held at
//! the start: not a descriptor, not a task, not memory more; and no client may have seen a wrong byte.
//!
//! `cargo bench -p benches --bench soak -- [--seconds 600] [--connections 10000]`, or `SOAK_SECONDS` and
//! `SOAK_CONNECTIONS`.
//!
//! The director, its servers and the clients are processes of their own, since each may have only so many
//! descriptors, and servers must die. The start is measured after a first wave of connections: what
//! tables, pools and allocators keep for their largest size is no leak, and what grows beyond it is one.

#![expect(clippy::print_stdout, reason = "a benchmark talks to a terminal")]

mod client;
mod counting;
mod director;
mod server;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use self::client::Load;
use self::director::{Director, Held};
use self::server::Server;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// What is to be done.
struct Plan {
    time: Duration,
    connections: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["be-director", control, connections_max] => {
            director::run(Path::new(control), connections_max.parse().expect("a number"));
            ExitCode::SUCCESS
        }
        ["be-server", address, number] => {
            server::run(address.parse().expect("an address"), number.parse().expect("a number"));
            ExitCode::SUCCESS
        }
        _ => soak(&plan(&arguments)),
    }
}

fn plan(arguments: &[String]) -> Plan {
    let value = |option: &str, variable: &str, default: u64| {
        let place = arguments.iter().position(|argument| argument == option);
        let said = place.and_then(|place| arguments.get(place + 1).cloned());
        let said = said.or_else(|| std::env::var(variable).ok());
        said.map_or(default, |said| said.parse().unwrap_or_else(|_| panic!("{option} wants a number")))
    };
    let wanted = value("--connections", "SOAK_CONNECTIONS", 10_000) as usize;
    let limit = getrlimit(Resource::Nofile);
    // If the limit cannot be raised, the present one holds.
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // The director needs two for each, and some for listeners, probes, and the pipes of those that are bulk.
    let possible = usize::try_from(descriptors.saturating_sub(2000) / 2).unwrap_or(usize::MAX);
    let connections = wanted.min(possible);
    if connections < wanted {
        println!("RLIMIT_NOFILE is {descriptors}: {connections} connections instead of {wanted}");
    }
    let time = Duration::from_secs(value("--seconds", "SOAK_SECONDS", 600));
    Plan { time, connections }
}

fn soak(plan: &Plan) -> ExitCode {
    let folder = tempfile::tempdir().expect("a folder");
    let mut director = Director::start(&folder.path().join("control"), plan.connections + 100);
    let [vip, extra, a, b, c] = free_ports();
    let mut servers = [(a, 0), (b, 1), (c, 2)].map(|(address, number)| Server::start(address, number));
    director.ipvsadm("--set 0 0 2", "");
    director.ipvsadm("-R", &rules(vip, None, &servers));

    // Long enough for all to be open at once, short enough to see many of them.
    let life = Duration::from_secs_f64((plan.connections as f64 / 400.0).clamp(1.0, 30.0));
    let first = Duration::from_secs(3) + life;
    println!("{} connections of about {life:?}; first wave: {first:?}", plan.connections);
    let wave = wave(plan, vip, life, first, |_, _, _| {}, &mut director, &mut servers);
    report(&wave);
    let start = settled(&mut director, None);
    let blocks = director.blocks();
    println!("start: {start:?}\nsoak: {:?}", plan.time);

    let mut turn = 0_u64;
    let change = |director: &mut Director, servers: &mut [Server; 3], load: &Load| {
        turn += 1;
        let weight = turn % 3 + 1;
        director.ipvsadm(&format!("-e -t {vip} -r {} -m -w {weight}", servers[0].address), "");
        if turn.is_multiple_of(4) {
            // Another service comes or goes, with its listeners, and servers with it.
            let more = turn.is_multiple_of(8).then_some(extra);
            director.ipvsadm("-R", &rules(vip, more, servers));
        }
        if turn % 12 == 6 {
            load.kill(&mut servers[(turn / 12) as usize % 3]);
        }
        if turn % 12 == 8 {
            let server = &mut servers[(turn / 12) as usize % 3];
            *server = Server::start(server.address, server.number);
        }
    };
    let second = self::wave(plan, vip, life, plan.time, change, &mut director, &mut servers);
    report(&second);
    director.ipvsadm("-R", &rules(vip, None, &servers));
    let end = settled(&mut director, Some(start));
    println!("end: {end:?}");
    grown(&blocks, &director.blocks());
    verdict(plan, start, end, &second)
}

/// Runs the load for a while, and `change` each half second.
fn wave(
    plan: &Plan,
    vip: SocketAddr,
    life: Duration,
    time: Duration,
    mut change: impl FnMut(&mut Director, &mut [Server; 3], &Load),
    director: &mut Director,
    servers: &mut [Server; 3],
) -> Arc<Load> {
    let load = Load::new(vip, vip, life);
    let clients = thread::spawn({
        let (load, connections) = (Arc::clone(&load), plan.connections as u64);
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut clients = tokio::task::JoinSet::new();
                for number in 0..connections {
                    clients.spawn(Arc::clone(&load).connect_again_and_again(number));
                }
                for number in 0..DATAGRAM_CLIENTS {
                    clients.spawn(Arc::clone(&load).ask_again_and_again(number));
                }
                clients.join_all().await;
            });
        }
    });
    let (until, mut said, mut most) = (Instant::now() + time, Instant::now(), 0);
    while Instant::now() < until && !clients.is_finished() {
        thread::sleep(Duration::from_millis(500));
        change(director, servers, &load);
        let held = director.held();
        most = most.max(held.connections);
        if said.elapsed() > Duration::from_secs(30) {
            said = Instant::now();
            println!("  {:?}: {held:?}", load.began.elapsed());
        }
    }
    println!("  most connections at a time: {most}");
    load.stop.store(true, Ordering::Relaxed);
    clients.join().expect("no client panics");
    load
}

/// What the director holds when nothing goes on any more; waits for it to hold no more than `start`.
fn settled(director: &mut Director, start: Option<Held>) -> Held {
    let until = Instant::now() + Duration::from_secs(60);
    let mut least = director.held();
    loop {
        thread::sleep(Duration::from_millis(250));
        let now = director.held();
        // Probes come and go: the least of several looks is what is there all the time.
        least = Held {
            connections: now.connections,
            flows: now.flows,
            descriptors: least.descriptors.min(now.descriptors),
            pipes: least.pipes.min(now.pipes),
            tasks: least.tasks.min(now.tasks),
            heap: least.heap.min(now.heap),
        };
        let quiet = now.connections == 0 && now.flows == 0;
        let enough = match start {
            Some(start) => quiet && is_no_more(least, start),
            None => quiet && Instant::now() + Duration::from_secs(55) > until,
        };
        if enough || Instant::now() > until {
            return least;
        }
    }
}

/// Says in blocks of which size the director has more than it had, if it is much.
fn grown(before: &BTreeMap<usize, isize>, after: &BTreeMap<usize, isize>) {
    let more = |(size, count): (&usize, &isize)| (*size, count - before.get(size).unwrap_or(&0));
    for (size, more) in after.iter().map(more).filter(|(size, more)| size.cast_signed() * more > 8 << 10) {
        println!("  more than at the start: {more} blocks of about {size} bytes");
    }
}

fn is_no_more(end: Held, start: Held) -> bool {
    end.connections == 0
        && end.flows == 0
        && end.descriptors <= start.descriptors
        && end.pipes <= PIPES
        && end.tasks <= start.tasks
        && end.heap <= start.heap + HEAP_TOLERANCE
}

fn verdict(plan: &Plan, start: Held, end: Held, load: &Load) -> ExitCode {
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let mut faults = Vec::new();
    if !is_no_more(end, start) {
        faults.push(format!(
            "the director holds more than at the start (heap tolerance: {HEAP_TOLERANCE} bytes)"
        ));
    }
    for (what, count) in
        [("wrong answers", count(&load.wrong)), ("connections cut for no reason", count(&load.cut))]
    {
        if count > 0 {
            faults.push(format!("{what}: {count}"));
        }
    }
    // A soak that wets nothing proves nothing.
    if count(&load.connections) < plan.connections as u64 {
        faults.push("fewer connections were made than there were to be at a time".to_owned());
    }
    if count(&load.datagrams_lost) * 5 > count(&load.datagrams) {
        faults.push("more than a fifth of the datagrams had no answer".to_owned());
    }
    for fault in &faults {
        println!("FAULT: {fault}");
    }
    if faults.is_empty() {
        println!("the director is as it was");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

fn report(load: &Load) {
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "  connections: {}, bytes there and back: {}, datagrams: {} (lost: {}), cut by deaths: {}, cut otherwise: {}, wrong: {}",
        count(&load.connections),
        count(&load.bytes),
        count(&load.datagrams),
        count(&load.datagrams_lost),
        count(&load.cut_by_deaths),
        count(&load.cut),
        count(&load.wrong),
    );
}

fn rules(vip: SocketAddr, extra: Option<SocketAddr>, servers: &[Server; 3]) -> String {
    // One change, in which nothing that stays is closed.
    let mut rules = "-C\n".to_owned();
    for (protocol, vip) in [("-t", Some(vip)), ("-u", Some(vip)), ("-t", extra), ("-u", extra)] {
        let Some(vip) = vip else { continue };
        rules += &format!("-A {protocol} {vip} -s wlc\n");
        for server in servers {
            rules += &format!("-a {protocol} {vip} -r {} -m\n", server.address);
        }
    }
    rules
}

/// Addresses that nothing listens on, below the ports that the system gives to sockets that connect: one of
/// those could take the address of a server while it is dead, and be taken for it.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    [(); N].map(|()| lab::free_port(Ipv4Addr::LOCALHOST.into()))
}

const DATAGRAM_CLIENTS: u64 = 20;

/// Two workers keep as many as this for splicing, at most, and one is the director's input.
const PIPES: usize = 2 * 32 + 2;

/// What a resized table or one more line of a history may be; a kilobyte lost in each of a few hundred
/// connections is beyond it.
const HEAP_TOLERANCE: isize = 256 << 10;
