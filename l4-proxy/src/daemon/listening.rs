//! The sockets of a director's services: one on each worker, bound before anything changes and
//! emptied before they close.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use lvs_core::{Protocol, ServiceConfig, ServiceKey};
use lvsadm::CommitError;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

use super::Shared;
use super::administered::relay_timeouts;
use crate::inherit::Inherited;
use crate::listen;
use crate::metrics::{self, Sources};
use crate::proxy::Proxy;
use crate::udp::{DatagramProxy, Dropped, Phase, Scheduling};
use crate::worker::Workers;

/// A service's sockets at work, one on each worker.
pub(super) struct Listening {
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
    Datagrams(DatagramProxy),
}

/// Whether datagrams wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    On,
    Off,
}

/// Why sockets are not served any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nobody is to be served there.
    Ended,
    /// Another process serves there.
    HandedOver,
}

/// The bound sockets of a service, not at work yet.
pub(super) enum Sockets {
    Connections(Vec<std::net::TcpListener>),
    Datagrams(Vec<UdpSocket>),
    /// They are at work for flows that go on since the service was deleted.
    Retired(Listening),
}

impl Shared {
    /// Binds what a service listens on, unless it was inherited. The caller has made sure that it can be
    /// served.
    pub(super) fn open(&self, service: &ServiceKey, inherited: &Inherited) -> Result<Sockets, CommitError> {
        let ServiceKey::Address { protocol, address } = service else {
            return Ok(Sockets::Connections(Vec::new()));
        };
        let count = self.workers.count();
        let sockets = match protocol {
            Protocol::Udp => inherited.datagrams(*address).and_then(|given| {
                let sockets = if given.is_empty() { listen::datagrams(*address, count)? } else { given };
                Ok(Sockets::Datagrams(sockets))
            }),
            _ => inherited.listeners(*address).and_then(|given| {
                let given = shared_out(given, count)?;
                let listeners = if given.is_empty() { listen::group(*address, count)? } else { given };
                Ok(Sockets::Connections(listeners))
            }),
        };
        sockets.map_err(|error| cannot_listen(*address, &error))
    }

    /// Hands each worker its socket.
    pub(super) fn listen(
        &self,
        service: &ServiceConfig,
        sockets: Sockets,
        timeouts: lvsadm::Timeouts,
    ) -> Listening {
        let key = service.key.clone();
        let (phase, phases) = watch::channel(Phase::Serving);
        let (done, stopped) = channel();
        // Without, a takeover would bind them anew.
        let copies = sockets.copies().unwrap_or_default();
        let carrier = match sockets {
            Sockets::Retired(listening) => {
                let _ = listening.phase.send(Phase::Serving);
                listening.follow(service);
                listening.set_timeouts(timeouts);
                return listening;
            }
            Sockets::Connections(listeners) => {
                let connections = Arc::clone(&self.connections);
                let director = Arc::clone(&self.director);
                let settings = self.settings_of(&key);
                let proxy = Proxy::with_connections(director, key, settings, connections);
                for (worker, listener) in listeners.into_iter().enumerate() {
                    let (proxy, phases, done) = (proxy.clone(), phases.clone(), done.clone());
                    self.workers
                        .run(worker % self.workers.count(), move || accept(proxy, listener, phases, done));
                }
                Carrier::Connections(proxy)
            }
            Sockets::Datagrams(sockets) => {
                let (director, flows) = (Arc::clone(&self.director), Arc::clone(&self.flows));
                let proxy = DatagramProxy::new(director, key, timeouts.udp, flows);
                for (worker, socket) in sockets.into_iter().enumerate() {
                    let (proxy, phases, done) = (proxy.clone(), phases.clone(), done.clone());
                    self.workers
                        .run(worker % self.workers.count(), move || receive(proxy, socket, phases, done));
                }
                Carrier::Datagrams(proxy)
            }
        };
        let listening = Listening { carrier, phase, sockets: copies, stopped };
        listening.follow(service);
        listening.set_timeouts(timeouts);
        listening
    }

    /// Answers Prometheus from now on.
    pub(super) fn tell_metrics(
        self: &Arc<Shared>,
        address: SocketAddr,
        service: &Workers,
    ) -> Result<(), CommitError> {
        let inherited = self.state().inherited.listeners(address);
        let listeners = match inherited {
            Ok(given) if given.is_empty() => listen::group(address, 1),
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
                let dropped = shared.state().listening.values().flat_map(Listening::dropped).collect();
                let Shared { director, connections, flows, .. } = &*shared;
                Some(metrics::render(&Sources { director, connections, flows, dropped }, names))
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
            Sockets::Connections(listeners) => {
                listeners.iter().map(|listener| Ok(listener.try_clone()?.into())).collect()
            }
            Sockets::Datagrams(sockets) => {
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

    /// Leaves datagrams in the sockets, for whoever will read them, or reads them again.
    pub(super) fn pause(&self, pause: Pause) {
        if let Carrier::Datagrams(_) = &self.carrier {
            let phase = if pause == Pause::On { Phase::Paused } else { Phase::Serving };
            let _ = self.phase.send(phase);
        }
    }

    /// Takes in what the carrier, and not the scheduler, has to know of a service.
    pub(super) fn follow(&self, service: &ServiceConfig) {
        if let Carrier::Datagrams(proxy) = &self.carrier {
            let scheduling = if service.one_packet { Scheduling::OnePacket } else { Scheduling::Flow };
            proxy.set_scheduling(scheduling);
        }
    }

    pub(super) fn set_timeouts(&self, timeouts: lvsadm::Timeouts) {
        match &self.carrier {
            Carrier::Connections(proxy) => proxy.set_timeouts(relay_timeouts(timeouts)),
            Carrier::Datagrams(proxy) => proxy.set_timeout(timeouts.udp),
        }
    }

    /// Whether flows still need the sockets.
    pub(super) fn is_needed(&self) -> bool {
        match &self.carrier {
            Carrier::Connections(_) => false,
            Carrier::Datagrams(proxy) => {
                proxy.open() > 0 && self.stopped.try_recv() == Err(TryRecvError::Empty)
            }
        }
    }

    /// Datagrams that were dropped, by reason.
    fn dropped(&self) -> Vec<(ServiceKey, Dropped, u64)> {
        match &self.carrier {
            Carrier::Connections(_) => Vec::new(),
            Carrier::Datagrams(proxy) => {
                proxy.dropped().map(|(why, count)| (proxy.service().clone(), why, count)).collect()
            }
        }
    }

    pub(super) fn service(&self) -> &ServiceKey {
        match &self.carrier {
            Carrier::Connections(proxy) => proxy.service(),
            Carrier::Datagrams(proxy) => proxy.service(),
        }
    }
}

async fn accept(
    proxy: Proxy,
    listener: std::net::TcpListener,
    mut phases: watch::Receiver<Phase>,
    done: Sender<()>,
) {
    match TcpListener::from_std(listener) {
        Ok(listener) => {
            let stopped = async move {
                // An error means that the other end is gone, which stops the listener as well.
                let _ = phases.wait_for(|phase| *phase != Phase::Serving).await;
            };
            proxy.serve(listener, stopped).await;
        }
        Err(error) => warn!(service = %proxy.service(), %error, "cannot listen"),
    }
    drop(done);
}

async fn receive(proxy: DatagramProxy, socket: UdpSocket, phases: watch::Receiver<Phase>, done: Sender<()>) {
    if let Err(error) = proxy.serve_phases(socket, phases).await {
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
        info!(service = %listening.service(), "no longer listening");
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
        _ => "",
    };
    CommitError::Refused(format!("cannot listen on {address}: {error}{hint}"))
}

/// How long a change waits for workers to empty the queue of a listener that goes.
const STOP_WAIT: Duration = Duration::from_secs(2);
