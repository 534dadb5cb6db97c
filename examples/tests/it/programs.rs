//! Real programs as children of a test: started, asked, killed.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A child process that dies with the test.
pub(crate) struct Program {
    child: Child,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Program {
        let child =
            command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Program { child }
    }

    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// A binary of the workspace, built in the profile of the tests.
///
/// `cargo test` builds binaries for the tests of their own package only, so this asks cargo for
/// them; it is a matter of a moment when they are there.
pub(crate) fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("a running test");
        let profile = test.ancestors().nth(2).expect("TARGET/PROFILE/deps/TEST").to_owned();
        let target = profile.parent().expect("TARGET/PROFILE");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "l4-proxy", "-p", "l7-proxy", "-p", "lvsadm", "--target-dir"]);
        cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "{cargo:?}");
        profile
    });
    folder.join(name)
}

/// Whether a program that the test plays with is installed. Where peers are required (CI), its
/// absence fails the test; elsewhere the test says so and is passed over.
pub(crate) fn peer(what: &str, path: &str) -> bool {
    let present = Path::new(path).exists();
    if !present {
        assert!(std::env::var_os("REQUIRE_PEERS").is_none(), "{what} is not installed: {path}");
        // Straight to the terminal: the harness keeps what a passing test prints to itself.
        let _ = writeln!(std::io::stderr().lock(), "passed over: {what} is not installed ({path})");
    }
    present
}

/// This many free ports of loopback.
pub(crate) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    [(); COUNT].map(|()| lab::free_port(Ipv4Addr::LOCALHOST.into()).port())
}

/// What a command printed; it must end well.
pub(crate) fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn accepts(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(1)).is_ok()
}

/// A Java machine may take its time on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);
