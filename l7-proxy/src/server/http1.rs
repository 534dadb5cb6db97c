//! HTTP/1.1 with clients: one request after the other, each answered before the next is looked at.
//!
//! A connection is one task. While nothing is on its way it is a socket, a timer and a [`Session`]:
//! everything that a request needs is in a place of its own that is given back at its end.
//!
//! An answer may come before its request has been read. The rest of the body is then read and
//! thrown away, within limits, and the connection goes on; nobody waits for a body that the client
//! holds back until it is asked for.

mod amend;
mod channel;
mod head;
mod reply;
mod salvage;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use self::channel::{Arrived, Channel};
pub(crate) use self::channel::{Broken, RequestBody};
pub use self::head::read_head;
pub(super) use self::reply::Whole;
use self::reply::{Asked, Reply, Unsent};
use super::connection::{Outcome, aborted, drive};
use super::session::{Order, Overdue, Parting, Session};
use super::sessions;
use crate::body::{Cut, Received};
use crate::forward::Tunnel;
use crate::handle::{self, Persistence, Response, Unheard, tell_unheard};
use crate::model::Linger;
use crate::stream::Side;

/// Serves a connection on which requests follow each other.
pub(super) async fn serve(session: Rc<Session>, side: Side) {
    let listed = sessions::enter(&session.worker, &session);
    let channel = Rc::new(Channel::new(side, Rc::clone(&session)));
    let outcome = drive(&session, pin!(converse(&channel))).await;
    outcome.log(&session);
    // Judged by what it was about when its time was over: the line in the log begins a request.
    let timed_out = matches!(outcome, Outcome::Overdue(overdue) if session.resets_for(overdue));
    if let Some((head, parts)) = channel.take_unheard() {
        match outcome {
            Outcome::Overdue(Overdue::Head) => tell_unheard(&session, Unheard::TimedOut, parts, head),
            Outcome::Ended(_) => tell_unheard(&session, Unheard::Gone, parts, head),
            Outcome::Overdue(_) | Outcome::Aborted => {}
        }
    }
    if timed_out || session.parting() == Parting::Reset {
        channel.reset_on_drop();
    }
    if let Outcome::Ended(End::Tunnel(tunnel)) = outcome
        && let Ok(channel) = Rc::try_unwrap(channel)
    {
        let (client, received) = channel.into_parts();
        // In a place of its own: few connections need one.
        let tunnel = Box::pin(tunnel.run(client, received));
        tokio::select! {
            () = tunnel => {}
            () = aborted(&session) => {}
        }
    }
    drop(listed);
}

/// How a conversation came to its end.
pub(super) enum End {
    /// The connection is closed.
    Closed,
    /// It goes on in another protocol.
    Tunnel(Box<Tunnel>),
}

/// What comes after an answer.
enum Next {
    /// The next request.
    Request,
    End(End),
}

/// Answers requests until one of the sides has enough.
async fn converse(channel: &Rc<Channel>) -> End {
    loop {
        let arrived = poll_fn(|cx| {
            let polled = channel.poll_head(cx);
            let session = &channel.session;
            if polled.is_pending() && session.order() == Order::Finish && !session.is_awaited() {
                return Poll::Ready(Arrived::End);
            }
            polled
        });
        let Some(exchange) = begin(channel, arrived.await) else { return End::Closed };
        if let Next::End(end) = exchange.await {
            return end;
        }
    }
}

/// Begins to answer what has come; `None` if the connection has ended.
///
/// What does so has a place of its own, which is given back while the connection is idle.
fn begin(channel: &Rc<Channel>, arrived: Arrived) -> Option<Pin<Box<impl Future<Output = Next>>>> {
    let (parts, refused) = match arrived {
        Arrived::Head(head) => (head.parts, None),
        Arrived::Refused(refused, parts) => (parts, Some(refused)),
        Arrived::End => return None,
    };
    let asked = Asked { version: parts.version, whole: Whole::of(&parts.method) };
    let body = channel.body().map(Received::Http1);
    let answer = handle::answer_parts(Rc::clone(&channel.session), parts, body, refused);
    let place = Box::new_uninit();
    // Made where it stays.
    Some(Box::into_pin(Box::write(place, exchange(channel, asked, answer))))
}

/// Answers one request.
async fn exchange(
    channel: &Rc<Channel>,
    asked: Asked,
    mut answer: impl Future<Output = Result<Response, Cut>> + Unpin,
) -> Next {
    let session = &channel.session;
    let answered = poll_fn(|cx| match Pin::new(&mut answer).poll(cx) {
        Poll::Ready(answered) => Poll::Ready(answered.ok()),
        // What is dropped without an answer is logged as what it is.
        Poll::Pending => {
            channel.poll_hints(cx);
            match session.ignores_leaving() {
                true => Poll::Pending,
                false => channel.poll_gone(cx).map(|()| None),
            }
        }
    })
    .await;
    drop(answer);
    let Some(response) = answered else { return Next::End(End::Closed) };

    let mut buffer = session.worker.scratch.take();
    buffer.clear();
    buffer.extend_from_slice(channel.take_word());
    buffer.append(&mut session.hints());
    let Response { head, body } = response;
    let mut reply = Reply::new(&head, body, asked, &session.spelling, buffer);
    session.worker.keep_fields(head.headers);
    let sent = poll_fn(|cx| reply.poll(cx, channel)).await;
    session.worker.scratch.replace(reply.take_buffer());
    let persistence = reply.persistence;
    drop(reply);
    if let Err(Unsent) = sent {
        return Next::End(End::Closed);
    }
    if let Some(tunnel) = session.take_tunnel() {
        return Next::End(End::Tunnel(tunnel));
    }
    if persistence == Persistence::Kept && (channel.has_all() || skip_body(channel).await) {
        return Next::Request;
    }
    channel.part().await;
    Next::End(End::Closed)
}

/// Reads what is left of a body that nobody wants; returns whether the connection can go on.
async fn skip_body(channel: &Channel) -> bool {
    if !channel.is_worth_reading() {
        return false;
    }
    let session = &channel.session;
    if session.lingering().when == Linger::Never {
        return false;
    }
    session.begin_lingering();
    let found = channel.discard_body().await;
    session.end_response();
    found
}
