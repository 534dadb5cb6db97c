//! Bodies that are sent no faster than a rate: `limit_rate`, `proxy_limit_rate`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::{Duration, Instant, Sleep, sleep_until};

/// A rate and how much of a body it has let through.
///
/// As in nginx the share of a second may be sent at its beginning.
pub(super) struct Pace {
    /// Bytes per second.
    rate: u64,
    /// Bytes that may go before the rate holds.
    free: u64,
    began: Instant,
    passed: u64,
    /// What has to wait.
    held: Bytes,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// A pace that begins now.
    pub(super) fn new(rate: u64, free: u64) -> Pace {
        Pace { rate, free, began: Instant::now(), passed: 0, held: Bytes::new(), timer: None }
    }

    /// Whether nothing has to wait.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes a piece that may have to wait.
    pub(super) fn hold(&mut self, piece: Bytes) {
        self.held = piece;
    }

    /// Returns all that waits: it is another's to send.
    pub(super) fn release(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }

    /// Returns as much of what waits as may be sent.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
            }
            let seconds = self.began.elapsed().as_secs() + 1;
            let allowed =
                self.rate.saturating_mul(seconds).saturating_add(self.free).saturating_sub(self.passed);
            if allowed > 0 {
                let size = usize::try_from(allowed).unwrap_or(usize::MAX).min(self.held.len());
                self.passed += size as u64;
                return Poll::Ready(self.held.split_to(size));
            }
            let next = self.began + Duration::from_secs(seconds);
            self.timer = Some(Box::pin(sleep_until(next)));
        }
    }
}
