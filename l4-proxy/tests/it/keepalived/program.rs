//! The program `l4-proxy --config keepalived.conf`, as a person runs it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PATIENCE, eventually, free_port};

/// A director that is run by a `keepalived.conf` in a folder of its own.
pub(crate) struct Director {
    pub(crate) folder: tempfile::TempDir,
    child: Child,
}

impl Director {
    pub(crate) fn start(text: &str) -> Director {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("lb.conf"), text.replace("FOLDER", &folder.path().display().to_string()))
            .expect("a file");
        let log = fs::File::create(path("log")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_l4-proxy"));
        command
            .arg("--config")
            .arg(path("lb.conf"))
            .arg("--control")
            .arg(path("sock"))
            .args(["--workers", "2"]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the program starts");
        let director = Director { folder, child };
        eventually("the director starts", || director.log().contains("director started"));
        director
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    pub(crate) fn log(&self) -> String {
        self.read("log")
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(self.folder.path().join("lb.conf"), text).expect("a file");
    }

    fn reload(&self, text: &str) {
        self.write(text);
        kill_process(Pid::from_child(&self.child), Signal::HUP).expect("it runs");
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    pub(crate) fn ipvsadm(&self, words: &str) -> lvsadm::Output {
        let words = words.split(' ').map(str::to_owned).collect();
        let socket = self.control().display().to_string();
        lvsadm::client::run("ipvsadm", words, Some(socket), std::io::empty())
    }

    fn list(&self) -> String {
        self.ipvsadm("-L -n").stdout
    }

    fn end(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that says its name to whoever connects, until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(address: SocketAddr, name: &'static str) -> Server {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("bound");
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if stopped.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                // A check does not read it.
                let _ = stream.write_all(name.as_bytes());
            }
        });
        Server { address, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
    }
}

/// What a client reads; nothing if it is reset, be it before its call to connect returns.
pub(crate) fn ask(address: SocketAddr) -> String {
    let mut said = String::new();
    let _ = TcpStream::connect_timeout(&address, PATIENCE).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_to_string(&mut said)
    });
    said
}

/// Where a server may listen: nobody else is given its port once it has gone.
pub(crate) fn any() -> SocketAddr {
    free_port()
}

pub(crate) fn server(address: SocketAddr, lines: &str) -> String {
    format!(
        "real_server {} {} {{\nweight 1\nTCP_CHECK {{\nwarmup 0\ndelay_loop 0.05\nretry 1\ndelay_before_retry 0.05\nconnect_timeout 1\n}}\n{lines}\n}}\n",
        address.ip(),
        address.port()
    )
}

pub(crate) fn service(vip: SocketAddr, lines: &str, servers: &[String]) -> String {
    format!(
        "virtual_server {} {} {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n{lines}\n{}}}\n",
        vip.ip(),
        vip.port(),
        servers.concat()
    )
}

#[test]
fn server_that_dies_is_left_out_and_comes_back() {
    let (one, two) = (Server::start(any(), "one"), Server::start(any(), "two"));
    let (first, second) = (one.address, two.address);
    let vip = free_port();
    let servers = [
        server(
            first,
            "notify_down \"/bin/sh -c 'echo down >> FOLDER/told'\"\nnotify_up \"/bin/sh -c 'echo up >> FOLDER/told'\"",
        ),
        server(second, ""),
    ];
    let mut director = Director::start(&service(vip, "", &servers));
    let mut seen = [ask(vip), ask(vip)];
    seen.sort();
    assert_eq!(seen, ["one", "two"]);

    drop(one);
    eventually("the dead server is noticed", || {
        director.log().contains("server is down: TCP_CHECK: connect refused")
    });
    assert_eq!([ask(vip), ask(vip)], ["two", "two"]);
    let row = |address: SocketAddr, list: &str| {
        list.lines().find(|line| line.contains(&address.to_string())).unwrap_or_default().to_owned()
    };
    let list = director.list();
    assert!(row(first, &list).contains("Masq    0 "), "{list}");
    assert!(row(second, &list).contains("Masq    1 "), "{list}");
    eventually("the script is run", || director.read("told") == "down\n");

    let _one = Server::start(first, "one");
    eventually("the server is back", || director.log().contains("server is up"));
    let mut seen = [ask(vip), ask(vip)];
    seen.sort();
    assert_eq!(seen, ["one", "two"]);
    assert!(row(first, &director.list()).contains("Masq    1 "));
    eventually("the script is run", || director.read("told") == "down\nup\n");
    director.end();
}

#[test]
fn sorry_server_serves_while_the_quorum_is_lost() {
    let (one, two, sorry) =
        (Server::start(any(), "one"), Server::start(any(), "two"), Server::start(any(), "sorry"));
    let (first, vip) = (one.address, free_port());
    let lines = format!(
        "quorum 2\nomega\nsorry_server {} {}\nquorum_up \"/bin/sh -c 'echo gained >> FOLDER/told'\"\nquorum_down \"/bin/sh -c 'echo lost >> FOLDER/told'\"",
        sorry.address.ip(),
        sorry.address.port()
    );
    let servers =
        [server(first, ""), server(two.address, "notify_down \"/bin/sh -c 'echo end >> FOLDER/told'\"")];
    let mut director = Director::start(&service(vip, &lines, &servers));
    assert!(!director.list().contains(&sorry.address.to_string()));

    drop(one);
    eventually("the quorum is lost", || {
        director.log().contains("quorum lost: weight 1, wanted 2; the sorry server")
    });
    eventually("the sorry server serves", || ask(vip) == "sorry");
    assert_eq!([ask(vip), ask(vip)], ["sorry", "sorry"]);
    assert!(director.list().contains(&sorry.address.to_string()));

    let _one = Server::start(first, "one");
    eventually("the quorum is gained", || director.log().contains("quorum gained: weight 2, wanted 2"));
    eventually("the sorry server rests", || !director.list().contains(&sorry.address.to_string()));
    assert!([ask(vip), ask(vip)].iter().all(|who| who != "sorry"));
    eventually("the scripts are run", || director.read("told") == "lost\ngained\n");
    director.end();
    assert_eq!(director.read("told"), "lost\ngained\nend\nlost\n", "omega tells of the end");
}

#[test]
fn reload_keeps_what_checks_have_found_and_a_wrong_file_changes_nothing() {
    let (one, two) = (Server::start(any(), "one"), Server::start(any(), "two"));
    let (dead, vip, other) = (free_port(), free_port(), free_port());
    // Checked once at the start, and then not again for a long time.
    let slow = |address| server(address, "").replace("delay_loop 0.05", "delay_loop 600");
    let before = service(vip, "", &[slow(dead), slow(one.address)]);
    let mut director = Director::start(&before);
    eventually("the dead server is noticed", || director.log().contains("server is down"));

    director.reload(&service(vip, "wieght 1", &[slow(one.address)]));
    eventually("the file is refused", || director.log().contains("not reloaded, still serving as before"));
    assert!(director.log().contains("lb.conf:5: unknown keyword \"wieght\" in virtual_server"));
    assert_eq!([ask(vip), ask(vip)], ["one", "one"]);

    let after = before.replace("weight 1", "weight 2") + &service(other, "", &[slow(two.address)]);
    director.reload(&after);
    eventually("the file is read", || director.log().contains(" reloaded /"));
    assert_eq!([ask(vip), ask(vip), ask(other)], ["one", "one", "two"]);
    let list = director.list();
    let row = list.lines().find(|line| line.contains(&dead.to_string())).unwrap_or_default();
    assert!(row.contains("Masq    0 "), "{list}");
    assert!(list.contains("Masq    2 "), "{list}");

    director.reload(&service(other, "", &[slow(two.address)]));
    eventually("the service goes", || !director.list().contains(&vip.to_string()));
    assert_eq!(ask(other), "two");
    director.end();
}

#[test]
fn alpha_server_gets_nobody_before_its_check_has_passed() {
    let one = Server::start(any(), "one");
    let (vip, address) = (free_port(), one.address);
    let waiting = server(address, "alpha")
        .replace("warmup 0\n", "warmup 600\n")
        .replace("delay_loop 0.05", "delay_loop 600");
    let mut director = Director::start(&service(vip, "", &[waiting]));
    assert_eq!(ask(vip), "");
    director.reload(&service(vip, "", &[server(address, "alpha")]));
    eventually("its check has passed", || director.log().contains("server is up"));
    assert_eq!(ask(vip), "one");
    director.end();
}

#[test]
fn scripts_and_files_set_the_weight() {
    let (one, two) = (Server::start(any(), "one"), Server::start(any(), "two"));
    let vip = free_port();
    let real = |address: SocketAddr, check: &str| {
        format!("real_server {} {} {{\nweight 10\n{check}\n}}\n", address.ip(), address.port())
    };
    let misc = "MISC_CHECK {\nmisc_path \"/bin/sh -c 'exit 7'\"\nmisc_dynamic\nwarmup 0\ndelay_loop 0.05\n}";
    let file = "FILE_CHECK {\ntrack_file load\ndynamic\n}";
    let servers = [real(one.address, misc), real(two.address, file)];
    let text = format!("track_file load {{\nfile FOLDER/load\nweight 2\n}}\n{}", service(vip, "", &servers));
    let mut director = Director::start(&text);
    eventually("the script's weight", || director.list().contains("Masq    5 "));
    // A file that is not there is a failure.
    eventually("the file's absence", || director.log().contains("FILE_CHECK: cannot read"));
    fs::write(director.folder.path().join("load"), "16\n").expect("a file");
    eventually("the file's weight", || director.list().contains("Masq    42 "));
    director.end();
}

#[test]
fn server_that_is_down_is_so_for_what_its_check_saw_last() {
    let one = Server::start(any(), "one");
    let check =
        "MISC_CHECK {\nmisc_path \"/bin/sh -c 'exit `cat FOLDER/code`'\"\nwarmup 0\ndelay_loop 0.05\n}";
    let real = format!("real_server {} {} {{\n{check}\n}}\n", one.address.ip(), one.address.port());
    let mut director = Director::start(&service(free_port(), "", &[real]));
    let health = || director.ipvsadm("-L -n --health").stdout;
    for code in ["3", "7"] {
        fs::write(director.folder.path().join("code"), code).expect("a file");
        eventually("the reason is told", || {
            health().contains(&format!(" MISC_CHECK: /bin/sh exited with {code}\n"))
        });
    }
    director.end();
    // Who reads the log or has a script is told once.
    assert_eq!(director.log().matches("server is down").count(), 1, "{}", director.log());
}

#[test]
fn inhibited_server_is_told_to_be_down_and_why() {
    let (dead, vip) = (free_port(), free_port());
    let mut director = Director::start(&service(vip, "", &[server(dead, "inhibit_on_failure")]));
    let told = "TCP_CHECK: connect refused; weight 0 for that";
    let health = || director.ipvsadm("-L -n --health").stdout;
    eventually("the reason is told", || {
        health().lines().any(|line| line.contains(" down ") && line.ends_with(told))
    });
    assert!(director.ipvsadm("-L --json").stdout.contains(told));
    assert!(director.ipvsadm(&format!("--explain {vip} 127.0.0.1")).stdout.contains(": down since 20"));
    let _back = Server::start(dead, "back");
    eventually("it is up", || ask(vip) == "back");
    assert!(!director.ipvsadm("-L -n --health").stdout.contains("down"));
    director.end();
}

#[test]
fn clients_that_ask_without_a_pause_never_find_nobody_while_the_sorry_server_comes_and_goes() {
    let (one, sorry) = (Server::start(any(), "one"), Server::start(any(), "sorry"));
    let vip = free_port();
    let lines = format!("sorry_server {} {}", sorry.address.ip(), sorry.address.port());
    let check =
        "MISC_CHECK {\nmisc_path \"/bin/sh -c 'test -e FOLDER/well'\"\nwarmup 0\ndelay_loop 0.02\nretry 0\n}";
    let real = format!("real_server {} {} {{\n{check}\n}}\n", one.address.ip(), one.address.port());
    let mut director = Director::start(&service(vip, &lines, &[real]));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut nobody = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                nobody += usize::from(ask(vip).is_empty());
            }
            nobody
        });
        for _ in 0..5 {
            eventually("the sorry server serves", || ask(vip) == "sorry");
            fs::write(director.folder.path().join("well"), "").expect("a file");
            eventually("the server serves", || ask(vip) == "one");
            fs::remove_file(director.folder.path().join("well")).expect("a file");
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(asking.join().expect("asked"), 0);
    });
    director.end();
}

/// What `-t` says about a text, and whether it takes it.
fn test(text: &str, options: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lb.conf");
    fs::write(&path, text).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_l4-proxy"))
        .args(["-t", "--config"])
        .arg(&path)
        .args(options)
        .output();
    let output = output.expect("it runs");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    (output.status.success(), said.replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn test_of_a_file_tells_everything_and_ends_by_it() {
    let vip = SocketAddr::from(([192, 0, 2, 1], 80));
    let good = service(
        vip,
        "",
        &[server(any().ip().to_string().parse().map(|ip| SocketAddr::new(ip, 80)).expect("ip"), "")],
    );
    assert_eq!(
        test(&good, &[]),
        (
            true,
            "lb.conf: the configuration is good (services: 1, servers: 1, VRRP instances: 0)\n".to_owned()
        )
    );
    let wrong = good.replace("lb_kind NAT", "lb_kind DR").replace("weight 1", "wieght 1");
    let said = "l4-proxy: lb.conf cannot be used: 2 errors
lb.conf:1: a proxy forwards by NAT only, not by DR or TUN: its servers see its address and answer to it
    virtual_server 192.0.2.1 80 {
    ^^^^^^^^^^^^^^
lb.conf:7: unknown keyword \"wieght\" in real_server; did you mean \"weight\"?
    wieght 1
    ^^^^^^
";
    assert_eq!(test(&wrong, &[]), (false, said.to_owned()));
    let (taken, said) = test(&wrong, &["--lenient"]);
    assert!(taken && said.contains("lb.conf:7: warning: unknown keyword"), "{said}");
    // Two servers that direct routing would make one are no further error.
    let servers = [8080, 8081].map(|port| server(SocketAddr::from(([127, 0, 0, 1], port)), ""));
    let direct = service(vip, "sorry_server 127.0.0.1 8082", &servers).replace("lb_kind NAT", "lb_kind DR");
    let (taken, said) = test(&direct, &[]);
    assert!(!taken && said.starts_with("l4-proxy: lb.conf cannot be used: 1 error, 3 warnings\n"), "{said}");
    let conditional = good.clone() + "@one nonsense\n";
    assert!(test(&conditional, &["-i", "other"]).0);
    assert!(!test(&conditional, &["-i", "one"]).0);
}

#[test]
fn what_keepalived_does_and_this_director_does_not_is_told_with_its_line() {
    let lines = [
        ("global_defs {", ""),
        (
            "vrrp_strict",
            "warning: vrrp_strict has no effect here: what it forbids is done where the file asks",
        ),
        ("default_interface eth0", "warning: default_interface has no effect here: each instance names its"),
        ("enable_snmp_vrrp", "warning: enable_snmp_vrrp has no effect here: --metrics shows to Prometheus"),
        ("}", ""),
        ("vrrp_instance VI {", ""),
        ("interface lo", ""),
        ("virtual_router_id 5", ""),
        ("strict_mode on", "warning: strict_mode has no effect here: what it forbids is done where"),
        ("no_accept", "warning: no_accept has no effect here: a proxy takes in what comes"),
        ("use_ipvlan", "use_ipvlan: this director makes no ipvlan interfaces"),
        ("virtual_ipaddress { 127.0.0.9 }", ""),
        (
            "virtual_routes { 10.0.0.0/8 via 192.0.2.1 }",
            "virtual_routes are not put in place by this director",
        ),
        ("virtual_rules { from 192.0.2.1 table 5 }", "virtual_rules are not put in place by this director"),
        ("}", ""),
        ("interface_up_down_delays {", ""),
        ("lo 9", "warning: longer than a backup waits for its master: taken for 1.99"),
        ("}", ""),
    ];
    let text: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    let (taken, said) = test(&text, &[]);
    assert!(!taken && said.starts_with("l4-proxy: lb.conf cannot be used: 3 errors, 6 warnings\n"), "{said}");
    let told = said.lines().filter_map(|line| line.strip_prefix("lb.conf:")?.split_once(": "));
    let told: Vec<(usize, &str)> = told.map(|(line, what)| (line.parse().expect("a number"), what)).collect();
    let expected = lines.iter().enumerate().filter(|(_, (_, expected))| !expected.is_empty());
    let expected: Vec<(usize, &str)> =
        expected.map(|(place, (_, expected))| (place + 1, *expected)).collect();
    assert_eq!(told.len(), expected.len(), "{said}");
    for ((line, what), (at, expected)) in told.iter().zip(expected) {
        assert!(*line == at && what.starts_with(expected), "{line}: {what}, not {expected}");
    }
}

#[test]
fn scripts_run_once_before_the_director_begins_and_once_when_it_has_ended() {
    let note = |what: &str| format!("\"/bin/sh -c 'echo {what} >> FOLDER/notes'\"");
    let text = |startup: &str, shutdown: &str| {
        format!("global_defs {{\nstartup_script {startup}\nshutdown_script {shutdown}\n}}\n")
    };
    // What is logged is beside what is noted.
    let listens = "\"/bin/sh -c 'test -e FOLDER/sock || echo before >> FOLDER/notes; exit 3'\"";
    let gone = "\"/bin/sh -c 'test -e FOLDER/sock || echo after >> FOLDER/notes'\"";
    let mut director = Director::start(&text(listens, &note("never")));
    assert_eq!(director.read("notes"), "before\n");
    assert!(director.log().contains("exited with 3"), "{}", director.log());
    let folder = director.folder.path().display().to_string();
    director.reload(&text(&note("again"), gone).replace("FOLDER", &folder));
    eventually("it reloads", || director.log().contains("reloaded"));
    director.end();
    assert_eq!(director.read("notes"), "before\nafter\n");
}

#[test]
fn startup_script_that_takes_too_long_is_ended_and_keeps_nobody() {
    let text = "global_defs {\nstartup_script \"/bin/sh -c 'sleep 60; echo late >> FOLDER/notes'\"\n\
                startup_script_timeout 1\n}\n";
    let began = std::time::Instant::now();
    let mut director = Director::start(text);
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(director.log().contains("took longer than 1s and was ended"), "{}", director.log());
    director.end();
    assert_eq!(director.read("notes"), "");
}
