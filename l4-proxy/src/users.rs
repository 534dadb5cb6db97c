//! Users and groups that the machine's files do not have: those of a directory service, of systemd's
//! `DynamicUser=`, of whatever else the name service switch asks.
//!
//! Only libc can ask it, by modules that it loads into the process and that may wait for a network. So the
//! program that comes with libc for that, getent(1), is asked, while a configuration is read, and not for long.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Returns the line of `passwd` or `group` that has this name; nothing if there is none, or none in time.
pub fn look_up(database: &str, name: &str) -> Option<String> {
    if name.starts_with('-') {
        return None;
    }
    let mut command = Command::new("getent");
    command.args([database, name]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let until = Instant::now() + PATIENCE;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => thread::sleep(PAUSE),
            _ => {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let mut line = String::new();
    // All of it is in the pipe: a longer one would have kept the program from ending.
    child.stdout?.take(LINE_MAX).read_to_string(&mut line).ok().filter(|_| ended.success())?;
    Some(line)
}

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

const PAUSE: Duration = Duration::from_millis(5);

/// As much as a pipe holds.
const LINE_MAX: u64 = 65_536;
