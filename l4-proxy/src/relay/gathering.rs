//! Lets the bytes of a fast source gather, so that one wake-up moves many.
//!
//! A relay that keeps up with its source is woken for every packet, and then a wake-up (at the
//! source, here, and at the sink) costs more than moving the bytes. Network cards have the same
//! trouble and the same cure: the kernel is told to wake the relay when half a mebibyte is there
//! (`SO_RCVLOWAT`), and a timer takes what is there when that does not happen soon.
//!
//! The timer is a descriptor of its own, since the runtime's timers are too coarse. It exists only
//! while bytes come fast; an end or a reset of the source wakes the relay at once as ever.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

use crate::sys;

/// A source whose bytes are let gather.
pub(super) struct Gathering {
    timer: AsyncFd<OwnedFd>,
    /// The timer runs.
    armed: bool,
}

impl Gathering {
    /// Tells the kernel to wake the reader of `source` only when much is there.
    pub(super) fn start(source: &TcpStream) -> io::Result<Gathering> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let timer = sys::watch(timer)?;
        sys::set_receive_low_water(source, ENOUGH)?;
        Ok(Gathering { timer, armed: false })
    }

    /// Ready when the time to gather is over. It begins with the first poll after it was over, or
    /// after [`Gathering::begin_again`].
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.armed {
            let once = Itimerspec { it_interval: ZERO, it_value: PATIENCE };
            if timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).is_err() {
                return Poll::Ready(());
            }
            self.armed = true;
            // An expiry that nobody waited for is over with the setting of the timer.
            if let Poll::Ready(Ok(mut stale)) = self.timer.poll_read_ready(cx) {
                stale.clear_ready();
            }
        }
        // Readiness comes once per expiry: there is nothing to be read.
        if let Ok(mut expired) = ready!(self.timer.poll_read_ready(cx)) {
            expired.clear_ready();
        }
        self.armed = false;
        Poll::Ready(())
    }

    /// Gives the source a whole span of time again.
    pub(super) fn begin_again(&mut self) {
        self.armed = false;
    }

    /// Has the reader of `source` woken for every byte again, also for those that are there.
    pub(super) fn stop(self, source: &TcpStream) {
        // A socket that refuses is broken, and says so at the next read.
        let _ = sys::set_receive_low_water(source, 1);
    }
}

/// What the reader is woken for. The receive buffer grows to hold twice this.
const ENOUGH: usize = 512 * 1024;

/// How long bytes may wait for company: what network cards take.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: Duration::from_micros(300).as_nanos() as i64 };

const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
