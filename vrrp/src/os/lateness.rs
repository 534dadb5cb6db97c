//! Being late, and why: a virtual router whose timers are not looked at takes a live master for dead,
//! or is taken for dead itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::clock;
use super::notice::Delay;
use crate::router::Moment;

/// What kept a thread, seen by the thread itself.
pub(super) struct Watch {
    /// What the kernel counts of this thread; not every kernel does.
    counts: Option<File>,
    before: Standing,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    now: Moment,
    awake: Duration,
    /// How long the thread waited for a processor, since it began.
    waited: Duration,
}

impl Watch {
    /// Of the thread that calls.
    pub(super) fn new() -> Watch {
        Watch { counts: File::open("/proc/thread-self/schedstat").ok(), before: Standing::default() }
    }

    /// What kept the thread from noticing something that was due so long ago, of which it was `busy`
    /// for a part. It is asked whenever the thread has been woken, also when nothing is late.
    pub(super) fn look(&mut self, late: Duration, busy: Duration) -> Delay {
        let now = Standing { now: clock::now(), awake: clock::awake(), waited: self.waited() };
        let before = std::mem::replace(&mut self.before, now);
        now.delay_since(&before, late, busy)
    }

    /// The second number of `schedstat`: nanoseconds on a run queue.
    fn waited(&self) -> Duration {
        let mut text = [0; 64];
        let read = self.counts.as_ref().and_then(|counts| counts.read_at(&mut text, 0).ok());
        let text = str::from_utf8(&text[..read.unwrap_or(0)]).unwrap_or_default();
        let waited = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
        waited.map(Duration::from_nanos).unwrap_or_default()
    }
}

impl Standing {
    fn delay_since(&self, before: &Standing, late: Duration, busy: Duration) -> Delay {
        let passed = self.now.saturating_sub(before.now);
        let asleep = passed.saturating_sub(self.awake.saturating_sub(before.awake));
        let waited = self.waited.saturating_sub(before.waited);
        // What explains at least half of it.
        let explains = |part: Duration| part * 2 >= late;
        if explains(asleep) {
            Delay::Asleep
        } else if explains(waited) {
            Delay::NoProcessor
        } else if explains(busy) {
            Delay::AtWork
        } else {
            Delay::Stopped
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_is_put_down_to_what_explains_most_of_it() {
        let seconds = Duration::from_secs;
        let at = |now, awake, waited| Standing {
            now: seconds(now),
            awake: seconds(awake),
            waited: seconds(waited),
        };
        let before = at(100, 90, 5);
        let check = |after: Standing, busy, delay| {
            assert_eq!(after.delay_since(&before, seconds(10), seconds(busy)), delay);
        };
        check(at(112, 92, 5), 0, Delay::Asleep);
        check(at(112, 102, 5), 9, Delay::AtWork);
        check(at(112, 102, 14), 9, Delay::NoProcessor);
        check(at(112, 102, 5), 0, Delay::Stopped);
    }
}
