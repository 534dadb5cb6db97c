//! The proxy as a service of a program that has its requests already: one behind axum, or tower.
//!
//! A [`Daemon`](crate::daemon::Daemon) has the threads that answer, and with them health checks, logs
//! and reloads; a [`Service`] hands requests to them, in turns. It can be cloned and sent about, and
//! [`Service::answer`] is awaited on any runtime. With the feature `tower` it is a
//! `tower_service::Service`.
//!
//! Bodies are streamed in both directions, and whoever is slow slows the other end down: a request's
//! body is polled where it is sent on, an answer's is read no more than a few
//! pieces ahead of whoever takes it.
//!
//! ```no_run
//! use l7_proxy::conf;
//! use l7_proxy::daemon::{Daemon, Entry, Options};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let text = "http {
//!     upstream app { server 127.0.0.1:9001; server 127.0.0.1:9002; }
//!     server { location / { proxy_pass http://app; } }
//! }";
//! let config = conf::parse(text, "/srv/shop".as_ref())?.config;
//! let daemon = Daemon::start(config, Options { entry: Entry::Program, ..Options::default() })?;
//! let proxy = daemon.service();
//! // axum::Router::new().route("/health", get(health)).fallback_service(proxy)
//! # Ok(())
//! # }
//! ```
//!
//! # What the program has to see to
//!
//! - Keep the daemon. Without it the answer is 503.
//! - Say who asks, by a [`Client`] among the request's extensions. Without it the client is 0.0.0.0,
//!   which no `allow` of an address lets in.
//! - Limit how long a client may take to send and to read: its connection is the program's.
//! - Upgrades (WebSocket) are not passed on: the connection that would be handed over is not ours.
//! - `return 444`, which closes a connection without a word, is an empty 400 that asks for it.

mod answering;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project::pin_project;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::answering::serve;
use crate::body::Cut;
use crate::variable::Scheme;

/// Answers requests as the proxy would that it was taken from
/// ([`Daemon::service`](crate::daemon::Daemon::service)). A clone is the same service.
#[derive(Clone, Debug)]
pub struct Service {
    workers: Arc<[mpsc::Sender<Job>]>,
    /// Counts requests, so that workers take turns.
    turn: Arc<AtomicUsize>,
    local: Option<SocketAddr>,
}

/// Who asks: to be put among a request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub addr: SocketAddr,
    /// How it speaks to the program.
    pub scheme: Scheme,
}

/// The body of an answer.
#[derive(Debug)]
pub struct Body {
    /// `None` when all of it has come.
    pieces: Option<mpsc::Receiver<Piece>>,
    /// What is still to come of it.
    size: SizeHint,
}

/// Why the body of an answer is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(Option<Cut>);

/// A request on its way to a worker.
#[derive(Debug)]
pub(crate) struct Job {
    request: Request<Upload>,
    client: Client,
    /// The address of the configuration that it counts as received at; `None` for its first.
    local: Option<SocketAddr>,
    reply: oneshot::Sender<Response<Body>>,
}

/// A request's body, whatever it was.
struct Upload(Pin<Box<dyn HttpBody<Data = Bytes, Error = Cut> + Send>>);

/// A step of an answer's body.
#[derive(Debug)]
enum Piece {
    Frame(Frame<Bytes>),
    /// That was all; without it a body is not whole.
    End,
    Cut(Cut),
}

/// Returns a service, and for each of so many workers where it gets its requests.
pub(crate) fn channels(workers: usize) -> (Service, Vec<mpsc::Receiver<Job>>) {
    let (workers, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(WAITING)).unzip();
    (Service { workers: workers.into(), turn: Arc::default(), local: None }, receivers)
}

impl Service {
    /// The same, for requests that count as received at this address of the configuration
    /// (`listen`), in place of its first.
    pub fn at(mut self, local: SocketAddr) -> Service {
        self.local = Some(local);
        self
    }

    /// Answers a request. While the workers have as many connections as they may, it waits.
    ///
    /// Dropping the future, or the body that it returns, ends the request.
    pub fn answer<B>(&self, request: Request<B>) -> impl Future<Output = Response<Body>> + Send + use<B>
    where
        B: HttpBody + Send + 'static,
    {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let worker = self.workers.get(turn % self.workers.len().max(1)).cloned();
        let client = request.extensions().get::<Client>().copied().unwrap_or(NOBODY);
        let (reply, answered) = oneshot::channel();
        let job = Job { request: request.map(Upload::new), client, local: self.local, reply };
        async move {
            // An error means that the daemon has ended, or that it was told to.
            if let Some(worker) = worker
                && worker.send(job).await.is_ok()
                && let Ok(response) = answered.await
            {
                return response;
            }
            empty(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

#[cfg(feature = "tower")]
impl<B> tower_service::Service<Request<B>> for Service
where
    B: HttpBody + Send + 'static,
{
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    /// Always ready: a request waits for its worker in its own future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answered = self.answer(request);
        Box::pin(async move { Ok(answered.await) })
    }
}

impl Upload {
    fn new<B: HttpBody + Send + 'static>(body: B) -> Upload {
        Upload(Box::pin(Given(body)))
    }
}

/// A program's body, in our types. It keeps its size, by which a server is told of it.
#[pin_project]
struct Given<B>(#[pin] B);

impl<B: HttpBody> HttpBody for Given<B> {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let frame = ready!(self.project().0.poll_frame(cx));
        let whole = |mut data: B::Data| data.copy_to_bytes(data.remaining());
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(whole)).map_err(|_| Cut::Client)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upload").field(&self.0.size_hint()).finish()
    }
}

impl Body {
    fn empty() -> Body {
        Body { pieces: None, size: SizeHint::with_exact(0) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(pieces) = &mut self.pieces else { return Poll::Ready(None) };
        match ready!(pieces.poll_recv(cx)) {
            Some(Piece::Frame(frame)) => {
                if let (Some(left), Some(data)) = (self.size.exact(), frame.data_ref()) {
                    self.size = SizeHint::with_exact(left.saturating_sub(data.len() as u64));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Piece::End) => {
                self.pieces = None;
                Poll::Ready(None)
            }
            cut => {
                self.pieces = None;
                let cut = if let Some(Piece::Cut(cut)) = cut { Some(cut) } else { None };
                Poll::Ready(Some(Err(Broken(cut))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(cut) => cut.fmt(f),
            None => f.write_str("the proxy has ended"),
        }
    }
}

impl std::error::Error for Broken {}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Whoever the program does not name.
const NOBODY: Client =
    Client { addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), scheme: Scheme::Http };

/// Requests that wait for a worker that has no room for them.
const WAITING: usize = 64;

/// Pieces of an answer's body that wait for who reads it.
const PIECES: usize = 4;
