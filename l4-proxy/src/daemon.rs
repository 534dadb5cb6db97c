//! A whole director in one value: listeners, workers, probes, control.
//!
//! What `l4-proxy` runs, and what a program runs that wants a director beside something else. It
//! starts threads, which an embedder of [`Proxy`] may not want; it installs no signal handler and
//! writes to no global, so several can live in one process.
//!
//! Every change of configuration goes through one place, whether it comes from a file or from
//! `ipvsadm`: it is checked as a whole, new addresses are bound, and only when all of that has
//! worked does anything change.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lvs_core::{
    Config, Director, Forwarding, HealthPolicy, Notice, Protocol, Rejected, ServerConfig, ServiceConfig,
    ServiceKey, Time,
};
use lvsadm::{CommitError, Connection, ConnectionState, Control, Edit};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::clock;
use crate::connections::{Connections, Open};
use crate::listen;
use crate::probe::{Prober, Schedule};
use crate::proxy::{Proxy, Settings};
use crate::relay::{Side, Timeouts};
use crate::worker::Workers;

/// How a director runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker threads.
    pub workers: usize,
    /// How connections are treated.
    pub settings: Settings,
    /// When servers are probed, if at all.
    pub probes: Option<Schedule>,
    /// What probes and failures do to a server.
    pub health: HealthPolicy,
    /// Most connections at a time.
    pub connections_max: usize,
    /// Where `lvsadm` finds the director, if it may.
    pub control: Option<PathBuf>,
}

/// A running director. Dropping it ends it at once, with its connections.
pub struct Daemon {
    shared: Arc<Shared>,
    control: Option<lvsadm::Server>,
}

struct Shared {
    director: Arc<Director>,
    connections: Arc<Connections>,
    options: Options,
    state: Mutex<State>,
    /// Takes the configurations to probe, on the service thread.
    probed: Option<mpsc::UnboundedSender<Config>>,
    workers: Workers,
    /// Runs probes and the clock of the tables, where load on the data path cannot delay them.
    _service: Workers,
}

/// What only changes of configuration touch.
struct State {
    listening: HashMap<ServiceKey, Listening>,
    timeouts: lvsadm::Timeouts,
    draining: bool,
}

/// A service's listeners, one on each worker.
struct Listening {
    proxy: Proxy,
    stop: watch::Sender<bool>,
    /// Closed when every worker has stopped; nothing is ever sent.
    stopped: Receiver<()>,
}

impl Default for Options {
    /// One worker per core, probes every two seconds, two failures down and two successes up, ten
    /// thousand connections, no control socket.
    fn default() -> Options {
        let mut health = HealthPolicy::default();
        (health.rise, health.fall) = (2, 2);
        Options {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            settings: Settings::default(),
            probes: Some(Schedule::default()),
            health,
            connections_max: 10_000,
            control: None,
        }
    }
}

impl Daemon {
    /// Starts a director that serves `config`.
    ///
    /// # Errors
    /// The configuration asks for what a proxy cannot do, an address or the control socket cannot
    /// be bound, or the system has no more threads.
    pub fn start(options: Options, config: Config) -> Result<Daemon, CommitError> {
        let system = |error: io::Error| CommitError::Refused(format!("cannot start: {error}"));
        let socket = options.control.as_ref().map(lvsadm::bind).transpose();
        let socket = socket.map_err(|error| CommitError::Refused(format!("control socket {error}")))?;
        let director = Arc::new(Director::new());
        let service = Workers::start("director", 1).map_err(system)?;
        let ticking = Arc::downgrade(&director);
        service.run(0, move || async move {
            while let Some(director) = ticking.upgrade() {
                director.tick(clock::now()).iter().for_each(log);
                drop(director);
                tokio::time::sleep(TICK).await;
            }
        });
        let probed = options.probes.map(|schedule| {
            let (probed, configs) = mpsc::unbounded_channel();
            let director = Arc::clone(&director);
            service.run(0, move || follow(Prober::new(director, schedule), configs));
            probed
        });
        let connections = Connections::new(options.connections_max);
        let workers = Workers::start("worker", options.workers).map_err(system)?;
        let timeouts = lvsadm::Timeouts {
            tcp: options.settings.timeouts.idle,
            tcp_fin: options.settings.timeouts.half_closed,
            udp: UDP_TIMEOUT,
        };
        let state = Mutex::new(State { listening: HashMap::new(), timeouts, draining: false });
        let shared =
            Arc::new(Shared { director, connections, options, state, probed, workers, _service: service });
        shared.commit(Edit::Replace(config))?;
        let administered: Arc<dyn Control> = Arc::clone(&shared) as _;
        let control = socket.map(|socket| lvsadm::serve(socket, administered)).transpose().map_err(system)?;
        Ok(Daemon { shared, control })
    }

    /// The decisions behind it: for a look at counters and health.
    pub fn director(&self) -> &Arc<Director> {
        &self.shared.director
    }

    /// Its open connections.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.shared.connections
    }

    /// The same director for `ipvsadm`'s commands: what the control socket talks to.
    pub fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.shared) as _
    }

    /// Serves `config` instead, at once and as a whole. Connections, counters, templates and health
    /// stay with what keeps its name.
    ///
    /// # Errors
    /// As for [`Daemon::start`]; then nothing has changed.
    pub fn reload(&self, config: Config) -> Result<(), CommitError> {
        self.shared.commit(Edit::Replace(config))
    }

    /// Stops accepting and waits until every connection has ended or `deadline` has passed.
    /// Connections that are left are cut when the value is dropped.
    pub async fn drain(&self, deadline: Duration) {
        let until = tokio::time::Instant::now() + deadline;
        self.shared.stop_listening();
        while self.shared.connections.count() > 0 && tokio::time::Instant::now() < until {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The control socket goes first, so that nobody talks to a director that is going.
        self.control = None;
        self.shared.stop_listening();
    }
}

fn log(notice: &Notice) {
    match notice {
        Notice::Turned { service, server, transition } => {
            info!(%service, %server, "server is {}", transition.condition);
        }
        Notice::Drained { service, server, load } => {
            info!(%service, %server, connections = load.total(), "server is drained");
        }
        _ => {}
    }
}

async fn follow(mut prober: Prober, mut configs: mpsc::UnboundedReceiver<Config>) {
    while let Some(config) = configs.recv().await {
        prober.follow(&config);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one change, or none of it.
    fn commit(&self, edit: Edit) -> Result<(), CommitError> {
        let mut state = self.state();
        if state.draining {
            return Err(CommitError::Refused("the director is shutting down".to_owned()));
        }
        accepts(&edit)?;
        let edit = with_health(edit, self.options.health);
        let mut after = self.director.config();
        edit.apply_to(&mut after).map_err(CommitError::Edit)?;
        after.check().map_err(CommitError::Config)?;

        let mut opened = Vec::new();
        for service in after.services.iter().filter(|service| !state.listening.contains_key(&service.key)) {
            let listeners = service.key.address().map(|address| self.open(address)).transpose()?;
            opened.push((service.key.clone(), listeners.unwrap_or_default()));
        }
        let gone: Vec<ServiceKey> =
            state.listening.keys().filter(|key| after.service(key).is_none()).cloned().collect();
        stop(gone.iter().filter_map(|key| state.listening.remove(key)).collect());
        apply(edit, &self.director)?;
        for (key, listeners) in opened {
            let listening = self.listen(key.clone(), listeners, state.timeouts);
            state.listening.insert(key, listening);
        }
        if let Some(probed) = &self.probed {
            // The service thread lives as long as this value.
            let _ = probed.send(after);
        }
        Ok(())
    }

    fn open(&self, address: SocketAddr) -> Result<Vec<std::net::TcpListener>, CommitError> {
        listen::group(address, self.workers.count()).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrNotAvailable => {
                    " (the virtual address must be on an interface of this host)"
                }
                _ => "",
            };
            CommitError::Refused(format!("cannot listen on {address}: {error}{hint}"))
        })
    }

    /// Hands each worker its listener.
    fn listen(
        &self,
        service: ServiceKey,
        listeners: Vec<std::net::TcpListener>,
        timeouts: lvsadm::Timeouts,
    ) -> Listening {
        let proxy = Proxy::with_connections(
            Arc::clone(&self.director),
            service,
            self.options.settings,
            Arc::clone(&self.connections),
        );
        proxy.set_timeouts(relay_timeouts(timeouts));
        let (stop, stopping) = watch::channel(false);
        let (done, stopped) = channel();
        for (worker, listener) in listeners.into_iter().enumerate() {
            let (proxy, stopping, done) = (proxy.clone(), stopping.clone(), done.clone());
            self.workers.run(worker, move || serve(proxy, listener, stopping, done));
        }
        Listening { proxy, stop, stopped }
    }

    fn stop_listening(&self) {
        let mut state = self.state();
        state.draining = true;
        stop(state.listening.drain().map(|(_, listening)| listening).collect());
    }
}

async fn serve(
    proxy: Proxy,
    listener: std::net::TcpListener,
    mut stopping: watch::Receiver<bool>,
    done: Sender<()>,
) {
    match TcpListener::from_std(listener) {
        Ok(listener) => {
            let stopped = async move {
                // An error means that the other end is gone, which stops the listener as well.
                let _ = stopping.wait_for(|stop| *stop).await;
            };
            proxy.serve(listener, stopped).await;
        }
        Err(error) => warn!(service = %proxy.service(), %error, "cannot listen"),
    }
    drop(done);
}

/// Stops accepting on these, and waits until each worker has taken what was in its queue.
fn stop(listening: Vec<Listening>) {
    for Listening { stop, .. } in &listening {
        let _ = stop.send(true);
    }
    let until = Instant::now() + STOP_WAIT;
    for Listening { proxy, stopped, .. } in listening {
        // Ends when the last worker has let go of its sender.
        let _ = stopped.recv_timeout(until.saturating_duration_since(Instant::now()));
        info!(service = %proxy.service(), "no longer listening");
    }
}

fn apply(edit: Edit, director: &Director) -> Result<(), CommitError> {
    let applied = match edit {
        Edit::AddService(service) => director.add_service(service),
        Edit::EditService(service) => director.edit_service(service),
        Edit::DeleteService(service) => director.delete_service(&service),
        Edit::AddServer(service, server) => director.add_server(&service, server),
        Edit::EditServer(service, server) => director.edit_server(&service, server),
        Edit::DeleteServer(service, server) => director.delete_server(&service, server),
        Edit::Replace(config) => director.apply(config).map_err(Rejected::Config),
    };
    match applied {
        Ok(_) => Ok(()),
        Err(rejected) => Err(rejected.into()),
    }
}

/// Neither the rules format nor `ipvsadm` can say how health is judged: the director's options do.
fn with_health(mut edit: Edit, health: HealthPolicy) -> Edit {
    match &mut edit {
        Edit::AddService(service) | Edit::EditService(service) => service.health = health,
        Edit::Replace(config) => config.services.iter_mut().for_each(|service| service.health = health),
        Edit::DeleteService(_) | Edit::AddServer(..) | Edit::EditServer(..) | Edit::DeleteServer(..) => {}
    }
    edit
}

/// Whether a director can carry out this edit: a check for those who read rules line by line.
///
/// # Errors
/// What about it a proxy cannot do, or this one not yet.
pub fn accepts(edit: &Edit) -> Result<(), CommitError> {
    match edit {
        Edit::AddService(service) | Edit::EditService(service) => can_serve(service),
        Edit::AddServer(service, server) | Edit::EditServer(service, server) => can_forward(service, server),
        Edit::Replace(config) => config.services.iter().try_for_each(can_serve),
        Edit::DeleteService(_) | Edit::DeleteServer(..) => Ok(()),
    }
}

fn can_serve(service: &ServiceConfig) -> Result<(), CommitError> {
    let key = &service.key;
    let reason = match key {
        ServiceKey::Address { protocol: Protocol::Tcp, address } if address.port() != 0 => None,
        ServiceKey::Address { protocol: Protocol::Tcp, .. } => {
            Some("a proxy listens on one port, not on all")
        }
        ServiceKey::Address { .. } => Some("this build forwards TCP only"),
        ServiceKey::Mark { .. } => Some("firewall marks are not seen by a proxy"),
        ServiceKey::Name(_) => Some("it has no address to listen on"),
    };
    if let Some(reason) = reason {
        return Err(CommitError::Refused(format!("service {key} cannot be served: {reason}")));
    }
    service.servers.iter().try_for_each(|server| can_forward(key, server))
}

fn can_forward(service: &ServiceKey, server: &ServerConfig) -> Result<(), CommitError> {
    let option = match server.forwarding {
        Forwarding::Masquerading => return Ok(()),
        Forwarding::Gatewaying => "-g",
        _ => "-i",
    };
    let server = server.address;
    let reason = "this build forwards by masquerading only (-m)";
    Err(CommitError::Refused(format!("server {server} of service {service} has {option}: {reason}")))
}

fn relay_timeouts(timeouts: lvsadm::Timeouts) -> Timeouts {
    Timeouts { idle: timeouts.tcp, half_closed: timeouts.tcp_fin }
}

impl Control for Shared {
    fn director(&self) -> &Director {
        &self.director
    }

    fn now(&self) -> Time {
        clock::now()
    }

    fn commit(&self, edit: Edit) -> Result<(), CommitError> {
        Shared::commit(self, edit)
    }

    fn connections(&self) -> Vec<Connection> {
        let timeouts = self.state().timeouts;
        self.connections.list().iter().map(|open| listed(open, timeouts)).collect()
    }

    fn timeouts(&self) -> lvsadm::Timeouts {
        self.state().timeouts
    }

    fn set_timeouts(&self, timeouts: lvsadm::Timeouts) -> Result<(), CommitError> {
        let mut state = self.state();
        state.timeouts = timeouts;
        for listening in state.listening.values() {
            listening.proxy.set_timeouts(relay_timeouts(timeouts));
        }
        Ok(())
    }
}

/// A connection as IPVS would list it: the state follows from which side ended first.
fn listed(open: &Open, timeouts: lvsadm::Timeouts) -> Connection {
    let (state, timeout) = match open.progress.ended_first() {
        None => (ConnectionState::Established, timeouts.tcp),
        Some(Side::Client) => (ConnectionState::CloseWait, timeouts.tcp_fin),
        Some(Side::Server) => (ConnectionState::FinWait, timeouts.tcp_fin),
    };
    Connection {
        protocol: Protocol::Tcp,
        expires: timeout.saturating_sub(open.progress.silent_for()),
        state,
        client: open.client,
        virtual_address: open.virtual_address,
        server: open.server,
    }
}

/// How often tables are swept.
const TICK: Duration = Duration::from_secs(1);

/// How long a change waits for workers to empty the queue of a listener that goes.
const STOP_WAIT: Duration = Duration::from_secs(2);

const DRAIN_POLL: Duration = Duration::from_millis(10);

/// IPVS's timeout of UDP flows.
const UDP_TIMEOUT: Duration = Duration::from_secs(300);
