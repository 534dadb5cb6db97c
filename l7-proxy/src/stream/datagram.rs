//! The UDP side: what comes from one address and port of a client is a session.
//!
//! A session goes through the phases of a connection when its first datagram comes; none of them has to
//! wait, so a session that has a server is a socket of its own and a task that waits for answers. What
//! its client sends further goes straight from the listening socket to the session's.
//!
//! | what may happen | what becomes of it |
//! |---|---|
//! | `proxy_responses` have come for each datagram | the session is over |
//! | there were `proxy_requests` datagrams | the client's next begins another session; answers still pass |
//! | nothing moves for `proxy_timeout` | the session is over; 502 and a failure of the server if answers are missing |
//! | the server's host says that nobody listens | a failure of the server, and the next one is asked, if nothing was answered yet |
//! | there are as many connections as there may be | the datagram of a new client is dropped |
//! | another configuration is loaded | the session goes on if its server is still where its client would be led |
//! | the socket is read no more | no new sessions; answers still pass until there is a silence |
//!
//! nginx sends its client an empty datagram where a server is not there, and cuts sessions on a reload.

mod pace;
mod session;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use l4_proxy::connections::Place;
use l4_proxy::udp::{Datagram, More, Port};
use lvs_core::ServiceKey;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::{error, warn};

use self::session::{Fate, Session};
use super::Door;
use super::choice::Choice;
use super::visit::Visit;
use crate::error_log::{self, Errno};
use crate::model::{StreamContent, StreamTarget};
use crate::moment::Moment;
use crate::server::Proxy;

/// A listening socket of one worker, and the sessions that began there.
pub(crate) struct Inlet {
    port: Port,
    worker: Proxy,
    /// Who serves those who come now.
    door: RefCell<Arc<Door>>,
    /// Those whose clients' datagrams still belong to them.
    sessions: RefCell<ByClient<Rc<Session>>>,
    /// What those have sent further for whom it is found out where they are to go.
    finding: RefCell<ByClient<Vec<Box<[u8]>>>>,
    phase: Cell<Phase>,
    /// Told to all sessions.
    phase_changed: Notify,
    /// When it was last said that there is no room.
    complained: Cell<Option<Moment>>,
}

/// Whose datagrams go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client {
    addr: SocketAddr,
    /// The address it sends to, where the socket is bound to all of them.
    to: Option<IpAddr>,
}

type ByClient<T> = HashMap<Client, T, foldhash::fast::RandomState>;

/// Whether datagrams are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    /// They are not, by this process. What servers still answer passes.
    Closing,
}

impl Inlet {
    /// Takes a listening socket over.
    ///
    /// # Errors
    /// The system cannot watch it.
    pub(crate) fn new(worker: Proxy, door: Arc<Door>, socket: UdpSocket) -> io::Result<Rc<Inlet>> {
        Ok(Rc::new(Inlet {
            port: Port::new(socket)?,
            worker,
            door: RefCell::new(door),
            sessions: RefCell::default(),
            finding: RefCell::default(),
            phase: Cell::new(Phase::Reading),
            phase_changed: Notify::new(),
            complained: Cell::new(None),
        }))
    }

    /// Lets another configuration serve those who come from now on.
    pub(crate) fn lead_to(&self, door: Arc<Door>) {
        *self.door.borrow_mut() = door;
    }

    /// Serves what comes until `shutdown` is done, and what had come by then. Sessions go on in tasks of
    /// their own, which stay on this thread.
    pub(crate) async fn serve(self: Rc<Self>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                readable = self.port.readable() => match readable {
                    // Others have their turn, too, as long as there is more.
                    Ok(()) if self.receive().await == More::Maybe => yield_now().await,
                    Ok(()) => {}
                    Err(_) => break,
                }
            }
        }
        for _ in 0..LEFT_OVER_MAX {
            if self.receive().await == More::Later {
                break;
            }
        }
        self.phase.set(Phase::Closing);
        self.phase_changed.notify_waiters();
    }

    async fn receive(self: &Rc<Self>) -> More {
        let received = self.port.receive(|datagram| self.take(datagram));
        match received {
            Ok(more) => more,
            Err(error) => {
                warn!("recvmsg() on {} failed ({})", self.port.address(), Errno(&error));
                sleep(PAUSE).await;
                More::Later
            }
        }
    }

    fn take(self: &Rc<Self>, datagram: Datagram<'_>) {
        let client = Client { addr: datagram.client, to: datagram.to };
        if let Some(waiting) = self.finding.borrow_mut().get_mut(&client) {
            if waiting.len() < WAITING_MAX {
                waiting.push(datagram.bytes.into());
            }
            return;
        }
        let door = Arc::clone(&self.door.borrow());
        let known = self.sessions.borrow().get(&client).cloned();
        if let Some(session) = known {
            if session.is_stale(&door) {
                session.leave();
            } else if session.take(datagram.bytes) == Fate::Taken {
                return;
            }
        }
        self.begin(&door, client, datagram.bytes);
    }

    /// Begins a session with its first datagram.
    fn begin(self: &Rc<Self>, door: &Arc<Door>, client: Client, bytes: &[u8]) {
        let connections = &door.common.connections;
        if !connections.has_room() {
            return self.complain(connections.max());
        }
        let room = connections.place();
        let own = self.port.address();
        let local = client.to.map_or(own, |ip| SocketAddr::new(ip, own.port()));
        let mut visit = Visit::new(&self.worker, door, client.addr, local);
        visit.facts.received = bytes.len() as u64;
        let _within = error_log::within(visit.error_log());
        if let Err(status) = visit.admit() {
            return self.end(visit, status);
        }
        visit.assign();
        let server = Arc::clone(&visit.server);
        match &server.model.content {
            StreamContent::Return(text) => {
                let text = text.bytes(&visit.facts);
                if !text.is_empty() && self.reply(client, &text).is_ok() {
                    visit.facts.sent = text.len() as u64;
                }
                self.end(visit, 200);
            }
            StreamContent::Pass(_) => {
                error!("*{} cannot pass UDP connection, {}", visit.facts.serial, visit.facts.client());
                self.end(visit, 500);
            }
            StreamContent::Proxy(StreamTarget::Upstream(id)) => {
                let choice = Choice::of(&door.common, &server.model.settings, *id, &visit.facts);
                self.go_on(client, visit, choice, bytes, room);
            }
            StreamContent::Proxy(StreamTarget::Computed(_)) => {
                self.finding.borrow_mut().insert(client, Vec::new());
                let find = Rc::clone(self).find(client, visit, bytes.into(), room);
                tokio::task::spawn_local(find);
            }
        }
    }

    /// Goes on with a session when it is known where it is to go.
    fn go_on(self: &Rc<Self>, client: Client, visit: Visit, choice: Choice, bytes: &[u8], room: Place) {
        match Session::begin(self, client, visit, choice, bytes, room) {
            Ok(session) => {
                if session.is_at_home() {
                    self.sessions.borrow_mut().insert(client, Rc::clone(&session));
                }
                tokio::task::spawn_local(session.run());
            }
            Err((visit, status)) => self.end(*visit, status),
        }
    }

    /// Finds out where a session is to go, which may take a name server's answer.
    async fn find(self: Rc<Self>, client: Client, visit: Visit, first: Box<[u8]>, room: Place) {
        let server = Arc::clone(&visit.server);
        let StreamContent::Proxy(StreamTarget::Computed(text)) = &server.model.content else { return };
        let (common, settings) = (&visit.door.common, &server.model.settings);
        let choice = Choice::computed(&self.worker, common, settings, text, &visit.facts);
        let choice = error_log::told(visit.error_log(), choice).await;
        let waiting = self.finding.borrow_mut().remove(&client);
        match choice {
            Ok(choice) => {
                let _within = error_log::within(visit.error_log());
                self.go_on(client, visit, choice, &first, room);
                for bytes in waiting.iter().flatten() {
                    self.take(Datagram { client: client.addr, to: client.to, bytes });
                }
            }
            // What came meanwhile would come to the same.
            Err(status) => self.end(visit, status),
        }
    }

    fn reply(&self, client: Client, bytes: &[u8]) -> io::Result<()> {
        self.port.reply(client.addr, client.to, bytes)
    }

    fn end(&self, mut visit: Visit, status: u16) {
        visit.facts.status = status;
        visit.log();
    }

    /// Says that there is no room: a flood must not fill the log as well.
    fn complain(&self, most: usize) {
        let now = Moment::now();
        if self.complained.get().is_none_or(|last| now.since(last) >= COMPLAINT_EVERY) {
            self.complained.set(Some(now));
            warn!(
                "{most} worker_connections are not enough: datagrams to {} are dropped",
                self.port.address()
            );
        }
    }
}

impl Door {
    /// Whether those who come now are led to this service.
    fn leads_to(&self, service: &ServiceKey) -> bool {
        match &self.entrance.servers[self.entrance.names.default()].model.content {
            StreamContent::Proxy(StreamTarget::Upstream(id)) => self.common.groups[id.0].service == *service,
            _ => false,
        }
    }
}

/// Batches that may have come before a socket is read no more.
const LEFT_OVER_MAX: usize = 64;

/// Datagrams of a client that wait for the first one's way to be found; more are dropped.
const WAITING_MAX: usize = 16;

/// How long reading pauses when the system fails.
const PAUSE: Duration = Duration::from_millis(50);

const COMPLAINT_EVERY: Duration = Duration::from_secs(1);
