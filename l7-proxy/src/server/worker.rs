//! What one thread has of the proxy: its connections and counts, and the configuration that it answers by.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use lvs_core::Director;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

use super::session::FRESH_GRACE;
use super::sessions::Sessions;
use super::{Census, Order, Shared, census};
use crate::access_log::Writers;
use crate::cache::{Store, Stores};
use crate::host::Recent;
use crate::limit::Table;
use crate::model::UpstreamId;
use crate::moment::Moment;
use crate::reached::Reached;
use crate::site::Site;
use crate::static_file;
use crate::upstream::{Pool, Timings};

/// One thread's share of the proxy.
pub(crate) struct Worker {
    pub(super) shared: Shared,
    pub(super) current: RefCell<Rc<Generation>>,
    pub(super) sessions: RefCell<Sessions>,
    /// Connections that are open, to both sides.
    pub(super) open: Cell<usize>,
    /// Connections of clients, and requests, so far.
    pub(super) accepted: Cell<u64>,
    requests: Cell<u64>,
    /// Answers, by the first digit of their status.
    responses: Cell<[u64; 5]>,
    /// Where other workers read what this one has counted.
    census: Arc<Mutex<Census>>,
    /// Told when a connection ends while accepting waits for that.
    room: Notify,
    /// Told when the last client connection ends.
    pub(super) emptied: Notify,
    /// Told when the order changes.
    pub(super) ordered: Notify,
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
    pub(super) order: Cell<Order>,
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

impl Worker {
    pub(super) fn new(site: Arc<Site>, shared: Shared) -> Worker {
        Worker {
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
        }
    }

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
    pub(super) fn begin_request(&self) {
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
    pub(super) fn publish(&self) {
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

    pub(super) fn client_patience(&self) -> Duration {
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
    pub(super) fn complain(&self, what: &dyn fmt::Display) {
        let now = Moment::now();
        if self.complained.get().is_none_or(|last| now.since(last) > COMPLAINT_EVERY) {
            self.complained.set(Some(now));
            warn!("{what}");
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.open.get() < self.shared.worker_connections
    }

    /// Waits until a connection on which nothing was asked for yet is to end, for its process is.
    pub(super) async fn hurries(&self) {
        loop {
            let ordered = self.ordered.notified();
            match self.order.get() {
                Order::Serve => ordered.await,
                Order::Finish if timeout(FRESH_GRACE, ordered).await.is_ok() => {}
                Order::Finish | Order::Abort => return,
            }
        }
    }

    pub(super) async fn wait_for_room(&self) {
        while !self.has_room() {
            self.room.notified().await;
        }
    }
}

impl Generation {
    /// What `before` has in idle connections to servers goes over.
    pub(super) fn new(site: Arc<Site>, shared: &Shared, before: Option<&Generation>) -> Generation {
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

/// How often it is said that no connection can be accepted.
const COMPLAINT_EVERY: Duration = Duration::from_secs(5);

/// Header maps that a worker keeps for later.
const SPARE_HEADERS_MAX: usize = 64;

/// Larger header maps are not kept.
const SPARE_CAPACITY_MAX: usize = 64;
