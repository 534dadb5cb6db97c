//! The control socket, with the real program on the other side.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use lvsadm::{Control, Server};
use tempfile::TempDir;

use crate::director::Fake;

struct Running {
    fake: Arc<Fake>,
    server: Option<Server>,
    folder: TempDir,
}

impl Running {
    fn start(rules: &str) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake::with(rules));
        let listener = lvsadm::bind(folder.path().join("control.sock")).unwrap();
        let control: Arc<dyn Control> = Arc::clone(&fake) as _;
        Running { fake, server: Some(lvsadm::serve(listener, control).unwrap()), folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// Runs the program under a name, with a line of words and an input.
    fn run_as(&self, name: &str, line: &str, input: &str) -> Output {
        let program = self.folder.path().join(name);
        if !program.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lvsadm"), &program).unwrap();
        }
        run(&program, line, input, Some(&self.path()))
    }
}

fn run(program: &Path, line: &str, input: &str, socket: Option<&Path>) -> Output {
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).env_remove("LVSADM_SOCKET");
    if let Some(socket) = socket {
        command.env("LVSADM_SOCKET", socket);
    }
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A program that does not read its input is gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn check(output: &Output, stdout: &str, stderr: &str, code: i32) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), (stdout, stderr));
    assert_eq!(output.status.code(), Some(code));
}

const SERVICE: &str = "-A -t 192.0.2.1:80 -s rr\n";

#[test]
fn program_prints_and_exits_as_the_director_says() {
    let running = Running::start(SERVICE);
    check(&running.run_as("lvsadm", "-a -t 192.0.2.1:80 -r 10.0.0.1 -m", ""), "", "", 0);
    let saved = format!("{SERVICE}-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1\n");
    check(&running.run_as("lvsadm", "-Sn", ""), &saved, "", 0);
    check(&running.run_as("lvsadm", "-A -t 192.0.2.1:80", ""), "", "Service already exists\n", 255);
    check(&running.run_as("lvsadm", "-L -t 192.0.2.2:80", ""), "", "No such service\n", 1);
    check(&running.run_as("lvsadm", "-C x", ""), "", "unexpected argument x\n", 2);
}

#[test]
fn input_is_sent_only_for_a_restore() {
    let running = Running::start("");
    let many: String = (1..=2_000u16).map(|port| format!("-A -t 192.0.2.1:{port} -s rr\n")).collect();
    check(&running.run_as("lvsadm", "-R", &many), "", "", 0);
    assert_eq!(running.fake.director.config().services.len(), 2_000);
    // Nobody writes to this standard input, and nobody closes it.
    let mut silent = Command::new(env!("CARGO_BIN_EXE_lvsadm"));
    let silent = silent.args(["--control", running.path().to_str().unwrap(), "-C"]).stdin(Stdio::piped());
    assert!(silent.spawn().unwrap().wait().unwrap().success());
    assert_eq!(running.fake.director.config().services.len(), 0);
}

#[test]
fn program_goes_by_the_names_of_ipvsadm() {
    let running = Running::start(SERVICE);
    let version = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";
    check(&running.run_as("ipvsadm", "-v", ""), version, "", 0);
    let hint = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n";
    check(&running.run_as("ipvsadm", "x", ""), "", hint, 255);
    check(&running.run_as("ipvsadm-save", "-n", ""), SERVICE, "", 0);
    assert_eq!(running.run_as("ipvsadm-save", "-x", "").status.code(), Some(1));

    let rules = "# of another director\n-A -t 192.0.2.2:80 -s wrr\n";
    check(&running.run_as("ipvsadm-restore", "", rules), "", "", 0);
    check(&running.run_as("ipvsadm-save", "-n", ""), "-A -t 192.0.2.2:80 -s wrr\n", "", 0);
    assert_eq!(*running.fake.commits.lock().unwrap(), 1);
    let wrong = running.run_as("ipvsadm-restore", "", "# x\n-A -t 192.0.2.3:80\n-X\n");
    let hint = "Try `ipvsadm-restore -h' or 'ipvsadm-restore --help' for more information.\n";
    check(&wrong, "", &format!("{hint}(line 3 of the input; nothing has been restored)\n"), 255);
    check(&running.run_as("ipvsadm-restore", "", ""), "", "", 0);
    assert!(running.fake.director.config().services.is_empty());
}

#[test]
fn first_words_name_the_socket() {
    let running = Running::start(SERVICE);
    let path = running.path();
    let program = Path::new(env!("CARGO_BIN_EXE_lvsadm"));
    let elsewhere = Path::new("/nonexistent/control.sock");
    for line in [format!("--control {} -Sn", path.display()), format!("--control={} -Sn", path.display())] {
        check(&run(program, &line, "", Some(elsewhere)), SERVICE, "", 0);
    }
    check(&run(program, "--control", "", None), "", "--control: missing argument\n", 255);
    check(&running.run_as("lvsadm", "-Sn --control x", ""), "", "--control: unknown option\n", 255);
}

#[test]
fn without_a_director_a_command_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let program = Path::new(env!("CARGO_BIN_EXE_lvsadm"));
    let linked = folder.path().join("ipvsadm");
    std::os::unix::fs::symlink(program, &linked).unwrap();
    let lines = ["-Ln", "-A -q", "", "-R"].map(|line| (program, line));
    // Under ipvsadm's name it is as in ipvsadm, where help and version need IPVS as well.
    for (program, line) in lines.into_iter().chain([(&*linked, "-h"), (&*linked, "-v")]) {
        let output = run(program, line, "", Some(&path));
        let stderr = String::from_utf8(output.stderr).unwrap();
        let mut lines = stderr.lines();
        assert_eq!(lines.next(), Some("Can't initialize ipvs: No such file or directory"));
        let second = lines.next().unwrap();
        let programs = ["l4-proxy --control PATH", "l7-proxy --control PATH"];
        for part in [path.to_str().unwrap(), "LVSADM_SOCKET"].into_iter().chain(programs) {
            assert!(second.contains(part), "{second}");
        }
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    }
}

#[test]
fn help_and_version_need_no_director() {
    let program = Path::new(env!("CARGO_BIN_EXE_lvsadm"));
    let nowhere = Path::new("/nonexistent/control.sock");
    for (line, part) in
        [("-h", "--control PATH"), ("--help", "--scheduler"), ("-v", env!("CARGO_PKG_VERSION"))]
    {
        let output = run(program, line, "", Some(nowhere));
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(stdout.contains(part), "{line}: {stdout}");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{line}");
    }
}

#[test]
fn garbage_is_answered_and_does_no_harm() {
    let running = Running::start(SERVICE);
    for garbage in ["GET / HTTP/1.1\r\n\r\n", "LVSA\x01\x7f\x7f\x7f\x7f", "LVSA\x02", ""] {
        let mut stream = UnixStream::connect(running.path()).unwrap();
        stream.write_all(garbage.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"LVSA\x01\xff", "{garbage:?}");
    }
    // Who leaves at once is not missed.
    for _ in 0..100 {
        drop(UnixStream::connect(running.path()).unwrap());
    }
    check(&running.run_as("lvsadm", "-Sn", ""), SERVICE, "", 0);
}

#[test]
fn client_is_answered_when_those_before_it_leave_without_a_word() {
    let running = Running::start(SERVICE);
    let silent: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(running.path()).unwrap()).collect();
    // All places are taken; this one waits in the queue until some of them leave.
    let path = running.path();
    let waiting =
        std::thread::spawn(move || run(Path::new(env!("CARGO_BIN_EXE_lvsadm")), "-Sn", "", Some(&path)));
    drop(silent);
    check(&waiting.join().unwrap(), SERVICE, "", 0);
}

#[test]
fn answers_to_many_at_once_are_not_mixed_up() {
    let running = Running::start("");
    std::thread::scope(|scope| {
        for client in 1..=8 {
            let running = &running;
            scope.spawn(move || {
                for port in 1..=5 {
                    let service = format!("192.0.2.{client}:{port}");
                    let program = Path::new(env!("CARGO_BIN_EXE_lvsadm"));
                    let line = format!("-R -- {service}");
                    let refused = run(program, &line, "", Some(&running.path()));
                    assert_eq!(refused.status.code(), Some(2));
                    // A restore reads the table and replaces it: none may be lost in between.
                    let rules = format!("-A -t {service} -s rr\n-L -n -t {service}\n");
                    let added = run(program, "-R", &rules, Some(&running.path()));
                    let listing = String::from_utf8(added.stdout).unwrap();
                    assert!(listing.ends_with(&format!("TCP  {service} rr\n")), "{listing}");
                }
            });
        }
    });
    assert_eq!(running.fake.director.config().services.len(), 40);
}

#[test]
fn socket_is_for_its_owner_only() {
    let running = Running::start("");
    let mode = std::fs::metadata(running.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> = std::fs::read_dir(running.folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn live_socket_is_not_taken_over() {
    let running = Running::start(SERVICE);
    let error = lvsadm::bind(running.path()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(text.contains("control.sock") && text.contains("another director answers there"), "{text}");
    check(&running.run_as("lvsadm", "-Sn", ""), SERVICE, "", 0);
}

#[test]
fn socket_that_nobody_answers_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = lvsadm::bind(&path).unwrap();
    assert_eq!(listener.path(), path);
}

#[test]
fn file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    std::fs::write(&path, "precious").unwrap();
    let error = lvsadm::bind(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn stopped_server_takes_its_socket_with_it() {
    let mut running = Running::start("");
    assert_eq!(running.server.as_ref().map(Server::path), Some(running.path().as_path()));
    running.server = None;
    assert!(!running.path().exists());
}

#[test]
fn stopped_server_leaves_a_successors_socket() {
    let mut running = Running::start("");
    std::fs::remove_file(running.path()).unwrap();
    let successor = lvsadm::bind(running.path()).unwrap();
    running.server = None;
    assert!(running.path().exists());
    drop(successor);
    assert!(!running.path().exists());
}

#[test]
fn director_that_goes_silent_is_told_apart_from_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let silent = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let output = run(Path::new(env!("CARGO_BIN_EXE_lvsadm")), "-Ln", "", Some(&path));
    silent.join().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("No answer from the director at "));
}

#[test]
fn program_reads_the_file_of_a_plan_where_it_runs() {
    let running = Running::start(SERVICE);
    let file = running.folder.path().join("new.rules");
    std::fs::write(&file, "-A -t 192.0.2.1:80 -s wlc\n").unwrap();
    let told = "~ service TCP 192.0.2.1:80 -s rr => -s wlc\n";
    check(&running.run_as("lvsadm", &format!("--plan {}", file.display()), "-C\n"), told, "", 0);
    check(&running.run_as("lvsadm", "--plan -", "-A -t 192.0.2.1:80 -s wlc\n"), told, "", 0);
    let absent = running.folder.path().join("absent.rules");
    let output = running.run_as("lvsadm", &format!("--plan {}", absent.display()), "");
    check(&output, "", &format!("{}: No such file or directory\n", absent.display()), 2);
    std::fs::write(&file, "-A -t 192.0.2.1:80 -s nosuch\n").unwrap();
    let output = running.run_as("lvsadm", &format!("--plan {}", file.display()), "");
    check(&output, "", &format!("{}:1: unknown scheduler: \"nosuch\"\n", file.display()), 2);
}

#[test]
fn live_view_needs_a_terminal() {
    let running = Running::start(SERVICE);
    let output = running.run_as("lvsadm", "--top", "");
    assert_eq!((output.stdout.len(), output.status.success()), (0, false));
    check(
        &running.run_as("lvsadm", "--top -n", ""),
        "",
        "Illegal 'numeric' option with the 'top' command\n",
        2,
    );
}

#[test]
fn director_of_another_release_is_told_apart_from_a_broken_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Read first: closing with something unread would reset.
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"LVSA\x07\0\0\0\0\0\0\0\0\0").unwrap();
    });
    let output = run(Path::new(env!("CARGO_BIN_EXE_lvsadm")), "-Ln", "", Some(&path));
    answering.join().unwrap();
    let place = path.display();
    let stderr = format!(
        "No answer from the director at {place}: the other side speaks version 7 of the control protocol, \
         and this side version 1; lvsadm and director of one release go together\n"
    );
    check(&output, "", &stderr, 255);
}

#[test]
fn upgrade_is_refused_by_a_director_that_cannot_and_by_words_beside_it() {
    let running = Running::start(SERVICE);
    let refused = "This director cannot start itself anew\n";
    check(&running.run_as("lvsadm", "--upgrade", ""), "", refused, 255);
    let unknown = "Try `lvsadm -h' or 'lvsadm --help' for more information.\n";
    check(&running.run_as("lvsadm", "--upgrade now", ""), "", unknown, 255);
    check(&running.run_as("lvsadm", "-Sn", ""), SERVICE, "", 0);
}
