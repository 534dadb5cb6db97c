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

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use l4_proxy::listen;
use lvs_core::Director;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::warn;

pub(crate) use self::census::Census;
use self::census::Censuses;
use self::connection::Begun;
pub(crate) use self::connection::Passed;
pub(crate) use self::direct::{Beside, Direct};
pub use self::http1::read_head;
pub(crate) use self::http1::{Broken, RequestBody};
pub(crate) use self::http2::Upload;
use self::session::FRESH_GRACE;
pub(crate) use self::session::{Carrier, Order, Protocol, Session};
use self::sessions::Sessions;
pub(crate) use self::spelling::{Spelling, usual_name};
use crate::access_log::{LogFiles, Writers};
use crate::cache::{Store, Stores};
use crate::error_log::Errno;
use crate::host::Recent;
use crate::limit::{Table, Zones};
use crate::model::{Http, UpstreamId};
use crate::moment::Moment;
use crate::reached::Reached;
use crate::site::{self, Site, SiteError};
use crate::static_file;
use crate::unix::{Accepted, Acceptor};
use crate::upstream::{Pool, SessionZones, Timings};

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

/// One thread's share of the proxy.
pub(crate) struct Worker {
    shared: Shared,
    current: RefCell<Rc<Generation>>,
    sessions: RefCell<Sessions>,
    /// Connections that are open, to both sides.
    open: Cell<usize>,
    /// Connections of clients, and requests, so far.
    accepted: Cell<u64>,
    requests: Cell<u64>,
    /// Answers, by the first digit of their status.
    responses: Cell<[u64; 5]>,
    /// Where other workers read what this one has counted.
    census: Arc<Mutex<Census>>,
    /// Told when a connection ends while accepting waits for that.
    room: Notify,
    /// Told when the last client connection ends.
    emptied: Notify,
    /// Told when the order changes.
    ordered: Notify,
    pub(crate) writers: Writers,
    /// Header maps to be filled again, for requests and for answers.
    spare_headers: RefCell<Vec<HeaderMap>>,
    #[expect(clippy::vec_box, reason = "an answer has its map in a place of its own")]
    spare_fields: RefCell<Vec<Box<HeaderMap>>>,
    /// The name of the host that was asked for last.
    pub(crate) recent_host: RefCell<Recent>,
    /// For values that are written and read at once.
    pub(crate) scratch: RefCell<Vec<u8>>,
    /// Servers that only requests have named.
    pub(crate) reached: Reached,
    /// Files that are asked for again and again.
    pub(crate) files: RefCell<static_file::Cache>,
    order: Cell<Order>,
    /// When accepting last complained.
    complained: Cell<Option<Moment>>,
}

/// One configuration at work on one thread.
pub(crate) struct Generation {
    pub(crate) site: Arc<Site>,
    /// Idle connections to servers, by the upstream's number.
    pub(crate) pools: Box<[Rc<Pool>]>,
    /// What limits have counted, by the zone's number.
    pub(crate) zones: Box<[Arc<Table>]>,
    /// What is kept of answers, likewise.
    pub(crate) caches: Box<[Arc<Store>]>,
}

/// A connection's place among those of its worker; given back when dropped.
pub(crate) struct Place {
    worker: Rc<Worker>,
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
        let worker = Worker {
            writers: Writers::new(Arc::clone(&shared.logs)),
            census: shared.censuses.join(),
            accepted: Cell::new(0),
            requests: Cell::new(0),
            responses: Cell::default(),
            current: RefCell::new(Rc::new(Generation::new(site, &shared, None))),
            shared,
            sessions: RefCell::default(),
            open: Cell::new(0),
            room: Notify::new(),
            emptied: Notify::new(),
            ordered: Notify::new(),
            spare_headers: RefCell::default(),
            spare_fields: RefCell::default(),
            recent_host: RefCell::default(),
            scratch: RefCell::default(),
            reached: Reached::default(),
            files: RefCell::default(),
            order: Cell::new(Order::Serve),
            complained: Cell::new(None),
        };
        Proxy { worker: Rc::new(worker) }
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

impl Worker {
    pub(crate) fn current(&self) -> Rc<Generation> {
        Rc::clone(&self.current.borrow())
    }

    pub(crate) fn director(&self) -> &Arc<Director> {
        &self.shared.director
    }

    pub(crate) fn next_serial(&self) -> u64 {
        self.shared.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts a request.
    fn begin_request(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// Counts an answer.
    pub(crate) fn count_response(&self, status: StatusCode) {
        let mut responses = self.responses.get();
        if let Some(count) = responses.get_mut(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            *count += 1;
        }
        self.responses.set(responses);
    }

    /// Returns what all workers have counted.
    pub(crate) fn census(&self) -> Census {
        self.publish();
        self.shared.censuses.sum()
    }

    /// Writes what this worker has counted to where the others read it.
    fn publish(&self) {
        let (accepted, requests) = (self.accepted.get(), self.requests.get());
        let responses = self.responses.get();
        let mut census = Census { accepted, requests, responses, ..Census::default() };
        self.sessions.borrow().count(&mut census);
        census::publish(&self.census, census);
    }

    /// What is kept of answers.
    pub(crate) fn caches(&self) -> &Stores {
        &self.shared.caches
    }

    /// How long upstreams take to answer.
    pub(crate) fn timings(&self) -> &Timings {
        &self.shared.timings
    }

    fn client_patience(&self) -> Duration {
        self.current.borrow().site.client_patience
    }

    /// Takes an empty header map for a request.
    pub(crate) fn take_headers(&self) -> HeaderMap {
        self.spare_headers.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a request's header map for later.
    pub(crate) fn keep_headers(&self, mut headers: HeaderMap) {
        let mut spare = self.spare_headers.borrow_mut();
        if spare.len() < SPARE_HEADERS_MAX && headers.capacity() <= SPARE_CAPACITY_MAX {
            headers.clear();
            spare.push(headers);
        }
    }

    /// Takes an empty header map for an answer.
    pub(crate) fn take_fields(&self) -> Box<HeaderMap> {
        self.spare_fields.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps an answer's header map for later.
    pub(crate) fn keep_fields(&self, mut fields: Box<HeaderMap>) {
        let mut spare = self.spare_fields.borrow_mut();
        if spare.len() < SPARE_HEADERS_MAX && fields.capacity() <= SPARE_CAPACITY_MAX {
            fields.clear();
            spare.push(fields);
        }
    }

    /// Counts a connection until the place is dropped.
    pub(crate) fn place(self: &Rc<Worker>) -> Place {
        self.open.set(self.open.get() + 1);
        Place { worker: Rc::clone(self) }
    }

    /// Says what keeps connections from being accepted, once in a while: it may be so for each.
    fn complain(&self, what: &dyn fmt::Display) {
        let now = Moment::now();
        if self.complained.get().is_none_or(|last| now.since(last) > COMPLAINT_EVERY) {
            self.complained.set(Some(now));
            warn!("{what}");
        }
    }

    fn has_room(&self) -> bool {
        self.open.get() < self.shared.worker_connections
    }

    /// Waits until a connection on which nothing was asked for yet is to end, for its process is.
    async fn hurries(&self) {
        loop {
            let ordered = self.ordered.notified();
            match self.order.get() {
                Order::Serve => ordered.await,
                Order::Finish if timeout(FRESH_GRACE, ordered).await.is_ok() => {}
                Order::Finish | Order::Abort => return,
            }
        }
    }

    async fn wait_for_room(&self) {
        while !self.has_room() {
            self.room.notified().await;
        }
    }
}

impl Generation {
    /// What `before` has in idle connections to servers goes over.
    fn new(site: Arc<Site>, shared: &Shared, before: Option<&Generation>) -> Generation {
        let pools = site.router.upstreams().iter().zip(&site.keys);
        let is_shown = site.router.needs().timings;
        let pools = pools.map(|(upstream, key)| {
            let timing = is_shown.then(|| shared.timings.of(&upstream.name));
            let mut pool = Pool::new(upstream, key.clone(), &shared.sessions, timing);
            let mut pools = before.iter().flat_map(|before| &before.pools);
            if let Some(before) = pools.find(|before| before.key == *key) {
                pool.succeed(before, |secure| site.has_client(&secure.client));
            }
            Rc::new(pool)
        });
        let pools = pools.collect();
        let zones = shared.zones.of(site.router.zones());
        let caches = shared.caches.adopt(site.router.caches());
        site.hold(&shared.logs);
        Generation { site, pools, zones, caches }
    }

    /// Returns the idle connections to the servers of an upstream.
    ///
    /// # Panics
    /// If the upstream belongs to another configuration.
    pub(crate) fn pool(&self, upstream: UpstreamId) -> Rc<Pool> {
        Rc::clone(&self.pools[upstream.0])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.open.set(self.worker.open.get() - 1);
        if self.worker.open.get() + 1 == self.worker.shared.worker_connections {
            self.worker.room.notify_waiters();
        }
    }
}

/// How long accepting pauses when there is no descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// How often it is said that no connection can be accepted.
const COMPLAINT_EVERY: Duration = Duration::from_secs(5);

/// Header maps that a worker keeps for later.
const SPARE_HEADERS_MAX: usize = 64;

/// Larger header maps are not kept.
const SPARE_CAPACITY_MAX: usize = 64;
