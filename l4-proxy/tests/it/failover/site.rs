//! Two directors, two real servers and a client on one bridge, each in a network namespace of its own.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::{Hosts, eventually};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::metrics::scrape;

pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 100);
pub(super) const DIRECTORS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 97, 0, 1), Ipv4Addr::new(10, 97, 0, 2)];
pub(super) const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 97, 0, 11), Ipv4Addr::new(10, 97, 0, 12)];

/// Where clients come from: one address for each.
pub(super) const CLIENTS: std::ops::Range<u8> = 50..70;

/// Where other clients come from, beside the first director.
pub(super) const NEAR_CLIENTS: std::ops::Range<u8> = 70..90;

/// Hosts by number: that of director N is N + 1, that of server N is N + 4.
pub(super) const CLIENTS_HOST: usize = 3;
pub(super) const SERVER_HOSTS: [usize; 2] = [4, 5];
pub(super) const NEAR_CLIENTS_HOST: usize = 6;

/// The first director, the first server and some clients on one bridge, the others on a second one.
const NEAR: &[usize] = &[1, SERVER_HOSTS[0], NEAR_CLIENTS_HOST];
const FAR: &[usize] = &[2, CLIENTS_HOST, SERVER_HOSTS[1]];

/// The hosts. They go with the value, and everything in them.
pub(super) struct Lab {
    hosts: Hosts,
    pub(super) folder: tempfile::TempDir,
    /// Address of the director that a connection came from, and when, as the servers saw it.
    pub(super) served: Arc<Mutex<Vec<(Instant, IpAddr)>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Lab {
    /// `None` where the test may not make them, after saying so.
    pub(super) fn new() -> Option<Lab> {
        let hosts = Hosts::on_two_bridges(NEAR, FAR)?;
        let [first, second] = DIRECTORS;
        let [one, other] = SERVERS;
        let addresses = [
            vec![first],
            vec![second],
            CLIENTS.map(client).collect(),
            vec![one],
            vec![other],
            NEAR_CLIENTS.map(client).collect(),
        ];
        for (place, addresses) in addresses.iter().enumerate() {
            for address in addresses {
                hosts.run(1 + place, &["address", "add", &format!("{address}/24"), "dev", "eth0"]);
            }
        }
        let mut lab = Lab {
            hosts,
            folder: tempfile::tempdir().expect("a folder"),
            served: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        (0..2).for_each(|server| lab.serve(server));
        Some(lab)
    }

    /// A real server that says its number and closes.
    fn serve(&mut self, server: usize) {
        let address = SocketAddr::from((SERVERS[server], 80));
        let listener =
            self.within(SERVER_HOSTS[server], move || TcpListener::bind(address).expect("a free port"));
        listener.set_nonblocking(true).expect("a socket");
        let (stop, served) = (Arc::clone(&self.stop), Arc::clone(&self.served));
        self.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, peer)) => {
                        served.lock().expect("whole").push((Instant::now(), peer.ip()));
                        // A client that has gone does not matter.
                        let _ = stream.write_all(&[b'0' + server as u8]);
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        }));
    }

    /// The virtual server, as every configuration here has it.
    pub(super) fn service(&self) -> String {
        let [one, other] = SERVERS;
        let server = |address| format!("real_server {address} 80 {{\nweight 1\n}}\n");
        format!(
            "virtual_server {VIP} 80 {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\npersistence_timeout 60\n{}{}}}\n",
            server(one),
            server(other)
        )
    }

    /// Starts a director with this configuration.
    pub(super) fn director(&self, number: usize, text: &str) -> Director {
        self.process(number, text, "log", &["--metrics", &metrics_of(number).to_string()])
    }

    /// Starts another process in the place of a director, with this configuration.
    pub(super) fn successor(&self, number: usize, text: &str) -> Director {
        self.process(number, text, "successor", &["--takeover"])
    }

    /// Starts a process with these words beside the usual ones.
    pub(super) fn process(
        &self,
        number: usize,
        text: &str,
        log_name: &'static str,
        words: &[&str],
    ) -> Director {
        let path = |what: &str| self.folder.path().join(format!("{number}.{what}"));
        fs::write(path("conf"), text).expect("a file");
        let log = fs::File::create(path(log_name)).expect("a file");
        let mut command = self.command(1 + number, env!("CARGO_BIN_EXE_l4-proxy"));
        command.arg("--config").arg(path("conf")).arg("--control").arg(path("sock"));
        command.args(["--workers", "1", "--drain-timeout", "1"]).args(words);
        let child = command.stderr(log).stdout(Stdio::null()).spawn().expect("the program starts");
        Director { child, folder: self.folder.path().to_owned(), number, log_name }
    }

    /// What Prometheus would read of a director.
    pub(super) fn metrics(&self, number: usize) -> BTreeMap<String, f64> {
        self.within(1 + number, || scrape(metrics_of(number), ""))
    }

    /// Which server answers each of the clients; none for those whom nobody answers.
    pub(super) fn ask_all(&self) -> HashMap<u8, u8> {
        self.within(CLIENTS_HOST, || CLIENTS.filter_map(|number| Some((number, ask(number)?))).collect())
    }

    /// Whether a director has the virtual address on its interface.
    pub(super) fn holds(&self, number: usize) -> bool {
        self.addresses(number).contains(&format!(" {VIP}/"))
    }

    /// What `ip` tells of the addresses of a director's host.
    pub(super) fn addresses(&self, number: usize) -> String {
        self.hosts.addresses(1 + number).join("\n")
    }

    /// Gives the virtual address to the host of a director that does not run. Returns its MAC address.
    pub(super) fn takes_the_address(&self, number: usize) -> &'static str {
        const MAC: &str = "02:00:00:00:09:09";
        self.run(1 + number, &["link", "set", "eth0", "address", MAC]);
        self.run(1 + number, &["address", "add", &format!("{VIP}/24"), "dev", "eth0"]);
        MAC
    }

    /// Sets the link of a director up or down.
    pub(super) fn link(&self, number: usize, state: &str) {
        self.run(1 + number, &["link", "set", "eth0", state]);
    }
}

impl Deref for Lab {
    type Target = Hosts;

    fn deref(&self) -> &Hosts {
        &self.hosts
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What went wrong there has been said.
            let _ = thread.join();
        }
    }
}

fn client(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 97, 0, number)
}

fn metrics_of(director: usize) -> SocketAddr {
    SocketAddr::from((DIRECTORS[director], 9100))
}

/// What a client is answered, in the namespace of the clients.
pub(super) fn ask(number: u8) -> Option<u8> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::from((client(number), 0)).into()).ok()?;
    socket.connect_timeout(&SocketAddr::from((VIP, 80)).into(), Duration::from_millis(300)).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut said = [0];
    stream.read_exact(&mut said).ok()?;
    Some(said[0])
}

/// A director, until it is killed or dropped.
pub(super) struct Director {
    child: Child,
    folder: std::path::PathBuf,
    number: usize,
    log_name: &'static str,
}

impl Director {
    pub(super) fn path(&self, what: &str) -> std::path::PathBuf {
        self.folder.join(format!("{}.{what}", self.number))
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path(self.log_name)).unwrap_or_default()
    }

    pub(super) fn says(&self, what: &str) {
        eventually(what, || self.log().contains(what));
    }

    /// How often its log says this.
    pub(super) fn count(&self, what: &str) -> usize {
        self.log().matches(what).count()
    }

    pub(super) fn reload(&self, text: &str) {
        fs::write(self.path("conf"), text).expect("a file");
        let before = self.count("reloaded");
        self.signal(Signal::HUP);
        eventually("it reloads", || self.count("reloaded") > before);
    }

    /// The number of its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) {
        lab::signal(&self.child, signal);
    }

    pub(super) fn lvsadm(&self, words: &[&str]) -> String {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let socket = self.path("sock").display().to_string();
        lvsadm::client::run("lvsadm", words, Some(socket), std::io::empty()).stdout
    }

    /// Waits for it to end; says whether it ended well.
    pub(super) fn ends(&mut self) -> bool {
        self.child.wait().expect("it ends").success()
    }

    pub(super) fn kill(&mut self) -> Instant {
        let at = Instant::now();
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        at
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
