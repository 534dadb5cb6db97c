//! The body of a server's answer on its way to the client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use lvs_core::{Event, Lease};
use tracing::error;

use crate::body::Cut;
use crate::moment::Moment;
use crate::server::Session;
use crate::upstream::{BrokenOff, Connection, Incoming, Link, Pool};

/// A body that is read from a server while it is sent to the client.
///
/// It holds the lease, for the server works until the last byte, and the connection, which is
/// given back to the pool only then. Dropped before, it closes the connection: the rest of the
/// answer would be taken for the next one's.
pub(crate) struct Relayed {
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
        let mut relayed = Relayed { incoming, claim: Some(claim), whole: false, session, version };
        relayed.note_end();
        relayed
    }

    /// Whether the server's answer was read to its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.whole
    }

    /// Ends the claim if the body has ended: the connection may carry the next request.
    fn note_end(&mut self) {
        if !self.incoming.is_end() {
            return;
        }
        self.whole = true;
        if let Some(Claim { account, connection, pool }) = self.claim.take() {
            drop(account);
            if let Some(line) = &pool.line {
                line.call();
            }
            if self.incoming.is_reusable() {
                pool.put(connection);
            }
        }
    }
}

/// Takes down that the server broke off its answer; cuts the client off.
fn broke_off(claim: &mut Option<Claim>, reason: BrokenOff, session: &Session, version: Version) {
    let Some(Claim { account: Account { lease, .. }, .. }) = &*claim else { return };
    let what = match reason {
        BrokenOff::Expired => "upstream timed out (110: Connection timed out)",
        BrokenOff::Closed => "upstream prematurely closed connection",
        BrokenOff::Malformed => "upstream sent invalid chunked response",
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
        let this = self.get_mut();
        let frame = ready!(this.incoming.poll_frame(cx));
        if let Some(Err(reason)) = frame {
            broke_off(&mut this.claim, reason, &this.session, this.version);
            return Poll::Ready(Some(Err(Cut::Server)));
        }
        // Nobody asks whether something comes after what ends a body.
        this.note_end();
        Poll::Ready(frame.map(|frame| frame.map_err(|_| Cut::Server)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
