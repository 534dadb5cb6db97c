//! `l4-proxy`: an LVS director in userspace.

mod errands;
mod log;
mod options;
mod privileges;
mod service_manager;
mod sources;

use std::path::Path;
use std::process::{Child, ExitCode, Stdio};

use l4_proxy::daemon::{self, Daemon, Dump};
use l4_proxy::inherit::Inherited;
use l4_proxy::takeover::Predecessor;
use lvsadm::CommitError;
use lvsadm::rules::{Rules, TimeoutRule};
use mimalloc::MiMalloc;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use warm_alloc::Warm;

use crate::errands::AtTheEnd;
use crate::options::{Command, Run};
use crate::sources::{Read, Sources};

#[allow(unsafe_code)]
// SAFETY: it is the only one, and the global allocator.
#[global_allocator]
static ALLOCATOR: Warm<MiMalloc> = unsafe { Warm::new(MiMalloc) };

fn main() -> ExitCode {
    match options::parse(std::env::args_os()) {
        Ok(Command::Say(text)) => {
            log::say(&text);
            ExitCode::SUCCESS
        }
        Ok(Command::Check(sources)) => match sources.read() {
            Ok(read) => {
                for warning in &read.warnings {
                    log::complain(&warning.to_string());
                }
                log::say(&format!("{}: {}", sources.names(), read.summary()));
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
        Ok(Command::Run(run)) => match start(*run) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Err(error) => fail(&format!("{error}\nTry `l4-proxy --help'")),
    }
}

fn fail(error: &str) -> ExitCode {
    log::complain(&format!("l4-proxy: {error}"));
    ExitCode::from(1)
}

/// Runs the director until a signal ends it.
fn start(mut run: Run) -> Result<(), String> {
    let inherited = service_manager::sockets()?;
    // Before the first thread is started.
    run.user.as_deref().map(privileges::become_user).transpose()?;
    let read = run.sources.read()?;
    run.daemon.floating = read.model.iter().flat_map(|model| model.floating()).collect();
    let _log = log::start(run.log.clone());
    run.warnings.iter().for_each(|warning| warn!("{warning}"));
    read.warn();
    let of_others = read.model.as_ref().is_some_and(|model| model.global.script_user.is_some());
    if of_others && !rustix::process::geteuid().is_root() {
        warn!(
            "script_user has no effect: programs run as this process does, since only root can run them as others"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    if !run.takeover {
        runtime.block_on(errands::begin(read.model.as_ref()));
    }
    let mut at_the_end = AtTheEnd::default();
    at_the_end.follow(read.model.as_ref());
    let served = direct(&run, read, &runtime, &mut at_the_end, inherited);
    if served != Ok(Leaves::ToASuccessor) && !(run.takeover && served.is_err()) {
        runtime.block_on(at_the_end.run());
    }
    served.map(drop)
}

/// How a director ended that had begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// The service goes on.
    ToASuccessor,
    ToNobody,
}

fn direct(
    run: &Run,
    read: Read,
    runtime: &Runtime,
    at_the_end: &mut AtTheEnd,
    inherited: Inherited,
) -> Result<Leaves, String> {
    let daemon = match run.daemon.control.as_deref().filter(|_| run.takeover) {
        Some(control) => succeed(run, read, control)?,
        None => {
            let started = Daemon::start_with(run.daemon.clone(), read.config(), inherited);
            let daemon = started.map_err(|error| error.to_string())?;
            serve(&daemon, read).map_err(|error| error.to_string())?;
            daemon
        }
    };
    daemon.upgrade_by(start_anew);
    let obeyed = runtime.block_on(obey_signals(&daemon, run, at_the_end));
    obeyed.map_err(|error| format!("cannot handle signals: {error}"))?;
    Ok(if daemon.is_replaced() { Leaves::ToASuccessor } else { Leaves::ToNobody })
}

/// Goes on where the director at `control` ends, with what was read, or else with its rules.
fn succeed(run: &Run, read: Read, control: &Path) -> Result<Daemon, String> {
    let failed = |error: std::io::Error| format!("cannot take over from {}: {error}", control.display());
    let (predecessor, inherited) = Predecessor::ask(control).map_err(failed)?;
    let running = Path::new("the running director");
    let accepts = |edit: &lvsadm::Edit| daemon::accepts(&run.daemon.entrances, edit);
    let Rules { mut config, timeouts } = if run.sources.is_empty() {
        lvsadm::rules::read(running, predecessor.rules(), accepts).map_err(|error| error.to_string())?
    } else {
        lvsadm::rules::read(running, predecessor.rules(), |_| Ok(())).map_err(|error| error.to_string())?
    };
    // What cannot be served here will not be asked for by the files, either.
    config.services.retain(|service| accepts(&lvsadm::Edit::AddService(service.clone())).is_ok());
    let settle = |daemon: &Daemon| {
        set_timeouts(daemon, timeouts)?;
        // Without files it keeps what the other one had. With files that still say what the other one has
        // read, it keeps what lvsadm has changed since, too.
        let why = match daemon.given() {
            _ if run.sources.is_empty() => return Ok(()),
            Some(given) if read.says(&given) => {
                return read.model.map_or(Ok(()), |model| daemon.resume(model));
            }
            Some(_) => "the files say something else than before",
            None => "the director before this one does not tell what its files said",
        };
        info!("{why}: what lvsadm has changed goes");
        serve(daemon, read)
    };
    let daemon = Daemon::succeed(run.daemon.clone(), config, (predecessor, inherited), settle);
    daemon.map_err(|error| error.to_string())
}

/// Serves what was read.
fn serve(daemon: &Daemon, read: Read) -> Result<(), CommitError> {
    let given = read.given();
    let Read { rules, model, .. } = read;
    match model {
        Some(model) => daemon.follow(rules.config, model)?,
        None => daemon.reload(rules.config)?,
    }
    set_timeouts(daemon, rules.timeouts)?;
    daemon.note_given(given);
    Ok(())
}

/// HUP reloads; USR1 and USR2 write files as keepalived does; TERM and INT drain, and end at once when one of them comes again.
async fn obey_signals(daemon: &Daemon, run: &Run, at_the_end: &mut AtTheEnd) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (mut state, mut stats) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Whoever reads this may send signals.
    info!(
        services = daemon.director().config().services.len(),
        workers = run.daemon.workers,
        "director started"
    );
    service_manager::ready(&status(daemon));
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(daemon, &run.sources, at_the_end),
            _ = state.recv() => daemon.dump(Dump::State),
            _ = stats.recv() => daemon.dump(Dump::Stats),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = daemon.replaced() => {
                info!(connections = daemon.connections().count(), "handed over; connections end here");
                // The service goes on, so its manager is not told. A signal ends the patience.
                tokio::select! {
                    () = daemon.drain(PATIENCE) => {
                        daemon.has_answered().await;
                        return Ok(());
                    }
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                }
            }
        }
    }
    let (connections, flows) = (daemon.connections().count(), daemon.flows().count());
    info!(connections, flows, "draining");
    if !daemon.is_replaced() {
        service_manager::stopping(&format!("draining, connections: {connections}, flows: {flows}"));
    }
    tokio::select! {
        () = daemon.drain(run.drain) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let (connections, flows) = (daemon.connections().count(), daemon.flows().count());
    if connections > 0 || flows > 0 {
        warn!(connections, flows, "connections cut");
    }
    info!("director ended");
    Ok(())
}

/// Starts the program anew, by the name and with the words that it was started by, to take this one's place.
fn start_anew() -> std::io::Result<Child> {
    let mut words = std::env::args_os();
    let program = words.next().ok_or(std::io::ErrorKind::NotFound)?;
    let words = words.filter(|word| word != "--takeover");
    let mut command = std::process::Command::new(program);
    command.args(words).arg("--takeover").stdin(Stdio::null());
    // On a thread of its own, since that may have to pass rights on that nobody else is to have.
    let started = std::thread::spawn(move || {
        privileges::bequeath()?;
        command.spawn()
    });
    started.join().unwrap_or_else(|_| Err(std::io::Error::other("it could not be tried")))
}

/// A file that does not set timeouts leaves them as they are.
fn set_timeouts(daemon: &Daemon, rule: Option<TimeoutRule>) -> Result<(), CommitError> {
    let Some(rule) = rule else { return Ok(()) };
    let control = daemon.control();
    control.set_timeouts(rule.apply_to(control.timeouts()))
}

fn reload(daemon: &Daemon, sources: &Sources, at_the_end: &mut AtTheEnd) {
    if sources.is_empty() {
        warn!("nothing to reload: started without --config and --rules");
        return;
    }
    service_manager::reloading();
    let outcome = sources.read().and_then(|read| {
        read.warn();
        let services = read.config().services.len();
        let mut then = AtTheEnd::default();
        then.follow(read.model.as_ref());
        serve(daemon, read).map_err(|error| error.to_string())?;
        *at_the_end = then;
        Ok(services)
    });
    match outcome {
        Ok(services) => info!(services, "reloaded {}", sources.names()),
        Err(error) => error!("not reloaded, still serving as before: {error}"),
    }
    service_manager::ready(&status(daemon));
}

/// What `systemctl status` shows.
fn status(daemon: &Daemon) -> String {
    let config = daemon.director().config();
    let servers: usize = config.services.iter().map(|service| service.servers.len()).sum();
    format!("serving, services: {}, servers: {servers}", config.services.len())
}

/// How long a director that was replaced waits for its connections, which may last as long as they do.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);
