//! The proxy as a service of a program that has its requests already: one behind axum, or tower.
//!
//! A [`Daemon`](crate::daemon::Daemon) has the threads that answer, and with them health checks, logs
//! and reloads; a [`Service`] hands requests to them, in turns. It can be cloned and sent about, and
//! [`Service::answer`] is awaited on any runtime. With the feature `tower` it is a
//! `tower_service::Service`.
//!
//! Bodies are streamed in both directions, and whoever is slow slows the other end down: a request's
//! body is polled where it is sent on, an answer's is read no more than a few
//! pieces ahead of whoever takes it. A request's body is held to the size that it says: one that is longer
//! or shorter is answered 400, or ends the answer that has begun. An answer's that is not whole ends with
//! an error ([`Broken`]).
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
//! - Say which host is asked for, in the request's target or its `Host`. Without it the answer is 400.
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
pub use crate::variable::Scheme;

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
#[non_exhaustive]
pub enum Broken {
    /// The server has broken its answer off.
    Server,
    /// The file that is sent has become shorter.
    File,
    /// The body of the request has broken off, or was not what it said, before the answer was whole.
    Request,
    /// The proxy has ended.
    Ended,
}

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
        let left = body.size_hint().exact();
        Upload(Box::pin(Given { body, left }))
    }
}

/// A program's body, in our types. It keeps its size, by which a server is told of it, and is held to
/// that: what goes beyond it would be read as another request.
#[pin_project]
struct Given<B> {
    #[pin]
    body: B,
    /// Bytes that are to come yet, if it says how many there are.
    left: Option<u64>,
}

impl<B: HttpBody> HttpBody for Given<B> {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.project();
        let Some(frame) = ready!(this.body.poll_frame(cx)) else {
            // A server that was promised more would wait for it.
            let is_short = this.left.is_some_and(|left| left > 0);
            return Poll::Ready(is_short.then_some(Err(Cut::Client)));
        };
        let frame = frame.map_err(|_| Cut::Client)?.map_data(|mut data| data.copy_to_bytes(data.remaining()));
        if let (Some(left), Some(data)) = (this.left, frame.data_ref()) {
            *left = left.checked_sub(data.len() as u64).ok_or(Cut::Client)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.left.is_none_or(|left| left == 0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(|| self.body.size_hint(), SizeHint::with_exact)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upload").field(&self.0.size_hint()).finish()
    }
}

impl Default for Body {
    /// Nothing.
    fn default() -> Body {
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
                let broken = if let Some(Piece::Cut(cut)) = cut { Broken::of(cut) } else { Broken::Ended };
                Poll::Ready(Some(Err(broken)))
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

impl Broken {
    fn of(cut: Cut) -> Broken {
        match cut {
            Cut::Server | Cut::Malformed | Cut::NoAnswer => Broken::Server,
            Cut::File => Broken::File,
            Cut::Gone | Cut::Chunks | Cut::Client | Cut::TooLarge | Cut::Store | Cut::Lost => Broken::Request,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Server => Cut::Server.fmt(f),
            Broken::File => Cut::File.fmt(f),
            Broken::Request => f.write_str("the body of the request broke off"),
            Broken::Ended => f.write_str("the proxy has ended"),
        }
    }
}

impl std::error::Error for Broken {}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
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
