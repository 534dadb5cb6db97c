//! Servers that are known by name, and whose addresses change while requests go on.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::name_server::{NameServer, Says, local};
use crate::peer::{Origin, Proxy, configuration, eventually, http};

/// A real name server; ended when dropped.
pub(crate) struct Dnsmasq {
    child: Child,
    folder: tempfile::TempDir,
    pub(crate) addr: SocketAddr,
}

impl Dnsmasq {
    /// Starts one with these options; `None` where the machine has none.
    pub(crate) fn start(options: &[&str]) -> Option<Dnsmasq> {
        let program = ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq"].into_iter().map(PathBuf::from);
        let Some(program) = program.into_iter().find(|path| path.exists()) else {
            assert!(std::env::var_os("REQUIRE_PEERS").is_none(), "dnsmasq is missing");
            let _ = writeln!(std::io::stderr(), "dnsmasq is missing: names are not tested with it");
            return None;
        };
        // Nobody else uses this address, so that no port of it is taken.
        static SERVERS: AtomicU8 = AtomicU8::new(100);
        let [low, high, ..] = std::process::id().to_le_bytes();
        let ip = [127, high | 1, low, SERVERS.fetch_add(1, Ordering::SeqCst)];
        let addr = SocketAddr::from((ip, 5353));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hosts"), "").unwrap();
        let child = Command::new(program)
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
            .args(["--bind-interfaces", "--pid-file", "--user="])
            .args(["--local-ttl=1", "--local=/test/"])
            .arg(format!("--listen-address={}", addr.ip()))
            .arg(format!("--port={}", addr.port()))
            .arg(format!("--addn-hosts={}", folder.path().join("hosts").display()))
            .args(options)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Dnsmasq { child, folder, addr })
    }

    /// Has names stand for addresses: lines of `ADDRESS NAME`.
    fn tell(&self, hosts: &str) {
        fs::write(self.folder.path().join("hosts"), hosts).unwrap();
        let process = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // It begins to read its files when it is told so, not before it has read them once.
        eventually("it answers", || TcpStream::connect(self.addr).is_ok());
        kill_process(process, Signal::HUP).unwrap();
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A proxy for the servers under a name.
fn site(resolver: SocketAddr, server: &str) -> String {
    http(&format!(
        "resolver {resolver} ipv6=off valid=200ms; resolver_timeout 1s;
         upstream app {{ zone app 64k; {server} }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; }} }}"
    ))
}

/// Two servers at one port of two addresses of this machine.
fn twins() -> (Origin, Origin) {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let Ok(second) = TcpListener::bind(("127.0.0.2", port)) else { continue };
        let named = |listener: TcpListener, name: &'static str| {
            Origin::on(listener, move |visit| {
                loop {
                    visit.request()?;
                    visit.reply("", name)?;
                }
            })
        };
        return (named(first, "one"), named(second, "two"));
    }
}

fn servers(proxy: &Proxy) -> Vec<SocketAddr> {
    let stats = proxy.daemon.director().stats();
    stats[0].servers.iter().map(|server| server.config.address).collect()
}

#[test]
fn addresses_of_a_name_are_the_servers_and_follow_its_changes() {
    let Some(names) = Dnsmasq::start(&[]) else { return };
    let (one, two) = twins();
    names.tell("127.0.0.1 app.test\n");
    let server = format!("server app.test:{} resolve max_fails=0;", one.addr.port());
    let text = site(names.addr, &server);
    let proxy = Proxy::start(&text);
    eventually("the name is resolved", || proxy.get("/").text() == "one");
    let before = proxy.daemon.director().stats()[0].servers[0].connections;
    names.tell("127.0.0.1 app.test\n127.0.0.2 app.test\n");
    eventually("the second is there", || servers(&proxy) == [one.addr, two.addr]);
    // Whoever stays keeps what was counted.
    assert!(proxy.daemon.director().stats()[0].servers[0].connections >= before);
    let mut seen: Vec<String> = (0..2).map(|_| proxy.get("/").text().to_owned()).collect();
    seen.sort();
    assert_eq!(seen, ["one", "two"]);
    // A reload does not forget what was found.
    proxy.daemon.reload(configuration(proxy.folder.path(), &text)).unwrap();
    assert_eq!(servers(&proxy), [one.addr, two.addr]);
    names.tell("127.0.0.2 app.test\n");
    eventually("the first is gone", || servers(&proxy) == [two.addr]);
    assert_eq!(proxy.get("/").text(), "two");
    // That there is no such name is an answer, and its servers are none.
    names.tell("");
    eventually("nobody is left", || servers(&proxy).is_empty());
    assert_eq!(proxy.get("/").status, 502);
    names.tell("127.0.0.2 app.test\n");
    eventually("one is back", || servers(&proxy) == [two.addr]);
    // What fails does not take away what was known.
    drop(names);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(proxy.get("/").text(), "two");
}

#[test]
fn services_bring_their_ports_weights_and_backups() {
    let (one, two) = twins();
    let spare = Origin::named("spare");
    let service = |target: &str, port: u16, rest: &str| {
        format!("--srv-host=_http._tcp.app.test,{target}.test,{port},{rest}")
    };
    let options = [
        service("a", one.addr.port(), "1,3"),
        service("b", two.addr.port(), "1,1"),
        service("a", spare.addr.port(), "2,1"),
    ];
    let options: Vec<&str> = options.iter().map(|option| &**option).collect();
    let Some(names) = Dnsmasq::start(&options) else { return };
    names.tell("127.0.0.1 a.test\n127.0.0.2 b.test\n");
    let proxy = Proxy::start(&site(names.addr, "server app.test service=http resolve;"));
    eventually("the service is resolved", || servers(&proxy).len() == 3);
    (0..8).for_each(|_| assert_eq!(proxy.get("/").status, 200));
    let asked = [&one, &two, &spare].map(|origin| origin.requests().len());
    assert_eq!(asked, [6, 2, 0]);
}

#[test]
fn answer_that_does_not_fit_into_a_datagram_is_asked_for_over_tcp() {
    let Some(names) = Dnsmasq::start(&["--edns-packet-max=512"]) else { return };
    let hosts: String = (1..=120).map(|last| format!("127.0.7.{last} many.test\n")).collect();
    names.tell(&hosts);
    let proxy = Proxy::start(&site(names.addr, "server many.test:9 resolve;"));
    eventually("all are there", || servers(&proxy).len() == 120);
}

/// A name server that answers with nothing but this code while it is told to, and else with an address.
fn scripted(broken: Arc<AtomicBool>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut datagram = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            let mut answer = datagram[..length].to_vec();
            if broken.load(Ordering::SeqCst) {
                answer[2..4].copy_from_slice(&[0x81, 0x82]);
            } else {
                answer[2..4].copy_from_slice(&[0x81, 0x80]);
                answer[7] = 1;
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
            }
            if socket.send_to(&answer, from).is_err() {
                return;
            }
        }
    });
    addr
}

#[test]
fn failure_of_the_name_servers_keeps_the_last_answer() {
    let broken = Arc::new(AtomicBool::new(true));
    let resolver = scripted(Arc::clone(&broken));
    let origin = Origin::named("a");
    let proxy = Proxy::start(&site(resolver, &format!("server app.test:{} resolve;", origin.addr.port())));
    assert_eq!(proxy.get("/").status, 502);
    broken.store(false, Ordering::SeqCst);
    eventually("it is resolved", || proxy.get("/").status == 200);
    broken.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(proxy.get("/").status, 200);
}

/// There is no such name; and nobody can tell.
const NONE: Says = Says::Code(3);
const UNABLE: Says = Says::Code(2);

/// Lets a name be asked for twice more.
fn ask_again(names: &NameServer, name: &str) {
    let before = names.asked(name).len();
    // Two families, one of which is asked for twice while nobody can tell.
    eventually("it is asked for again", || names.asked(name).len() > before + 4);
}

#[test]
fn servers_stay_until_all_who_are_asked_say_that_there_are_none() {
    let (one, _) = twins();
    let names = NameServer::of("app.test", local([1]));
    let server = format!("server app.test:{} resolve;", one.addr.port());
    let proxy = Proxy::start(&site(names.addr, &server).replace(" ipv6=off", ""));
    eventually("the name is resolved", || servers(&proxy) == [one.addr]);
    for (four, six) in [(UNABLE, NONE), (NONE, UNABLE), (UNABLE, local([])), (local([]), UNABLE)] {
        names.tell("app.test", Says::Families(four.into(), six.into()));
        ask_again(&names, "app.test");
        assert_eq!(servers(&proxy), [one.addr]);
    }
    names.tell("app.test", Says::Families(NONE.into(), local([]).into()));
    eventually("nobody is left", || servers(&proxy).is_empty());
}

#[test]
fn servers_of_a_service_stay_until_all_who_are_asked_say_that_there_are_none() {
    let (one, two) = twins();
    let port = one.addr.port();
    let targets = Says::Services(vec![(1, 1, port, "a.test"), (1, 1, port, "b.test")]);
    let names = NameServer::of("_http._tcp.app.test", targets);
    let tell = |a: Says, b: Says| {
        names.tell("a.test", a);
        names.tell("b.test", b);
    };
    tell(local([1]), local([2]));
    let proxy = Proxy::start(&site(names.addr, "server app.test service=http resolve;"));
    eventually("the service is resolved", || servers(&proxy) == [one.addr, two.addr]);
    for (a, b) in [(UNABLE, NONE), (NONE, UNABLE), (UNABLE, local([2])), (local([1]), UNABLE)] {
        tell(a, b);
        ask_again(&names, "b.test");
        assert_eq!(servers(&proxy), [one.addr, two.addr]);
    }
    tell(local([1]), NONE);
    eventually("the second is gone", || servers(&proxy) == [one.addr]);
    tell(NONE, NONE);
    eventually("nobody is left", || servers(&proxy).is_empty());
}
