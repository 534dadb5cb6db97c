//! The program as a service manager runs it.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::Descendant;
use rustix::process::Signal;

use crate::binary::Director;
use crate::support::{PATIENCE, accept, connect, eventually, free_port, is_closed, listener, skip};

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
    let _ended = Descendant::of(child.id());
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

/// A folder with a `getent` of the test's own, for `PATH`.
fn name_service(script: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("getent");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a file");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("our own file");
    let path = std::env::var("PATH").expect("a path");
    let path = format!("{}:{path}", folder.path().display());
    (folder, path)
}

#[test]
fn user_that_only_the_name_service_has_is_whom_programs_run_as_and_the_director_too() {
    if !rustix::process::geteuid().is_root() {
        return skip("the right to become somebody else (root)");
    }
    let (folder, path) = name_service(
        "case \"$*\" in\n\"passwd of-ldap\") echo of-ldap:*:4242:4243::/:/bin/sh ;;\n\
         \"group of-ldap-too\") echo of-ldap-too:*:4244:of-ldap ;;\n*) exit 2 ;;\nesac",
    );
    let seen = folder.path().join("seen");
    std::fs::create_dir(&seen).expect("a folder");
    for folder in [folder.path(), &seen] {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).expect("our own folder");
    }
    let conf = folder.path().join("lb.conf");
    let (vip, server) = (free_port(), free_port());
    let check = |user: &str| {
        format!(
            "MISC_CHECK {{\nmisc_path \"/bin/sh -c 'id -u >{0}/{user}; id -g >>{0}/{user}'\"\nuser {user}\nwarmup 0\n}}\n",
            seen.display()
        )
    };
    let text = format!(
        "virtual_server {} {} {{\nprotocol TCP\nreal_server {} {} {{\n{}{}}}\n}}\n",
        vip.ip(),
        vip.port(),
        server.ip(),
        server.port(),
        check("of-ldap"),
        check("of-ldap of-ldap-too")
    );
    // The second file is named after the user alone, too.
    let text = text.replace("/of-ldap of-ldap-too", "/both");
    std::fs::write(&conf, text).expect("a file");
    let director = Director::start_with("", |program| {
        let mut command = Command::new(program);
        command.arg("--config").arg(&conf).env("PATH", &path).stdout(Stdio::null());
        command
    });
    for (file, ids) in [("of-ldap", "4242\n4243\n"), ("both", "4242\n4244\n")] {
        let read = || std::fs::read_to_string(seen.join(file)).unwrap_or_default();
        eventually("the check is run", || read().len() >= ids.len());
        assert_eq!(read(), ids, "{file}");
    }
    assert!(!director.log().contains("there is no"), "{}", director.log());

    let mut command = Command::new(env!("CARGO_BIN_EXE_l4-proxy"));
    command.args(["--user", "of-ldap:of-ldap-too", "--control"]).arg(seen.join("sock")).env("PATH", &path);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let _ended = Descendant::of(child.id());
    eventually("it serves", || seen.join("sock").exists());
    let status = status(&Path::new("/proc").join(child.id().to_string()));
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(status.contains("Uid:\t4242\t4242\t") && status.contains("Gid:\t4244\t4244\t"), "{status}");
}

#[test]
fn name_service_that_does_not_answer_holds_nobody_up_for_long() {
    let (_folder, path) = name_service("exec sleep 60");
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_l4-proxy"));
    command.args(["--user", "of-ldap", "--control", "/nonexistent/sock"]).env("PATH", path);
    let output = command.output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "l4-proxy: there is no user \"of-ldap\"\n");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// A director that is started by way of a link, in whose place another program can be put.
fn linked(rules: &str, manager: &Manager, words: &'static [&'static str]) -> Director {
    let link = manager.folder.path().join("l4-proxy");
    let notify = manager.folder.path().join("notify");
    Director::start_with(rules, move |program| {
        std::os::unix::fs::symlink(program, &link).expect("a link");
        let mut command = Command::new(&link);
        command.args(words).env("NOTIFY_SOCKET", notify).stdout(Stdio::null());
        command
    })
}

fn main_process(told: &str) -> u32 {
    let line = told.lines().find_map(|line| line.strip_prefix("MAINPID="));
    line.expect("a process").parse().expect("a number")
}

#[test]
fn upgrade_makes_a_new_process_the_service_and_the_old_one_ends_with_its_connections() {
    let (server, server_address) = listener();
    let vip = free_port();
    let manager = Manager::new();
    let rules = format!("-A -t {vip} -s rr\n-a -t {vip} -r {server_address} -m\n");
    let mut director = linked(&rules, &manager, &[]);
    assert_eq!(main_process(&manager.hears()), director.process());
    let client = connect(vip);
    let mut served = accept(&server);

    let answer = director.upgrade();
    let told = manager.hears();
    let new = main_process(&told);
    assert_ne!(new, director.process());
    assert!(told.lines().any(|line| line == "READY=1"), "{told}");
    assert_eq!(answer.stdout, format!("process {new} serves now\n"), "{}", answer.stderr);
    // What the old one carries goes on, and the new one knows of it.
    let listed = director.ipvsadm("-L -c -n").stdout;
    assert!(listed.contains(&client.local_addr().expect("open").to_string()), "{listed}");
    std::io::Write::write_all(&mut &client, b"x").expect("sent");
    std::io::Read::read_exact(&mut served, &mut [0]).expect("an open connection");
    drop((client, served));
    assert!(director.wait().success());
    drop((connect(vip), accept(&server)));

    // The new one is told by nobody that it was a successor; it upgrades and ends likewise.
    let answer = director.upgrade();
    let newest = main_process(&manager.hears());
    assert_eq!(answer.stdout, format!("process {newest} serves now\n"), "{}", answer.stderr);
    drop((connect(vip), accept(&server)));
    director.end_upgraded();
    assert!(manager.hears().contains("STOPPING=1"));
}

#[test]
fn test_that_fails_after_an_upgrade_leaves_no_director_behind() {
    let director = Director::start(&format!("-A -t {} -s rr\n", free_port()));
    let answer = director.upgrade();
    let process = crate::binary::upgraded_process(&answer).expect("it serves");
    let process = Descendant::of(process);
    drop(director);
    assert!(process.ends());
}

#[test]
fn upgrade_to_a_program_that_fails_leaves_everything_as_it_was() {
    let (server, server_address) = listener();
    let vip = free_port();
    let manager = Manager::new();
    let rules = format!("-A -t {vip} -s rr\n-a -t {vip} -r {server_address} -m\n");
    let director = linked(&rules, &manager, &[]);
    manager.hears();
    let link = manager.folder.path().join("l4-proxy");
    std::fs::remove_file(&link).expect("a link");
    let answer = director.upgrade();
    assert_eq!(answer.code, 255);
    assert!(answer.stderr.starts_with("The program cannot be started: No such file"), "{}", answer.stderr);
    std::os::unix::fs::symlink("/bin/false", &link).expect("a link");
    let answer = director.upgrade();
    let said = "The new process has ended (exit status: 1): its log says why\n";
    assert_eq!((answer.code, answer.stderr.as_str()), (255, said));
    // A file that has become wrong keeps the new one from serving, too.
    std::fs::remove_file(&link).expect("a link");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_l4-proxy"), &link).expect("a link");
    director.write_rules("nonsense\n");
    assert_eq!(director.upgrade().stderr, said);
    drop((connect(vip), accept(&server)));
    assert!(director.ipvsadm("-L -n").stdout.contains(&vip.to_string()));
}

#[test]
fn upgraded_process_has_the_rights_of_the_one_before_and_no_more() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::skip("root");
    }
    let (server, server_address) = listener();
    let vip = free_port();
    let manager = Manager::new();
    let folder = manager.folder.path();
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    let socket = folder.join("notify");
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    // Who is nobody by then has to read it, and finds it under the path of a program.
    let rules = folder.join("rules");
    std::fs::write(&rules, format!("-A -t {vip} -s rr\n-a -t {vip} -r {server_address} -m\n"))
        .expect("a file");
    let program = folder.join("l4-proxy");
    std::fs::copy(env!("CARGO_BIN_EXE_l4-proxy"), &program).expect("a program");
    let control = folder.join("sock");
    let mut command = Command::new(&program);
    command.args(["--no-probes", "--user", "nobody", "--workers", "1", "--rules"]).arg(&rules);
    command.arg("--control").arg(&control).env("NOTIFY_SOCKET", &socket);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let _ended = Descendant::of(child.id());
    assert_eq!(main_process(&manager.hears()), child.id());
    let words = vec!["--upgrade".to_owned()];
    let answer = lvsadm::client::run("lvsadm", words, Some(control.display().to_string()), std::io::empty());
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let new = main_process(&manager.hears());
    let _upgraded = Descendant::of(new);
    assert!(child.wait().expect("it ends").success());
    let status = status(Path::new(&format!("/proc/{new}")));
    drop((connect(vip), accept(&server)));
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("a known line").trim();
    assert!(line("Uid:").split_whitespace().all(|uid| uid == "65534"), "{status}");
    let capabilities = |name: &str| u64::from_str_radix(line(name), 16).expect("a number");
    assert_eq!(capabilities("CapEff:"), 1 << 10 | 1 << 12 | 1 << 13 | 1 << 23, "{status}");
    assert_eq!(
        (capabilities("CapInh:"), capabilities("CapAmb:")),
        (0, 0),
        "what it starts has nothing: {status}"
    );
}

#[test]
fn director_without_descriptors_says_so_seldom_and_serves_when_it_has_some() {
    let (server, server_address) = listener();
    let vip = free_port();
    let rules = format!("-A -t {vip} -s rr\n-a -t {vip} -r {server_address} -m\n");
    let director = Director::start_with(&rules, |program| {
        let mut command = Command::new("sh");
        // Its own bound would not let it come to that.
        command.args(["-c", "ulimit -n 64; exec \"$0\" --workers 2 --max-connections 1000 \"$@\"", program]);
        command
    });
    // Who is taken in when there is no descriptor for the way to the server is reset, which may be before its
    // call to connect returns.
    let come = || std::net::TcpStream::connect_timeout(&vip, PATIENCE);
    let crowd: Vec<_> = (0..100).map(|_| come()).collect();
    crate::support::eventually("it is at its limit", || director.log().contains("cannot accept"));
    // Twenty times a second each worker would have said it.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let said = director.log().matches("cannot accept").count();
    assert!(said <= 2, "{said} times by two workers");
    drop(crowd);
    server.set_nonblocking(true).expect("open");
    while server.accept().is_ok() {}
    crate::support::eventually("somebody is served again", || {
        let Ok(client) = come() else { return false };
        let mut served = None;
        crate::support::eventually("a server or an end", || {
            served = served.take().or_else(|| server.accept().ok());
            served.is_some() || is_closed(&client)
        });
        let Some((mut server, _)) = served else { return false };
        server.set_read_timeout(Some(PATIENCE)).expect("open");
        std::io::Write::write_all(&mut &client, b"x").is_ok()
            && std::io::Read::read_exact(&mut server, &mut [0]).is_ok()
    });
}
