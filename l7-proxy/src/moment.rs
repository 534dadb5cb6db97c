//! The time that limits are kept by: the kernel's tick clock.
//!
//! It is right to a few milliseconds and costs a few nanoseconds to read, which a request does a
//! dozen times: whenever either side has to wait.

use std::ops::Add;
use std::sync::LazyLock;
use std::time::Duration;

use lvs_core::Time;
use rustix::time::{ClockId, clock_gettime};

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

/// How far the clock may lag behind: a timer that fires for a moment may see one this much earlier.
pub(crate) const COARSE: Duration = Duration::from_millis(5);
