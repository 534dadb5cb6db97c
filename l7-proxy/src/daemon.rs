//! A whole proxy in one value: worker threads, listeners, logs, and changes of configuration.
//!
//! It is what the binary runs, and what a program runs that wants a whole nginx beside something
//! else. It starts threads of its own, which an embedder of [`Proxy`](crate::Proxy) may not want,
//! but it installs no signal handler and writes to no global, so several can live in one process.
//!
//! ```no_run
//! use l7_proxy::conf::{self, Source};
//! use l7_proxy::daemon::{Daemon, Options};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let source = Source { file: "nginx.conf".into(), prefix: "/etc/l7-proxy".into(), globals: String::new() };
//! let daemon = Daemon::start(conf::load(&source)?.config, Options::default())?;
//! // Later, when the file has changed:
//! daemon.reload(conf::load(&source)?.config)?;
//! # Ok(())
//! # }
//! ```
//!
//! A reload loses nothing: everything is checked and every new address bound before anything
//! changes; then each worker changes over in one step, between two requests. Requests at hand are
//! finished by the configuration they began with.

mod administered;
mod desired;
mod error;
mod legacy;
mod listen;
mod state;
mod succession;
mod worker;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use l4_proxy::connections::Connections;
use l4_proxy::inherit::Inherited;
use l4_proxy::worker::Workers;
use lvs_core::Director;
use lvsadm::Control;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use self::administered::{Administered, Claim};
use self::error::of_service;
pub use self::error::{Error, Remaining};
pub use self::legacy::Legacy;
use self::listen::{Endpoint, Listener};
use self::state::{Listening, Phase, State, Tenure};
use self::worker::{Command, Duty, Serves, Switch};
use crate::check;
use crate::embed::{self, Service};
use crate::error_log::Errno;
use crate::identity::Rights;
use crate::model::{self, CacheUse, Config, Http, Identity, SocketOptions, Storing, Stream, Transport};
use crate::names::{self, Followed};
use crate::server::Shared;
use crate::site::{self, Site};
use crate::spool::Spool;
use crate::stream::{self, Door, Relay};
use crate::unix;

/// How a proxy runs, apart from its configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// What its threads are called, a number after it.
    pub name: String,
    /// How many workers there are; `None` leaves it to `worker_processes`.
    pub workers: Option<NonZeroUsize>,
    /// Where its requests come from.
    pub entry: Entry,
}

/// Where a proxy's requests come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entry {
    /// The addresses of the configuration, and the program ([`Daemon::service`]).
    #[default]
    Sockets,
    /// The program alone: no address is listened at, and what a `stream {}` says has no effect.
    Program,
}

/// A running proxy. Dropping it ends it at once, with its connections.
pub struct Daemon {
    /// What its threads are called.
    name: String,
    shared: Shared,
    connections: Arc<Connections>,
    /// What `limit_conn` of `stream {}` has counted.
    limited: stream::Zones,
    administered: Arc<Administered>,
    commands: Vec<mpsc::UnboundedSender<Command>>,
    /// Hands the program's requests to the workers.
    service: Service,
    entry: Entry,
    state: Mutex<State>,
    /// The checks that are wanted.
    checks: watch::Sender<check::Wanted>,
    /// The names that are followed.
    names: watch::Sender<Vec<Arc<Followed>>>,
    /// Checks servers and asks for names, where requests cannot delay it.
    _background: Workers,
    /// Last, so that logs are written when nothing is served any more.
    _workers: Workers,
}

/// What becomes of the endpoints in a change of configuration.
struct Endpoints {
    stop: Vec<Endpoint>,
    lead: Vec<(Endpoint, Arc<Door>)>,
    start: Vec<Endpoint>,
}

impl Default for Options {
    /// Threads called `worker-0` and so on, as many as the configuration says.
    fn default() -> Options {
        Options { name: "worker".to_owned(), workers: None, entry: Entry::Sockets }
    }
}

impl Daemon {
    /// Starts a proxy. When it returns, every address of the configuration accepts connections.
    ///
    /// # Errors
    /// The configuration contradicts itself, an address cannot be bound, a log cannot be opened, or
    /// the system has no more threads.
    pub fn start(config: Config, options: Options) -> Result<Daemon, Error> {
        Daemon::begin(config, options, Inherited::default(), Claim::Free, Legacy::default())
    }

    fn begin(
        config: Config,
        options: Options,
        inherited: Inherited,
        claim: Claim,
        legacy: Legacy,
    ) -> Result<Daemon, Error> {
        let user = config.process.user.clone();
        if let Some(user) = &user {
            user.try_out().map_err(Error::User)?;
        }
        let count = options.workers.unwrap_or_else(|| worker_count(config.process.workers));
        let rights = match is_transparent(&config) {
            true => Rights::Transparent,
            false => Rights::None,
        };
        let mut shared = Shared::new(Arc::new(Director::new()));
        shared.worker_connections = config.events.worker_connections;
        let workers = Workers::start(&options.name, count.get()).map_err(Error::Threads)?;
        let empty = Arc::new(Site::new(Http::default()).map_err(Error::Site)?);
        let mut commands = Vec::with_capacity(count.get());
        let (service, requests) = embed::channels(count.get());
        for (index, requests) in requests.into_iter().enumerate() {
            let (sender, receiver) = mpsc::unbounded_channel();
            let (site, shared) = (Arc::clone(&empty), shared.clone());
            let duty = if index == 0 { Duty::Clock } else { Duty::None };
            let user = user.clone().map(|user| (user, rights));
            let affinity = config.process.affinity.clone();
            workers.run(index, move || {
                if let Some(Err(error)) = affinity.map(|affinity| affinity.settle(index)) {
                    error!("sched_setaffinity() failed ({})", Errno(&error));
                }
                worker::run(site, shared, duty, user, receiver, requests)
            });
            commands.push(sender);
        }
        let state = State {
            listening: HashMap::new(),
            workers_wanted: config.process.workers,
            user: user.clone(),
            user_wanted: user.clone(),
            shutdown_timeout: None,
            phase: Phase::Serving,
            checks: None,
            inherited,
            abandoned: Vec::new(),
            claim,
            control: None,
            keepers: None,
        };
        let connections = Connections::new(config.events.worker_connections.saturating_mul(count.get()));
        let administered = Administered::new(Arc::clone(&shared.director), Arc::clone(&connections));
        let administered = Arc::new(administered);
        legacy.bequeath(&shared, &administered);
        let state = Mutex::new(state);
        let (checks, wanted) = watch::channel(None);
        let background = Workers::start(&format!("{}-service", options.name), 1).map_err(Error::Threads)?;
        let director = Arc::clone(&shared.director);
        background.run(0, move || async move {
            if let Some(Err(error)) = user.map(|user| user.assume(Rights::None)) {
                error!("cannot become the user ({}): servers are not checked", Errno(&error));
                return;
            }
            check::follow(director, wanted).await;
        });
        let (names, wanted) = watch::channel(Vec::new());
        let told = Arc::clone(&administered);
        background.run(0, move || names::follow(told, wanted));
        let daemon = Daemon {
            name: options.name,
            shared,
            connections,
            limited: stream::Zones::default(),
            administered,
            commands,
            service,
            entry: options.entry,
            state,
            checks,
            names,
            _background: background,
            _workers: workers,
        };
        daemon.reload(config)?;
        daemon.state().let_go_of_inherited();
        Ok(daemon)
    }

    /// Chooses servers, and knows their counts and their health.
    pub fn director(&self) -> &Arc<Director> {
        &self.shared.director
    }

    /// The upstreams for `lvsadm`'s commands: what the control socket talks to.
    pub fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.administered) as _
    }

    /// The proxy for requests that the program has already; see [`embed`].
    pub fn service(&self) -> Service {
        self.service.clone()
    }

    /// The addresses that are listened at: those of the configuration, with the port that the
    /// kernel chose where it says 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> =
            self.state().listening.values().map(|listening| listening.bound).collect();
        addresses.sort_unstable();
        addresses
    }

    /// Serves another configuration, at once and as a whole. It waits until every worker has
    /// changed over, a moment; it must not be called on one of the workers.
    ///
    /// Counts, health and open connections stay with whatever keeps its name and address. So do
    /// the number of workers and of connections that each may have. A proxy that
    /// [rests](Daemon::rest) resumes.
    ///
    /// # Errors
    /// As [`start`](Daemon::start); then nothing has changed.
    pub fn reload(&self, config: Config) -> Result<(), Error> {
        self.resume();
        let mut state = self.state();
        if state.phase == Phase::Finishing {
            return Err(Error::Finishing);
        }
        let Config { process, mut http, stream, .. } = config;
        // All that can fail comes first.
        let stream = match self.entry {
            Entry::Sockets => stream.unwrap_or_default(),
            Entry::Program => Stream::default(),
        };
        let relays = stream::relays(
            &stream,
            &self.shared.director,
            &self.connections,
            &self.shared.connections,
            &self.limited,
        )
        .map_err(Error::Site)?;
        let mut opened: HashMap<Endpoint, Listening> = HashMap::new();
        let mut wanted: Vec<(Endpoint, SocketOptions, Serves)> = Vec::new();
        let doors: Vec<Arc<Door>> = relays.iter().map(|relay| Arc::clone(&relay.door)).collect();
        for Relay { transport, addr, options, door } in relays {
            let serves = match transport {
                Transport::Tcp => Serves::Stream(door),
                Transport::Udp => Serves::Datagrams(door),
            };
            wanted.push((Endpoint { transport, addr }, options, serves));
        }
        let sockets = match self.entry {
            Entry::Sockets => http_sockets(http.as_ref())?,
            Entry::Program => Vec::new(),
        };
        for socket in sockets {
            wanted.push((Endpoint::tcp(socket.0), socket.1, Serves::Http));
        }
        for (endpoint, options, serves) in &wanted {
            if !state.listening.contains_key(endpoint) && !opened.contains_key(endpoint) {
                opened.insert(*endpoint, self.open(&state.inherited, *endpoint, options, serves)?);
            }
        }
        if let Some(http) = &mut http {
            // The port is known only now; connections are looked up by the one they come to.
            for listen in http.servers.iter_mut().flat_map(|server| &mut server.listen) {
                let endpoint = Endpoint::tcp(listen.addr);
                let known = opened.get(&endpoint).or_else(|| state.listening.get(&endpoint));
                if let Some(Listening { bound, .. }) = known {
                    listen.addr = *bound;
                }
            }
        }
        let http = http.unwrap_or_default();
        let mut services = site::services(&http).map_err(Error::Site)?;
        services.extend(site::stream_services(&stream).map_err(Error::Site)?);
        let names = names::names(&http, &stream);
        let site = Arc::new(Site::new(http).map_err(Error::Site)?);
        // Before they are opened: what nobody uses is closed.
        site.hold(&self.shared.logs);
        doors.iter().for_each(|door| door.hold(&self.shared.logs));
        let logs = site.router.log_targets().chain(stream.log_targets());
        self.shared.logs.open(logs).map_err(Error::Log)?;
        if let Some(user) = &state.user {
            prepare_folders(&site, user);
        }
        // Held until the workers have taken them over.
        let caches = self.shared.caches.of(site.router.caches());
        for store in &caches {
            let prepared = store.prepare(state.user.as_ref());
            prepared.map_err(|error| Error::Cache(store.folder().to_owned(), error))?;
        }
        let mut checks = site.checks.clone();
        checks.extend(
            check::prepare_stream(&stream).map_err(|error| Error::Site(site::SiteError::Tls(error)))?,
        );
        let control = state.bind_control(process.control.as_ref())?;
        state.keep(&self.name, &caches)?;
        self.administered.widen(&services, &checks, &names).map_err(of_service)?;

        state.want(process.workers, process.user);
        let stop: Vec<Endpoint> = state
            .listening
            .iter()
            .filter(|(endpoint, listening)| !is_still_served(endpoint, listening, &wanted))
            .map(|(endpoint, _)| *endpoint)
            .collect();
        let (mut start, mut lead) = (Vec::new(), Vec::new());
        for (endpoint, _, serves) in wanted {
            if let Some(listening) = opened.remove(&endpoint) {
                info!("listening on {}", unix::shown(listening.bound));
                start.push(endpoint);
                state.listening.insert(endpoint, listening);
            } else if let Some(listening) = state.listening.get_mut(&endpoint) {
                if stop.contains(&endpoint) {
                    start.push(endpoint);
                } else if let Serves::Datagrams(door) = &serves {
                    lead.push((endpoint, Arc::clone(door)));
                }
                listening.serves = serves;
            }
        }
        let gone: Vec<Endpoint> = stop.iter().filter(|endpoint| !start.contains(endpoint)).copied().collect();
        self.switch(&state, &site, Endpoints { stop, lead, start });
        state.shutdown_timeout = process.shutdown_timeout;
        state.end_listening(&gone);
        self.administered.settle(services).map_err(of_service)?;
        state.checks = Some(checks);
        self.checks.send_replace(state.checks.clone());
        self.names.send_replace(names);
        state.answer_control(process.control, control, self.control())
    }

    /// Lets every worker change over; returns when all have.
    fn switch(&self, state: &State, site: &Arc<Site>, endpoints: Endpoints) {
        let mut changing = Vec::with_capacity(self.commands.len());
        for (index, commands) in self.commands.iter().enumerate() {
            let (done, changed) = std::sync::mpsc::channel();
            let switch = Switch {
                stop: endpoints.stop.clone(),
                site: Arc::clone(site),
                lead: endpoints.lead.clone(),
                start: self.share(state, &endpoints.start, index),
                cut_after: state.shutdown_timeout,
            };
            if commands.send(Command::Switch(switch, done)).is_ok() {
                changing.push(changed);
            }
        }
        for changed in changing {
            // An error means that the worker has ended; then there is nothing to wait for.
            let _ = changed.recv();
        }
    }

    /// What a worker listens at. Closing one of these does not end the socket.
    fn share(
        &self,
        state: &State,
        endpoints: &[Endpoint],
        worker: usize,
    ) -> Vec<(Endpoint, Listener, Serves)> {
        let mut shared = Vec::new();
        for endpoint in endpoints {
            let Some(Listening { sockets, serves, .. }) = state.listening.get(endpoint) else { continue };
            // A predecessor may have had more workers, or fewer: no socket may be left alone, for
            // the kernel gives it its part of the connections.
            let mut own: Vec<_> = sockets.iter().skip(worker).step_by(self.commands.len()).collect();
            if own.is_empty() {
                own.extend(sockets.get(worker % sockets.len().max(1)));
            }
            let own = own.into_iter().filter_map(|socket| socket.try_clone().ok());
            shared.extend(own.map(|socket| (*endpoint, socket, serves.clone())));
        }
        shared
    }

    fn open(
        &self,
        inherited: &Inherited,
        endpoint: Endpoint,
        options: &SocketOptions,
        serves: &Serves,
    ) -> Result<Listening, Error> {
        let addr = endpoint.addr;
        let opened = listen::inherited(endpoint, inherited).and_then(|sockets| match sockets.is_empty() {
            true => Ok((listen::group(endpoint, options, self.commands.len())?, Tenure::Sole)),
            false => Ok((sockets, Tenure::Shared)),
        });
        let bound = opened.and_then(|(sockets, tenure)| {
            let bound = match sockets.first() {
                Some(first) if unix::path(addr).is_none() => first.local_addr()?,
                _ => addr,
            };
            Ok(Listening { bound, sockets, serves: serves.clone(), tenure })
        });
        bound.map_err(|error| Error::Bind(addr, error))
    }

    /// Opens the access logs anew by their names: after they were moved away.
    pub fn reopen_logs(&self) {
        self.shared.logs.reopen();
        for commands in &self.commands {
            // One that has gone has written its lines.
            let _ = commands.send(Command::LookAtLogs);
        }
    }

    /// Accepts no more and waits until every connection has ended or `deadline` has passed, which
    /// [`Duration::MAX`] never does; says whether all have. Kept-alive connections that are idle are
    /// closed at once.
    ///
    /// Connections that are left are cut when the value is dropped.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        let mut finishing = Vec::with_capacity(self.commands.len());
        {
            let mut state = self.state();
            state.phase = Phase::Finishing;
            self.checks.send_replace(None);
            for commands in &self.commands {
                let (done, finished) = oneshot::channel();
                if commands.send(Command::Finish(done)).is_ok() {
                    finishing.push(finished);
                }
            }
            // The workers' own are closed by then, and clients must not wait in a queue for ever.
            state.listening.clear();
        }
        let finished = async {
            for finished in finishing {
                // An error means that the worker has ended, and with it its connections.
                let _ = finished.await;
            }
            while self.connections.count() > 0 {
                tokio::time::sleep(STREAM_POLL).await;
            }
        };
        tokio::time::timeout(deadline, finished).await.is_ok()
    }

    /// What is still open, as of the last second.
    pub fn remaining(&self) -> Remaining {
        let census = self.shared.censuses.sum();
        Remaining {
            requests: census.reading + census.writing,
            idle: census.waiting,
            relayed: self.connections.count(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that the system lets a proxy listen where a configuration says, and that nothing of it is taken
/// amiss; an address that somebody listens at already is none of that.
///
/// # Errors
/// An address cannot be bound, or the configuration contradicts itself.
pub fn check_addresses(config: &Config) -> Result<(), Error> {
    let stream = config.stream.iter().flat_map(|stream| &stream.servers).flat_map(|server| &server.listen);
    let stream = stream.map(|listen| {
        let endpoint = Endpoint { transport: listen.transport, addr: listen.addr };
        (endpoint, listen.socket.clone().unwrap_or_default())
    });
    let http = http_sockets(config.http.as_ref())?.into_iter();
    for (endpoint, options) in http.map(|(addr, options)| (Endpoint::tcp(addr), options)).chain(stream) {
        listen::check(endpoint, &options).map_err(|error| Error::Bind(endpoint.addr, error))?;
    }
    Ok(())
}

/// Whether a listener can go on as it is.
fn is_still_served(
    endpoint: &Endpoint,
    listening: &Listening,
    wanted: &[(Endpoint, SocketOptions, Serves)],
) -> bool {
    // A TCP server's settings are its proxy's, which is made anew by every reload. Datagrams of a session
    // go on coming to the socket that it began at.
    let goes_on = |serves: &Serves| {
        use Serves::{Datagrams, Http};
        matches!((serves, &listening.serves), (Http, Http) | (Datagrams(_), Datagrams(_)))
    };
    wanted.iter().any(|(other, _, serves)| other == endpoint && goes_on(serves))
}

/// The sockets of the HTTP side, before ports are known.
fn http_sockets(http: Option<&Http>) -> Result<Vec<(SocketAddr, SocketOptions)>, Error> {
    let Some(http) = http else { return Ok(Vec::new()) };
    let site = Site::new(http.clone()).map_err(Error::Site)?;
    let sockets = site.router.sockets().iter();
    Ok(sockets.map(|socket| (socket.addr, socket.options.clone())).collect())
}

/// Makes the folders in which workers keep bodies their user's own.
fn prepare_folders(site: &Site, user: &Identity) {
    let is_shown = site.router.needs().body_file;
    let written = site.router.all_settings().filter(|settings| {
        is_shown || settings.client.body.in_file.is_some() || !settings.mirror.paths.is_empty()
    });
    let folders = written.map(|settings| &settings.client.body.folder);
    let kept = site
        .router
        .all_settings()
        .filter(|settings| settings.proxy.cache != CacheUse::Off || settings.proxy.store != Storing::Off);
    let folders = folders.chain(kept.map(|settings| &settings.proxy.cache_rules.temporary));
    for folder in folders.collect::<std::collections::HashSet<_>>() {
        if let Err(error) = Spool::prepare(folder, user) {
            warn!("cannot prepare \"{}\" ({})", folder.display(), Errno(&error));
        }
    }
}

/// Whether servers are to see connections come from addresses that are not this machine's.
fn is_transparent(config: &Config) -> bool {
    let mut locations = config.http.iter().flat_map(Http::settings);
    let mut streams = config.stream.iter().flat_map(|stream| &stream.servers);
    locations.any(|settings| settings.proxy.socket.transparent || settings.grpc.0.socket.transparent)
        || streams.any(|server| server.settings.socket.transparent)
}

fn worker_count(workers: model::Workers) -> NonZeroUsize {
    match workers {
        model::Workers::Count(count) => count,
        model::Workers::Auto => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    }
}

/// How often the end of relayed connections is looked for.
const STREAM_POLL: Duration = Duration::from_millis(20);
