//! The program as a service manager runs it.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::binary::Director;
use crate::support::{PATIENCE, accept, connect, free_port, listener};

/// What a service manager hears.
struct Manager {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("open");
        Manager { folder, socket }
    }

    fn hears(&self) -> String {
        let mut told = [0; 4096];
        let len = self.socket.recv(&mut told).expect("a message");
        String::from_utf8_lossy(&told[..len]).into_owned()
    }
}

#[test]
fn service_manager_is_told_of_start_reload_and_end() {
    let (_server, server) = listener();
    let vip = free_port();
    let rules = format!("-A -t {vip} -s rr\n-a -t {vip} -r {server} -m\n");
    let manager = Manager::new();
    let mut director = Director::start_with(&rules, |program| {
        let mut command = Command::new(program);
        command.env("NOTIFY_SOCKET", manager.folder.path().join("notify"));
        command
    });
    let told = manager.hears();
    assert!(told.lines().any(|line| line == "READY=1"), "{told}");
    assert!(told.lines().any(|line| line == "STATUS=serving, services: 1, servers: 1"), "{told}");
    director.signal(Signal::HUP);
    let told = manager.hears();
    assert!(told.contains("RELOADING=1\n") && told.contains("MONOTONIC_USEC="), "{told}");
    assert!(manager.hears().contains("READY=1"));
    // A reload that fails is over as well.
    director.write_rules("nonsense\n");
    director.signal(Signal::HUP);
    assert!(manager.hears().contains("RELOADING=1"));
    assert!(manager.hears().contains("READY=1"));
    director.signal(Signal::TERM);
    let told = manager.hears();
    assert!(told.contains("STOPPING=1"), "{told}");
    assert!(director.wait().success());
}

#[test]
fn sockets_of_the_service_manager_are_used_and_those_of_nobody_named() {
    let (server, server_address) = listener();
    let given = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let vip = given.local_addr().expect("bound");
    let stray = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let stray_address = stray.local_addr().expect("bound");
    // It waits in the queue of a socket that the director did not open.
    let early = connect(vip);
    let rules = format!("-A -t {vip} -s rr\n-a -t {vip} -r {server_address} -m\n");
    let director = Director::start_with(&rules, |program| {
        // The descriptors 3 and 4, as the protocol wants them, and a number that only the child knows.
        let script = "exec 3<&0 4<&1 </dev/null >&2; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh", program]);
        command.stdin(Stdio::from(OwnedFd::from(given))).stdout(Stdio::from(OwnedFd::from(stray)));
        command
    });
    let from_early = accept(&server);
    drop((early, from_early));
    let _late = (connect(vip), accept(&server));
    let said = format!("UDP {stray_address} was inherited and belongs to no service");
    assert!(director.log().contains(&said), "{}", director.log());
}

#[test]
fn director_that_became_somebody_else_has_no_more_rights_than_it_needs() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::skip("root");
    }
    let (server, server_address) = listener();
    let vip = free_port();
    let rules = format!("-A -t {vip} -s rr\n-a -t {vip} -r {server_address} -m\n");
    let folder = tempfile::tempdir().expect("a folder");
    // Its folder is root's alone, so the rules and the control socket need another.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), mode).expect("our folder");
    let path = folder.path().join("rules");
    std::fs::write(&path, rules).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_l4-proxy"));
    command.args(["--no-probes", "--user", "nobody", "--workers", "2", "--rules"]).arg(&path);
    command.arg("--control").arg(folder.path().join("sock"));
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    crate::support::eventually("it listens", || std::net::TcpStream::connect(vip).is_ok());
    drop(accept(&server));
    let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
    let statuses: Vec<String> = threads.map(|thread| status(&thread.expect("a thread").path())).collect();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(statuses.len() > 3, "workers and the log have threads");
    for status in statuses {
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a known line");
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(line("Uid:").iter().all(|uid| uid == "65534"), "{status}");
        assert!(line("Gid:").iter().all(|gid| gid == "65534"), "{status}");
        assert!(!line("Groups:").contains(&"0".to_owned()), "{status}");
        // Bits 10, 12, 13 and 23: binding low ports, network administration, raw sockets, a real-time thread.
        let effective = u64::from_str_radix(&line("CapEff:")[0], 16).expect("a number");
        assert_eq!(effective & !(1 << 10 | 1 << 12 | 1 << 13 | 1 << 23), 0, "{status}");
        assert_eq!(line("NoNewPrivs:"), ["1"]);
    }
}

fn status(thread: &Path) -> String {
    std::fs::read_to_string(thread.join("status")).expect("it runs")
}

#[test]
fn unknown_user_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l4-proxy"));
    let output =
        command.args(["--user", "no-such-user", "--control", "/nonexistent/sock"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said, "l4-proxy: there is no user \"no-such-user\"\n");
    assert_eq!(output.status.code(), Some(1));
}
