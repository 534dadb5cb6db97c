//! The body of a server's answer on its way to the client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use lvs_core::{Event, Lease};
use pin_project::pin_project;
use tracing::error;

use crate::body::Cut;
use crate::moment::Moment;
use crate::server::Session;
use crate::upstream::{Connection, Expired, Link, Pool};

/// A body that is read from a server while it is sent to the client.
///
/// It holds the lease, for the server works until the last byte, and the connection, which is
/// given back to the pool only then. Dropped before, it closes the connection: the rest of the
/// answer would be taken for the next one's.
#[pin_project]
pub(crate) struct Relayed {
    #[pin]
    incoming: Incoming,
    /// `None` once the body has ended, one way or the other.
    claim: Option<Claim>,
    /// Whether it ended as the server meant it to.
    whole: bool,
    session: Rc<Session>,
    /// The client's version: in HTTP/1.0 the end of the connection may be that of the body.
    version: Version,
}

/// What is held until the body has ended.
pub(super) struct Claim {
    pub(super) account: Account,
    pub(super) connection: Connection,
    pub(super) pool: Rc<Pool>,
}

/// A lease whose bytes are counted when it ends.
pub(super) struct Account {
    pub(super) lease: Lease,
    pub(super) link: Rc<Link>,
}

impl Drop for Account {
    fn drop(&mut self) {
        let (to_server, to_client) = self.link.take_traffic();
        self.lease.count_to_server(to_server);
        self.lease.count_to_client(to_client);
    }
}

impl Relayed {
    pub(super) fn new(incoming: Incoming, claim: Claim, session: Rc<Session>, version: Version) -> Relayed {
        let mut claim = Some(claim);
        let whole = incoming.is_end_stream();
        if whole {
            give_back(&mut claim);
        }
        Relayed { incoming, claim, whole, session, version }
    }

    /// Whether the server's answer was read to its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.whole
    }
}

/// Ends the claim: the connection may carry the next request.
fn give_back(claim: &mut Option<Claim>) {
    if let Some(Claim { account, connection, pool }) = claim.take() {
        drop(account);
        pool.put(connection);
    }
}

/// Takes down that the server broke off its answer; cuts the client off.
fn broke_off(claim: &mut Option<Claim>, session: &Session, version: Version) {
    let Some(Claim { account: Account { lease, .. }, connection, .. }) = &*claim else { return };
    let what = match connection.link.expired() {
        Some(Expired::Read) => "upstream timed out (110: Connection timed out)",
        Some(Expired::Send) | None => "upstream prematurely closed connection",
    };
    let (client, server) = (session.remote.ip(), lease.server());
    error!(
        "*{} {what} while reading upstream, client: {client}, upstream: \"http://{server}\"",
        session.serial
    );
    session.worker.director().report(lease, Event::Failed(what.into()), Moment::now().as_time());
    if version < Version::HTTP_11 {
        session.part_by_reset();
    }
    *claim = None;
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let mut this = self.project();
        match ready!(this.incoming.as_mut().poll_frame(cx)) {
            None => {
                *this.whole = true;
                give_back(this.claim);
                Poll::Ready(None)
            }
            Some(Err(_)) => {
                broke_off(this.claim, this.session, *this.version);
                Poll::Ready(Some(Err(Cut::Server)))
            }
            Some(Ok(frame)) => {
                // Nothing comes after trailers, and nobody asks whether something does.
                if frame.is_trailers() || this.incoming.is_end_stream() {
                    *this.whole = true;
                    give_back(this.claim);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
