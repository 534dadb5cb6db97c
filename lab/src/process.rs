//! Signals to processes that a test has started, or that those have started.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{ipproto, sockopt};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open, pidfd_send_signal,
};

use crate::patience::PATIENCE;

/// Sends a process a signal; if it is to stop, waits until it has.
pub fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).expect("it runs");
    // One of its threads has to run to stop them all, and on a busy machine the others work on meanwhile.
    let began = Instant::now();
    while signal == Signal::STOP && !is_stopped(process.id()) {
        assert!(began.elapsed() < PATIENCE, "it does not stop");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The TCP sockets of a process, which has to be a child of this one: what they are set to can be asked here.
pub fn tcp_sockets(process: &Child) -> Vec<OwnedFd> {
    let handle = pidfd_open(Pid::from_child(process), PidfdFlags::empty()).expect("it runs");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", process.id())).expect("it runs").flatten();
    let sockets = descriptors.filter_map(|descriptor| {
        let number = descriptor.file_name().to_string_lossy().parse().ok()?;
        // It may have been closed meanwhile.
        let socket = pidfd_getfd(&handle, number, PidfdGetfdFlags::empty()).ok()?;
        let is_tcp = sockopt::socket_protocol(&socket).is_ok_and(|protocol| protocol == Some(ipproto::TCP));
        is_tcp.then_some(socket)
    });
    sockets.collect()
}

/// A process that a child of this one has started, and that is killed when this is dropped.
///
/// It is held by a descriptor, so that nobody else is meant when it has ended and its number is another's.
#[derive(Debug)]
pub struct Descendant(OwnedFd);

impl Descendant {
    /// The process of this number, which runs.
    pub fn of(process: u32) -> Descendant {
        let process = Pid::from_raw(process.cast_signed()).expect("a process");
        Descendant(pidfd_open(process, PidfdFlags::empty()).expect("it runs"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.0, signal).expect("it runs");
    }

    /// Whether it has ended, in the time that a test waits.
    pub fn ends(&self) -> bool {
        let patience = Timespec::try_from(PATIENCE).expect("a short time");
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience)) == Ok(1)
    }
}

impl Drop for Descendant {
    fn drop(&mut self) {
        // It may have ended by itself.
        if pidfd_send_signal(&self.0, Signal::KILL).is_ok() {
            self.ends();
        }
    }
}

/// Whether every thread of a process is stopped.
fn is_stopped(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten();
    let mut states = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    // The state stands behind the name, which is in parentheses.
    states.all(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
}
