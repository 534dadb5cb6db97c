//! A whole director in one value: listeners, workers, probes, control.
//!
//! What `l4-proxy` runs, and what a program runs that wants a director beside something else. It
//! starts threads, which an embedder of [`Proxy`](crate::Proxy) may not want; it installs no signal
//! handler and writes to no global, so several can live in one process.
//!
//! Every change of configuration goes through one place, whether it comes from a file or from
//! `ipvsadm`: it is checked as a whole, new addresses are bound, and only when all of that has
//! worked does anything change.

mod administered;
mod check;
mod endpoint;
mod keeping;
mod listening;
mod options;
mod succession;
mod upgrade;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use lvs_core::{
    Changes, Config, Director, HealthPolicy, Notice, Protocol, Rejected, ServiceConfig, ServiceKey,
};
use lvsadm::{CommitError, Control, Edit};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

pub use self::check::accepts;
use self::endpoint::{Endpoint, endpoints};
use self::listening::{Listening, Reason, Sockets, close, stop};
pub use self::options::Options;
use self::upgrade::Upgrade;
use crate::clock;
use crate::connections::Connections;
use crate::consents::Consents;
pub use crate::failover::Dump;
use crate::failover::Failover;
use crate::inherit::Inherited;
use crate::keepalived::keeper::{Keeper, Outcome, Record, Records};
use crate::probe::Prober;
use crate::settings::Settings;
use crate::takeover::{Elders, Given, Predecessor, Successor};
use crate::worker::Workers;

/// A running director. Dropping it ends it at once, with its connections.
pub struct Daemon {
    shared: Arc<Shared>,
    control: Option<lvsadm::Server>,
    /// Checks as keepalived.conf says, once there is one.
    keeper: Mutex<Option<Keeper>>,
    /// What the checks of the director before this one had found, until there is a keeper.
    found: Mutex<Vec<Record>>,
    /// The director before this one, while its place is taken.
    predecessor: Mutex<Option<Predecessor>>,
    /// Runs probes, metrics and the clock of the tables, where load on the data path cannot delay them.
    /// What runs there may hold the shared part for a moment, which therefore does not hold it.
    service: Workers,
}

struct Shared {
    director: Arc<Director>,
    connections: Arc<Connections>,
    /// Flows of datagrams.
    flows: Arc<Connections>,
    options: Options,
    state: Mutex<State>,
    /// Whether a successor serves.
    replaced: watch::Sender<bool>,
    /// Takes the configurations to probe, on the service thread.
    probed: Option<mpsc::UnboundedSender<Config>>,
    workers: Workers,
    /// VRRP, once a configuration has something for it to do.
    failover: OnceLock<Failover>,
    /// What the arbiters of those instances say.
    consents: Consents,
    /// Whether clients are taken in.
    entry: watch::Sender<bool>,
    /// Directors before this one that still carry connections.
    elders: Elders,
    upgrade: Upgrade,
}

/// When clients are taken in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// From the beginning.
    Open,
    /// When it is certain that this director serves: until then they wait for the one before it, who serves too.
    AfterAnother,
}

/// What only changes of configuration touch.
struct State {
    listening: HashMap<Endpoint, Listening>,
    /// Sockets of deleted services whose flows go on.
    retired: HashMap<Endpoint, Listening>,
    /// Sockets that were given to the director and that no service has used yet.
    inherited: Inherited,
    /// Addresses that need not be here.
    floating: HashSet<IpAddr>,
    /// Services that keepalived.conf asks for: its checks judge them, and count by themselves.
    kept: HashSet<ServiceKey>,
    /// What its checks have found.
    checks: Records,
    /// What Prometheus asks, once more for a successor.
    metrics: Vec<OwnedFd>,
    timeouts: lvsadm::Timeouts,
    /// What files have said, whatever `lvsadm` has changed since.
    given: Option<Given>,
    /// Why nothing may be changed, if so.
    closed: Option<&'static str>,
    /// The director after this one.
    successor: Option<Successor>,
}

impl Daemon {
    /// Starts a director that serves `config`.
    ///
    /// # Errors
    /// The configuration asks for what a proxy cannot do, an address or the control socket cannot
    /// be bound, or the system has no more threads.
    pub fn start(options: Options, config: Config) -> Result<Daemon, CommitError> {
        Daemon::start_with(options, config, Inherited::default())
    }

    /// Starts a director that serves `config` on sockets that it is given, and binds the others.
    ///
    /// # Errors
    /// As for [`Daemon::start`].
    pub fn start_with(options: Options, config: Config, inherited: Inherited) -> Result<Daemon, CommitError> {
        let socket = options.control.as_ref().map(lvsadm::bind).transpose();
        let socket = socket.map_err(|error| CommitError::Refused(format!("control socket {error}")))?;
        let mut daemon = Daemon::begin(options, config, inherited, Entry::Open, |_| {})?;
        daemon.shared.say_what_is_left();
        socket.map(|socket| daemon.administer(socket)).transpose()?;
        Ok(daemon)
    }

    /// Listens to `lvsadm` from now on.
    fn administer(&mut self, socket: lvsadm::Listener) -> Result<(), CommitError> {
        let administered: Arc<dyn Control> = Arc::clone(&self.shared) as _;
        let served = lvsadm::serve(socket, administered);
        self.control = Some(served.map_err(cannot_start)?);
        Ok(())
    }

    /// `prepare` is given the director when it has its configuration and does not serve yet.
    fn begin(
        options: Options,
        config: Config,
        inherited: Inherited,
        entry: Entry,
        prepare: impl FnOnce(&Director),
    ) -> Result<Daemon, CommitError> {
        let director = Arc::new(Director::new());
        let service = Workers::start("director", 1).map_err(cannot_start)?;
        let consents = Consents::default();
        let connections = Connections::with_consents(options.connections_max, consents.clone());
        let probed = options.probes.map(|schedule| {
            let (probed, configs) = mpsc::unbounded_channel();
            let director = Arc::clone(&director);
            service.run(0, move || follow(Prober::new(director, schedule), configs));
            probed
        });
        let flows = Connections::with_consents(options.flows_max, consents.clone());
        let workers = Workers::start("worker", options.workers).map_err(cannot_start)?;
        let timeouts = lvsadm::Timeouts {
            tcp: options.settings.timeouts.idle,
            tcp_fin: options.settings.timeouts.half_closed,
            udp: UDP_TIMEOUT,
        };
        let state = Mutex::new(State {
            listening: HashMap::new(),
            retired: HashMap::new(),
            inherited,
            floating: options.floating.clone(),
            kept: HashSet::new(),
            checks: Records::default(),
            metrics: Vec::new(),
            timeouts,
            given: None,
            closed: None,
            successor: None,
        });
        let replaced = watch::Sender::new(false);
        let failover = OnceLock::new();
        let elders = Elders::new(&director);
        let shared = Shared {
            director,
            connections,
            flows,
            options,
            replaced,
            state,
            probed,
            workers,
            failover,
            consents,
            entry: watch::Sender::new(entry == Entry::Open),
            elders,
            upgrade: Upgrade::default(),
        };
        let shared = Arc::new(shared);
        let begun = with_health(Edit::Replace(config.clone()), shared.options.health, &HashSet::new());
        apply(begun, &shared.director, &[])?;
        prepare(&shared.director);
        shared.commit(Edit::Replace(config))?;
        // Not before: a drain that was taken over would be over while its flows are not here yet.
        let (ticking, overdue) = (Arc::downgrade(&shared.director), Arc::clone(&shared.connections));
        service.run(0, move || async move {
            loop {
                tokio::time::sleep(TICK).await;
                let Some(director) = ticking.upgrade() else { return };
                for notice in director.tick(clock::now()) {
                    log(&notice);
                    if let Notice::Drained { server, .. } = notice {
                        overdue.recall(server);
                    }
                }
            }
        });
        let kept = Arc::downgrade(&shared);
        service.run(0, move || async move {
            while let Some(shared) = kept.upgrade() {
                shared.close_retired();
                drop(shared);
                tokio::time::sleep(TICK).await;
            }
        });
        if let Some(address) = shared.options.metrics {
            shared.tell_metrics(address, &service)?;
        }
        Ok(Daemon {
            shared,
            control: None,
            keeper: Mutex::default(),
            found: Mutex::default(),
            predecessor: Mutex::default(),
            service,
        })
    }

    /// The decisions behind it: for a look at counters and health.
    pub fn director(&self) -> &Arc<Director> {
        &self.shared.director
    }

    /// Its open connections.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.shared.connections
    }

    /// Its flows of datagrams.
    pub fn flows(&self) -> &Arc<Connections> {
        &self.shared.flows
    }

    /// Tasks of its threads: as many as there is work going on at once.
    pub fn tasks(&self) -> usize {
        self.shared.workers.tasks() + self.service.tasks()
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
        self.shared.commit(Edit::Replace(config))?;
        self.shared.state().given = None;
        Ok(())
    }

    /// Stops accepting and waits until every connection has ended, and every flow has been silent for
    /// three seconds, or `deadline` has passed. What is left is cut when the value is dropped.
    pub async fn drain(&self, deadline: Duration) {
        let until = tokio::time::Instant::now() + deadline;
        // First of all, so that another director serves whoever comes from now on.
        if let Some(failover) = self.shared.failover.get() {
            failover.end().await;
        }
        self.shared.stop_listening(Reason::Ended);
        self.end_checks().await;
        while self.shared.carries() > 0 && tokio::time::Instant::now() < until {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The control socket goes first, so that nobody talks to a director that is going.
        self.control = None;
        if let Some(failover) = self.shared.failover.get() {
            failover.resign();
        }
        *self.keeper() = None;
        self.shared.stop_listening(Reason::Ended);
        self.shared.elders.forget();
        let successor = self.shared.state().successor.take();
        successor.inspect(Successor::part);
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
    fn settings_of(&self, service: &ServiceKey) -> Settings {
        self.options.services.get(service).unwrap_or(&self.options.settings).clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of sockets that were inherited in vain.
    fn say_what_is_left(&self) {
        for (protocol, address) in self.state().inherited.addresses() {
            warn!("{protocol} {address} was inherited and belongs to no service");
        }
    }

    /// Makes one change, or none of it.
    fn commit(&self, edit: Edit) -> Result<(), CommitError> {
        self.commit_to(&mut self.state(), edit, &[])
    }

    /// The same with what is said of servers' health, which holds from the same moment on.
    fn commit_to(&self, state: &mut State, edit: Edit, health: &[Outcome]) -> Result<(), CommitError> {
        if let Some(why) = state.closed {
            return Err(CommitError::Refused(why.to_owned()));
        }
        accepts(&self.options.entrances, &edit)?;
        let edit = with_health(edit, self.options.health, &state.kept);
        let mut after = self.director.config();
        edit.apply_to(&mut after).map_err(CommitError::Edit)?;
        after.check().map_err(CommitError::Config)?;

        let wanted = endpoints(&after, &self.options.entrances)?;
        let mut opened = Vec::new();
        for endpoint in wanted.iter().filter(|endpoint| !state.listening.contains_key(endpoint)) {
            if !state.retired.contains_key(endpoint) {
                opened.push((endpoint.clone(), self.open(endpoint, state)?));
            }
        }
        let wanted: HashSet<Endpoint> = wanted.into_iter().collect();
        let gone = state.listening.extract_if(|endpoint, _| !wanted.contains(endpoint));
        let needed = stop(gone.map(|(_, listening)| listening).collect(), Reason::Ended);
        state.retired.extend(needed.into_iter().map(|listening| (listening.endpoint().clone(), listening)));
        for (_, server) in apply(edit, &self.director, health)?.servers_removed {
            self.connections.recall(server);
        }
        let back = state.retired.extract_if(|endpoint, _| wanted.contains(endpoint));
        opened.extend(back.map(|(endpoint, listening)| (endpoint, Sockets::Retired(listening))));
        for (endpoint, sockets) in opened {
            state.inherited.forget(endpoint.protocol, endpoint.address);
            let flows = match endpoint.protocol {
                Protocol::Udp => state.inherited.take_flows(endpoint.address),
                _ => Vec::new(),
            };
            let listening = self.listen(endpoint, sockets, flows, state.timeouts);
            self.follow(&listening, &after, state.timeouts);
            state.listening.insert(listening.endpoint().clone(), listening);
        }
        for listening in state.listening.values() {
            self.follow(listening, &after, state.timeouts);
        }
        if let Some(probed) = &self.probed {
            // The service thread lives as long as this value.
            after.services.retain(|service| !state.kept.contains(&service.key));
            let _ = probed.send(after);
        }
        Ok(())
    }

    /// Connections and flows there are.
    fn carries(&self) -> usize {
        self.connections.count() + self.flows.count()
    }

    fn stop_listening(&self, reason: Reason) {
        let mut state = self.state();
        state.closed = Some(if reason == Reason::Ended {
            "the director is shutting down"
        } else {
            "another director has taken over"
        });
        state.metrics.clear();
        let listening = state.listening.drain().map(|(_, listening)| listening).collect();
        let needed = stop(listening, reason);
        state.retired.extend(needed.into_iter().map(|listening| (listening.endpoint().clone(), listening)));
    }

    /// Closes the sockets of deleted services whose flows have ended by now.
    fn close_retired(&self) {
        let mut state = self.state();
        let over = state.retired.extract_if(|_, listening| !listening.is_needed());
        close(over.map(|(_, listening)| listening).collect());
    }
}

/// `health` belongs to a whole configuration.
fn apply(edit: Edit, director: &Director, health: &[Outcome]) -> Result<Changes, CommitError> {
    let applied = match edit {
        Edit::AddService(service) => director.add_service(service),
        Edit::EditService(service) => director.edit_service(service),
        Edit::DeleteService(service) => director.delete_service(&service),
        Edit::AddServer(service, server) => director.add_server(&service, server),
        Edit::EditServer(service, server) => director.edit_server(&service, server),
        Edit::DeleteServer(service, server) => director.delete_server(&service, server),
        Edit::Drain { service, server, deadline } => director.drain(&service, server, deadline),
        Edit::Replace(config) => {
            director.amend(|present| *present = config, health, clock::now()).map_err(Rejected::Config)
        }
    };
    Ok(applied?)
}

fn cannot_start(error: io::Error) -> CommitError {
    CommitError::Refused(format!("cannot start: {error}"))
}

/// Neither the rules format nor `ipvsadm` can say how health is judged: the director's options do.
/// The checks of keepalived.conf count by themselves; what they say holds at once.
fn with_health(mut edit: Edit, health: HealthPolicy, kept: &HashSet<ServiceKey>) -> Edit {
    let judge = |service: &mut ServiceConfig| {
        service.health = health;
        if kept.contains(&service.key) {
            (service.health.rise, service.health.fall) = (1, 1);
        }
    };
    match &mut edit {
        Edit::AddService(service) | Edit::EditService(service) => judge(service),
        Edit::Replace(config) => config.services.iter_mut().for_each(judge),
        Edit::DeleteService(_)
        | Edit::AddServer(..)
        | Edit::EditServer(..)
        | Edit::DeleteServer(..)
        | Edit::Drain { .. } => {}
    }
    edit
}

/// How often tables are swept.
const TICK: Duration = Duration::from_secs(1);

const DRAIN_POLL: Duration = Duration::from_millis(10);

/// IPVS's timeout of UDP flows.
const UDP_TIMEOUT: Duration = Duration::from_secs(300);
