//! One process of the program takes the place of another, under load.

mod counts;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use l4_proxy::takeover::Predecessor;
use rustix::process::Signal;

use crate::binary::Director;
use crate::support::{PATIENCE, connect, eventually, free_port};

/// Echoes connections and datagrams on the same port until it is dropped.
struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Echo {
    fn new() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let datagrams = UdpSocket::bind(address).expect("a free port");
        datagrams.set_read_timeout(Some(Duration::from_millis(20))).expect("open");
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        let stopping = Arc::clone(&stop);
        thread::spawn(move || {
            let mut datagram = [0; 2048];
            while !stopping.load(Ordering::SeqCst) {
                if let Ok((len, from)) = datagrams.recv_from(&mut datagram) {
                    let _ = datagrams.send_to(&datagram[..len], from);
                }
            }
        });
        Echo { address, stop }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// Clients that ask without a pause, and count.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Option<String>>>,
}

impl Load {
    fn start(clients: usize, ask: impl Fn(usize) -> std::io::Result<()> + Send + Clone + 'static) -> Load {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..clients).map(|client| {
            let (stop, asked, ask) = (Arc::clone(&stop), Arc::clone(&asked), ask.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    if let Err(error) = ask(client) {
                        return Some(format!("after {} questions: {error}", asked.load(Ordering::SeqCst)));
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    // Enough to lose some, not enough to fill the queues of a busy machine.
                    thread::sleep(Duration::from_millis(1));
                }
                None
            })
        });
        let clients = clients.collect();
        Load { stop, asked, clients }
    }

    /// Waits for as many more questions as that.
    fn goes_on(&self, questions: usize) {
        let until = self.asked.load(Ordering::SeqCst) + questions;
        eventually("the load goes on", || {
            self.asked.load(Ordering::SeqCst) >= until || self.clients.iter().any(JoinHandle::is_finished)
        });
    }

    /// What went wrong.
    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().filter_map(|client| client.join().expect("no panic")).collect()
    }
}

fn over_tcp(vip: SocketAddr) -> impl Fn(usize) -> std::io::Result<()> + Send + Clone {
    move |client| {
        let mut stream = TcpStream::connect_timeout(&vip, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[client as u8; 100])?;
        let mut answer = [0; 100];
        stream.read_exact(&mut answer)?;
        if answer == [client as u8; 100] { Ok(()) } else { Err(std::io::Error::other("wrong bytes")) }
    }
}

fn over_udp(vip: SocketAddr) -> impl Fn(usize) -> std::io::Result<()> + Send + Clone {
    move |client| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(vip)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&[client as u8; 100])?;
        let mut answer = [0; 128];
        let len = socket.recv(&mut answer)?;
        if answer[..len] == [client as u8; 100] { Ok(()) } else { Err(std::io::Error::other("wrong bytes")) }
    }
}

/// The successor, which has no files of its own.
pub(crate) struct Successor(pub(crate) Child);

impl Successor {
    pub(crate) fn start(director: &Director, more: &[&str]) -> Successor {
        let mut command = Command::new(env!("CARGO_BIN_EXE_l4-proxy"));
        command.args(["--takeover", "--no-probes", "--control"]).arg(director.path("sock")).args(more);
        let log = std::fs::File::create(director.path("log of the successor")).expect("a file");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        Successor(child)
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn successors_log(director: &Director) -> String {
    std::fs::read_to_string(director.path("log of the successor")).expect("a file")
}

#[test]
fn takeover_under_load_loses_no_connection_and_no_datagram() {
    let (a, b) = (Echo::new(), Echo::new());
    let (web, dns, metrics) = (free_port(), free_port(), free_port());
    let mut rules = format!("-A -t {web} -s rr -p 600\n-A -u {dns} -s rr\n");
    for server in [a.address, b.address] {
        rules += &format!("-a -t {web} -r {server} -m\n-a -u {dns} -r {server} -m\n");
    }
    let with_metrics = ["--metrics".to_owned(), metrics.to_string()];
    let mut director = Director::start_with(&rules, |program| {
        let mut command = Command::new(program);
        command.args(&with_metrics);
        command
    });
    assert_eq!(director.ipvsadm("--set 800 0 200").code, 0);
    let mut lasting = connect(web);
    lasting.write_all(b"before").expect("open");
    lasting.read_exact(&mut [0; 6]).expect("open");
    let (tcp, udp) = (Load::start(4, over_tcp(web)), Load::start(2, over_udp(dns)));
    tcp.goes_on(50);
    udp.goes_on(50);

    let templates = || {
        let listing = director.ipvsadm(&format!("-L -n --persistent-conn -t {web}")).stdout;
        let servers = listing.lines().filter(|line| line.contains("-> 127"));
        servers.map(|line| line.split_whitespace().nth(3).map(str::to_owned)).collect::<Vec<_>>()
    };
    let templates_before = templates();
    assert_eq!(templates_before.iter().flatten().filter(|count| *count == "1").count(), 1);
    let mut successor = Successor::start(&director, &[&with_metrics[0], &with_metrics[1]]);
    eventually("it is handed over", || director.log().contains("handed over"));
    tcp.goes_on(200);
    udp.goes_on(200);
    let asked = Arc::clone(&tcp.asked);
    assert_eq!((tcp.end(), udp.end()), (Vec::new(), Vec::new()));
    let asked = asked.load(Ordering::SeqCst);
    assert!(
        successors_log(&director).contains("templates taken over templates=1"),
        "{}",
        successors_log(&director)
    );

    // The new one answers the words of ipvsadm, with the timeouts, templates and counters of the old one.
    assert_eq!(director.ipvsadm("-L --timeout").stdout, "Timeout (tcp tcpfin udp): 800 120 200\n");
    assert_eq!(templates(), templates_before);
    let all = asked + 1;
    eventually("every connection is counted, whoever took it in", || {
        counts::of(&director, web).0 as usize == all
    });
    let mut scrape = connect(metrics);
    scrape.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("open");
    let mut told = String::new();
    scrape.read_to_string(&mut told).expect("an answer");
    assert!(told.contains("lvs_connections_open"));

    // The old one lives for the connection that lasts, and no longer.
    lasting.write_all(b"after").expect("open");
    lasting.read_exact(&mut [0; 5]).expect("open");
    drop(lasting);
    assert!(director.wait().success());
    assert!(!director.log().contains("cut"), "{}", director.log());
    // The control socket is the successor's, and stays.
    assert_eq!(director.ipvsadm("-L -n").code, 0);
    rustix::process::kill_process(rustix::process::Pid::from_child(&successor.0), Signal::TERM)
        .expect("it runs");
    assert!(successor.0.wait().expect("it ends").success());
}

#[test]
fn takeover_that_fails_changes_nothing() {
    let a = Echo::new();
    let (web, dns) = (free_port(), free_port());
    let rules = format!(
        "-A -t {web} -s rr\n-a -t {web} -r {0} -m\n-A -u {dns} -s rr\n-a -u {dns} -r {0} -m\n",
        a.address
    );
    let director = Director::start(&rules);
    // The successor cannot have its metrics there, and ends.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken_address = taken.local_addr().expect("bound").to_string();
    let clients = Load::start(4, over_tcp(web));
    for _ in 0..3 {
        clients.goes_on(50);
        let mut successor = Successor::start(&director, &["--metrics", &taken_address]);
        assert_eq!(successor.0.wait().expect("it ends").code(), Some(1));
        assert!(successors_log(&director).contains("cannot listen on"), "{}", successors_log(&director));
    }
    clients.goes_on(50);
    assert_eq!(clients.end(), Vec::<String>::new(), "nobody is left to one that ends");
    eventually("the director goes on", || {
        director.log().contains("not handed over, still serving as before")
    });
    over_tcp(web)(1).expect("served");
    over_udp(dns)(1).expect("served");
    assert_eq!(director.ipvsadm(&format!("-E -t {web} -s wlc")).code, 0);
}

#[test]
fn there_must_be_somebody_to_take_over_from() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l4-proxy"));
    let output = command.args(["--takeover", "--control", "/nonexistent/sock"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("l4-proxy: cannot take over from /nonexistent/sock: No such file"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn director_goes_on_if_its_successor_says_nothing() {
    let echo = Echo::new();
    let (web, dns) = (free_port(), free_port());
    let server = echo.address;
    let rules = format!(
        "-A -t {web} -s rr\n-a -t {web} -r {server} -m\n-A -u {dns} -s rr\n-a -u {dns} -r {server} -m\n"
    );
    let director = Director::start(&rules);
    let silent = lvsadm::client::ask_for_all(director.path("sock")).expect("it answers");
    eventually("it hands over", || director.log().contains("handing over"));
    over_tcp(web)(1).expect("who connects is served meanwhile");
    // Its patience is that of this test.
    let heard = over_udp(dns)(2).or_else(|_| over_udp(dns)(2));
    heard.expect("a datagram waits until somebody reads it");
    eventually("it says that it goes on", || {
        director.log().contains("not handed over, still serving as before")
    });
    drop(silent);
    assert_eq!(director.ipvsadm(&format!("-E -t {web} -s wlc")).code, 0);
    for question in 0..10 {
        over_tcp(web)(question).expect("served");
        over_udp(dns)(question).expect("served");
    }
}

#[test]
fn lvsadm_is_answered_while_a_successor_takes_its_time() {
    let vip = free_port();
    let director = Director::start(&format!("-A -t {vip} -s rr\n"));
    let slow = Predecessor::ask(&director.path("sock")).expect("it answers");
    let began = std::time::Instant::now();
    assert!(director.ipvsadm("-L -n").stdout.contains(&vip.to_string()));
    let refused = director.ipvsadm(&format!("-D -t {vip}"));
    assert_eq!((refused.stderr.as_str(), refused.code), ("the director hands over to another\n", 255));
    assert!(began.elapsed() < PATIENCE / 2, "they had to wait: {:?}", began.elapsed());
    drop(slow);
    eventually("the director goes on", || director.ipvsadm(&format!("-D -t {vip}")).code == 0);
}

#[test]
fn what_lvsadm_has_changed_outlives_an_upgrade_until_the_file_says_something_else() {
    let (a, b) = (Echo::new(), Echo::new());
    let vip = free_port();
    let rules = format!("--set 500 0 0\n-A -t {vip} -s rr\n-a -t {vip} -r {} -m -w 5\n", a.address);
    let director = Director::start(&rules);
    let listed = || {
        let saved = director.ipvsadm("-S -n").stdout;
        let lines = saved.lines().skip(1).map(|line| line.replace(&vip.to_string(), "VIP"));
        lines.collect::<std::collections::BTreeSet<_>>()
    };
    let line = |server: SocketAddr, weight: u32| format!("-a -t VIP -r {server} -m -w {weight}");
    assert_eq!(director.ipvsadm(&format!("-a -t {vip} -r {} -m", b.address)).code, 0);
    assert_eq!(director.ipvsadm(&format!("--drain {} --deadline 3600", a.address)).code, 0);
    assert_eq!(director.ipvsadm("--set 700 0 0").code, 0);
    let idle = || director.ipvsadm("-L --timeout").stdout.split_whitespace().nth(4).map(str::to_owned);
    for _ in 0..2 {
        let upgraded = director.upgrade();
        assert_eq!(upgraded.code, 0, "{}", upgraded.stderr);
        assert_eq!(listed(), [line(a.address, 0), line(b.address, 1)].into());
        let health = director.ipvsadm("-L -n --health").stdout;
        assert!(health.contains("draining"), "{health}");
        assert_eq!(idle().as_deref(), Some("700"));
        over_tcp(vip)(1).expect("served");
    }
    director.write_rules(&rules.replace("-w 5", "-w 7"));
    let upgraded = director.upgrade();
    assert_eq!(upgraded.code, 0, "{}", upgraded.stderr);
    assert_eq!(listed(), [line(a.address, 7)].into());
    assert_eq!(idle().as_deref(), Some("500"));
    director.end_upgraded();
}
