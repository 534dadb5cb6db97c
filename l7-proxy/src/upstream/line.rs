//! Where requests wait while every server has as many as it may have (`queue`).

use std::cell::Cell;
use std::time::Duration;

use lvs_core::Refusal;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::model::Queue;

/// The requests of one worker that wait for a server of one upstream.
pub(crate) struct Line {
    bounds: Queue,
    waiting: Cell<usize>,
    /// Told when a server has got rid of a request of this worker.
    freed: Notify,
}

/// A request's place in the line; given up when dropped, for the client may not wait that long.
struct Standing<'a>(&'a Line);

impl Line {
    pub(crate) fn new(bounds: Queue) -> Line {
        Line { bounds, waiting: Cell::new(0), freed: Notify::new() }
    }

    /// A server has got rid of a request.
    pub(crate) fn call(&self) {
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }

    /// Chooses a server, or waits until one can be chosen. Who comes first is served first.
    ///
    /// # Errors
    /// As `choose`; that all are full only once the line is full, or the time is over.
    pub(crate) async fn choose<L>(&self, choose: impl Fn() -> Result<L, Refusal>) -> Result<L, Refusal> {
        if self.waiting.get() == 0 {
            match choose() {
                Err(Refusal::AllFull) => {}
                chosen => return chosen,
            }
        }
        if self.waiting.get() >= self.bounds.length {
            return Err(Refusal::AllFull);
        }
        self.waiting.set(self.waiting.get() + 1);
        let standing = Standing(self);
        let chosen = timeout(self.bounds.timeout, async {
            loop {
                // Other workers do not tell when they are done with a server.
                let _ = timeout(LOOK_EVERY, self.freed.notified()).await;
                match choose() {
                    Err(Refusal::AllFull) => {}
                    chosen => return chosen,
                }
            }
        });
        let chosen = chosen.await.unwrap_or(Err(Refusal::AllFull));
        drop(standing);
        chosen
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

/// How often one who waits looks for a server that other workers have left.
const LOOK_EVERY: Duration = Duration::from_millis(10);
