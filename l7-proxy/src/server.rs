//! Client connections: accepting them, keeping them within their limits, ending them.
//!
//! A [`Proxy`] is one worker's half of the HTTP side: everything in it belongs to one thread, and
//! a connection stays where it was accepted. What workers share is behind the [`Site`] (the
//! configuration, replaced as a whole), the [`Director`] (counts and health) and the log files.
//!
//! A connection of HTTP/1.1 is driven by one task, one of HTTP/2 by a task and one more for each stream. Either
//! has one timer, which is not touched per request: it fires now and then, and looks at what the connection and
//! its streams are waiting for.

mod census;
mod chooser;
mod connection;
mod direct;
mod flood;
mod http1;
mod http2;
mod session;
mod sessions;
mod spelling;
mod streams;
mod worker;

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use l4_proxy::listen;
use lvs_core::Director;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

pub(crate) use self::census::Census;
use self::census::Censuses;
use self::connection::Begun;
pub(crate) use self::connection::Passed;
pub(crate) use self::direct::{Beside, Direct};
pub use self::http1::read_head;
pub(crate) use self::http1::{Broken, RequestBody};
pub(crate) use self::http2::Upload;
pub(crate) use self::session::{Carrier, Order, Protocol, Session};
pub(crate) use self::spelling::{Spelling, usual_name};
pub(crate) use self::worker::{Generation, Place, Worker};
use crate::access_log::{LogFiles, Writers};
use crate::cache::Stores;
use crate::error_log::Errno;
use crate::limit::Zones;
use crate::model::Http;
use crate::moment::Moment;
use crate::reached::Reached;
use crate::site::{self, Site, SiteError};
use crate::unix::{Accepted, Acceptor};
use crate::upstream::{SessionZones, Timings};

/// Serves HTTP on one thread.
///
/// It is used inside a tokio `LocalRuntime` or `LocalSet`, for connections are tasks that stay on
/// their thread. It owns no thread, no listener and no signal; [`daemon`](crate::daemon) is what
/// does. A clone is the same proxy.
///
/// The program sees to what a daemon would: it calls [`tick`](Proxy::tick) once a second, and
/// [`Director::tick`] of its director. Health checks, and servers that are followed by name
/// (`resolve`), are a daemon's alone.
///
/// ```no_run
/// use l7_proxy::Proxy;
/// use l7_proxy::model::Http;
///
/// # fn example(http: Http) -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = tokio::runtime::Builder::new_current_thread()
///     .enable_all()
///     .build_local(Default::default())?;
/// runtime.block_on(async {
///     let proxy = Proxy::new(http)?;
///     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
///     proxy.serve(listener, std::future::pending()).await;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Proxy {
    worker: Rc<Worker>,
}

/// What the workers of one proxy share.
#[derive(Clone)]
pub struct Shared {
    /// Chooses servers and keeps count of them.
    pub director: Arc<Director>,
    /// The open access logs.
    pub logs: Arc<LogFiles>,
    /// Connections so far; a connection's number is the value of `$connection`.
    pub connections: Arc<AtomicU64>,
    /// The most connections of a worker, those to servers that are in use included.
    pub worker_connections: usize,
    /// What limits have counted.
    pub(crate) zones: Arc<Zones>,
    /// What the workers have counted.
    pub(crate) censuses: Arc<Censuses>,
    /// What is kept of answers.
    pub(crate) caches: Arc<Stores>,
    /// Sessions that clients are bound to servers by.
    pub(crate) sessions: Arc<SessionZones>,
    /// How long upstreams take to answer, where that is shown.
    pub(crate) timings: Arc<Timings>,
}

impl Shared {
    /// Shares this director; no logs are open yet.
    pub fn new(director: Arc<Director>) -> Shared {
        Shared {
            director,
            logs: Arc::default(),
            connections: Arc::default(),
            worker_connections: 512,
            zones: Arc::default(),
            censuses: Arc::default(),
            caches: Arc::default(),
            sessions: Arc::default(),
            timings: Arc::default(),
        }
    }
}

impl Proxy {
    /// A proxy for this configuration with a director of its own.
    ///
    /// # Errors
    /// The configuration contradicts itself.
    pub fn new(http: Http) -> Result<Proxy, SiteError> {
        let director = Director::new();
        director.apply(lvs_core::Config { services: site::services(&http)? }).map_err(SiteError::Service)?;
        Ok(Proxy::with_shared(Arc::new(Site::new(http)?), Shared::new(Arc::new(director))))
    }

    /// One worker of a proxy: the caller has given the director the services of the site.
    pub fn with_shared(site: Arc<Site>, shared: Shared) -> Proxy {
        Proxy { worker: Rc::new(Worker::new(site, shared)) }
    }

    /// Answers requests by this configuration from now on.
    ///
    /// Requests at hand are finished by the one they began with. A kept-alive connection stays, and
    /// its next request is answered by the new one.
    pub fn replace(&self, site: Arc<Site>) {
        let before = self.worker.current();
        let generation = Generation::new(site, &self.worker.shared, Some(&before));
        self.worker.current.replace(Rc::new(generation));
        let sessions = self.worker.sessions.borrow().all();
        sessions.iter().for_each(|session| session.go_over_if_idle());
    }

    /// Cuts the connections that are still answered by another configuration than the present one.
    pub fn cut_left_behind(&self) {
        let current = self.worker.current();
        let sessions = self.worker.sessions.borrow().all();
        for session in sessions.iter().filter(|session| !session.is_answered_by(&current)) {
            session.command(Order::Abort);
        }
    }

    /// The director that chooses servers.
    pub fn director(&self) -> &Arc<Director> {
        &self.worker.shared.director
    }

    /// Servers that only requests and connections have named.
    pub(crate) fn reached(&self) -> &Reached {
        &self.worker.reached
    }

    /// Where lines of logs are gathered on this thread.
    pub(crate) fn writers(&self) -> &Writers {
        &self.worker.writers
    }

    /// How many connections are open, those to servers that are in use included.
    pub fn connections(&self) -> usize {
        self.worker.open.get()
    }

    /// Writes log lines that have waited for long enough and closes idle connections whose time is
    /// over. Call it about once a second.
    pub fn tick(&self) {
        let now = Moment::now();
        self.worker.shared.logs.close_unused();
        self.worker.writers.look_again();
        self.worker.writers.flush_due(now);
        self.worker.publish();
        self.worker.files.borrow_mut().sweep(now);
        let current = self.worker.current();
        for pool in &current.pools {
            pool.sweep(self.worker.director(), now);
            if let Some(bound) = &pool.bound
                && let Some(service) = self.worker.director().config().service(&pool.key)
            {
                bound.learn(service.servers.iter().map(|server| server.address));
            }
        }
    }

    /// Ends kept-alive connections at once and the others after the request at hand; those that are
    /// handed in later likewise.
    pub fn finish(&self) {
        self.command(Order::Finish);
    }

    /// Serves connections that are handed in from now on to their ends again, after
    /// [`finish`](Proxy::finish).
    pub fn resume(&self) {
        self.worker.order.set(Order::Serve);
        self.worker.ordered.notify_waiters();
    }

    /// Waits until no client connection is open.
    pub async fn finished(&self) {
        while !self.worker.sessions.borrow().is_empty() {
            self.worker.emptied.notified().await;
        }
    }

    /// Ends all connections at once.
    pub fn abort(&self) {
        self.command(Order::Abort);
    }

    fn command(&self, order: Order) {
        self.worker.order.set(order);
        self.worker.ordered.notify_waiters();
        let sessions = self.worker.sessions.borrow().all();
        for session in sessions {
            session.command(order);
        }
    }

    /// Accepts connections until `shutdown` is done; then also those that the kernel had accepted
    /// by then. Connections go on in tasks of their own.
    ///
    /// At the bound on connections it stops accepting until one ends: clients wait in the
    /// listener's queue. When the process runs out of descriptors it pauses likewise.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        // What is accepted inherits it. A listener that does not take it has nothing to accept.
        let _ = SockRef::from(&listener).set_tcp_nodelay(true);
        self.serve_all(Acceptor::Tcp(listener), shutdown).await;
    }

    /// The same for sockets of either kind.
    pub(crate) async fn serve_all(&self, listener: Acceptor, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        // The address of a connection is that of its listener, unless that takes all.
        let local = listener.local();
        loop {
            if !self.worker.has_room() {
                // Idle connections to servers are the first that one can do without.
                self.worker.current().pools.iter().for_each(|pool| pool.clear());
                tokio::task::yield_now().await;
            }
            if !self.worker.has_room() {
                self.worker.complain(&format_args!(
                    "{} worker_connections are not enough: clients wait",
                    self.worker.shared.worker_connections
                ));
                tokio::select! {
                    () = self.worker.wait_for_room() => {}
                    () = &mut shutdown => break,
                }
            }
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok(Accepted { stream, peer, .. }) => self.spawn(stream, peer, local),
                Err(error) if listen::is_of_one_connection(&error) => {}
                Err(error) => {
                    self.worker.complain(&format_args!("accept4() failed ({})", Errno(&error)));
                    sleep(PAUSE).await;
                }
            }
        }
        // Closing the listener would reset what is in its queue.
        for Accepted { stream, peer, .. } in listener.queued() {
            self.spawn(stream, peer, local);
        }
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr, local: Option<SocketAddr>) {
        let place = self.worker.place();
        // Each in a task that has room for no more than it needs.
        match connection::begin(Rc::clone(&self.worker), self.worker.current(), stream, peer, local) {
            Some(Begun::Plain(session, side)) => {
                tokio::task::spawn_local(async move {
                    http1::serve(session, side).await;
                    drop(place);
                });
            }
            Some(begun) => {
                tokio::task::spawn_local(async move {
                    begun.serve().await;
                    drop(place);
                });
            }
            None => {}
        }
    }

    /// Waits until one more connection may be open.
    pub(crate) async fn has_room(&self) {
        self.worker.wait_for_room().await;
    }

    /// Counts a request that came by no connection of ours, until the place is dropped.
    pub(crate) fn place(&self) -> Place {
        self.worker.place()
    }

    /// Serves one connection from `peer` to its end.
    ///
    /// Whose it is, of the virtual servers, is decided by the address that it has come to: one that no
    /// `listen` of the configuration has or covers (`*:80`) is closed at once.
    pub async fn handle(&self, stream: TcpStream, peer: SocketAddr) {
        // As a listener of ours would have had it; `tcp_nodelay off` takes it back.
        let _ = stream.set_nodelay(true);
        let place = self.worker.place();
        let begun = connection::begin(Rc::clone(&self.worker), self.worker.current(), stream, peer, None);
        if let Some(begun) = begun {
            begun.serve().await;
        }
        drop(place);
    }
}

/// How long accepting pauses when there is no descriptor.
const PAUSE: Duration = Duration::from_millis(50);
