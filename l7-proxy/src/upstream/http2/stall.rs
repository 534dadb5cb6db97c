//! How long one side of a stream may make the other wait.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::moment::{COARSE, Excuse, Moment};

/// A limit on waiting; its timer is armed late and seldom.
pub(super) struct Stall {
    within: Duration,
    since: Option<Moment>,
    timer: Option<Pin<Box<Sleep>>>,
    excuse: Excuse,
}

impl Stall {
    pub(super) fn new(within: Duration) -> Stall {
        Stall { within, since: None, timer: None, excuse: Excuse::default() }
    }

    /// Something has moved.
    pub(super) fn moved(&mut self) {
        self.since = None;
    }

    /// Waits until nothing has moved for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Moment::now);
        loop {
            let left = (since + self.within).since(Moment::now());
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(left.max(COARSE))));
            ready!(timer.as_mut().poll(cx));
            if self.excuse.is_due(timer.as_mut()) {
                continue;
            }
            if left.is_zero() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + left.max(COARSE));
        }
    }
}
