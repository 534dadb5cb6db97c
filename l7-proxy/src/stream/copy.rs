//! Carries bytes between two sides where splicing cannot: over TLS, and at a rate.
//!
//! A direction reads into one buffer and writes all of it before it reads again, so that a slow
//! reader holds back its sender. nginx's rule for a rate: of `rate` bytes per second, those of the
//! present second may be read ahead.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::side::Side;
use crate::moment::{COARSE, Moment};

/// What has moved in one direction.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) bytes: Cell<u64>,
    /// How long after the begin the first byte came.
    pub(crate) first: Cell<Option<Duration>>,
}

/// How a pair of sides is to be treated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Bytes per second from the client; 0 sets no limit.
    pub(crate) upload: u64,
    /// Bytes per second to the client; 0 sets no limit.
    pub(crate) download: u64,
    /// Time without a byte in either direction.
    pub(crate) idle: Duration,
    /// The same after one side has ended.
    pub(crate) half_closed: Duration,
}

/// Why copying ended.
#[derive(Debug)]
pub(crate) enum End {
    Closed,
    TimedOut,
    Failed(io::Error),
}

/// Copies until both sides have ended, one fails, or nothing moves for too long.
pub(crate) async fn copy(
    client: &mut Side,
    server: &mut Side,
    terms: Terms,
    to_server: &Count,
    to_client: &Count,
) -> End {
    let (client_read, client_write) = tokio::io::split(client);
    let (server_read, server_write) = tokio::io::split(server);
    let (moved, ended) = (Cell::new(Moment::now()), Cell::new(false));
    let began = Instant::now();
    let direction = |rate, count| Direction { rate, count, began, moved: &moved, ended: &ended };
    let upload = direction(terms.upload, to_server).run(client_read, server_write);
    let download = direction(terms.download, to_client).run(server_read, client_write);
    let both = async { tokio::try_join!(upload, download) };
    let watch = async {
        loop {
            let limit = if ended.get() { terms.half_closed } else { terms.idle };
            let silent = Moment::now().since(moved.get());
            if silent >= limit {
                return;
            }
            // That one side has ended may shorten the time: looked at now and then.
            sleep((limit - silent).min(LOOK_EVERY).max(COARSE)).await;
        }
    };
    tokio::select! {
        copied = both => copied.map_or_else(End::Failed, |_| End::Closed),
        () = watch => End::TimedOut,
    }
}

struct Direction<'a> {
    rate: u64,
    count: &'a Count,
    began: Instant,
    moved: &'a Cell<Moment>,
    ended: &'a Cell<bool>,
}

impl Direction<'_> {
    async fn run(self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_SIZE];
        let began = Instant::now();
        // What was handed over before copying began is none of this direction's rate.
        let before = self.count.bytes.get();
        loop {
            let room = self.room(began, before).await;
            let read = match from.read(&mut buffer[..room]).await {
                Ok(read) => read,
                // A peer of TLS that goes without a word of the end: nginx takes that for the end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(error),
            };
            if read == 0 {
                self.ended.set(true);
                self.moved.set(Moment::now());
                return match to.shutdown().await {
                    Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
                    _ => Ok(()),
                };
            }
            if self.count.first.get().is_none() {
                self.count.first.set(Some(self.began.elapsed()));
            }
            self.moved.set(Moment::now());
            to.write_all(&buffer[..read]).await?;
            to.flush().await?;
            self.moved.set(Moment::now());
            self.count.bytes.set(self.count.bytes.get() + read as u64);
        }
    }

    /// Waits until something may be read; returns how much.
    async fn room(&self, began: Instant, before: u64) -> usize {
        if self.rate == 0 {
            return BUFFER_SIZE;
        }
        loop {
            let moved = self.count.bytes.get() - before;
            let allowed = allowed(self.rate, began.elapsed());
            if let Some(room) = allowed.checked_sub(moved).filter(|&room| room > 0) {
                return usize::try_from(room).map_or(BUFFER_SIZE, |room| room.min(BUFFER_SIZE));
            }
            let excess = moved - allowed;
            let wait = Duration::from_millis(excess.saturating_mul(1000) / self.rate + 1);
            self.moved.set(Moment::now());
            sleep(wait.min(LOOK_EVERY)).await;
        }
    }
}

/// Bytes that may have moved after this time: those of the present second may go ahead.
fn allowed(rate: u64, elapsed: Duration) -> u64 {
    rate.saturating_mul(elapsed.as_secs().saturating_add(1))
}

/// Large enough for a record of TLS.
const BUFFER_SIZE: usize = 16 * 1024;

/// How often a waiting copy looks whether something has changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_present_second_may_go_ahead() {
        assert_eq!(allowed(10, Duration::ZERO), 10);
        assert_eq!(allowed(10, Duration::from_millis(999)), 10);
        assert_eq!(allowed(10, Duration::from_millis(2000)), 30);
        assert_eq!(allowed(u64::MAX, Duration::from_secs(9)), u64::MAX);
    }
}
