//! The program's changes under load: a new file by HUP, a new binary by USR2, and the ways back.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::http2_peer::{connect as connect_http2, request, run};
use crate::peer::{Client, Origin, eventually};
use crate::program::{Running, Site};

/// A process of the program that the test has not started itself; ended when dropped.
pub(crate) struct Heir(Pid);

impl Heir {
    /// The process that the pid file names, once it names another than `before`.
    pub(crate) fn of(site: &Site, before: u32) -> Heir {
        let mut found = None;
        eventually("there is a successor", || {
            found =
                site.read("l7.pid").trim().parse().ok().filter(|pid| *pid != i32::try_from(before).unwrap());
            found.is_some()
        });
        Heir(Pid::from_raw(found.unwrap()).unwrap())
    }

    fn id(&self) -> u32 {
        u32::try_from(self.0.as_raw_nonzero().get()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).unwrap();
    }

    pub(crate) fn is_alive(&self) -> bool {
        // One that has ended and that nobody has asked for is still there, as a zombie.
        let status = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        test_kill_process(self.0).is_ok() && !status.contains(") Z ")
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// Clients that ask again and again, of which half keep their connection; they count their answers
/// and fail at the first request without one.
struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<usize>>,
}

impl Load {
    fn start(addr: SocketAddr) -> Load {
        Load::of(move || Client::connect(addr))
    }

    /// Of clients of a Unix socket.
    fn at(path: PathBuf) -> Load {
        Load::of(move || connect(&path).unwrap())
    }

    fn of(connect: impl Fn() -> Client + Send + Clone + 'static) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let clients = (0..4).map(|number| {
            let (over, connect) = (Arc::clone(&over), connect.clone());
            std::thread::spawn(move || {
                let (mut client, mut count) = (connect(), 0);
                while !over.load(Ordering::SeqCst) {
                    let answer = client.get("/");
                    assert_eq!(answer.status, 200);
                    count += 1;
                    if number % 2 == 0 || answer.header("connection") == Some("close") {
                        client = connect();
                    }
                }
                count
            })
        });
        let clients = clients.collect();
        Load { over, clients }
    }

    /// Ends it; returns how many requests were answered, all that were sent.
    fn end(self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        self.clients.into_iter().map(|client| client.join().unwrap()).sum()
    }
}

/// A client of a Unix socket.
fn connect(path: &Path) -> std::io::Result<Client> {
    let stream = UnixStream::connect(path)?;
    Ok(Client::from(TcpStream::from(OwnedFd::from(stream))))
}

/// A site that forwards to `origin`, with so many workers.
fn write(site: &Site, origin: &Origin, workers: usize, more: &str) {
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; worker_processes {workers}; {more} events {{}}
         http {{ access_log off; 
         server {{ listen {}; location / {{ proxy_pass http://{}; }} }} }}",
        site.addr, origin.addr
    ));
}

/// Waits until the origin has got some more requests.
fn some_more(origin: &Origin) {
    let before = origin.requests().len();
    eventually("requests go on", || origin.requests().len() > before + 20);
}

fn start(origin: &Origin) -> (Site, Running) {
    let site = Site::new("");
    write(&site, origin, 2, "");
    let running = site.start();
    (site, running)
}

#[test]
fn hangup_under_load_loses_no_request() {
    let origin = Origin::named("a");
    let (site, running) = start(&origin);
    let load = Load::start(site.addr);
    for turn in 1..=10 {
        running.signal(Signal::HUP);
        eventually("it has reloaded", || site.read("error.log").matches("reconfigured").count() == turn);
        some_more(&origin);
    }
    assert_eq!(load.end(), origin.requests().len());
}

#[test]
fn binary_upgrade_under_load_loses_no_request() {
    let origin = Origin::named("a");
    let (site, mut running) = start(&origin);
    let load = Load::start(site.addr);
    some_more(&origin);
    running.signal(Signal::USR2);
    let mut heir = Heir::of(&site, running.child.id());
    assert_eq!(site.read("l7.pid.oldbin").trim(), running.child.id().to_string());
    some_more(&origin);
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    assert!(!site.path("l7.pid.oldbin").exists());
    // The successor has successors, with more workers and with fewer.
    for workers in [3, 1, 2] {
        some_more(&origin);
        write(&site, &origin, workers, "");
        heir.signal(Signal::USR2);
        let next = Heir::of(&site, heir.id());
        some_more(&origin);
        heir.signal(Signal::QUIT);
        eventually("the old one has ended", || !heir.is_alive());
        heir = next;
    }
    some_more(&origin);
    assert_eq!(load.end(), origin.requests().len());
    assert!(heir.is_alive());
}

#[test]
fn binary_upgrade_loses_no_line_that_a_log_has_gathered() {
    let site = Site::new("");
    let relayed = SocketAddr::new(site.addr.ip(), site.addr.port() ^ 1);
    // Room for all lines, or for a few, and a time that never comes: whoever ends has to write what it has.
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; worker_processes 2; events {{}}
         http {{ log_format path '$uri'; access_log all.log path buffer=4m flush=1h;
           access_log few.log path buffer=200; access_log packed.log path gzip flush=1h;
           server {{ listen {}; return 200 x; }} }}
         stream {{ log_format status '$status'; access_log stream.log status buffer=4m;
           server {{ listen {relayed}; return x; }} }}",
        site.addr
    ));
    let mut running = site.start();
    let load = Load::start(site.addr);
    let over = Arc::new(AtomicBool::new(false));
    let connections = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut count = 0;
            while !over.load(Ordering::SeqCst) {
                assert_eq!(Client::connect(relayed).rest().unwrap(), b"x");
                count += 1;
            }
            count
        }
    });
    let lines = |name: &str| site.read(name).lines().count();
    let some_more = || {
        let before = lines("few.log");
        eventually("requests go on", || lines("few.log") > before + 100);
    };
    some_more();
    running.signal(Signal::USR2);
    let mut heir = Heir::of(&site, running.child.id());
    some_more();
    assert_eq!(lines("all.log"), 0, "nothing is written without need");
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    assert!(lines("all.log") > 0, "the first has written what it had");
    // The way back: the old one rests, and goes on when the new one has ended.
    some_more();
    heir.signal(Signal::USR2);
    let next = Heir::of(&site, heir.id());
    heir.signal(Signal::WINCH);
    some_more();
    next.signal(Signal::QUIT);
    heir.signal(Signal::HUP);
    eventually("the successor has ended", || !next.is_alive());
    some_more();
    heir.signal(Signal::USR2);
    let last = Heir::of(&site, heir.id());
    heir.signal(Signal::QUIT);
    eventually("the old one has ended", || !heir.is_alive());
    heir = last;
    some_more();
    over.store(true, Ordering::SeqCst);
    let (requests, connections) = (load.end(), connections.join().unwrap());
    heir.signal(Signal::QUIT);
    eventually("all have ended", || !heir.is_alive());
    assert_eq!([lines("all.log"), lines("few.log")], [requests; 2]);
    assert_eq!(crate::log_buffer::unpacked(&site.path(""), "packed.log").lines().count(), requests);
    assert_eq!(lines("stream.log"), connections);
}

/// Asks an address until it is over; returns how many requests were answered, all that were sent.
type Asks = fn(SocketAddr, &AtomicBool) -> usize;

/// Over HTTP/2, on a connection for as long as it takes requests.
fn asks_over_http2(addr: SocketAddr, over: &AtomicBool) -> usize {
    let mut answered = 0;
    while !over.load(Ordering::SeqCst) {
        answered += run(async {
            let sender = connect_http2(addr).await;
            let mut count = 0;
            while count < 100
                && let Ok(mut sender) = sender.clone().ready().await
                && let Ok((response, _)) = sender.send_request(request("GET", "/").body(()).unwrap(), true)
            {
                match response.await {
                    Ok(response) => assert_eq!(response.status(), 200),
                    // The goodbye came before it had left: it is asked anew, and the origin has not seen it.
                    Err(error) => {
                        let late = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
                        assert!(late, "no answer: {error:?}");
                        break;
                    }
                }
                count += 1;
            }
            count
        });
    }
    answered
}

/// By curl, over TLS and HTTP/1.1.
fn asks_by_curl(addr: SocketAddr, over: &AtomicBool) -> usize {
    let mut answered = 0;
    while !over.load(Ordering::SeqCst) {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-S", "-k", "-m", "60", "--http1.1", "-o", "/dev/null", "-w", "%{http_code}\n"]);
        let output = curl.arg(format!("https://{addr}/?[1-100]")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.lines().filter(|line| *line == "200").count(), 100, "{output:?}");
        answered += 100;
    }
    answered
}

#[test]
fn binary_upgrade_loses_no_request_of_http2_or_of_tls() {
    if !crate::secure::has("curl") {
        return;
    }
    let origin = Origin::named("a");
    let site = Site::new("");
    let secure = SocketAddr::new(site.addr.ip(), site.addr.port() ^ 1);
    // So many programs at once may keep a client from asking again for long: hence the 5 s.
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; worker_processes 2; events {{}}
         http {{ access_log off; http2 on; {} keepalive_min_timeout 5s;
         server {{ listen {}; listen {secure} ssl; location / {{ proxy_pass http://{}; }} }} }}",
        crate::secure::certificate("server"),
        site.addr,
        origin.addr
    ));
    let mut running = site.start();
    let over = Arc::new(AtomicBool::new(false));
    let plain = Load::start(site.addr);
    let loads: [(SocketAddr, Asks); 3] =
        [(site.addr, asks_over_http2), (site.addr, asks_over_http2), (secure, asks_by_curl)];
    let loads = loads.map(|(addr, ask)| {
        let over = Arc::clone(&over);
        std::thread::spawn(move || ask(addr, &over))
    });
    some_more(&origin);
    running.signal(Signal::USR2);
    let mut heir = Heir::of(&site, running.child.id());
    some_more(&origin);
    running.signal(Signal::QUIT);
    some_more(&origin);
    assert_eq!(running.end(), 0);
    for _ in 0..3 {
        heir.signal(Signal::USR2);
        let next = Heir::of(&site, heir.id());
        heir.signal(Signal::QUIT);
        some_more(&origin);
        eventually("the old one has ended", || !heir.is_alive());
        heir = next;
    }
    over.store(true, Ordering::SeqCst);
    let answered: usize = loads.into_iter().map(|load| load.join().unwrap()).sum();
    assert_eq!(answered + plain.end(), origin.requests().len());
}

#[test]
fn successor_that_fails_leaves_everything_as_it_was() {
    let origin = Origin::named("a");
    let (site, running) = start(&origin);
    let load = Load::start(site.addr);
    site.write_whole("nonsense");
    running.signal(Signal::USR2);
    eventually("the new one has failed", || site.read("error.log").contains("new binary process exited"));
    eventually("the pid file is back", || {
        site.read("l7.pid").trim() == running.child.id().to_string() && !site.path("l7.pid.oldbin").exists()
    });
    some_more(&origin);
    assert_eq!(load.end(), origin.requests().len());
    // It can be tried again.
    write(&site, &origin, 2, "");
    running.signal(Signal::USR2);
    let heir = Heir::of(&site, running.child.id());
    // One at a time.
    running.signal(Signal::USR2);
    heir.signal(Signal::USR2);
    eventually("both refuse", || {
        site.read("error.log").matches("the changing binary signal is ignored").count() == 2
    });
}

#[test]
fn old_binary_comes_back_after_it_has_stopped_accepting() {
    let origin = Origin::named("a");
    let (site, running) = start(&origin);
    let load = Load::start(site.addr);
    running.signal(Signal::USR2);
    let heir = Heir::of(&site, running.child.id());
    running.signal(Signal::WINCH);
    eventually("the old one rests", || site.read("error.log").contains("accepting no more connections"));
    some_more(&origin);
    running.signal(Signal::HUP);
    eventually("it is back", || site.read("error.log").contains("accepting connections again"));
    heir.signal(Signal::QUIT);
    eventually("the new one has ended", || !heir.is_alive());
    eventually("the pid file is back", || site.read("l7.pid").trim() == running.child.id().to_string());
    some_more(&origin);
    // Without a word, too: it rests, the new one dies.
    running.signal(Signal::USR2);
    let heir = Heir::of(&site, running.child.id());
    running.signal(Signal::WINCH);
    eventually("the old one rests", || {
        site.read("error.log").matches("accepting no more connections").count() == 2
    });
    heir.signal(Signal::QUIT);
    some_more(&origin);
    eventually("it is back", || site.read("error.log").matches("accepting connections again").count() == 2);
    some_more(&origin);
    assert_eq!(load.end(), origin.requests().len());
}

/// A site that forwards to `origin` what comes to its address and to a Unix socket.
fn write_both(site: &Site, origin: &Origin, workers: usize) {
    site.write_whole(&format!(
        "pid l7.pid; error_log error.log notice; worker_processes {workers}; events {{}}
         http {{ access_log off;
         server {{ listen {}; listen unix:{}; location / {{ proxy_pass http://{}; }} }} }}",
        site.addr,
        site.path("socket").display(),
        origin.addr
    ));
}

#[test]
fn binary_upgrade_takes_a_unix_socket_along_and_loses_no_request() {
    let origin = Origin::named("a");
    let site = Site::new("");
    write_both(&site, &origin, 2);
    let mut running = site.start();
    let path = site.path("socket");
    let (network, local) = (Load::start(site.addr), Load::at(path.clone()));
    some_more(&origin);
    running.signal(Signal::USR2);
    let heir = Heir::of(&site, running.child.id());
    some_more(&origin);
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    some_more(&origin);
    // The successor has one, with another number of workers.
    write_both(&site, &origin, 1);
    heir.signal(Signal::USR2);
    let next = Heir::of(&site, heir.id());
    heir.signal(Signal::QUIT);
    eventually("the old one has ended", || !heir.is_alive());
    some_more(&origin);
    assert_eq!(network.end() + local.end(), origin.requests().len());
    assert_eq!(connect(&path).unwrap().get("/").text(), "a /");
    // The last one takes the path away.
    next.signal(Signal::TERM);
    eventually("the new one has ended", || !next.is_alive());
    assert!(!path.exists());
}

#[test]
fn path_stays_when_the_successor_ends_and_goes_with_the_old_binary() {
    let origin = Origin::named("a");
    let site = Site::new("");
    write_both(&site, &origin, 1);
    let mut running = site.start();
    let path = site.path("socket");
    for signal in [Signal::QUIT, Signal::TERM, Signal::KILL] {
        running.signal(Signal::USR2);
        let heir = Heir::of(&site, running.child.id());
        heir.signal(signal);
        eventually("the pid file is back", || site.read("l7.pid").trim() == running.child.id().to_string());
        assert_eq!(connect(&path).unwrap().get("/").text(), "a /");
    }
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    assert!(!path.exists());
}

#[test]
fn path_that_the_successor_does_without_stays_with_the_old_binary_and_goes_in_the_end() {
    let origin = Origin::named("a");
    let site = Site::new("");
    write_both(&site, &origin, 1);
    let mut running = site.start();
    let path = site.path("socket");
    write(&site, &origin, 1, "");
    running.signal(Signal::USR2);
    let heir = Heir::of(&site, running.child.id());
    // A reload while both are there takes nothing away either.
    heir.signal(Signal::HUP);
    eventually("it has reloaded", || site.read("error.log").contains("reconfigured"));
    assert_eq!(connect(&path).unwrap().get("/").text(), "a /");
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    heir.signal(Signal::TERM);
    eventually("the new one has ended", || !heir.is_alive());
    assert!(!path.exists());
}

/// What `lvsadm` lists at the site's control socket.
pub(crate) fn list(site: &Site) -> String {
    let socket = site.path("control").display().to_string();
    let output = lvsadm::client::run("lvsadm", vec!["-Ln".to_owned()], Some(socket), std::io::empty());
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stdout
}

#[test]
fn control_socket_is_the_successors_and_comes_back_if_that_fails() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let site = Site::new("");
    let control = "lvs_control unix:control;";
    write(&site, &old, 1, control);
    let mut running = site.start();
    assert!(list(&site).contains(&old.addr.to_string()));
    write(&site, &new, 1, control);
    running.signal(Signal::USR2);
    let heir = Heir::of(&site, running.child.id());
    assert!(list(&site).contains(&new.addr.to_string()));
    heir.signal(Signal::QUIT);
    eventually("the new one has ended", || !heir.is_alive());
    eventually("the pid file is back", || site.read("l7.pid").trim() == running.child.id().to_string());
    eventually("the socket is there", || site.path("control").exists());
    assert!(list(&site).contains(&old.addr.to_string()));
    running.signal(Signal::USR2);
    let heir = Heir::of(&site, running.child.id());
    running.signal(Signal::QUIT);
    assert_eq!(running.end(), 0);
    assert!(list(&site).contains(&new.addr.to_string()), "the old one has left the socket alone");
    heir.signal(Signal::TERM);
    eventually("the new one has ended", || !heir.is_alive());
    assert!(!site.path("control").exists());
}

#[test]
fn daemon_is_in_the_background_when_its_starter_ends() {
    let site = Site::new("");
    let write = |content: &str| {
        site.write_whole(&format!(
            "daemon on; pid l7.pid; error_log error.log notice; events {{}}
             http {{ access_log off; server {{ listen {}; {content} }} }}",
            site.addr
        ));
    };
    write("return 200 hello;");
    // Nothing of the terminal is held on to: the pipes end with the starter.
    let output = site.run(&[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(site.get(), "hello");
    let heir = Heir::of(&site, std::process::id());
    let stat = fs::read_to_string(format!("/proc/{}/stat", heir.id())).unwrap();
    let session = stat.split_whitespace().nth(5).unwrap();
    assert_eq!(session, heir.id().to_string(), "it is a session of its own");
    // What its successor fails at is in the log of errors, also in a new one.
    fs::rename(site.path("error.log"), site.path("error.old")).unwrap();
    heir.signal(Signal::USR1);
    eventually("there is a new log", || site.path("error.log").exists());
    write("nothing;");
    heir.signal(Signal::USR2);
    let log = || fs::read_to_string(site.path("error.log")).unwrap();
    eventually("its successor has failed", || log().contains("new binary process exited"));
    assert!(log().contains("unknown directive \"nothing\" in"), "{}", log());
    write("return 200 hello;");
    // Another one fails, and the starter says why.
    let (code, said) = site.say(&[]);
    assert_eq!(code, 1);
    assert!(said.contains("failed (98: Address already in use)"), "{said}");
    assert_eq!(site.say(&["-s", "quit"]), (0, String::new()));
    eventually("it has ended", || !heir.is_alive());
    assert!(!site.path("l7.pid").exists());
}
