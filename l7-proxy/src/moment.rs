//! The time that limits are kept by: the kernel's tick clock.
//!
//! It is right to a few milliseconds and costs a few nanoseconds to read, which a request does a
//! dozen times: whenever either side has to wait.

use std::ops::Add;
use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

use lvs_core::Time;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, Sleep};

/// A moment since the machine was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    /// The present one.
    pub(crate) fn now() -> Moment {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        // The clock counts up from the start of the machine.
        Moment(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
    }

    /// How long it is after `earlier`.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// So much before this one.
    pub(crate) fn before(self, earlier: Duration) -> Moment {
        Moment(self.0.saturating_sub(earlier))
    }

    /// The same moment on the clock of [`l4_proxy::clock`], which a director goes by.
    pub(crate) fn as_time(self) -> Time {
        static START: LazyLock<(Time, Moment)> = LazyLock::new(|| (l4_proxy::clock::now(), Moment::now()));
        let (time, start) = *START;
        time + self.since(start)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, later: Duration) -> Moment {
        Moment(self.0.saturating_add(later))
    }
}

/// A timer's excuse for those it keeps waiting for: once in a row, when it fires late, it fires again
/// before anybody is judged.
///
/// A process that was kept from running for longer than a limit finds its timers over, and in its sockets
/// what its peers have sent in time. The second time everything that is there has been read.
#[derive(Debug, Default)]
pub(crate) struct Excuse {
    is_given: bool,
}

impl Excuse {
    /// Whether a timer that has fired is to fire again; then it is set.
    pub(crate) fn is_due(&mut self, mut timer: Pin<&mut Sleep>) -> bool {
        self.is_given = !self.is_given && timer.deadline().elapsed() > LATE;
        if self.is_given {
            timer.as_mut().reset(Instant::now() + COARSE);
        }
        self.is_given
    }
}

/// A timer that fires by so much too late was not kept back by its own coarseness.
const LATE: Duration = Duration::from_millis(20);

/// How far the clock may lag behind: a timer that fires for a moment may see one this much earlier.
pub(crate) const COARSE: Duration = Duration::from_millis(5);
