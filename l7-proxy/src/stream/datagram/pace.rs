//! Rates of datagrams, which can be held up or dropped but not cut: `proxy_upload_rate` and
//! `proxy_download_rate`.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How fast one direction of a session may go.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes per second; 0 sets no limit.
    rate: u64,
    began: Instant,
    /// Nothing moves before this.
    until: Cell<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(rate: u64, began: Instant) -> Pace {
        Pace { rate, began, until: Cell::new(None) }
    }

    /// Returns how long the next datagram has to wait after `moved` bytes; `None` if it need not.
    ///
    /// nginx's rule: those of the present second may go ahead, and each takes its time.
    pub(super) fn wait(&self, moved: u64, now: Instant) -> Option<Duration> {
        if self.rate == 0 {
            return None;
        }
        let after_last = self.until.get().and_then(|until| until.checked_duration_since(now));
        let elapsed = now.saturating_duration_since(self.began).as_secs();
        let allowed = self.rate.saturating_mul(elapsed.saturating_add(1));
        let excess = moved.checked_sub(allowed).map(|excess| self.time(excess) + Duration::from_millis(1));
        after_last.max(excess).filter(|wait| !wait.is_zero())
    }

    /// Whether there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.rate > 0
    }

    /// Takes in that a datagram has moved.
    pub(super) fn moved(&self, bytes: usize, now: Instant) {
        if self.rate > 0 {
            self.until.set(now.checked_add(self.time(bytes as u64)));
        }
    }

    fn time(&self, bytes: u64) -> Duration {
        Duration::from_millis(bytes.saturating_mul(1000) / self.rate.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagram_waits_for_the_time_of_the_last_and_for_the_bytes_of_its_second() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let wait = |pace: &Pace, moved, millis| pace.wait(moved, at(millis)).map(|wait| wait.as_millis());
        let pace = Pace::new(10, began);
        assert_eq!(wait(&pace, 9, 0), None);
        pace.moved(8, at(0));
        assert_eq!(wait(&pace, 8, 300), Some(500));
        assert_eq!(wait(&pace, 8, 900), None);
        assert_eq!(wait(&pace, 16, 900), Some(601));
        assert_eq!(wait(&pace, 16, 1000), None);
        assert_eq!(wait(&Pace::new(0, began), u64::MAX, 0), None);
    }
}
