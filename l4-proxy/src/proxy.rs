//! One virtual service at work: accept, schedule, connect, relay, account.
//!
//! One task per connection and no channel. A server that cannot be connected to is ruled out for
//! this client and another is chosen: no byte of a server has been seen, so nothing is lost by it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lvs_core::{Cause, Director, Event, Flow, Lease, Protocol, Refusal, ServiceKey};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::clock;
use crate::congestion;
use crate::connections::{Connections, Entry, Open};
use crate::listen;
use crate::relay::{self, End, Engine, Progress, Side, Tally, Timeouts, reset_on_drop};

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
    settings: Settings,
    /// Milliseconds; may change while connections come in.
    idle: AtomicU64,
    half_closed: AtomicU64,
    connections: Arc<Connections>,
}

/// How a proxy treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How bytes are moved.
    pub engine: Engine,
    /// How long a connection may be silent.
    pub timeouts: Timeouts,
    /// How long one server may take to accept a connection.
    pub connect: Duration,
    /// How many servers are tried for one client.
    pub attempts: usize,
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
}

impl Default for Settings {
    /// IPVS's timeouts: 900 s idle, 120 s half-closed; 3 s to connect, three servers tried.
    fn default() -> Settings {
        Settings {
            engine: Engine::Auto,
            timeouts: Timeouts { idle: Duration::from_secs(900), half_closed: Duration::from_secs(120) },
            connect: Duration::from_secs(3),
            attempts: 3,
        }
    }
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
            settings,
            idle: AtomicU64::new(millis(settings.timeouts.idle)),
            half_closed: AtomicU64::new(millis(settings.timeouts.half_closed)),
            connections,
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
        self.shared.idle.store(millis(timeouts.idle), Ordering::Relaxed);
        self.shared.half_closed.store(millis(timeouts.half_closed), Ordering::Relaxed);
    }

    /// Accepts connections until `shutdown` is done; then also those that the kernel had accepted
    /// by then. Connections go on in tasks of their own.
    ///
    /// At the bound on connections it stops accepting until one ends: clients wait in the
    /// listener's queue. When the process runs out of descriptors it pauses likewise.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        // On a listener for one address its connections need not be asked for theirs.
        let own = listener.local_addr().ok().filter(|address| !address.ip().is_unspecified());
        let mut crowded = false;
        loop {
            if !self.shared.connections.has_room() {
                if !crowded {
                    warn!(service = %self.service(), max = self.shared.connections.max(), "no room for more connections");
                }
                crowded = true;
                tokio::select! {
                    () = &mut shutdown => break,
                    () = sleep(PAUSE) => continue,
                }
            }
            crowded = false;
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((client, peer)) => self.spawn(client, peer, own),
                Err(error) if listen::is_of_one_connection(&error) => {}
                Err(error) => {
                    warn!(service = %self.service(), %error, "cannot accept");
                    sleep(PAUSE).await;
                }
            }
        }
        self.serve_backlog(&listener, own);
    }

    /// Takes what is in the listener's queue; closing the listener would reset it.
    fn serve_backlog(&self, listener: &TcpListener, own: Option<SocketAddr>) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while let std::task::Poll::Ready(Ok((client, peer))) = listener.poll_accept(&mut context) {
            self.spawn(client, peer, own);
        }
    }

    fn spawn(&self, client: TcpStream, peer: SocketAddr, own: Option<SocketAddr>) {
        let (proxy, place) = (self.clone(), self.shared.connections.place());
        tokio::spawn(async move {
            let own = own.unwrap_or_else(|| local(&client));
            proxy.forward(client, peer, own).await;
            drop(place);
        });
    }

    /// Forwards one client connection, from `peer`, to its end.
    pub async fn handle(&self, client: TcpStream, peer: SocketAddr) -> Outcome {
        let virtual_address = local(&client);
        self.forward(client, peer, virtual_address).await
    }

    async fn forward(&self, mut client: TcpStream, peer: SocketAddr, virtual_address: SocketAddr) -> Outcome {
        let began = Instant::now();
        let shared = &*self.shared;
        let flow = Flow::new(peer).to(virtual_address);
        let mut failed = Vec::new();
        let outcome = match self.connect(&flow, &mut failed).await {
            Err(refusal) => {
                reset_on_drop(&client);
                drop(client);
                Outcome {
                    to_server: 0,
                    to_client: 0,
                    lasted: began.elapsed(),
                    failed: failed.len(),
                    ended: Ended::Refused(refusal),
                }
            }
            Ok((lease, mut server)) => {
                let open = Open {
                    protocol: Protocol::Tcp,
                    client: peer,
                    virtual_address,
                    server: lease.server(),
                    progress: Progress::default(),
                };
                let account = Account { entry: shared.connections.enter(open), lease };
                let timeouts = Timeouts {
                    idle: Duration::from_millis(shared.idle.load(Ordering::Relaxed)),
                    half_closed: Duration::from_millis(shared.half_closed.load(Ordering::Relaxed)),
                };
                let end =
                    relay::relay(&mut client, &mut server, shared.settings.engine, timeouts, &account).await;
                self.report(&account.lease, &end);
                let progress = &account.entry.open.progress;
                Outcome {
                    to_server: progress.bytes_to_server(),
                    to_client: progress.bytes_to_client(),
                    lasted: began.elapsed(),
                    failed: failed.len(),
                    ended: Ended::Relayed(account.lease.server(), end),
                }
            }
        };
        self.log(peer, &outcome);
        outcome
    }

    /// Chooses a server and connects to it, or to another one if that fails.
    async fn connect(
        &self,
        flow: &Flow,
        failed: &mut Vec<SocketAddr>,
    ) -> Result<(Lease, TcpStream), Refusal> {
        let Shared { director, service, settings, .. } = &*self.shared;
        loop {
            let lease = director.schedule_except(service, flow, failed, clock::now())?;
            let error = match timeout(settings.connect, connect(lease.server())).await {
                Ok(Ok(stream)) => {
                    director.report(&lease, Event::Succeeded, clock::now());
                    return Ok((lease, stream));
                }
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            let server = lease.server();
            let event = Event::ConnectFailed(cause(&error));
            debug!(%service, %server, %error, "cannot connect");
            if let Some(transition) = director.report(&lease, event, clock::now()) {
                warn!(%service, %server, "server is {}", transition.condition);
            }
            failed.push(server);
            if failed.len() >= settings.attempts.max(1) {
                return Err(Refusal::AllTried);
            }
        }
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
        }
    }
}

/// The account of one connection: its lease and its entry in the list.
struct Account {
    lease: Lease,
    entry: Entry,
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

async fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    congestion::unpace_if_local(SockRef::from(&socket), server.ip());
    socket.connect(server).await
}

/// A failed connect in the operator's words.
pub(crate) fn cause(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect refused".into(),
        io::ErrorKind::TimedOut => "connect timed out".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::AddrNotAvailable => "no free local port".into(),
        _ => error.to_string().into(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a socket that has lost its address is listed under.
const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// How long accepting pauses when there is no room.
const PAUSE: Duration = Duration::from_millis(50);

/// Bound on the connections of a proxy that was given none.
const CONNECTIONS_MAX: usize = 10_000;
