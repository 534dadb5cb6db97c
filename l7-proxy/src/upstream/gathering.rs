//! Lets the bytes of a large answer gather at the socket, so that one wake-up moves many.
//!
//! A proxy that keeps up with a server is woken for every packet, and then the wake-ups, its own and
//! the client's, cost more than moving the bytes. So the kernel is told to call when as much has come as
//! one move takes, or all that is to come (`SO_RCVLOWAT`). How much that is, the head has said: the end
//! of an answer waits for nothing. A timer takes what is there when a server pauses, and from a
//! server that is slow everything is taken as it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use l4_proxy::relay::Pipe;
use tokio::time::{Instant, Sleep, sleep};

use super::link::Link;

/// How the bytes of one answer are waited for.
pub(super) enum Gathering {
    /// They have not been waited for yet.
    New,
    /// Until many are there, or the timer fires.
    On(Box<On>),
    /// They are taken as they come.
    Off,
}

pub(super) struct On {
    /// What the kernel calls for.
    wanted: usize,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs.
    armed: bool,
}

impl Gathering {
    /// Moves what has gathered of the `left` bytes to come into an empty pipe; returns how much, nothing
    /// at the end of the connection.
    pub(super) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link,
        pipe: &mut Pipe,
        left: usize,
    ) -> Poll<io::Result<usize>> {
        if matches!(self, Gathering::New) {
            *self = Gathering::Off;
            self.go_on(link, left);
        }
        let polled = link.poll_splice(cx, pipe, left);
        let Gathering::On(on) = self else { return polled };
        let moved = match polled {
            Poll::Pending => {
                ready!(on.poll_over(cx));
                let taken = link.splice_now(pipe, left);
                if !matches!(taken, Ok(moved) if moved >= SLOW) {
                    self.end(link);
                }
                match taken {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return link.poll_splice(cx, pipe, left);
                    }
                    taken => taken?,
                }
            }
            Poll::Ready(moved) => moved?,
        };
        if let Gathering::On(_) = self {
            self.go_on(link, left.saturating_sub(moved));
        }
        Poll::Ready(Ok(moved))
    }

    /// Lets what is `left` gather, if that is worth it.
    fn go_on(&mut self, link: &Link, left: usize) {
        if left < WORTH {
            return self.end(link);
        }
        let wanted = left.min(ENOUGH);
        // In this order: what comes in between is called for when the kernel is told.
        link.forget_readiness();
        match self {
            Gathering::On(on) if on.wanted == wanted => on.armed = false,
            Gathering::On(on) => {
                link.call_for(wanted);
                (on.wanted, on.armed) = (wanted, false);
            }
            Gathering::New | Gathering::Off => {
                link.call_for(wanted);
                *self = Gathering::On(Box::new(On { wanted, timer: None, armed: false }));
            }
        }
    }

    /// Takes bytes as they come from now on.
    pub(super) fn end(&mut self, link: &Link) {
        if let Gathering::On(_) = std::mem::replace(self, Gathering::Off) {
            link.call_for(1);
        }
    }
}

impl On {
    /// Ready when the server was waited for long enough.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        if !self.armed {
            timer.as_mut().reset(Instant::now() + PATIENCE);
            self.armed = true;
        }
        timer.as_mut().poll(cx)
    }
}

/// What the kernel is to call for at most: half of what a pipe holds, so that the server fills one half
/// while the client empties the other.
const ENOUGH: usize = 512 * 1024;

/// What is to be waited for at least: one that brings less costs less than the calls that save it.
const WORTH: usize = 96 * 1024;

/// Less than this in the time of a timer is slow.
const SLOW: usize = 32 * 1024;

/// How long bytes may wait for company: as short as the runtime's timers are.
const PATIENCE: Duration = Duration::from_millis(1);
