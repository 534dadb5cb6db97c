//! What time it is for a node: the clock that counts while the host sleeps and that nobody can set, so
//! that a host which wakes up knows how long it was away.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use crate::router::Moment;

/// Now, on the clock of a node: since the host started, with the time that it slept.
pub fn now() -> Moment {
    duration(clock_gettime(ClockId::Boottime))
}

/// Now, without the time that the host slept.
pub(super) fn awake() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

/// Now, on the clock on the wall.
pub(super) fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + duration(clock_gettime(ClockId::Realtime))
}

fn duration(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

/// A descriptor that becomes readable at a moment, also right after the host slept through it, which
/// the timeout of `poll` does not.
pub(super) struct Alarm {
    timer: OwnedFd,
    set: Option<Moment>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Alarm { timer: timerfd_create(TimerfdClockId::Boottime, flags)?, set: None })
    }

    /// Sets it, or takes it back.
    pub(super) fn set(&mut self, at: Option<Moment>) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would take it back.
        let at = at.map(|at| at.max(Duration::from_nanos(1)));
        let value = at.map_or(zero, |at| Timespec {
            tv_sec: at.as_secs().cast_signed(),
            tv_nsec: at.subsec_nanos().into(),
        });
        timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::ABSTIME,
            &Itimerspec { it_interval: zero, it_value: value },
        )?;
        self.set = at;
        Ok(())
    }

    /// How long ago it was due.
    pub(super) fn overdue(&self, now: Moment) -> Duration {
        self.set.map_or(Duration::ZERO, |set| now.saturating_sub(set))
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
