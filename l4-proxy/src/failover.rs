//! VRRP at work in a director: the instances of `keepalived.conf`, what they track, who is told, and the
//! templates that go along.
//!
//! [`vrrp::os::Node`] speaks VRRP on a thread of its own, which nothing here can delay: it tells what
//! happens through a channel that never blocks. Everything that takes time (scripts, notifications, the
//! log, synchronisation) runs on another thread. The data path knows nothing of either: listeners are
//! bound to addresses that need not be there ([`Model::floating`]), and whoever has the address serves.

mod arbiters;
mod dump;
mod news;
mod notify;
mod record;
mod settings;
mod succession;
mod trackers;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use lvs_core::Director;
use lvsadm::CommitError;
use lvsadm::document::{SyncDaemon, SyncRole, VirtualRouter};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};
use vrrp::os::{Gone, Legacy, Node, Notice, Schedule, Settings, Status, Verdict};
use vrrp::router::{Moment, State, Warning};

use self::arbiters::Arbiters;
use self::news::{NEWS_MAX, News, tell_of};
use self::record::Records;
pub(crate) use self::succession::Heir;
use self::succession::Inherited;
use self::trackers::Trackers;
use crate::consents::Consents;
use crate::keepalived::Model;
use crate::keepalived::model::{Global, Vrrp};
use crate::mail::{self, Office};
use crate::script::Account;
use crate::sync::{self, Role, Synchronisation};
use crate::takeover::{Elders, Predecessor};
use crate::worker::Workers;

/// The VRRP instances of a director.
pub(crate) struct Failover {
    shared: Arc<Shared>,
    /// Runs what takes time. Dropped with this, never by a task of its own.
    service: Workers,
}

struct Shared {
    director: Weak<Director>,
    state: Mutex<Running>,
    /// Where whoever takes clients in looks.
    consents: Consents,
    /// To the task that tells of changes.
    news: mpsc::Sender<News>,
    /// Takes mail.
    office: Office,
    /// Directors before this one, which go by the consents that this one has.
    elders: Elders,
}

/// What runs now.
#[derive(Default)]
struct Running {
    node: Option<Node>,
    /// When this process began with VRRP; none if it goes on where another has ended.
    began: Option<Moment>,
    vrrp: Vrrp,
    account: Account,
    global: Global,
    arbiters: Arbiters,
    trackers: Trackers,
    sync: Option<Sync>,
    records: Records,
    /// What was told of instances and groups in the process before this one.
    inherited: Inherited,
    /// Whether a successor has them, or is about to.
    left: bool,
}

/// Templates that go along.
struct Sync {
    party: Arc<Synchronisation>,
    /// It takes part as long as this lives.
    role: watch::Sender<Role>,
}

/// A configuration that can be run: what [`Failover::prepare`] found out.
pub(crate) struct Prepared {
    settings: Settings,
    arbiters: arbiters::Prepared,
    vrrp: Vrrp,
    global: Global,
}

impl Failover {
    /// Runs nothing yet.
    pub(crate) fn start(
        director: &Arc<Director>,
        consents: Consents,
        elders: Elders,
    ) -> std::io::Result<Failover> {
        let (news, told) = mpsc::channel(NEWS_MAX);
        let service = Workers::start("failover", 1)?;
        let (director, office) = (Arc::downgrade(director), Office::open(&service));
        let shared = Arc::new(Shared { director, state: Mutex::default(), consents, news, office, elders });
        let teller = Arc::downgrade(&shared);
        service.run(0, move || tell_of(teller, told));
        Ok(Failover { shared, service })
    }

    /// Makes sure that a configuration can be run, and that this process may.
    ///
    /// # Errors
    /// What cannot be done; then everything is as before.
    pub(crate) fn prepare(&self, model: &Model) -> Result<Prepared, CommitError> {
        let mut state = self.shared.state();
        if state.node.is_none() {
            state.began = Some(vrrp::os::now());
        }
        let settings = settings::settings(&model.vrrp, state.began).map_err(CommitError::Refused)?;
        if state.node.is_none() && !settings.instances.is_empty() {
            let schedule = Schedule::First(model.global.vrrp_priority.unwrap_or(PRIORITY));
            let news = self.shared.news.clone();
            // What does not fit is lost: nobody can tell so much, and the node must not wait.
            let mut asked = state.arbiters.ear();
            let told = move |notice| {
                asked(&notice);
                drop(news.try_send(News::Notice(notice)));
            };
            let node =
                Node::start(Settings::default(), schedule, told).map_err(|error| cannot_run(&error))?;
            state.arbiters.connect(node.handle().clone());
            let (consents, elders) = (self.shared.consents.clone(), self.shared.elders.clone());
            state.arbiters.echo(move || elders.tell(&consents));
            state.node = Some(node);
        }
        let name = model.global.router_id.clone().unwrap_or_else(mail::host_name);
        let arbiters = state.arbiters.prepare(&model.vrrp, &name).map_err(CommitError::Refused)?;
        Ok(Prepared { settings, arbiters, vrrp: model.vrrp.clone(), global: model.global.clone() })
    }

    /// Runs what was prepared. Instances that stay as they were do not notice, nor do those that a process
    /// before this one has run until now.
    ///
    /// # Errors
    /// The node has stopped, or that process does not leave its instances.
    pub(crate) fn follow(
        &self,
        prepared: Prepared,
        predecessor: Option<&Predecessor>,
    ) -> Result<(), CommitError> {
        let Prepared { mut settings, arbiters, vrrp, global } = prepared;
        let account = Account::of(&global);
        let mut state = self.shared.state();
        if predecessor.is_some() {
            state.began = None;
            settings.instances.iter_mut().for_each(|instance| instance.begins = Moment::ZERO);
        }
        state.arbiters.follow(arbiters).map_err(|error| cannot_run(&error))?;
        state.records.keep(&vrrp);
        let (begun, freed) = state.trackers.follow(&vrrp, &account);
        let before = std::mem::replace(&mut state.vrrp, vrrp);
        state.account = account;
        self.shared.farewell(&before, &state.vrrp);
        self.synchronise(&mut state, &global);
        state.global = global;
        let handle = state.node.as_ref().map(|node| node.handle().clone());
        drop(state);
        let legacies = match (predecessor, &handle) {
            (Some(predecessor), Some(_)) => Some(self.inherit(&settings, predecessor)?),
            _ => None,
        };
        // Clients come in already where another process was master until now: they need its consent only
        // when that has passed.
        self.shared.need_consents();
        let Some(handle) = handle else { return Ok(()) };
        let begins = settings.instances.iter().map(|instance| instance.begins).max();
        let delay = begins.and_then(|begins| begins.checked_sub(vrrp::os::now()));
        let resumed = match legacies {
            None => handle.reload(settings),
            Some(legacies) => handle.resume(settings, legacies),
        };
        resumed.map_err(|gone| CommitError::Refused(gone.to_string()))?;
        for (instance, tracker) in freed {
            // A node that has stopped depends on nothing.
            let _ = handle.report(instance, tracker, Verdict::Well);
        }
        self.shared.state().trackers.tell_again();
        if let Some(delay) = delay {
            info!("instances only listen for {} s", delay.as_secs_f64());
        }
        for tracker in begun {
            let handle = handle.clone();
            let sink: trackers::Sink = Arc::new(move |instance, tracker, verdict| {
                // A node that has stopped depends on nothing.
                let _ = handle.report(instance, tracker, verdict);
            });
            self.service.run(0, move || tracker.run(sink));
        }
        self.shared.take_roles();
        Ok(())
    }

    /// What the instances were in the process before this one, which falls silent.
    fn inherit(&self, settings: &Settings, predecessor: &Predecessor) -> Result<Vec<Legacy>, CommitError> {
        let mut state = self.shared.state();
        let left = predecessor.routers(&succession::heirs(settings, &state.arbiters));
        let left = left.map_err(|error| {
            CommitError::Refused(format!("the running director keeps its virtual routers: {error}"))
        })?;
        let (mut legacies, bequests) = succession::read(&left);
        for legacy in &mut legacies {
            // Of a tracker that is no more nobody would ever say anything else.
            legacy.faults.retain(|fault| state.trackers.know(&fault.tracker));
            legacy.weights.retain(|(tracker, _)| state.trackers.know(tracker));
        }
        for (instance, bequest, consent) in succession::bequests(settings, &legacies, &bequests) {
            state.arbiters.resume(instance, bequest, consent);
        }
        state.inherited = Inherited::new(&state.vrrp, settings, &legacies);
        info!(instances = legacies.len(), "virtual routers taken over");
        Ok(legacies)
    }

    /// Templates go along as this configuration says.
    fn synchronise(&self, state: &mut Running, global: &Global) {
        if state.sync.as_ref().map(|sync| sync.party.daemon()) == global.sync.as_ref() {
            return;
        }
        state.sync = global.sync.clone().map(|daemon| {
            let role = if daemon.instance.is_some() { Role::Standby } else { Role::Both };
            let (sender, role) = watch::channel(role);
            let party = Arc::new(Synchronisation::new(daemon));
            let (running, director) = (Arc::clone(&party), Weak::clone(&self.shared.director));
            self.service.run(0, move || running.run(director, role));
            Sync { party, role: sender }
        });
    }

    /// Masters say that they stop, and their addresses go.
    pub(crate) fn resign(&self) {
        self.shared.resign();
    }

    /// Resigns, takes the addresses away, and tells who wants to know.
    pub(crate) async fn end(&self) {
        self.shared.resign();
        let (done, told) = oneshot::channel();
        if self.shared.news.send(News::Settle(done)).await.is_ok() {
            // Dropped when all has been told.
            let _ = told.await;
        }
        let shares = self.shared.state().sync.is_some();
        if shares {
            tokio::time::sleep(sync::REST).await;
        }
    }

    /// How the instances stand.
    pub(crate) fn routers(&self) -> Vec<VirtualRouter> {
        let statuses = self.shared.statuses();
        let state = self.shared.state();
        let show = |status: &Status| state.records.show(status, state.arbiters.view(&status.instance));
        statuses.iter().map(show).collect()
    }

    /// What shares templates, as `ipvsadm` lists it.
    pub(crate) fn sync_daemons(&self) -> Vec<SyncDaemon> {
        let state = self.shared.state();
        state.sync.as_ref().map_or_else(Vec::new, |sync| listed(&sync.party))
    }

    /// Writes how the instances stand, or what they counted, to a file.
    pub(crate) fn dump(&self, what: Dump) {
        let statuses = self.shared.statuses();
        let (path, text) = {
            let state = self.shared.state();
            let (named, usual) = match what {
                Dump::State => (&state.global.state_file, STATE_FILE),
                Dump::Stats => (&state.global.stats_file, STATS_FILE),
            };
            let path = named.clone().unwrap_or_else(|| PathBuf::from(usual));
            let arbiter = |instance: &str| state.arbiters.view(instance);
            (path, dump::text(what, &state.vrrp, &statuses, arbiter))
        };
        match dump::write(&path, &text) {
            Ok(()) => info!("wrote {}", path.display()),
            Err(error) => warn!("cannot write {}: {error}", path.display()),
        }
    }
}

/// What is written to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// How the instances stand, and what they counted: SIGUSR1.
    State,
    /// What they counted: SIGUSR2.
    Stats,
}

impl Drop for Failover {
    fn drop(&mut self) {
        self.shared.resign();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Running> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Masters say that they stop, and their addresses go.
    fn resign(&self) {
        let (node, arbiters) = {
            let mut state = self.state();
            (state.node.take(), std::mem::take(&mut state.arbiters))
        };
        // Not held while they end: first the addresses go, then the consent.
        drop(node);
        drop(arbiters);
    }

    /// Has whoever takes clients in look at what arbiters say.
    fn need_consents(&self) {
        let state = self.state();
        self.consents.need(state.arbiters.consents(&state.vrrp));
    }

    fn statuses(&self) -> Vec<Status> {
        let handle = self.state().node.as_ref().map(|node| node.handle().clone());
        let statuses = handle.map_or(Ok(Vec::new()), |handle| handle.statuses());
        statuses.unwrap_or_else(|Gone| Vec::new())
    }

    /// Whoever follows an instance with its templates does what that is now.
    fn take_roles(&self) {
        let statuses = self.statuses();
        let state = self.state();
        for status in statuses {
            state.take_role(&status.instance, status.state);
        }
    }
}

impl Running {
    fn take_role(&self, instance: &str, became: State) {
        let Some(sync) = &self.sync else { return };
        if sync.party.daemon().instance.as_deref() == Some(instance) {
            let role = if became == State::Master { Role::Active } else { Role::Standby };
            sync.role.send_if_modified(|present| std::mem::replace(present, role) != role);
        }
    }
}

fn log(notice: &Notice) {
    match notice {
        Notice::Warned { warning: Warning::Rival { .. } | Warning::TwoOwners { .. }, .. }
        | Notice::Claimed { .. } => error!("{notice}"),
        // A router asks again and again; its arbiter says once that it is asked.
        Notice::Asks { .. } => debug!("{notice}"),
        Notice::Warned { .. } | Notice::Late { .. } | Notice::Rejected { .. } | Notice::Trouble { .. } => {
            warn!("{notice}");
        }
        _ => info!("{notice}"),
    }
}

fn listed(party: &Synchronisation) -> Vec<SyncDaemon> {
    let (daemon, progress) = (party.daemon(), party.progress());
    let half = |role: SyncRole, count: u64| SyncDaemon {
        role,
        interface: daemon.interface.clone(),
        id: daemon.id,
        maxlen: daemon.size,
        group: daemon.group,
        peers: daemon.peers.clone(),
        port: daemon.port,
        ttl: daemon.ttl,
        count,
        others: progress.others.0,
        others_complete: progress.others.1,
        refused: progress.refused,
        problem: progress.problem.clone(),
    };
    let mut halves = Vec::new();
    if progress.role.tells() {
        halves.push(half(SyncRole::Master, progress.told));
    }
    if progress.role.hears() {
        halves.push(half(SyncRole::Backup, progress.learned));
    }
    halves
}

fn cannot_run(error: &std::io::Error) -> CommitError {
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            " (VRRP needs raw sockets and changes addresses: run it as root, or with CAP_NET_ADMIN and CAP_NET_RAW)"
        }
        _ => "",
    };
    CommitError::Refused(format!("cannot run the vrrp_instance blocks: {error}{hint}"))
}

/// Real-time priority of the thread that speaks VRRP where nothing is said: before all that has none.
const PRIORITY: u8 = 1;

/// Where keepalived writes its JSON.
const STATE_FILE: &str = "/tmp/keepalived.json";

/// Beside it, since keepalived writes its statistics as text.
const STATS_FILE: &str = "/tmp/keepalived.stats.json";
