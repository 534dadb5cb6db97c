//! The binary under test: a folder with its configuration, and the running program.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::peer::{Client, eventually};

/// A folder with an nginx.conf for the binary.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    pub(crate) addr: SocketAddr,
}

/// A running binary; ended when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
}

impl Site {
    /// A site whose only server has this content. Its port was free a moment ago, and stays free:
    /// nobody else uses its address.
    pub(crate) fn new(content: &str) -> Site {
        static SITES: AtomicU8 = AtomicU8::new(0);
        let [low, high, ..] = std::process::id().to_le_bytes();
        let ip = [127, high | 1, low, SITES.fetch_add(1, Ordering::SeqCst) + 1];
        let addr = TcpListener::bind(SocketAddr::from((ip, 0))).unwrap().local_addr().unwrap();
        let site = Site { folder: tempfile::tempdir().unwrap(), addr };
        site.write(content);
        site
    }

    pub(crate) fn write(&self, content: &str) {
        self.write_whole(&format!(
            "pid l7.pid; error_log error.log notice; events {{}}\n\
             http {{ access_log access.log;\n server {{ listen {};\n {content} }} }}\n",
            self.addr
        ));
    }

    pub(crate) fn write_whole(&self, text: &str) {
        fs::write(self.path("nginx.conf"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_l7-proxy"));
        command.arg("-p").arg(self.folder.path()).args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the binary and returns its exit code and what it says on standard error, the folder's
    /// name left out.
    pub(crate) fn say(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        let folder = format!("{}/", self.folder.path().display());
        (output.status.code().unwrap(), text.replace(&folder, ""))
    }

    pub(crate) fn start(&self) -> Running {
        self.start_by(self.command(&[]))
    }

    /// The same, without capabilities that root has, in the words of setpriv.
    pub(crate) fn start_without(&self, capabilities: &str) -> Running {
        let (command, mut without) = (self.command(&[]), Command::new("setpriv"));
        without.arg(format!("--bounding-set={capabilities}")).arg(command.get_program());
        without.args(command.get_args()).stdin(Stdio::null());
        self.start_by(without)
    }

    fn start_by(&self, mut command: Command) -> Running {
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running { child };
        eventually("the pid file is written", || {
            assert!(running.child.try_wait().unwrap().is_none(), "it ended: {}", running.complaints());
            self.read("l7.pid").trim() == running.child.id().to_string()
        });
        running
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    pub(crate) fn get(&self) -> String {
        self.client().get("/").text().to_owned()
    }
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(process, signal).unwrap();
    }

    pub(crate) fn complaints(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Waits until it has ended; returns its exit code.
    pub(crate) fn end(&mut self) -> i32 {
        let mut code = None;
        eventually("it ends", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
