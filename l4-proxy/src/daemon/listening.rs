//! The sockets of a director's services: one on each worker, bound before anything changes and
//! emptied before they close.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use lvs_core::{Config, Family, Protocol, ServiceKey};
use lvsadm::CommitError;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

use super::administered::relay_timeouts;
use super::endpoint::{Endpoint, Whose};
use super::{Shared, State};
use crate::fwmark::{ByMark, are_marks_told};
use crate::listen::{self, Presence};
use crate::metrics::{self, Sources};
use crate::proxy::{Proxy, Queue, Reception, accept};
use crate::udp::{DatagramProxy, Dropped, Passing, Phase, Scheduling};
use crate::worker::Workers;

/// The sockets of an endpoint at work, one on each worker.
pub(super) struct Listening {
    endpoint: Endpoint,
    carrier: Carrier,
    phase: watch::Sender<Phase>,
    /// The sockets once more, for a successor. They are let go first of all, since a listener goes on
    /// taking in connections as long as anybody holds it.
    sockets: Vec<OwnedFd>,
    /// Closed when every worker has stopped; nothing is ever sent.
    stopped: Receiver<()>,
}

/// Who carries what comes in.
enum Carrier {
    Connections(Proxy),
    Marked(ByMark),
    Datagrams(DatagramProxy),
}

/// A service whose datagrams wait.
pub(super) struct Paused {
    address: SocketAddr,
    workers: usize,
    flows: Receiver<(usize, Vec<Passing>)>,
}

impl Paused {
    /// The flows that its workers have, with the address they came to and the number of the socket there.
    /// Those of a worker that does not answer in time stay where they are.
    pub(super) fn flows(self) -> impl Iterator<Item = (SocketAddr, usize, Passing)> {
        let Paused { address, workers, flows } = self;
        let until = Instant::now() + STOP_WAIT;
        let told = (0..workers)
            .map_while(move |_| flows.recv_timeout(until.saturating_duration_since(Instant::now())).ok());
        told.flat_map(move |(number, flows)| flows.into_iter().map(move |flow| (address, number, flow)))
    }
}

/// Why sockets are not served any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nobody is to be served there.
    Ended,
    /// Another process serves there.
    HandedOver,
}

/// The bound sockets of an endpoint, not at work yet.
pub(super) enum Sockets {
    Connections(ServiceKey, Vec<std::net::TcpListener>),
    Marked(Vec<std::net::TcpListener>),
    Datagrams(ServiceKey, Vec<UdpSocket>),
    /// They are at work for flows that go on since the service was deleted.
    Retired(Listening),
}

impl Shared {
    /// Binds what an endpoint listens on, unless it was inherited. The caller has made sure that it can be
    /// served.
    pub(super) fn open(&self, endpoint: &Endpoint, state: &State) -> Result<Sockets, CommitError> {
        let count = self.workers.count();
        let (address, inherited) = (endpoint.address, &state.inherited);
        let floats = state.floating.contains(&address.ip());
        let presence = if floats { Presence::Floating } else { Presence::Here };
        if endpoint.whose == Whose::Marked && are_marks_told() == Some(false) {
            return Err(CommitError::Refused(format!(
                "the marks of connections to {address} cannot be told: set net.ipv4.tcp_fwmark_accept=1 (see \
                 --fwmark-help)"
            )));
        }
        let listeners = || {
            let given = shared_out(inherited.listeners(address)?, count)?;
            let listeners = if given.is_empty() { listen::group(address, presence, count)? } else { given };
            let user_timeout = self.options.settings.user_timeout;
            listeners.iter().try_for_each(|listener| listen::end_silence(listener, user_timeout))?;
            Ok(listeners)
        };
        let datagrams = || {
            let given = inherited.datagrams(address)?;
            if given.is_empty() { listen::datagrams(address, presence, count) } else { Ok(given) }
        };
        let sockets = match (&endpoint.whose, endpoint.protocol) {
            (Whose::Marked, _) => listeners().map(Sockets::Marked),
            (Whose::Service(key), Protocol::Udp) => {
                datagrams().map(|sockets| Sockets::Datagrams(key.clone(), sockets))
            }
            (Whose::Service(key), _) => {
                listeners().map(|listeners| Sockets::Connections(key.clone(), listeners))
            }
        };
        sockets.map_err(|error| cannot_listen(address, &error))
    }

    /// Hands each worker its socket, with the flows that another process began there.
    pub(super) fn listen(
        &self,
        endpoint: Endpoint,
        sockets: Sockets,
        flows: Vec<(usize, Passing)>,
        timeouts: lvsadm::Timeouts,
    ) -> Listening {
        let (phase, phases) = watch::channel(Phase::Serving);
        let (done, stopped) = channel();
        // Without, a takeover would bind them anew.
        let copies = sockets.copies().unwrap_or_default();
        let carrier = match sockets {
            Sockets::Retired(listening) => {
                let _ = listening.phase.send(Phase::Serving);
                listening.set_timeouts(timeouts);
                return listening;
            }
            Sockets::Connections(key, listeners) => {
                let proxy = self.proxy(&key, timeouts);
                self.accept(listeners, &proxy, &phases, &done);
                Carrier::Connections(proxy)
            }
            Sockets::Marked(listeners) => {
                let by_mark = ByMark::new(endpoint.address, Arc::clone(&self.connections));
                self.accept(listeners, &by_mark, &phases, &done);
                Carrier::Marked(by_mark)
            }
            Sockets::Datagrams(key, sockets) => {
                let (director, table) = (Arc::clone(&self.director), Arc::clone(&self.flows));
                let proxy = DatagramProxy::new(director, key, timeouts.udp, table);
                let mut begun: Vec<Vec<Passing>> = sockets.iter().map(|_| Vec::new()).collect();
                for (number, flow) in flows {
                    if let Some(begun) = begun.get_mut(number) {
                        begun.push(flow);
                    }
                }
                for (number, (socket, flows)) in sockets.into_iter().zip(begun).enumerate() {
                    let (proxy, phases, done) = (proxy.clone(), phases.clone(), done.clone());
                    let task = move || receive(proxy, (number, socket), flows, phases, done);
                    self.workers.run(number % self.workers.count(), task);
                }
                Carrier::Datagrams(proxy)
            }
        };
        Listening { endpoint, carrier, phase, sockets: copies, stopped }
    }

    /// Has each worker accept on its listener.
    fn accept(
        &self,
        listeners: Vec<std::net::TcpListener>,
        reception: &(impl Reception + Clone + Send + 'static),
        phases: &watch::Receiver<Phase>,
        done: &Sender<()>,
    ) {
        for (worker, listener) in listeners.into_iter().enumerate() {
            let (reception, phases, done) = (reception.clone(), phases.clone(), done.clone());
            let entry = self.entry.subscribe();
            let task = move || accept_on(reception, listener, entry, phases, done);
            self.workers.run(worker % self.workers.count(), task);
        }
    }

    fn proxy(&self, service: &ServiceKey, timeouts: lvsadm::Timeouts) -> Proxy {
        let (director, connections) = (Arc::clone(&self.director), Arc::clone(&self.connections));
        let settings = self.settings_of(service);
        let proxy = Proxy::with_connections(director, service.clone(), settings, connections);
        proxy.set_timeouts(relay_timeouts(timeouts));
        proxy
    }

    /// Has what listens take in what it has to know of a configuration beside the scheduler.
    pub(super) fn follow(&self, listening: &Listening, config: &Config, timeouts: lvsadm::Timeouts) {
        match (&listening.carrier, &listening.endpoint.whose) {
            (Carrier::Datagrams(proxy), Whose::Service(key)) => {
                let one_packet = config.service(key).is_some_and(|service| service.one_packet);
                let scheduling = if one_packet { Scheduling::OnePacket } else { Scheduling::Flow };
                proxy.set_scheduling(scheduling);
            }
            (Carrier::Marked(by_mark), _) => {
                let family = Family::of(listening.endpoint.address.ip());
                let before = by_mark.proxies();
                let marked = config.services.iter().filter_map(|service| match &service.key {
                    ServiceKey::Mark { mark, family: of } if *of == family => {
                        Some((mark.get(), &service.key))
                    }
                    _ => None,
                });
                let proxies = marked.map(|(mark, key)| {
                    (mark, before.get(&mark).cloned().unwrap_or_else(|| self.proxy(key, timeouts)))
                });
                by_mark.set_proxies(proxies.collect());
            }
            _ => {}
        }
    }

    /// Answers Prometheus from now on.
    pub(super) fn tell_metrics(
        self: &Arc<Shared>,
        address: SocketAddr,
        service: &Workers,
    ) -> Result<(), CommitError> {
        let inherited = self.state().inherited.listeners(address);
        let listeners = match inherited {
            Ok(given) if given.is_empty() => listen::group(address, Presence::Here, 1),
            given => given,
        };
        let listeners = listeners.map_err(|error| cannot_listen(address, &error))?;
        let mut state = self.state();
        state.inherited.forget(Protocol::Tcp, address);
        for listener in listeners {
            // Without, a takeover would not find the port free.
            state.metrics.extend(listener.try_clone().map(OwnedFd::from));
            let shared = Arc::downgrade(self);
            let render = move |names| {
                let shared = shared.upgrade()?;
                let failover = shared.failover.get();
                let (routers, sync) = failover
                    .map_or_else(Default::default, |failover| (failover.routers(), failover.sync_daemons()));
                let dropped = dropped(shared.state().listening.values());
                let Shared { director, connections, flows, .. } = &*shared;
                Some(metrics::render(
                    &Sources { director, connections, flows, dropped, routers, sync },
                    names,
                ))
            };
            let mut replaced = self.replaced.subscribe();
            service.run(0, move || async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => tokio::select! {
                        () = metrics::serve(listener, render) => {}
                        _ = replaced.wait_for(|replaced| *replaced) => {}
                    },
                    Err(error) => warn!(%address, %error, "cannot listen for scrapers"),
                }
            });
        }
        Ok(())
    }
}

impl Sockets {
    fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        match self {
            Sockets::Connections(_, listeners) | Sockets::Marked(listeners) => {
                listeners.iter().map(|listener| Ok(listener.try_clone()?.into())).collect()
            }
            Sockets::Datagrams(_, sockets) => {
                sockets.iter().map(|socket| Ok(socket.try_clone()?.into())).collect()
            }
            Sockets::Retired(_) => Ok(Vec::new()),
        }
    }
}

impl Listening {
    /// Its sockets, for another process.
    pub(super) fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets.iter().map(OwnedFd::try_clone).collect()
    }

    /// Leaves datagrams in the sockets, for whoever will read them; what is returned gives the flows that
    /// there are.
    pub(super) fn pause(&self) -> Option<Paused> {
        let Carrier::Datagrams(proxy) = &self.carrier else { return None };
        let flows = proxy.ask_for_flows();
        let _ = self.phase.send(Phase::Paused);
        Some(Paused { address: self.endpoint.address, workers: self.sockets.len(), flows })
    }

    /// Reads datagrams again.
    pub(super) fn go_on(&self) {
        if let Carrier::Datagrams(_) = &self.carrier {
            let _ = self.phase.send(Phase::Serving);
        }
    }

    pub(super) fn set_timeouts(&self, timeouts: lvsadm::Timeouts) {
        match &self.carrier {
            Carrier::Connections(proxy) => proxy.set_timeouts(relay_timeouts(timeouts)),
            Carrier::Marked(by_mark) => {
                by_mark.proxies().values().for_each(|proxy| proxy.set_timeouts(relay_timeouts(timeouts)));
            }
            Carrier::Datagrams(proxy) => proxy.set_timeout(timeouts.udp),
        }
    }

    /// Whether flows still need the sockets.
    pub(super) fn is_needed(&self) -> bool {
        match &self.carrier {
            Carrier::Connections(_) | Carrier::Marked(_) => false,
            Carrier::Datagrams(proxy) => {
                proxy.open() > 0 && self.stopped.try_recv() == Err(TryRecvError::Empty)
            }
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// Datagrams that were dropped, by service and reason: a service may have several sockets.
fn dropped<'a>(listening: impl Iterator<Item = &'a Listening>) -> Vec<(ServiceKey, Dropped, u64)> {
    let mut all: Vec<(ServiceKey, Dropped, u64)> = Vec::new();
    for listening in listening {
        let Carrier::Datagrams(proxy) = &listening.carrier else { continue };
        for (why, count) in proxy.dropped() {
            match all.iter_mut().find(|(service, other, _)| service == proxy.service() && *other == why) {
                Some((_, _, sum)) => *sum += count,
                None => all.push((proxy.service().clone(), why, count)),
            }
        }
    }
    all
}

async fn accept_on(
    reception: impl Reception,
    listener: std::net::TcpListener,
    mut entry: watch::Receiver<bool>,
    mut phases: watch::Receiver<Phase>,
    done: Sender<()>,
) {
    // Where this director gives up before, the clients in the queue are another one's.
    tokio::select! {
        biased;
        _ = entry.wait_for(|open| *open) => {}
        _ = phases.wait_for(|phase| *phase != Phase::Serving) => return,
    }
    match TcpListener::from_std(listener) {
        Ok(listener) => {
            let stopped = async move {
                // An error means that the other end is gone, which stops the listener as well.
                match phases.wait_for(|phase| *phase != Phase::Serving).await.as_deref() {
                    Ok(Phase::Answering) => Queue::Shared,
                    _ => Queue::Own,
                }
            };
            accept(&reception, listener, stopped).await;
        }
        Err(error) => warn!(service = %reception.name(), %error, "cannot listen"),
    }
    drop(done);
}

async fn receive(
    proxy: DatagramProxy,
    socket: (usize, UdpSocket),
    flows: Vec<Passing>,
    phases: watch::Receiver<Phase>,
    done: Sender<()>,
) {
    if let Err(error) = proxy.serve_phases(socket, flows, phases).await {
        warn!(service = %proxy.service(), %error, "cannot serve datagrams");
    }
    drop(done);
}

/// Takes no new clients on these. Waits until each worker has accepted what was in its queue;
/// returns those whose flows go on.
pub(super) fn stop(mut listening: Vec<Listening>, reason: Reason) -> Vec<Listening> {
    for Listening { phase, sockets, .. } in &mut listening {
        sockets.clear();
        let draining = if reason == Reason::Ended { Phase::Draining } else { Phase::Answering };
        let _ = phase.send(draining);
    }
    let (needed, done): (Vec<_>, Vec<_>) = listening.into_iter().partition(Listening::is_needed);
    close(done);
    needed
}

/// Lets go of these sockets, and waits until every worker has.
pub(super) fn close(listening: Vec<Listening>) {
    for Listening { phase, .. } in &listening {
        let _ = phase.send(Phase::Ended);
    }
    let until = Instant::now() + STOP_WAIT;
    for listening in listening {
        // Ends when the last worker has let go of its sender.
        let _ = listening.stopped.recv_timeout(until.saturating_duration_since(Instant::now()));
        info!(service = %listening.endpoint, "no longer listening");
    }
}

/// At least one listener for each worker: where there are fewer, some accept from the same. Sockets for
/// datagrams cannot be shared so, since a flow belongs to one worker.
fn shared_out(
    mut listeners: Vec<std::net::TcpListener>,
    workers: usize,
) -> io::Result<Vec<std::net::TcpListener>> {
    let first = listeners.len();
    for next in (first..workers).filter(|_| first > 0) {
        listeners.push(listeners[next % first].try_clone()?);
    }
    Ok(listeners)
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> CommitError {
    let hint = match error.kind() {
        io::ErrorKind::AddrNotAvailable => " (the virtual address must be on an interface of this host)",
        io::ErrorKind::AddrInUse => {
            " (another program listens there, or another director that --takeover would follow)"
        }
        io::ErrorKind::PermissionDenied if address.port() < PRIVILEGED => {
            " (ports below 1024 are for root, and for who has CAP_NET_BIND_SERVICE)"
        }
        _ => "",
    };
    CommitError::Refused(format!("cannot listen on {address}: {error}{hint}"))
}

/// Ports below it are not for everybody, unless the host says otherwise (`ip_unprivileged_port_start`).
const PRIVILEGED: u16 = 1024;

/// How long a change waits for workers to empty the queue of a listener that goes.
const STOP_WAIT: Duration = Duration::from_secs(2);
