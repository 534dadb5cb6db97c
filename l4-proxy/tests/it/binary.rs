//! The program `l4-proxy`, as a person runs it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use lab::Descendant;
use rustix::process::Signal;

use crate::support::{accept, connect, eventually, free_port, is_free, listener};

/// A running director with its files in a folder of its own.
pub(crate) struct Director {
    folder: tempfile::TempDir,
    child: Child,
    /// Those who have taken its place one after the other.
    upgraded: Mutex<Vec<Descendant>>,
}

impl Director {
    pub(crate) fn start(rules: &str) -> Director {
        Director::start_with(rules, |program| {
            let mut command = Command::new(program);
            // Whoever waits for what the tests print does not wait for this one.
            command.stdout(Stdio::null());
            command
        })
    }

    /// Starts the program as `command` calls it: beside something, or by way of something else.
    pub(crate) fn start_with(rules: &str, command: impl FnOnce(&str) -> Command) -> Director {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("director.rules"), rules).expect("a file");
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let mut command = command(env!("CARGO_BIN_EXE_l4-proxy"));
        command.arg("--rules").arg(folder.path().join("director.rules"));
        // A probe would be accepted by the test in place of its client.
        command.arg("--control").arg(folder.path().join("sock")).arg("--no-probes");
        let child = command.stderr(log).spawn().expect("the program starts");
        let director = Director { folder, child, upgraded: Mutex::default() };
        eventually("the director listens", || director.log().contains("director started"));
        director
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write_rules(&self, rules: &str) {
        fs::write(self.path("director.rules"), rules).expect("a file");
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("a file")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        lab::signal(&self.child, signal);
    }

    pub(crate) fn ipvsadm(&self, words: &str) -> lvsadm::Output {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let socket = self.path("sock").display().to_string();
        lvsadm::client::run("ipvsadm", words, Some(socket), std::io::empty())
    }

    /// Has it start itself anew; the new process ends with this value.
    pub(crate) fn upgrade(&self) -> lvsadm::Output {
        let answer = self.ipvsadm("--upgrade");
        if let Some(process) = upgraded_process(&answer) {
            self.upgraded.lock().expect("no panic").push(Descendant::of(process));
        }
        answer
    }

    /// Has the process that was upgraded to last end as by a signal.
    pub(crate) fn end_upgraded(&self) {
        let newest = self.upgraded.lock().expect("no panic").pop().expect("there is one");
        newest.signal(Signal::TERM);
        assert!(newest.ends(), "it goes on");
        assert!(!self.path("sock").exists(), "its control socket stays");
    }

    /// Its TCP sockets.
    pub(crate) fn sockets(&self) -> Vec<OwnedFd> {
        lab::tcp_sockets(&self.child)
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// Resident memory.
    pub(crate) fn resident_kib(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process that serves after an upgrade, by what `lvsadm` says of it.
pub(crate) fn upgraded_process(answer: &lvsadm::Output) -> Option<u32> {
    let process = answer.stdout.strip_prefix("process ")?.strip_suffix(" serves now\n")?;
    process.parse().ok()
}

pub(crate) fn rules(vip: SocketAddr, server: SocketAddr) -> String {
    format!("-A -t {vip} -s rr\n-a -t {vip} -r {server} -m -w 1\n")
}

/// What the program says of a rules file, and whether it takes it.
fn check(rules: &str) -> (bool, String) {
    check_with(rules, &[])
}

fn check_with(rules: &str, options: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("director.rules");
    fs::write(&path, rules).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_l4-proxy"));
    let output = command.arg("-t").arg("--rules").arg(&path).args(options).output().expect("it runs");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    let folder = folder.path().display().to_string();
    (output.status.success(), said.replace(&format!("{folder}/"), ""))
}

#[test]
fn option_of_a_service_that_is_not_there_is_warned_of() {
    let rules = "-A -t 127.0.0.1:8080 -s rr\n-A -f 5 -s rr\n";
    let good = "director.rules: the rules are good (services: 2, servers: 0)\n";
    let mark = ["--fwmark", "5=127.0.0.1:8081"];
    for (option, value, warned) in [
        ("--send-proxy", "127.0.0.1:8080=v2", ""),
        ("--limit", "5=10", ""),
        (
            "--send-proxy",
            "127.0.0.1:9999=v2",
            "--send-proxy 127.0.0.1:9999: warning: no such TCP service is in director.rules\n",
        ),
        (
            "--transparent",
            "127.0.0.1:9999",
            "--transparent 127.0.0.1:9999: warning: no such TCP service is in director.rules\n",
        ),
        ("--limit", "6=10", "--limit 6: warning: no such TCP service is in director.rules\n"),
        ("--fwmark", "packets=127.0.0.1:8082", ""),
        (
            "--fwmark",
            "5=127.0.0.1:8082,[::1]:8082",
            "--fwmark 5=[::1]:8082: warning: no service that this address leads to is in director.rules\n",
        ),
        (
            "--fwmark",
            "6=127.0.0.1:8082",
            "--fwmark 6=127.0.0.1:8082: warning: no service that this address leads to is in director.rules\n",
        ),
    ] {
        let said = check_with(rules, &[mark[0], mark[1], option, value]);
        assert_eq!(said, (true, format!("{good}{warned}")), "{option} {value}");
    }
}

#[test]
fn bound_above_what_the_descriptors_are_enough_for_is_warned_of() {
    let started = |words: &'static str| {
        let director = Director::start_with("", move |program| {
            let mut command = Command::new("sh");
            // As many as 100 connections, beside what it needs itself.
            command.args(["-c", &format!("ulimit -n 456; exec \"$0\" {words} \"$@\""), program]);
            command.stdout(Stdio::null());
            command
        });
        let log = director.log();
        log.lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(started("--max-connections 100 --max-flows 200"), [""; 0]);
    let warned = started("--max-connections 101 --max-flows 201");
    for (warned, said) in warned.iter().zip([
        "--max-connections 101: the descriptor limit is enough for 100; raise it",
        "--max-flows 201: the descriptor limit is enough for 200; raise it",
    ]) {
        assert!(warned.contains(said), "{warned}");
    }
    assert_eq!(warned.len(), 2, "{warned:?}");
}

#[test]
fn wrong_rules_are_refused_with_file_line_and_word() {
    let service = "-A -t 127.0.0.1:8080 -s rr\n";
    for (rules, said) in [
        ("-A -t 127.0.0.1:8080 -s rrr\n", "l4-proxy: director.rules:1: unknown scheduler: \"rrr\""),
        (
            "-A -t 127.0.0.1:x\n",
            "l4-proxy: director.rules:1: illegal virtual server address[:port] specified: \"127.0.0.1:x\"",
        ),
        (
            "-A -t 127.0.0.1:8080 -s rr\n\n# a comment\n-a -t 127.0.0.1:8080 -r 127.0.0.1:8081 -m -w many\n",
            "l4-proxy: director.rules:4: illegal weight specified: \"many\"",
        ),
        (
            "-A -t 127.0.0.1:8080 -s rr\n-a -t 127.0.0.1:8080 -r 127.0.0.1:8081 -g\n",
            "l4-proxy: director.rules:2: server 127.0.0.1 of service TCP 127.0.0.1:8080 has -g: this build forwards by masquerading only (-m)",
        ),
        (
            "-A --sctp-service 127.0.0.1:53 -s rr\n",
            "l4-proxy: director.rules:1: service SCTP 127.0.0.1:53 cannot be served: this build forwards no SCTP",
        ),
    ] {
        assert_eq!(check(rules), (false, format!("{said}\n")), "{rules}");
    }
    assert_eq!(
        check(service),
        (true, "director.rules: the rules are good (services: 1, servers: 0)\n".to_owned())
    );
}

#[test]
fn broken_rules_on_reload_change_nothing_and_good_ones_all() {
    let (server, server_address) = listener();
    let (vip, second) = (free_port(), free_port());
    let director = Director::start(&rules(vip, server_address));
    let (client, served) = (connect(vip), accept(&server));

    director.write_rules(&rules(vip, server_address).replace("-s rr", "-s rrr"));
    director.signal(Signal::HUP);
    eventually("the error is logged", || {
        director.log().contains("director.rules:1: unknown scheduler: \"rrr\"")
    });
    let (_another, _served) = (connect(vip), accept(&server));

    director.write_rules(&(rules(vip, server_address) + &rules(second, server_address)));
    director.signal(Signal::HUP);
    eventually("the new service listens", || TcpStream::connect(second).is_ok());
    (&client).write_all(b"x").expect("still open");
    (&served).read_exact(&mut [0]).expect("still open");
}

#[test]
fn director_is_driven_by_the_words_of_ipvsadm() {
    let (server, server_address) = listener();
    let vip = free_port();
    let director = Director::start("");
    assert_eq!(director.ipvsadm(&format!("-A -t {vip} -s wlc")).code, 0);
    assert_eq!(director.ipvsadm(&format!("-a -t {vip} -r {server_address} -m")).code, 0);
    let (client, served) = (connect(vip), accept(&server));
    let connections = || director.ipvsadm("-L -n -c").stdout;
    eventually("the connection is listed", || {
        connections().contains(&format!(
            "ESTABLISHED {:18} {:18} {server_address}",
            client.local_addr().expect("open"),
            vip
        ))
    });
    (&client).write_all(b"ping").expect("open");
    (&served).read_exact(&mut [0; 4]).expect("open");
    (&served).write_all(b"pong!").expect("open");
    (&client).read_exact(&mut [0; 5]).expect("open");
    eventually("its bytes are told as they move", || {
        let told = director.ipvsadm("-L -c --json").stdout;
        told.contains("\"bytes_in\": 4,\n      \"bytes_out\": 5\n")
    });
    assert_eq!(director.ipvsadm("--set 100 0 0").code, 0);
    assert_eq!(director.ipvsadm("-L --timeout").stdout, "Timeout (tcp tcpfin udp): 100 120 300\n");
    let refused = director.ipvsadm(&format!("-a -t {vip} -r 10.0.0.1:80 -g"));
    assert_eq!(refused.code, 255);
    assert!(refused.stderr.contains("masquerading only"), "{}", refused.stderr);
    assert_eq!(director.ipvsadm(&format!("-D -t {vip}")).code, 0);
    eventually("nobody listens", || is_free(vip));
}

#[test]
fn idle_connection_holds_two_descriptors_and_no_pipe() {
    let (server, server_address) = listener();
    let vip = free_port();
    let director = Director::start(&rules(vip, server_address));
    let before = director.descriptors();
    let mut pairs: Vec<(TcpStream, TcpStream)> = (0..50).map(|_| (connect(vip), accept(&server))).collect();
    for (client, served) in &mut pairs {
        client.write_all(&[1; 100_000]).expect("open");
        served.read_exact(&mut [0; 100_000]).expect("open");
    }
    // A few pipes may stay pooled; they do not grow with the connections.
    let (more, pooled) = (director.descriptors() - before, 2 * 8);
    assert!((100..=100 + pooled).contains(&more), "{more} descriptors for 50 connections");
}

#[test]
fn terminated_director_lets_connections_end() {
    let (server, server_address) = listener();
    let vip = free_port();
    let mut director = Director::start(&rules(vip, server_address));
    let (mut client, mut served) = (connect(vip), accept(&server));
    director.signal(Signal::TERM);
    eventually("nobody listens", || is_free(vip));
    client.write_all(b"ping").expect("still open");
    client.shutdown(Shutdown::Write).expect("still open");
    let mut heard = String::new();
    served.read_to_string(&mut heard).expect("still open");
    served.write_all(b"pong").expect("still open");
    drop(served);
    heard.clear();
    client.read_to_string(&mut heard).expect("still open");
    assert_eq!(heard, "pong");
    assert!(director.wait().success());
    assert!(!director.log().contains("cut"), "{}", director.log());
}

#[test]
fn second_signal_ends_the_director_at_once() {
    let (server, server_address) = listener();
    let vip = free_port();
    let mut director = Director::start(&rules(vip, server_address));
    let (_client, _served) = (connect(vip), accept(&server));
    director.signal(Signal::INT);
    eventually("it drains", || director.log().contains("draining"));
    director.signal(Signal::INT);
    assert!(director.wait().success());
    assert!(director.log().contains("connections cut connections=1"), "{}", director.log());
}

#[test]
fn wrong_option_is_named() {
    for (arguments, said) in [
        (&["--wrokers", "2"][..], "l4-proxy: unknown option --wrokers"),
        (
            &["--log", "inof,connection=off"],
            "l4-proxy: invalid value \"inof,connection=off\" for --log: wanted a level and levels by target, such as info,connection=off",
        ),
        (
            &["--workers", "none"],
            "l4-proxy: invalid value \"none\" for --workers: wanted a number from 1 to 1024",
        ),
        (
            &["--rules", "/nonexistent/rules"],
            "l4-proxy: /nonexistent/rules: No such file or directory (os error 2)",
        ),
        (&[], "l4-proxy: nothing to do: give --config FILE, --rules FILE or --control PATH"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_l4-proxy")).args(arguments).output().expect("it runs");
        let said_first = String::from_utf8_lossy(&output.stderr).lines().next().map(str::to_owned);
        assert_eq!(said_first.as_deref(), Some(said));
        assert_eq!(output.status.code(), Some(1));
    }
}
