//! Idle connections that hold nothing.
//!
//! While something is going on, hyper drives a connection. What that takes (buffers, the room for
//! a request and its answer) is some 15 kB, so a connection on which nothing has happened for a
//! moment is taken out of hyper's hands: it *rests* as a socket, a timer and a [`Session`], and
//! hyper gets it anew when there is something to read.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use super::connection::poll_deadline;
use super::session::{Order, Phase, Rest, Session};
use crate::moment::{COARSE, Moment};
use crate::wire::{Readable, Wire};

/// Why a connection does not rest any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rested {
    /// There is something to read, be it the end.
    Readable,
    /// It is to be closed.
    Enough,
}

/// Waits for something to read.
pub(super) async fn rest<S>(wire: &Wire<S, Session>, session: &Session) -> Rested
where
    S: AsyncRead + AsyncWrite + Unpin + Readable,
{
    let mut timer = pin!(sleep(session.worker.client_patience()));
    let (mut hurried, mut armed) = (false, false);
    poll_fn(|cx| {
        let mut look = session.listen(cx.waker()) || !armed;
        match session.order() {
            Order::Abort => return Poll::Ready(Rested::Enough),
            // A client that has not said a word yet may have a request on the way.
            Order::Finish if session.phase() != Phase::Fresh => return Poll::Ready(Rested::Enough),
            Order::Finish if !hurried => {
                (hurried, look) = (true, true);
                timer.as_mut().reset(Instant::now());
            }
            Order::Finish | Order::Serve => {}
        }
        if wire.poll_readable(cx).is_ready() {
            return Poll::Ready(Rested::Readable);
        }
        // A timer that has not fired knows whom to wake already.
        if !look && !timer.is_elapsed() {
            return Poll::Pending;
        }
        armed = true;
        poll_deadline(session, timer.as_mut(), cx).map(|_| Rested::Enough)
    })
    .await
}

/// Sees to it that a connection rests, if it goes on to be idle.
pub(super) fn watch(session: &Rc<Session>) {
    session.rest.set(Rest::Watched);
    let worker = &session.worker;
    let mut idle = worker.idle.borrow_mut();
    idle.push(Rc::downgrade(session));
    if idle.len() == 1 {
        let worker = Rc::clone(worker);
        tokio::task::spawn_local(async move {
            while !worker.idle.borrow().is_empty() {
                sleep(REST_AFTER).await;
                let now = Moment::now();
                worker.idle.borrow_mut().retain(|session| goes_on(session, now));
            }
        });
    }
}

/// Whether a connection is idle, but not for long enough; tells it if it is.
fn goes_on(session: &Weak<Session>, now: Moment) -> bool {
    let Some(session) = session.upgrade() else { return false };
    match session.idle_since() {
        None => {
            session.rest.set(Rest::No);
            false
        }
        Some(since) if now.since(since) + COARSE < REST_AFTER => true,
        Some(_) => {
            session.rest.set(Rest::Due);
            session.wake();
            false
        }
    }
}

/// How long a connection is idle before it rests: longer than a client that has the next request
/// in hand takes to send it.
const REST_AFTER: Duration = Duration::from_millis(20);
