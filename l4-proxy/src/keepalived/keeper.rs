//! Keeps the table as `keepalived.conf` and its checks want it.
//!
//! Every check is a task on a thread of its own, away from those that relay. What it finds goes
//! through the virtual server's [`Pool`]; where that changes what the table has to say, the table is
//! edited: a server that is down is down in the director's health, with its reason, and one that is
//! inhibited has weight 0. All that follows from one outcome is one change of the table, so there is no
//! moment with an empty pool where keepalived has one, nor one in which the sorry server serves beside
//! those it stands in for.

mod change;
mod record;
mod task;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lvs_core::{Config, EditError, Probe, ServerConfig, ServiceConfig, ServiceKey, Weight};
use lvsadm::{CommitError, Edit};
use tokio::sync::{Semaphore, oneshot, watch};
use tracing::{info, warn};

use self::change::Audience;
pub(crate) use self::record::{Record, Records};
use super::model::{Checker, Model, RealServer, Script, VirtualServer};
use super::pool::{Change, Check, Placement, Pool};
use crate::check::rhythm::Standing;
use crate::mail::Office;
use crate::script::{self, Account};
use crate::worker::Workers;

/// What a keeper edits.
pub(crate) trait Table: Send + Sync {
    /// Serves these rules and these services, which nobody else checks, and nothing else. What is said of
    /// servers' health holds from the same moment on.
    fn replace(&self, rules: Config, kept: Vec<ServiceConfig>, health: &[Outcome])
    -> Result<(), CommitError>;

    /// Leaves every service as it is; nobody else checks these from now on.
    fn adopt(&self, kept: HashSet<ServiceKey>, health: &[Outcome]) -> Result<(), CommitError>;

    /// Makes these edits and takes in these outcomes, as one change; returns the edits that fitted nothing,
    /// and were left out.
    fn amend(&self, edits: &[Edit], health: &[Outcome]) -> Result<Vec<EditError>, CommitError>;

    /// The servers that are known to be down.
    fn down(&self) -> HashSet<(ServiceKey, SocketAddr)>;

    /// Says how long connections may be idle, where a time is given: TCP, TCP after a FIN, UDP.
    fn set_timeouts(&self, timeouts: [Option<Duration>; 3]);
}

/// What the table has to serve.
#[derive(Debug, PartialEq)]
pub(crate) enum Services {
    /// These rules, and what the model asks for.
    New(Config),
    /// What it serves: what the model asks for, and whatever was changed by hand since.
    AsTheyAre,
}

/// How the checks of a server of a service stand.
pub(crate) type Outcome = (ServiceKey, SocketAddr, Probe);

/// The checks of a configuration, and what they do to a table.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    /// Runs the checks. Dropped with the keeper, never by a task of its own.
    checks: Workers,
}

struct Shared {
    table: Arc<dyn Table>,
    state: Mutex<State>,
    /// Bounds the checks that are under way at a time.
    room: Arc<Semaphore>,
    /// Bounds the notifications that are under way at a time.
    notifying: Arc<Semaphore>,
    /// Takes mail.
    office: Office,
}

#[derive(Default)]
struct State {
    services: Vec<Kept>,
    account: Account,
    audience: Audience,
    next: u64,
    /// What a director before this one had found.
    found: Vec<Record>,
}

/// A virtual server, and where it stands.
struct Kept {
    service: VirtualServer,
    pool: Pool,
    /// For each server its checks.
    running: Vec<Vec<Running>>,
    /// What the table says.
    placed: Vec<Placement>,
    sorry: bool,
    /// What another configuration did to the quorum.
    news: Option<Change>,
}

/// A check that is being made over and over.
#[derive(Clone)]
struct Running {
    id: u64,
    checker: Checker,
    /// Addresses of which one must be on this host; none if that does not matter.
    only_with: Vec<SocketAddr>,
    /// The task ends when the last of these is dropped.
    stop: Arc<watch::Sender<()>>,
}

impl Keeper {
    /// Keeps nothing yet, and begins with what another director has found.
    pub(crate) fn start(table: Arc<dyn Table>, found: Vec<Record>) -> std::io::Result<Keeper> {
        let checks = Workers::start("checks", 1)?;
        let shared = Shared {
            table,
            state: Mutex::new(State { found, ..State::default() }),
            room: Arc::new(Semaphore::new(CHECKS_MAX)),
            notifying: Arc::new(Semaphore::new(NOTIFICATIONS_MAX)),
            office: Office::open(&checks),
        };
        Ok(Keeper { shared: Arc::new(shared), checks })
    }

    /// What the checks have found, whenever it is asked for.
    pub(crate) fn records(&self) -> Records {
        Records(Arc::downgrade(&self.shared))
    }

    /// Serves what is said and keeps the model from now on. Checks that stay the same go on, with what
    /// they have found.
    ///
    /// # Errors
    /// The table cannot serve it; then everything is as before.
    pub(crate) fn follow(&self, serves: Services, model: Model) -> Result<(), CommitError> {
        let mut state = self.shared.state();
        let account = Account::of(&model.global);
        // A check takes whom it runs as with it.
        let reusable = account == state.account;
        let down = self.shared.table.down();
        let (mut next, mut begun) = (state.next, Vec::new());
        let mut services: Vec<Kept> = Vec::new();
        for service in model.services {
            let before = state.services.iter().find(|kept| kept.service.name == service.name);
            let known = Known {
                before: before.filter(|_| reusable),
                record: state.found.iter().find(|record| record.name == service.name),
                down: &down,
            };
            services.push(Kept::new(service, known, &mut next, &mut begun));
        }
        let health: Vec<Outcome> = services.iter().flat_map(Kept::outcomes).collect();
        match serves {
            Services::New(rules) => {
                let kept = services.iter().flat_map(Kept::configs).collect();
                self.shared.table.replace(rules, kept, &health)?;
                self.shared.table.set_timeouts(model.global.lvs_timeouts);
            }
            Services::AsTheyAre => {
                let keys = services.iter().flat_map(|kept| kept.service.keys.iter().cloned());
                self.shared.table.adopt(keys.collect(), &health)?;
            }
        }
        let (audience, office) = (Audience::of(&model.global), &self.shared.office);
        let mut scripts = Vec::new();
        for kept in &mut services {
            let news = kept.news.take();
            scripts.extend(news.and_then(|change| audience.tell(&kept.service, &change, office)));
        }
        (state.services, state.account, state.next) = (services, account.clone(), next);
        state.audience = audience;
        state.found.clear();
        drop(state);
        for script in scripts {
            let (notifying, account) = (Arc::clone(&self.shared.notifying), account.clone());
            self.checks.run(0, move || notify_in_turn(script, account, notifying));
        }
        for (check, standing, stopped) in begun {
            let (shared, account) = (Arc::downgrade(&self.shared), account.clone());
            let room = Arc::clone(&self.shared.room);
            self.checks.run(0, move || task::run(check, standing, stopped, shared, account, room));
        }
        Ok(())
    }

    /// Stops checking, and runs the scripts that `omega` asks for.
    pub(crate) async fn end(&self) {
        let (scripts, account) = {
            let mut state = self.shared.state();
            let services = std::mem::take(&mut state.services);
            (services.iter().flat_map(Kept::farewell).collect::<Vec<_>>(), state.account.clone())
        };
        if scripts.is_empty() {
            return;
        }
        let (done, ended) = oneshot::channel();
        self.checks.run(0, move || async move {
            for script in scripts {
                notify(&script, &account).await;
            }
            let _ = done.send(());
        });
        // A script that takes longer than a notification may has been ended by then.
        let _ = ended.await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a check says; edits the table and tells who wants to know.
    fn hear(&self, id: u64, says: Check) {
        let mut state = self.state();
        let account = state.account.clone();
        let State { services, audience, .. } = &mut *state;
        let Some((kept, server, check)) = find(services, id) else { return };
        let before = kept.pool.placement_of(server);
        let changes = kept.pool.hear(server, check, says);
        // A server that is down may be so for another reason now, of which nobody is told who does not look.
        if changes.is_empty() && kept.pool.placement_of(server) == before {
            return;
        }
        kept.place(&*self.table);
        let tell = |change| audience.tell(&kept.service, change, &self.office);
        let scripts: Vec<Script> = changes.iter().filter_map(tell).collect();
        drop(state);
        for script in scripts {
            tokio::spawn(notify_in_turn(script, account.clone(), Arc::clone(&self.notifying)));
        }
    }
}

/// The services that a model asks for, before any check has been made. What a server that is not known to
/// be well has of a weight it gets with its health.
pub fn services(model: &Model) -> Vec<ServiceConfig> {
    let kept = |service: &VirtualServer| {
        let known = Known { before: None, record: None, down: &HashSet::new() };
        let kept = Kept::new(service.clone(), known, &mut 0, &mut Vec::new());
        let mut configs = kept.configs();
        for server in configs.iter_mut().flat_map(|config| config.servers.iter_mut().zip(&kept.placed)) {
            if let (server, Placement::Out(_)) = server {
                server.weight = Weight::ZERO;
            }
        }
        configs
    };
    model.services.iter().flat_map(kept).collect()
}

async fn notify_in_turn(script: Script, account: Account, notifying: Arc<Semaphore>) {
    // Closed by nobody.
    let _turn = notifying.acquire().await;
    notify(&script, &account).await;
}

async fn notify(script: &Script, account: &Account) {
    let program = script.words.join(" ");
    match script::run(script, account, NOTIFICATION_PATIENCE).await {
        Ok(script::Ended::Exit(0)) => info!("ran {program}"),
        Ok(script::Ended::Exit(code)) => warn!("{program} exited with {code}"),
        Ok(script::Ended::Signal(signal)) => warn!("{program} was ended by signal {signal}"),
        Ok(script::Ended::TimedOut) => warn!("{program} took too long and was ended"),
        Err(error) => warn!("cannot run {program}: {error}"),
    }
}

/// Whose check this is: the virtual server, and the numbers of its server and of the check there.
fn find(services: &mut [Kept], id: u64) -> Option<(&mut Kept, usize, usize)> {
    services.iter_mut().find_map(|kept| {
        let places = kept.running.iter().enumerate();
        let place = places.flat_map(|(server, checks)| {
            checks.iter().enumerate().map(move |(check, running)| (server, check, running.id))
        });
        let (server, check, _) = { place }.find(|(.., running)| *running == id)?;
        Some((kept, server, check))
    })
}

/// What is known of a virtual server's servers when it begins.
struct Known<'a> {
    /// It was kept here already.
    before: Option<&'a Kept>,
    /// It was kept by another director.
    record: Option<&'a Record>,
    down: &'a HashSet<(ServiceKey, SocketAddr)>,
}

/// A check to begin: what it is, what it begins as, and what ends it.
type Begun = (Running, Standing, watch::Receiver<()>);

impl Kept {
    fn new(
        service: VirtualServer,
        Known { before, record, down }: Known<'_>,
        next: &mut u64,
        begun: &mut Vec<Begun>,
    ) -> Kept {
        let only_with: Vec<SocketAddr> = match service.ha_suspend {
            true => service.keys.iter().filter_map(ServiceKey::address).collect(),
            false => Vec::new(),
        };
        let (mut running, mut checks) = (Vec::new(), Vec::new());
        for server in &service.servers {
            let mut old = before.map_or_else(Vec::new, |kept| kept.checks_of(server.address));
            let was_down = match before {
                Some(kept) => kept.is_down(server.address),
                None => service.keys.iter().any(|key| down.contains(&(key.clone(), server.address))),
            };
            let found = record.and_then(|record| record.checks_of(server.address, server.checkers.len()));
            let (mut run, mut says) = (Vec::new(), Vec::new());
            for (place, checker) in server.checkers.iter().enumerate() {
                let same =
                    old.iter().position(|(was, _)| was.checker == *checker && was.only_with == only_with);
                if let Some(same) = same {
                    let (was, said) = old.swap_remove(same);
                    run.push(was);
                    says.push(said);
                    continue;
                }
                // A server that was down is not up because it is to be asked otherwise.
                let anew = Check::new(if checker.alpha || was_down { Standing::Down } else { Standing::Up });
                let said = found.map_or(anew, |found| found[place].clone());
                let (stop, stopped) = watch::channel(());
                let check = Running {
                    id: *next,
                    checker: checker.clone(),
                    only_with: only_with.clone(),
                    stop: Arc::new(stop),
                };
                *next += 1;
                begun.push((check.clone(), said.standing, stopped));
                run.push(check);
                says.push(said);
            }
            running.push(run);
            checks.push(says);
        }
        let enough = before.map(|kept| kept.pool.is_enough()).or(record.map(|record| record.enough));
        let mut pool = Pool::new(&service, checks, enough);
        let news = pool.count();
        Kept { placed: pool.placements(), sorry: pool.is_sorry(), service, pool, running, news }
    }

    fn checks_of(&self, address: SocketAddr) -> Vec<(Running, Check)> {
        let Some(server) = self.service.servers.iter().position(|server| server.address == address) else {
            return Vec::new();
        };
        let checks = self.running[server].iter().enumerate();
        checks
            .filter_map(|(check, running)| Some((running.clone(), self.pool.check(server, check)?.clone())))
            .collect()
    }

    /// The services as they are to be, but for their servers' health.
    fn configs(&self) -> Vec<ServiceConfig> {
        let config = |key: &ServiceKey| {
            let mut config = ServiceConfig::new(key.clone(), self.service.algorithm);
            config.flags = self.service.flags;
            config.persistence = self.service.persistence;
            config.one_packet = self.service.one_packet;
            let servers = self.service.servers.iter().zip(&self.placed);
            let servers = servers.map(|(server, placement)| server_config(server, placement));
            servers.chain(self.sorry_config()).fold(config, ServiceConfig::server)
        };
        self.service.keys.iter().map(config).collect()
    }

    /// The health of every server.
    fn outcomes(&self) -> Vec<Outcome> {
        let of_server = |(server, placement): (&RealServer, &Placement)| {
            let probe = probe(placement);
            let outcome = move |key: &ServiceKey| (key.clone(), server.address, probe.clone());
            self.service.keys.iter().map(outcome).collect::<Vec<_>>()
        };
        self.service.servers.iter().zip(&self.placed).flat_map(of_server).collect()
    }

    fn is_down(&self, address: SocketAddr) -> bool {
        let server = self.service.servers.iter().position(|server| server.address == address);
        server.is_some_and(|server| !self.pool.is_up(server))
    }

    /// The sorry server as the table has to have it, if at all.
    fn sorry_config(&self) -> Option<ServerConfig> {
        let sorry = self.service.sorry.as_ref()?;
        let mut config = ServerConfig::new(sorry.address);
        config.forwarding = sorry.forwarding;
        match (self.pool.is_sorry(), sorry.inhibit) {
            (true, _) => Some(config),
            (false, true) => Some(config.weight(Weight::ZERO)),
            (false, false) => None,
        }
    }

    /// Brings the table up to date with the pool.
    fn place(&mut self, table: &dyn Table) {
        let before = std::mem::replace(&mut self.placed, self.pool.placements());
        let was_sorry = std::mem::replace(&mut self.sorry, self.pool.is_sorry());
        let (mut edits, mut health) = (Vec::new(), Vec::new());
        for key in &self.service.keys {
            for (server, (wanted, before)) in
                self.service.servers.iter().zip(self.placed.iter().zip(&before)).filter(|(_, (a, b))| a != b)
            {
                let config = server_config(server, wanted);
                if config != server_config(server, before) {
                    edits.push(Edit::EditServer(key.clone(), config));
                }
                health.push((key.clone(), server.address, probe(wanted)));
            }
            if self.sorry != was_sorry {
                edits.extend(self.sorry_edit(key));
            }
        }
        if edits.is_empty() && health.is_empty() {
            return;
        }
        match table.amend(&edits, &health) {
            // It was overtaken by somebody's `ipvsadm -D`; the next one may fit.
            Ok(left_out) => left_out.iter().for_each(|error| {
                warn!("the table is not as keepalived.conf left it: {error}");
            }),
            Err(error) => {
                // To be made up for with the next change.
                (self.placed, self.sorry) = (before, was_sorry);
                warn!("the table cannot be as keepalived.conf wants it: {error}");
            }
        }
    }

    fn sorry_edit(&self, key: &ServiceKey) -> Option<Edit> {
        let sorry = self.service.sorry.as_ref()?;
        Some(match (self.sorry_config(), sorry.inhibit) {
            (Some(config), true) => Edit::EditServer(key.clone(), config),
            (Some(config), false) => Edit::AddServer(key.clone(), config),
            (None, _) => Edit::DeleteServer(key.clone(), sorry.address),
        })
    }

    /// The scripts to run at the end: everything goes down.
    fn farewell(&self) -> Vec<Script> {
        if !self.service.omega {
            return Vec::new();
        }
        let servers = self.service.servers.iter().enumerate().filter(|(index, _)| self.pool.is_up(*index));
        let servers = servers.filter_map(|(_, server)| server.notify_down.clone());
        let quorum = self.service.quorum_down.clone().filter(|_| self.pool.is_enough());
        servers.chain(quorum).collect()
    }
}

fn probe(placement: &Placement) -> Probe {
    match placement {
        Placement::Serves(_) => Probe::Passed,
        Placement::Inhibited(cause) => Probe::Inhibited(cause.clone()),
        Placement::Out(cause) => Probe::Failed(cause.clone()),
    }
}

/// A server as it is configured. One that is out keeps its weight: its health tells.
fn server_config(server: &RealServer, placement: &Placement) -> ServerConfig {
    let weight = match placement {
        Placement::Serves(weight) => *weight,
        Placement::Inhibited(_) => 0,
        Placement::Out(_) => server.weight,
    };
    let mut config = ServerConfig::new(server.address).weight(Weight::new(weight).unwrap_or(Weight::MAX));
    config.forwarding = server.forwarding;
    config.thresholds = server.thresholds;
    config
}

/// Checks under way at a time, each with a socket or a process.
const CHECKS_MAX: usize = 256;

const NOTIFICATIONS_MAX: usize = 16;

/// keepalived lets them run for ever; then they pile up.
const NOTIFICATION_PATIENCE: Duration = Duration::from_secs(60);
