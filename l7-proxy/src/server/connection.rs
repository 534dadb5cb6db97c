//! One client connection, from accept to its end: which protocol it speaks, and its one timer.

use std::any::Any;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use l4_proxy::proxy_protocol::Header;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tracing::{debug, error, info};

use super::chooser::Chooser;
use super::session::{Order, Overdue, Phase, Protocol, Session};
use super::sessions::Stranger;
use super::streams::Streams;
use super::{Generation, Proxy, Worker, http1, http2};
use crate::error_log::Errno;
use crate::moment::{COARSE, Excuse, Moment};
use crate::peek;
use crate::proxied;
use crate::route::{Endpoint, Entry};
use crate::stream::Side;
use crate::tls::{self, Handshake};
use crate::unix;
use crate::variable::Captures;

/// A connection that was accepted, and what is to be done with it.
pub(super) enum Begun {
    /// Requests follow each other from the first byte on.
    Plain(Rc<Session>, Side),
    /// What the client speaks is to be learnt first. In a place of its own: a plain connection has no
    /// room for it.
    Other(Pin<Box<dyn Future<Output = ()>>>),
}

impl Begun {
    /// Serves the connection to its end.
    pub(super) async fn serve(self) {
        match self {
            Begun::Plain(session, side) => http1::serve(session, side).await,
            Begun::Other(connection) => connection.await,
        }
    }
}

/// Begins to serve a connection that was accepted; `None` if there is nothing to serve it by.
pub(super) fn begin(
    worker: Rc<Worker>,
    // That at the moment of the accept: the next one may not know the address any more.
    generation: Rc<Generation>,
    stream: TcpStream,
    remote: SocketAddr,
    local: Option<SocketAddr>,
) -> Option<Begun> {
    let local = local.or_else(|| stream.local_addr().ok())?;
    // It may be an address that the configuration does not listen at.
    let entry = generation.site.router.entry(local)?;
    let client = Client { worker, generation, entry, remote, local, proxied: None, socket: None };
    Some(client.begin(stream))
}

/// A connection that `stream {}` hands over.
pub(crate) struct Passed {
    pub(crate) client: Side,
    /// TLS that is spoken on it.
    pub(crate) tls: Option<Rc<Handshake>>,
    /// The header of the PROXY protocol that came before it.
    pub(crate) proxied: Option<Rc<Header>>,
    pub(crate) remote: SocketAddr,
    /// The address that it is to have come to.
    pub(crate) local: SocketAddr,
    /// Its places among the connections that there may be, to be given back at its end.
    pub(crate) held: Box<dyn Any>,
}

impl Proxy {
    /// Serves a connection in a task of its own as if it had come to its address; gives it back if nobody
    /// is there.
    pub(crate) fn take_over(&self, passed: Passed) -> Option<Passed> {
        let (worker, generation) = (Rc::clone(&self.worker), self.worker.current());
        let Some(entry) = generation.site.router.entry(passed.local) else { return Some(passed) };
        let endpoint = generation.site.router.endpoint(entry);
        let streams = generation.site.router.default_server(entry).settings().http2.streams;
        let Passed { client, tls, proxied, remote, local, held } = passed;
        // As a listener of ours would have had it; it may have been turned off where it came from.
        let _ = client.socket().set_nodelay(true);
        let place = worker.place();
        let mut new = Client { worker, generation, entry, remote, local, proxied, socket: None };
        let begun = match (client, tls) {
            (Side::Plain(stream), _) => Some(new.begin(stream)),
            (Side::Tls(_), _) if endpoint.ssl || endpoint.proxy_protocol => {
                error!("cannot pass TLS to where it begins, client: {}, server: {local}", remote.ip());
                None
            }
            (client @ Side::Tls(_), tls) => {
                new.settle(client.socket());
                let speaks_http2 = endpoint.http2 && tls.as_ref().is_some_and(|tls| tls.alpn == b"h2");
                Some(match speaks_http2 {
                    true => {
                        let session = new.session(Protocol::Http2(Streams::new()), tls);
                        Begun::Other(Box::pin(http2::serve(session, client, streams)))
                    }
                    false => Begun::Plain(new.session(Protocol::Http1, tls), client),
                })
            }
        };
        if let Some(begun) = begun {
            tokio::task::spawn_local(async move {
                begun.serve().await;
                drop((place, held));
            });
        }
        None
    }
}

/// A client before it is known what it speaks.
pub(super) struct Client {
    worker: Rc<Worker>,
    pub(super) generation: Rc<Generation>,
    pub(super) entry: Entry,
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) proxied: Option<Rc<Header>>,
    /// The socket once more, where a variable asks the kernel about it.
    socket: Option<Rc<OwnedFd>>,
}

impl Client {
    /// Begins to serve a client that nothing was said with yet.
    fn begin(mut self, stream: TcpStream) -> Begun {
        self.settle(&stream);
        let endpoint = self.generation.site.router.endpoint(self.entry);
        if endpoint.proxy_protocol || endpoint.ssl || endpoint.http2 {
            Begun::Other(Box::pin(self.serve(stream, endpoint)))
        } else {
            Begun::Plain(self.session(Protocol::Http1, None), stream.into())
        }
    }

    /// Gives its socket the options of its address, and keeps it where it is asked about.
    fn settle(&mut self, stream: &TcpStream) {
        let router = &self.generation.site.router;
        if !router.default_server(self.entry).settings().connection.tcp_nodelay {
            // A socket that refuses the option is closed already.
            let _ = stream.set_nodelay(false);
        }
        if router.needs().tcp_info {
            self.socket = stream.as_fd().try_clone_to_owned().ok().map(Rc::new);
        }
    }

    fn session(self, protocol: Protocol, tls: Option<Rc<Handshake>>) -> Rc<Session> {
        let Client { worker, generation, entry, remote, local, proxied, socket } = self;
        let mut session = Session::new(worker, remote, local, generation, entry, protocol, tls);
        (session.proxied, session.socket) = (proxied, socket);
        if session.worker.order.get() == Order::Finish {
            session.finish_soon();
        }
        Rc::new(session)
    }

    /// Serves a client that does not begin with a plain request.
    async fn serve(mut self, mut stream: TcpStream, endpoint: Endpoint) {
        let stranger = Stranger::new(&self.worker);
        if endpoint.proxy_protocol {
            let default = self.generation.site.router.default_server(self.entry);
            let patience = default.settings().client.header_timeout;
            match stranger.hear(proxied::read(&mut stream, patience)).await {
                Some(Ok(header)) => self.proxied = Some(Rc::new(header)),
                Some(Err(error)) => {
                    let (client, server) = (self.remote.ip().to_canonical(), unix::shown(self.local));
                    error!("{error} while reading PROXY protocol, client: {client}, server: {server}");
                    return;
                }
                None => return,
            }
        }
        if endpoint.ssl {
            // In a place of its own, which is given back to whoever speaks something else.
            Box::pin(self.serve_tls(stream, stranger)).await;
        } else if endpoint.http2 {
            Box::pin(self.serve_either(stream, stranger)).await;
        } else {
            http1::serve(self.session(Protocol::Http1, None), stream.into()).await;
        }
    }

    async fn serve_tls(self, stream: TcpStream, stranger: Stranger) {
        let site = &self.generation.site;
        let default = site.router.default_server(self.entry);
        let patience = default.settings().client.header_timeout;
        let mut first = [0];
        match stranger.hear(timeout(patience, stream.peek(&mut first))).await {
            // What begins with a letter is HTTP, and is told so.
            Some(Ok(Ok(1))) if first[0].is_ascii_alphabetic() => {
                return http1::serve(self.session(Protocol::Http1InTheClear, None), stream.into()).await;
            }
            Some(Ok(Ok(1))) => {}
            Some(Ok(Ok(_) | Err(_)) | Err(_)) | None => return,
        }
        let fallback = &site.terminators[default.number()];
        let chooser = Chooser { client: &self, captures: Captures::default(), server: default.number() };
        match stranger.hear(tls::accept(stream, fallback, chooser)).await {
            Some(Ok(tls::Accepted { stream, handshake })) => {
                let is_http2 = handshake.alpn == b"h2";
                let tls = Some(Rc::new(handshake));
                if is_http2 {
                    let streams = default.settings().http2.streams;
                    http2::serve(self.session(Protocol::Http2(Streams::new()), tls), stream, streams).await;
                } else {
                    http1::serve(self.session(Protocol::Http1, tls), stream.into()).await;
                }
            }
            Some(Err(error)) => {
                info!(
                    "SSL_do_handshake() failed ({}) while SSL handshaking, client: {}",
                    Errno(&error),
                    self.remote.ip()
                );
            }
            None => {}
        }
    }

    /// Serves a client that may begin with the preface of HTTP/2 (RFC 9113, section 3.3).
    async fn serve_either(self, stream: TcpStream, stranger: Stranger) {
        let settings = self.generation.site.router.default_server(self.entry).settings();
        let (patience, streams) = (settings.client.header_timeout, settings.http2.streams);
        match stranger.hear(timeout(patience, begins_http2(&stream))).await {
            Some(Ok(Ok(true))) => {
                http2::serve(self.session(Protocol::Http2(Streams::new()), None), stream, streams).await;
            }
            Some(Ok(Ok(false))) => http1::serve(self.session(Protocol::Http1, None), stream.into()).await,
            Some(Ok(Err(_)) | Err(_)) | None => {}
        }
    }
}

/// Looks at the first bytes of a connection, and leaves them there.
async fn begins_http2(stream: &TcpStream) -> std::io::Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    let (mut first, mut seen) = ([0; PREFACE.len()], 0);
    loop {
        seen = peek::more(stream, &mut first, seen).await?;
        if seen == 0 || seen == PREFACE.len() || !PREFACE.starts_with(&first[..seen]) {
            return Ok(first == PREFACE);
        }
    }
}

/// Why a connection is not driven any more.
pub(super) enum Outcome<T> {
    /// It came to its end, or to that of its protocol.
    Ended(T),
    Overdue(Overdue),
    Aborted,
}

impl<T> Outcome<T> {
    pub(super) fn log(&self, session: &Session) {
        match self {
            Outcome::Ended(_) | Outcome::Aborted => {}
            // A head that has begun is told of as a request.
            Outcome::Overdue(Overdue::Head) if session.phase() == Phase::Head => {}
            Outcome::Overdue(Overdue::KeepAlive | Overdue::Lingering) => {}
            Outcome::Overdue(overdue) => {
                let during = match overdue {
                    Overdue::Body => "reading client request body",
                    Overdue::Send => "sending to client",
                    _ => "waiting for request",
                };
                let (serial, client) = (session.serial, session.remote.ip().to_canonical());
                let local = unix::shown(session.local);
                debug!(
                    "*{serial} client timed out (110: Connection timed out) while {during}, client: {client}, \
                     server: {local}"
                );
            }
        }
    }
}

/// Drives a connection until it ends, is overdue, or is told to end at once. It is polled, too, when
/// it is told to end soon.
pub(super) async fn drive<C: Future>(session: &Rc<Session>, mut http: Pin<&mut C>) -> Outcome<C::Output> {
    let mut timer = pin!(sleep(session.worker.client_patience()));
    let (mut hurried, mut armed, mut excuse) = (false, false, Excuse::default());
    poll_fn(|cx| {
        if let Poll::Ready(end) = http.as_mut().poll(cx) {
            return Poll::Ready(Outcome::Ended(end));
        }
        let mut look = session.listen(cx.waker()) || !armed;
        match session.order() {
            Order::Abort => return Poll::Ready(Outcome::Aborted),
            // How long it may take is shorter from now on.
            Order::Finish if !hurried => {
                (hurried, look) = (true, true);
                timer.as_mut().reset(Instant::now());
            }
            // And once more when the request at hand is over.
            Order::Finish if session.phase() == Phase::Idle => {
                let left = session.deadline().map(|(deadline, _)| deadline.since(Moment::now()));
                let until = left.map(|left| Instant::now() + left.max(COARSE));
                if let Some(until) = until.filter(|until| *until < timer.deadline()) {
                    timer.as_mut().reset(until);
                    look = true;
                }
            }
            Order::Finish | Order::Serve => {}
        }
        // A timer that has not fired knows whom to wake already.
        if !look && !timer.is_elapsed() {
            return Poll::Pending;
        }
        armed = true;
        poll_deadline(session, timer.as_mut(), &mut excuse, cx).map(|overdue| {
            session.close_for(overdue);
            Outcome::Overdue(overdue)
        })
    })
    .await
}

fn poll_deadline(
    session: &Session,
    mut timer: Pin<&mut Sleep>,
    excuse: &mut Excuse,
    cx: &mut Context<'_>,
) -> Poll<Overdue> {
    while timer.as_mut().poll(cx).is_ready() {
        if excuse.is_due(timer.as_mut()) {
            continue;
        }
        let now = Moment::now();
        session.expire_streams(now);
        let next = now + session.worker.client_patience();
        let until = match session.deadline() {
            Some((deadline, overdue)) if deadline <= now => return Poll::Ready(overdue),
            // Whatever begins to wait from now on may wait as long as the patience at least.
            Some((deadline, _)) => deadline.min(next),
            None => next,
        };
        timer.as_mut().reset(Instant::now() + until.since(now).max(COARSE));
    }
    Poll::Pending
}

/// Waits until the connection is ordered to end at once.
pub(super) async fn aborted(session: &Session) {
    poll_fn(|cx| {
        session.listen(cx.waker());
        if session.order() == Order::Abort { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
