//! The program is started anew, which may be another version by now, and takes this process's place.
//!
//! The new process is a child of this one and in its control group, so a service manager takes its word that it
//! is the service from now on; nobody could say that from a shell. It asks to be handed over to as anybody
//! does, and if it ends before it serves, this one goes on.

use std::io;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use super::Daemon;

/// How to start it, and who waits to hear what became of it.
#[derive(Default)]
pub(super) struct Upgrade {
    start: OnceLock<Start>,
    /// Held by the one that runs; free again before its answer is out, since that may be answered by the next.
    running: Mutex<()>,
    asked: AtomicUsize,
}

type Start = Box<dyn Fn() -> io::Result<Child> + Send + Sync>;

impl Daemon {
    /// Has `lvsadm --upgrade` start the program so: with the words that it was started with and `--takeover`.
    /// Without this, it is refused.
    pub fn upgrade_by(&self, start: impl Fn() -> io::Result<Child> + Send + Sync + 'static) {
        self.shared.upgrade.set(start);
    }

    /// Is done when everybody has an answer who asked for an upgrade.
    pub async fn has_answered(&self) {
        while self.shared.upgrade.is_asked() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Upgrade {
    /// The first one holds.
    pub(super) fn set(&self, start: impl Fn() -> io::Result<Child> + Send + Sync + 'static) {
        let _ = self.start.set(Box::new(start));
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst) > 0
    }

    /// Starts it, and answers when it serves, or has failed.
    pub(super) fn run(&self, replaced: &watch::Sender<bool>, answer: &mut dyn FnMut(Result<u32, String>)) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        answer(self.run_alone(replaced));
        self.asked.fetch_sub(1, Ordering::SeqCst);
    }

    fn run_alone(&self, replaced: &watch::Sender<bool>) -> Result<u32, String> {
        let _held = match self.running.try_lock() {
            Ok(held) => held,
            // Nothing lies behind it that a panic could have left half done.
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            // Whoever runs it says what comes of it.
            Err(TryLockError::WouldBlock) => return Err("An upgrade is under way".to_owned()),
        };
        let served = self.try_run(replaced);
        match &served {
            Ok(process) => info!(process, "upgraded"),
            Err(why) => warn!("not upgraded, still serving as before: {why}"),
        }
        served
    }

    fn try_run(&self, replaced: &watch::Sender<bool>) -> Result<u32, String> {
        if *replaced.borrow() {
            return Err("Another process has taken over".to_owned());
        }
        let start = self.start.get().ok_or("This director cannot start itself anew")?;
        let mut child = start().map_err(|error| format!("The program cannot be started: {error}"))?;
        let began = Instant::now();
        loop {
            if *replaced.borrow() {
                return Ok(child.id());
            }
            // Whether it can be asked or not, it has not taken over.
            if let Some(status) = child.try_wait().unwrap_or(None) {
                return Err(format!("The new process has ended ({status}): its log says why"));
            }
            if began.elapsed() > PATIENCE {
                // It may end at this moment.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("The new process does not serve after {PATIENCE:?}, and was ended"));
            }
            thread::sleep(LOOK);
        }
    }
}

/// Longer than one side of a takeover waits for the other, and than a startup takes.
const PATIENCE: Duration = Duration::from_secs(60);

const LOOK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrade_is_under_way_as_long_as_it_runs_and_no_longer() {
        let upgrade = Upgrade::default();
        let (replaced, _) = watch::channel(false);
        let asked = |upgrade: &Upgrade| upgrade.run_alone(&replaced).expect_err("nobody can start it");
        let held = upgrade.running.lock().expect("no panic");
        assert_eq!(asked(&upgrade), "An upgrade is under way");
        drop(held);
        upgrade.set(|| panic!("a fault of the program"));
        thread::scope(|scope| {
            scope.spawn(|| upgrade.run_alone(&replaced)).join().expect_err("it panics");
        });
        assert!(upgrade.running.is_poisoned());
        replaced.send_replace(true);
        assert_eq!(asked(&upgrade), "Another process has taken over");
    }
}
