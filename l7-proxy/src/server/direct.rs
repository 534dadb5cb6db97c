//! Requests that come by no connection of ours: from a program, or to be explained.
//!
//! Each is treated as a stream of a connection of its own, so that everything behind
//! [`handle::answer`] knows one kind of request. Whoever hands it in sees to the client's time limits.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty};

use super::session::{Order, Protocol, Session};
use super::sessions::{self, Listed};
use super::streams::Streams;
use super::{Place, Proxy, Worker};
use crate::body::{Body, Cut, Received};
use crate::forward;
use crate::handle;
use crate::variable::Scheme;

/// Where a request comes from and goes to, without a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Direct {
    pub(crate) remote: SocketAddr,
    /// The address of the configuration that it counts as received at.
    pub(crate) local: SocketAddr,
    pub(crate) scheme: Scheme,
}

/// What stands for the connection of such a request; to be kept until its answer was taken.
pub(crate) struct Connection {
    session: Rc<Session>,
    _listed: Listed,
}

/// What stands for the connection of a request that goes on beside the one that it belongs to. It counts
/// as one that is open, and the end of the proxy waits for it.
pub(crate) struct Beside {
    connection: Connection,
    stream: Rc<Session>,
    _place: Place,
}

impl Beside {
    /// One beside a request on this session; `None` if the worker has no room for it.
    pub(crate) fn of(session: &Session) -> Option<Beside> {
        let worker = &session.worker;
        if !worker.has_room() {
            return None;
        }
        let (generation, entry) = session.generation();
        let streams = Protocol::Http2(Streams::new());
        let (remote, local, tls) = (session.remote, session.local, session.tls.clone());
        let mut connection = Session::new(Rc::clone(worker), remote, local, generation, entry, streams, tls);
        connection.serial = session.serial;
        connection.scheme = session.scheme;
        connection.proxied.clone_from(&session.proxied);
        connection.socket.clone_from(&session.socket);
        let connection = Rc::new(connection);
        let listed = sessions::list(worker, &connection);
        let stream = Session::stream(&connection);
        let connection = Connection { session: connection, _listed: listed };
        Some(Beside { connection, stream, _place: worker.place() })
    }

    /// The session of the request.
    pub(crate) fn session(&self) -> &Rc<Session> {
        &self.stream
    }

    /// Waits until it is told to end at once.
    pub(crate) async fn aborted(&self) {
        self.connection.aborted().await;
    }
}

impl Connection {
    /// Waits until it is told to end at once.
    pub(crate) async fn aborted(&self) {
        poll_fn(|cx| {
            self.session.listen(cx.waker());
            if self.session.order() == Order::Abort { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Proxy {
    /// Answers a request that comes by no connection: returns what stands for its connection, and the
    /// answer to be; `None` if the configuration does not listen at its address.
    pub(crate) fn answer(
        &self,
        direct: Direct,
        request: Request<Received>,
    ) -> Option<(Connection, impl Future<Output = Result<Response<Body>, Cut>> + use<>)> {
        let worker: &Rc<Worker> = &self.worker;
        let generation = worker.current();
        let entry = generation.site.router.entry(direct.local)?;
        let streams = Protocol::Http2(Streams::new());
        let mut connection =
            Session::new(Rc::clone(worker), direct.remote, direct.local, generation, entry, streams, None);
        connection.scheme = direct.scheme;
        let request = plain(request);
        let session = Rc::new(connection);
        let listed = sessions::enter(worker, &session);
        let answer = handle::answer(Session::stream(&session), request);
        Some((Connection { session, _listed: listed }, answer))
    }

    /// The first address of the configuration.
    pub(crate) fn first_address(&self) -> Option<SocketAddr> {
        self.worker.current().site.router.first_address()
    }

    /// Explains a request: what would be answered, and why.
    pub(crate) async fn explain(&self, parts: Parts, direct: Direct) -> String {
        let empty: Pin<Box<_>> = Box::pin(Empty::<Bytes>::new().map_err(|never| match never {}));
        let Some((_connection, answered)) =
            self.answer(direct, Request::from_parts(parts, Received::Other(empty)))
        else {
            return "no server listens at this address\n".to_owned();
        };
        match answered.await {
            Ok(response) => {
                let bytes = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
                String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
            }
            Err(cut) => format!("{cut}\n"),
        }
    }
}

/// A name where a program may have left it in the URL; nothing that belonged to the connection that it
/// came by, and a length if the body has one, whatever was written of it.
fn plain(mut request: Request<Received>) -> Request<Received> {
    let authority = request.uri().authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok());
    let size = request.body().size_hint().exact();
    let headers = request.headers_mut();
    for name in forward::nominated(headers) {
        headers.remove(name);
    }
    for name in [UPGRADE, CONNECTION, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let told = headers.remove(CONTENT_LENGTH).is_some();
    if let Some(size) = size
        && (told || size > 0)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    }
    if let Some(authority) = authority
        && !headers.contains_key(HOST)
    {
        headers.insert(HOST, authority);
    }
    request
}
