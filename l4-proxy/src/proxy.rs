//! One virtual service at work: accept, schedule, connect, relay, account.
//!
//! One task per connection and no channel. A server that cannot be connected to is ruled out for
//! this client and another is chosen: no byte of a server has been seen, so nothing is lost by it.

mod accept;
mod connect;
mod first;
mod identify;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use lvs_core::{Director, Event, Flow, Lease, Protocol, Refusal, ServiceKey};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::{debug, info, warn};

pub(crate) use self::accept::{Reception, accept};
use self::connect::Failure;
pub(crate) use self::connect::cause;
use self::first::First;
pub use self::identify::Unidentified;
use crate::clock;
use crate::connections::{self, Call, Connections, Entry, Open};
use crate::proxy_protocol::{Addresses, Header};
use crate::relay::{self, End, Progress, Side, Tally, Timeouts, reset_on_drop};
use crate::settings::Settings;

/// Forwards the connections of one virtual service.
///
/// It owns no thread, no runtime and no signal: whoever embeds it calls [`Proxy::handle`] with a
/// connection, or [`Proxy::serve`] with a listener, on a tokio runtime of theirs. A clone is the
/// same proxy.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    director: Arc<Director>,
    service: ServiceKey,
    /// May change while connections come in; each keeps those it began with.
    settings: ArcSwap<Settings>,
    connections: Arc<Connections>,
    /// How many of them are this proxy's, let in by [`Proxy::serve`].
    own: AtomicUsize,
    /// Connections so far, for source addresses to take turns.
    turn: AtomicUsize,
}

/// What became of one client connection.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Bytes that went to the server.
    pub to_server: u64,
    /// Bytes that went to the client.
    pub to_client: u64,
    /// From accept to end.
    pub lasted: Duration,
    /// Servers that could not be connected to.
    pub failed: usize,
    /// Why it ended.
    pub ended: Ended,
}

/// Why a client connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ended {
    /// It was given to this server, and the relay ended.
    Relayed(SocketAddr, End),
    /// No server could be chosen, or none of those tried could be connected to; the client was
    /// reset.
    Refused(Refusal),
    /// This host has no local port, descriptor or permission left to connect with; the client was
    /// reset.
    Starved(io::Error),
    /// It came from where a PROXY header is expected and sent none; it was reset.
    Unidentified(Unidentified),
}

impl Proxy {
    /// A proxy for one service of a director, with a bound of its own on connections.
    pub fn new(director: Arc<Director>, service: ServiceKey, settings: Settings) -> Proxy {
        Proxy::with_connections(director, service, settings, Connections::new(CONNECTIONS_MAX))
    }

    /// A proxy that shares its bound and its list of connections with others.
    pub fn with_connections(
        director: Arc<Director>,
        service: ServiceKey,
        settings: Settings,
        connections: Arc<Connections>,
    ) -> Proxy {
        let shared = Shared {
            director,
            service,
            settings: ArcSwap::from_pointee(settings),
            connections,
            own: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
        };
        Proxy { shared: Arc::new(shared) }
    }

    /// The service it forwards.
    pub fn service(&self) -> &ServiceKey {
        &self.shared.service
    }

    /// The connections it carries, and those of the proxies it shares the list with.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.shared.connections
    }

    /// Changes the timeouts of connections that begin from now on.
    pub fn set_timeouts(&self, timeouts: Timeouts) {
        self.shared.settings.rcu(|settings| Settings { timeouts, ..Settings::clone(settings) });
    }

    /// How connections that begin now are treated.
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings.load_full()
    }

    /// Changes how connections are treated that begin from now on.
    pub fn set_settings(&self, settings: Settings) {
        self.shared.settings.store(Arc::new(settings));
    }

    /// Accepts connections until `shutdown` is done; then also those that the kernel had accepted
    /// by then. Connections go on in tasks of their own.
    ///
    /// At the bound on connections it stops accepting until one ends: clients wait in the
    /// listener's queue. When the process runs out of descriptors it pauses likewise.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        accept(self, listener, shutdown).await;
    }

    /// Forwards one client connection, from `peer`, to its end.
    pub async fn handle(&self, client: TcpStream, peer: SocketAddr) -> Outcome {
        let virtual_address = local(&client);
        self.forward(client, peer, virtual_address).await
    }

    async fn forward(&self, mut client: TcpStream, peer: SocketAddr, virtual_address: SocketAddr) -> Outcome {
        let began = Instant::now();
        let settings = self.settings();
        let mut passage = Passage { peer, virtual_address, header: None, failed: Vec::new(), began };
        let expects = settings.accept_proxy.as_ref().filter(|accept| accept.expects(peer.ip()));
        let read = match expects {
            // Boxed: it is short, and its buffer would be part of every connection to its end.
            Some(accept) => Box::pin(identify::read_header(&mut client, accept.deadline)).await.map(Some),
            None => Ok(None),
        };
        let outcome = match read {
            Ok(header) => {
                passage.identify(header);
                self.pass(&mut client, &mut passage, &settings).await
            }
            Err(error) => passage.turned_away(Ended::Unidentified(error)),
        };
        if !matches!(outcome.ended, Ended::Relayed(..)) {
            reset_on_drop(&client);
        }
        drop(client);
        self.log(passage.peer, &outcome);
        outcome
    }

    /// Connects and relays, with another server if one fails while it still may.
    async fn pass(&self, client: &mut TcpStream, passage: &mut Passage, settings: &Settings) -> Outcome {
        let shared = &*self.shared;
        let mut held = Vec::new();
        loop {
            let (lease, mut server) = match self.connect(passage, settings).await {
                Ok(connected) => connected,
                Err(ended) => return passage.turned_away(ended),
            };
            let open = Open {
                protocol: Protocol::Tcp,
                client: passage.peer,
                virtual_address: passage.virtual_address,
                server: lease.target(&passage.flow()),
                progress: Progress::default(),
                call: Call::default(),
            };
            let account = Account { entry: shared.connections.enter(open), lease };
            let end = if settings.redispatch > 0 {
                match self.begin(client, &mut server, &mut held, settings, &account).await {
                    None => {
                        passage.failed.push(account.lease.server());
                        continue;
                    }
                    Some(Ok(())) => {
                        drop(std::mem::take(&mut held));
                        relayed(client, &mut server, settings, &account).await
                    }
                    Some(Err(end)) => {
                        reset_on_drop(client);
                        reset_on_drop(&server);
                        end
                    }
                }
            } else {
                relayed(client, &mut server, settings, &account).await
            };
            self.report(&account.lease, &end);
            let progress = &account.entry.open.progress;
            return Outcome {
                to_server: progress.bytes_to_server(),
                to_client: progress.bytes_to_client(),
                lasted: passage.began.elapsed(),
                failed: passage.failed.len(),
                ended: Ended::Relayed(account.lease.server(), end),
            };
        }
    }

    /// Waits for the server's first word; `None` if the server was lost before it and another may be
    /// tried.
    async fn begin(
        &self,
        client: &mut TcpStream,
        server: &mut TcpStream,
        held: &mut Vec<u8>,
        settings: &Settings,
        account: &Account,
    ) -> Option<Result<(), End>> {
        let first = Box::pin(first::until_first_byte(client, server, held, settings.redispatch, account));
        let first = account.unless_cut_off(timeout(settings.timeouts.idle, first)).await;
        let Some(first) = first else { return Some(Err(End::CutOff)) };
        match first {
            Ok(First::Begun) => Some(Ok(())),
            Ok(First::ServerGone(error)) => {
                // Nothing is reported: what makes one server close may be the client, and then it
                // would take them all out.
                let server = account.lease.server();
                debug!(service = %self.service(), %server, %error, "closed before its first byte");
                None
            }
            Ok(First::ClientGone(error)) => Some(Err(End::Failed(Side::Client, error))),
            Err(_) => Some(Err(End::TimedOut)),
        }
    }

    /// Chooses a server and connects to it, or to another one if that fails.
    async fn connect(&self, passage: &mut Passage, settings: &Settings) -> Result<(Lease, TcpStream), Ended> {
        let Shared { director, service, turn, .. } = &*self.shared;
        let flow = passage.flow();
        // If the last server tried failed for want of a port, that is what the client is told.
        let mut without_port = None;
        loop {
            if passage.failed.len() >= settings.attempts.max(1) {
                return Err(without_port.map_or(Ended::Refused(Refusal::AllTried), Ended::Starved));
            }
            let lease = match director.schedule_except(service, &flow, &passage.failed, clock::now()) {
                Ok(lease) => lease,
                Err(refusal) => return Err(without_port.map_or(Ended::Refused(refusal), Ended::Starved)),
            };
            let server = lease.server();
            without_port = None;
            match connect::connect(lease.target(&flow), passage.peer.ip(), settings, turn).await {
                Ok(mut stream) => {
                    if let Err(error) = self.introduce(&mut stream, passage, settings).await {
                        debug!(%service, %server, %error, "cannot send the PROXY header");
                    } else {
                        director.report(&lease, Event::Succeeded, clock::now());
                        return Ok((lease, stream));
                    }
                }
                Err(Failure::Server(error)) => {
                    debug!(%service, %server, %error, "cannot connect");
                    let event = Event::ConnectFailed(cause(&error));
                    if let Some(transition) = director.report(&lease, event, clock::now()) {
                        warn!(%service, %server, "server is {}", transition.condition);
                    }
                }
                // The server has nothing to do with it.
                Err(Failure::NoPort(error)) => {
                    warn!(%service, %server, %error, "no source address has a free port to this server");
                    without_port = Some(error);
                }
                Err(Failure::Host(error)) => {
                    warn!(%service, %server, %error, "cannot open a connection to any server");
                    return Err(Ended::Starved(error));
                }
            }
            passage.failed.push(server);
        }
    }

    /// Sends the PROXY header, if the service's servers want one.
    async fn introduce(
        &self,
        server: &mut TcpStream,
        passage: &Passage,
        settings: &Settings,
    ) -> io::Result<()> {
        let Some(version) = settings.send_proxy else { return Ok(()) };
        let own;
        let header = match &passage.header {
            Some(header) => header,
            None => {
                own = Header::tcp(passage.peer, passage.virtual_address);
                &own
            }
        };
        // A connection that has just been made takes it at once.
        let bytes = header.encode(version);
        timeout(settings.connect, server.write_all(&bytes)).await?
    }

    /// A server that resets after it accepted may only be refusing this client's wish, so it is no
    /// proof against it; that it accepted was reported as a success.
    fn report(&self, lease: &Lease, end: &End) {
        if let End::Failed(Side::Server, error) = end
            && error.kind() == io::ErrorKind::TimedOut
        {
            let event = Event::Failed(cause(error));
            self.shared.director.report(lease, event, clock::now());
        }
    }

    fn log(&self, client: SocketAddr, outcome: &Outcome) {
        let service = self.service();
        let Outcome { to_server, to_client, lasted, failed, .. } = outcome;
        let ms = lasted.as_millis() as u64;
        match &outcome.ended {
            Ended::Relayed(server, end) => {
                info!(target: "connection", %client, %service, %server, to_server, to_client, ms, failed, "{end}");
            }
            Ended::Refused(refusal) => {
                info!(target: "connection", %client, %service, ms, failed, "refused: {refusal}");
            }
            Ended::Starved(error) => {
                info!(target: "connection", %client, %service, ms, failed, "refused: {error}");
            }
            Ended::Unidentified(error) => {
                info!(target: "connection", %client, %service, ms, "refused: {error}");
            }
        }
    }
}

impl Reception for Proxy {
    fn name(&self) -> impl std::fmt::Display {
        self.service()
    }

    fn full(&self) -> Option<usize> {
        let connections = &self.shared.connections;
        if !connections.has_room() {
            return Some(connections.max());
        }
        let own = self.shared.own.load(Ordering::Relaxed);
        self.shared.settings.load().connections_max.filter(|max| own >= *max)
    }

    fn take_in(&self, client: TcpStream, peer: SocketAddr, own: Option<SocketAddr>) {
        let place = Place::take(self.clone());
        tokio::spawn(async move {
            let own = own.unwrap_or_else(|| local(&client));
            place.proxy.forward(client, peer, own).await;
        });
    }
}

/// One connection on its way to a server.
struct Passage {
    /// The client: the peer, or who the PROXY header says it is.
    peer: SocketAddr,
    virtual_address: SocketAddr,
    /// What the peer said of the client, to be passed on.
    header: Option<Header>,
    /// Servers that were tried in vain.
    failed: Vec<SocketAddr>,
    began: Instant,
}

impl Passage {
    fn identify(&mut self, header: Option<Header>) {
        if let Some(Header { addresses: Addresses::Tcp(source, _), .. }) = &header {
            self.peer = *source;
        }
        self.header = header;
    }

    fn flow(&self) -> Flow {
        Flow::new(self.peer).to(self.virtual_address)
    }

    fn turned_away(&self, ended: Ended) -> Outcome {
        let (lasted, failed) = (self.began.elapsed(), self.failed.len());
        Outcome { to_server: 0, to_client: 0, lasted, failed, ended }
    }
}

/// A place among the connections that there may be, of all and of one proxy.
struct Place {
    proxy: Proxy,
    _of_all: connections::Place,
}

impl Place {
    fn take(proxy: Proxy) -> Place {
        proxy.shared.own.fetch_add(1, Ordering::Relaxed);
        let of_all = proxy.shared.connections.place();
        Place { proxy, _of_all: of_all }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.proxy.shared.own.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The account of one connection: its lease and its entry in the list.
struct Account {
    lease: Lease,
    entry: Entry,
}

impl Account {
    /// What comes of the work, or `None` once the connection may go on no longer.
    async fn unless_cut_off<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let is_over = || self.lease.is_cut_off() || self.lease.is_overdue(clock::now());
        self.entry.open.call.unless(is_over, work).await
    }
}

/// Relays to the end, or until the connection may go on no longer.
async fn relayed(
    client: &mut TcpStream,
    server: &mut TcpStream,
    settings: &Settings,
    account: &Account,
) -> End {
    let relay = relay::relay(client, server, settings.engine, settings.timeouts, account);
    if let Some(end) = account.unless_cut_off(relay).await {
        return end;
    }
    reset_on_drop(client);
    reset_on_drop(server);
    End::CutOff
}

impl Tally for Account {
    fn to_server(&self, bytes: u64) {
        self.lease.count_to_server(bytes);
    }

    fn to_client(&self, bytes: u64) {
        self.lease.count_to_client(bytes);
    }

    fn half_closed(&self) {
        self.lease.closing();
    }

    fn progress(&self) -> &Progress {
        &self.entry.open.progress
    }
}

fn local(client: &TcpStream) -> SocketAddr {
    client.local_addr().unwrap_or(UNKNOWN)
}

/// What a socket that has lost its address is listed under.
const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// Bound on the connections of a proxy that was given none.
const CONNECTIONS_MAX: usize = 10_000;
