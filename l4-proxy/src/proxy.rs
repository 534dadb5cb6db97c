//! One virtual service at work: accept, schedule, connect, relay, account.
//!
//! One task per connection and no channel. A server that cannot be connected to is ruled out for
//! this client and another is chosen: no byte of a server has been seen, so nothing is lost by it.

mod accept;
mod connect;
mod first;
mod identify;
mod legs;
mod opening;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use lvs_core::{Director, Event, Lease, Refusal, ServiceKey};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info};

pub(crate) use self::accept::{Queue, Reception, accept};
pub(crate) use self::connect::cause;
pub use self::identify::Unidentified;
use self::legs::Legs;
use crate::connections::{self, Connections, Entry};
use crate::relay::{self, End, Progress, Side, Tally, Timeouts};
use crate::settings::Settings;
use crate::{clock, listen, sys};

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
    /// The virtual address may be another director's by now; the client was reset.
    Elsewhere,
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

    /// Changes how connections are treated that begin from now on; [`serve`](Proxy::serve) goes on with the
    /// `user_timeout` that it began with.
    pub fn set_settings(&self, settings: Settings) {
        self.shared.settings.store(Arc::new(settings));
    }

    /// Accepts connections until `shutdown` is done; then also those that the kernel had accepted
    /// by then. Connections go on in tasks of their own.
    ///
    /// At the bound on connections it stops accepting until one ends: clients wait in the
    /// listener's queue. When the process runs out of descriptors it pauses likewise.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        // What is accepted inherits them. A listener that does not take them has nothing to accept.
        let _ = SockRef::from(&listener).set_tcp_nodelay(true);
        let _ = listen::end_silence(&listener, self.settings().user_timeout);
        let shutdown = async {
            shutdown.await;
            Queue::Own
        };
        accept(self, listener, shutdown).await;
    }

    /// Forwards one client connection, from `peer`, to its end.
    pub async fn handle(&self, client: TcpStream, peer: SocketAddr) -> Outcome {
        // A small answer must not wait for the client's confirmation of the one before.
        let _ = client.set_nodelay(true);
        let user_timeout = self.settings().user_timeout;
        if user_timeout.is_some() {
            let _ = listen::end_silence(&client, user_timeout);
        }
        self.forward(client, peer, None, None).await
    }

    /// What an open connection holds is this future, so every byte of it counts: the arguments move into
    /// what is boxed, and nothing is kept twice.
    fn forward(
        &self,
        client: TcpStream,
        peer: SocketAddr,
        own: Option<SocketAddr>,
        place: Option<Place>,
    ) -> impl Future<Output = Outcome> + use<> {
        let own = own.unwrap_or_else(|| client.local_addr().unwrap_or(UNKNOWN));
        let opening = Box::pin(opening::open(self.clone(), client, peer, own, place));
        async move {
            let mut connection = match opening.await {
                Ok(connection) => connection,
                Err(outcome) => return outcome,
            };
            let end = connection.relay().await;
            connection.close(end)
        }
    }

    /// A server that resets after it accepted may only be refusing this client's wish, so it is no
    /// proof against it; that it accepted was reported as a success. One that has gone without a word is.
    fn report(&self, lease: &Lease, end: &End) {
        let End::Failed(Side::Server, error) = end else { return };
        let cause = match error.kind() {
            io::ErrorKind::TimedOut => "connection timed out".into(),
            // What a neighbour or router said of it meanwhile is what the kernel gives as the reason.
            // That this host has no route any more would be said of every server.
            io::ErrorKind::HostUnreachable => cause(error),
            _ => return,
        };
        self.shared.director.report(lease, Event::Failed(cause), clock::now());
    }

    fn log(&self, client: SocketAddr, outcome: &Outcome) {
        let service = self.service();
        let Outcome { to_server, to_client, lasted, failed, .. } = outcome;
        let ms = lasted.as_millis() as u64;
        match &outcome.ended {
            // As they all should: worth a line only to who asks for one.
            Ended::Relayed(server, end @ End::Closed) if *failed == 0 => {
                debug!(target: "connection", %client, %service, %server, to_server, to_client, ms, failed, "{end}");
            }
            Ended::Relayed(server, end) => {
                info!(target: "connection", %client, %service, %server, to_server, to_client, ms, failed, "{end}");
            }
            Ended::Refused(refusal) => {
                info!(target: "connection", %client, %service, ms, failed, "refused: {refusal}");
            }
            Ended::Starved(error) => {
                info!(target: "connection", %client, %service, ms, failed, "refused: {error}");
            }
            Ended::Elsewhere => {
                info!(target: "connection", %client, %service, ms, "refused: the address may be another director's");
            }
            Ended::Unidentified(error) => {
                info!(target: "connection", %client, %service, ms, "refused: {error}");
            }
        }
    }
}

impl Proxy {
    /// A place of this proxy's, whether it has room or not, where one of all is taken already.
    fn place_with(&self, of_all: connections::Place) -> Place {
        self.shared.own.fetch_add(1, Ordering::Relaxed);
        Place { proxy: self.clone(), _of_all: of_all }
    }

    /// Takes in a connection that has a place among all.
    pub(crate) fn take_in_with(
        &self,
        client: TcpStream,
        peer: SocketAddr,
        own: Option<SocketAddr>,
        of_all: connections::Place,
    ) {
        self.take_in(client, peer, own, self.place_with(of_all));
    }
}

impl Reception for Proxy {
    type Place = Place;

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

    fn try_place(&self) -> Result<Place, usize> {
        Place::try_take(self)
    }

    fn place(&self) -> Place {
        self.place_with(self.shared.connections.place())
    }

    fn take_in(&self, client: TcpStream, peer: SocketAddr, own: Option<SocketAddr>, place: Place) {
        tokio::spawn(self.forward(client, peer, own, Some(place)));
    }
}

/// A place among the connections that there may be, of all and of one proxy.
pub(crate) struct Place {
    proxy: Proxy,
    _of_all: connections::Place,
}

impl Place {
    /// Takes one if there is room, or says which bound leaves none.
    fn try_take(proxy: &Proxy) -> Result<Place, usize> {
        let connections = &proxy.shared.connections;
        let of_all = connections.try_place().ok_or_else(|| connections.max())?;
        let Some(max) = proxy.shared.settings.load().connections_max else {
            return Ok(proxy.place_with(of_all));
        };
        if !connections::take_below(&proxy.shared.own, max) {
            return Err(max);
        }
        Ok(Place { proxy: proxy.clone(), _of_all: of_all })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.proxy.shared.own.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client and its server.
struct Connection {
    account: Account,
    legs: Legs,
    proxy: Proxy,
    /// Those that it began with.
    settings: Arc<Settings>,
    began: Instant,
    place: Option<Place>,
}

impl Connection {
    /// Relays to the end, or until the connection may go on no longer.
    fn relay(&mut self) -> impl Future<Output = End> {
        let Connection { account, legs, settings, .. } = self;
        relay::relay_to_fresh(
            &mut legs.client,
            &mut legs.server,
            settings.engine,
            &settings.timeouts,
            &*account,
        )
    }

    fn close(self, end: End) -> Outcome {
        let Connection { account, legs, proxy, began, place, .. } = self;
        account.look(&legs.client);
        proxy.report(&account.lease, &end);
        let failed = legs.failed as usize;
        legs.settle();
        let open = Arc::clone(&account.entry.open);
        drop(account);
        let outcome = Outcome {
            to_server: open.progress.bytes_to_server(),
            to_client: open.progress.bytes_to_client(),
            lasted: began.elapsed(),
            failed,
            ended: Ended::Relayed(open.server, end),
        };
        proxy.log(open.client, &outcome);
        drop(place);
        outcome
    }
}

/// The account of one connection: its lease and its entry in the list.
struct Account {
    lease: Lease,
    entry: Entry,
    /// In a place of its own: few want them.
    packets: Option<Box<Packets>>,
}

/// Packets between the client and here that have been counted, where they are: those that came, and those
/// that went. Written by the connection only.
#[derive(Default)]
struct Packets {
    came: AtomicU32,
    went: AtomicU32,
}

impl Account {
    /// What comes of the work, or why the connection may go on no longer.
    async fn unless_cut_off<T>(&self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        poll_fn(|cx| match self.cut_off(cx) {
            Some(end) => Poll::Ready(Err(end)),
            None => work.as_mut().poll(cx).map(Ok),
        })
        .await
    }
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

    fn looks(&self) -> bool {
        self.packets.is_some()
    }

    fn is_asked(&self) -> bool {
        self.looks() && self.entry.open.call.is_to_count()
    }

    fn look(&self, client: &TcpStream) {
        let Some(Packets { came, went }) = self.packets.as_deref() else { return };
        // Whatever comes of it, nobody has to wait for it.
        let counted = sys::segments(client);
        if counted.is_none() {
            self.entry.open.call.has_counted();
        }
        let Some((came_by_now, went_by_now)) = counted else { return };
        // The first to go answered the first to come, before there was a socket to count it.
        let went_by_now = went_by_now.wrapping_add(1);
        let more = |counted: &AtomicU32, now: u32| now.wrapping_sub(counted.swap(now, Ordering::Relaxed));
        self.lease.count_packets_to_server(more(came, came_by_now).into());
        self.lease.count_packets_to_client(more(went, went_by_now).into());
        self.entry.open.call.has_counted();
    }

    fn may_go_on(&self) -> bool {
        self.entry.may_go_on()
    }

    fn cut_off(&self, cx: &mut Context<'_>) -> Option<End> {
        if !self.may_go_on() {
            return Some(End::Elsewhere);
        }
        let ends = |lease: &Lease| lease.is_cut_off() || lease.is_overdue(clock::now());
        (self.entry.open.call.is_called(cx) && ends(&self.lease)).then_some(End::CutOff)
    }
}

/// What a socket that has lost its address is listed under.
const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// Bound on the connections of a proxy that was given none.
const CONNECTIONS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::consents::Consents;

    #[tokio::test]
    async fn what_an_open_connection_holds_stays_small() {
        let service = ServiceKey::tcp(SocketAddr::from(([127, 0, 0, 1], 80)));
        let proxy = Proxy::new(Arc::new(Director::new()), service, Settings::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let peer = client.peer_addr().unwrap();
        // With what the runtime adds to a task, 640 bytes; its two sockets are 256 each. A little more where
        // others have tokio's timers built with more in them.
        let forward = proxy.forward(client, peer, None, None);
        assert!(size_of_val(&forward) <= 480, "{}", size_of_val(&forward));
    }

    #[tokio::test]
    async fn client_of_an_address_that_an_arbiter_has_not_agreed_to_is_reset() {
        let arbiters = vrrp::os::Arbiters::new();
        let terms = vrrp::arbiter::Terms { ttl: Duration::from_secs(5), on_loss: Default::default() };
        arbiters.add(&["web".to_owned()], terms, Box::new(Silent), |_| {}).unwrap();
        let consents = Consents::default();
        let consent = arbiters.consent("web").unwrap();
        consents.need([(std::net::Ipv4Addr::LOCALHOST.into(), consent)].into_iter());

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = ServiceKey::tcp(listener.local_addr().unwrap());
        let connections = Connections::with_consents(10, consents);
        let proxy =
            Proxy::with_connections(Arc::new(Director::new()), service, Settings::default(), connections);
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        assert!(matches!(proxy.handle(accepted, peer).await.ended, Ended::Elsewhere));
        let error = client.readable().await.and_then(|()| client.try_read(&mut [0])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn client_that_acknowledges_nothing_has_as_long_as_a_server() {
        let patience = Duration::from_secs(7);
        let settings = Settings { user_timeout: Some(patience), ..Settings::default() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Proxy::new(Arc::new(Director::new()), ServiceKey::tcp(address), settings);
        let copy = listener.try_clone().unwrap();
        proxy.serve(TcpListener::from_std(listener).unwrap(), std::future::ready(())).await;
        assert_eq!(SockRef::from(&copy).tcp_user_timeout().unwrap(), Some(patience));
        // What others have accepted.
        let (client, peer) = (std::net::TcpStream::connect(address).unwrap(), copy.local_addr().unwrap());
        client.set_nonblocking(true).unwrap();
        let copy = client.try_clone().unwrap();
        proxy.handle(TcpStream::from_std(client).unwrap(), peer).await;
        assert_eq!(SockRef::from(&copy).tcp_user_timeout().unwrap(), Some(patience));
    }

    /// Never answers.
    struct Silent;

    impl vrrp::arbiter::Witness for Silent {
        fn acquire(&mut self, _: Duration) -> vrrp::arbiter::Answer {
            vrrp::arbiter::Answer::Silence(String::new())
        }

        fn renew(&mut self, _: Duration) -> vrrp::arbiter::Answer {
            vrrp::arbiter::Answer::Silence(String::new())
        }

        fn revoke(&mut self, _: Duration) {}

        fn whom(&self) -> String {
            "a test".to_owned()
        }
    }

    #[test]
    fn server_that_has_gone_without_a_word_is_not_given_new_clients_and_one_that_resets_is() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for (errno, ejected) in [
            (Errno::TIMEDOUT, "3 × connection timed out"),
            (Errno::HOSTUNREACH, "3 × host unreachable"),
            (Errno::NETUNREACH, ""),
            (Errno::CONNRESET, ""),
        ] {
            let director = Arc::new(Director::new());
            let service = ServiceKey::tcp(address(80));
            let config = lvs_core::ServiceConfig::new(service.clone(), lvs_core::Algorithm::Rr);
            let servers = [1, 2].map(|port| lvs_core::ServerConfig::new(address(port)));
            director.add_service(servers.into_iter().fold(config, lvs_core::ServiceConfig::server)).unwrap();
            let proxy = Proxy::new(Arc::clone(&director), service.clone(), Settings::default());
            let lease =
                director.schedule(&service, &lvs_core::Flow::new(address(5000)), clock::now()).unwrap();
            for _ in 0..3 {
                proxy.report(&lease, &End::Failed(Side::Server, errno.into()));
            }
            let stats = director.stats();
            let server = stats[0].servers.iter().find(|server| server.config.address == lease.server());
            let reason = server.unwrap().condition.reason().map(|reason| reason.to_string());
            assert_eq!(reason.unwrap_or_default(), ejected);
        }
    }
}
