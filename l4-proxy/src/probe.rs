//! Active checks: does a real server accept a connection, and does nobody refuse a datagram for it?
//!
//! One task per server and service, each at its own point of the interval, so that probes never
//! come in a burst. The probe is closed with a reset: it leaves no half-open connection at the
//! server and no port in TIME_WAIT here.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lvs_core::{Condition, Config, Director, Probe, Protocol, ServiceKey};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tracing::{info, warn};

use crate::clock;
use crate::proxy::cause;
use crate::relay::reset_on_drop;

/// How often servers are probed, and how long they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From one probe of a server to the next.
    pub interval: Duration,
    /// How long a server may take to accept.
    pub timeout: Duration,
}

impl Default for Schedule {
    /// Every two seconds, one second each.
    fn default() -> Schedule {
        Schedule { interval: Duration::from_secs(2), timeout: Duration::from_secs(1) }
    }
}

/// The probes of a director's servers, as tasks of the runtime it is used on.
pub struct Prober {
    director: Arc<Director>,
    schedule: Schedule,
    tasks: HashMap<(ServiceKey, SocketAddr), JoinHandle<()>>,
}

impl Prober {
    /// Probes nothing yet.
    pub fn new(director: Arc<Director>, schedule: Schedule) -> Prober {
        Prober { director, schedule, tasks: HashMap::new() }
    }

    /// Probes the servers of `config` and no others from now on; those already probed keep their
    /// rhythm.
    pub fn follow(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.tasks);
        for service in &config.services {
            // One that takes any port is known by what becomes of its connections.
            for server in service.servers.iter().filter(|server| server.address.port() != 0) {
                let target = (service.key.clone(), server.address);
                let task = before.remove(&target).unwrap_or_else(|| {
                    let (director, schedule) = (Arc::clone(&self.director), self.schedule);
                    tokio::spawn(watch(director, schedule, target.clone()))
                });
                self.tasks.insert(target, task);
            }
        }
        before.into_values().for_each(|task| task.abort());
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
    }
}

async fn watch(director: Arc<Director>, schedule: Schedule, (service, server): (ServiceKey, SocketAddr)) {
    let first = tokio::time::Instant::now() + offset(&schedule, &service, server);
    let mut ticks = interval_at(first, schedule.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = match &service {
            ServiceKey::Address { protocol: Protocol::Udp, .. } => send(server, schedule.timeout).await,
            _ => match timeout(schedule.timeout, connect(server)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
        };
        let outcome = match outcome {
            Ok(()) => Probe::Passed,
            Err(error) => Probe::Failed(cause(&error)),
        };
        if let Some(transition) = director.probe(&service, server, outcome, clock::now()) {
            match transition.condition {
                Condition::Up => info!(%service, %server, "server is up"),
                condition => warn!(%service, %server, "server is {condition}"),
            }
        }
    }
}

async fn connect(server: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(server).await?;
    reset_on_drop(&stream);
    Ok(())
}

/// Sends an empty datagram and waits whether it is refused. Silence is a pass: what a server of
/// datagrams would answer to is its own affair.
async fn send(server: SocketAddr, time: Duration) -> io::Result<()> {
    let own: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(server).await?;
    socket.send(&[]).await?;
    match timeout(time, socket.recv(&mut [])).await {
        Ok(answered) => answered.map(|_| ()),
        Err(_) => Ok(()),
    }
}

/// Where in the interval a server's probes lie: the same at every start, spread over the servers.
fn offset(schedule: &Schedule, service: &ServiceKey, server: SocketAddr) -> Duration {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((service, server));
    schedule.interval.mul_f64(f64::from(hash as u16) / f64::from(u16::MAX))
}
