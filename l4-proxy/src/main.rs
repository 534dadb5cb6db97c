//! `l4-proxy`: an LVS director in userspace.

mod log;
mod options;
mod privileges;
mod service_manager;

use std::path::Path;
use std::process::ExitCode;

use l4_proxy::daemon::{self, Daemon};
use l4_proxy::takeover::Predecessor;
use lvsadm::rules::{Rules, TimeoutRule};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::options::{Command, Run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match options::parse(std::env::args_os()) {
        Ok(Command::Say(text)) => {
            log::say(&text);
            ExitCode::SUCCESS
        }
        Ok(Command::Check(path)) => match read(&path) {
            Ok(Rules { config, .. }) => {
                let servers: usize = config.services.iter().map(|service| service.servers.len()).sum();
                let (file, services) = (path.display(), config.services.len());
                log::say(&format!("{file}: the rules are good (services: {services}, servers: {servers})"));
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

fn read(path: &Path) -> Result<Rules, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    lvsadm::rules::read(path, &text, daemon::accepts).map_err(|error| error.to_string())
}

/// Runs the director until a signal ends it.
fn start(run: Run) -> Result<(), String> {
    let inherited = service_manager::sockets()?;
    // Before the first thread is started.
    run.user.as_deref().map(privileges::become_user).transpose()?;
    let rules = run.rules.as_deref().map(read).transpose()?;
    let _log = log::start(run.log.clone());
    let daemon = match run.daemon.control.as_deref().filter(|_| run.takeover) {
        Some(control) => succeed(&run, rules, control)?,
        None => {
            let Rules { config, timeouts } = rules.unwrap_or_default();
            let started = Daemon::start_with(run.daemon.clone(), config, inherited);
            let daemon = started.map_err(|error| error.to_string())?;
            set_timeouts(&daemon, timeouts)?;
            daemon
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(obey_signals(&daemon, &run)).map_err(|error| format!("cannot handle signals: {error}"))
}

/// Goes on where the director at `control` ends, with `rules`, or else with its.
fn succeed(run: &Run, rules: Option<Rules>, control: &Path) -> Result<Daemon, String> {
    let failed = |error: std::io::Error| format!("cannot take over from {}: {error}", control.display());
    let (predecessor, inherited) = Predecessor::ask(control).map_err(failed)?;
    let running = Path::new("the running director");
    let before = lvsadm::rules::read(running, predecessor.rules(), daemon::accepts);
    let before = before.map_err(|error| error.to_string())?;
    let Rules { config, timeouts } = rules.unwrap_or(before.clone());
    let daemon = Daemon::succeed(run.daemon.clone(), config, (predecessor, inherited));
    let daemon = daemon.map_err(|error| error.to_string())?;
    set_timeouts(&daemon, before.timeouts)?;
    set_timeouts(&daemon, timeouts)?;
    Ok(daemon)
}

/// HUP reloads; TERM and INT drain, and end at once when one of them comes again.
async fn obey_signals(daemon: &Daemon, run: &Run) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
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
            _ = hangup.recv() => reload(daemon, run.rules.as_deref()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = daemon.replaced() => {
                info!(connections = daemon.connections().count(), "handed over; connections end here");
                // The service goes on, so its manager is not told. A signal ends the patience.
                tokio::select! {
                    () = daemon.drain(PATIENCE) => return Ok(()),
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

/// A file that does not set timeouts leaves them as they are.
fn set_timeouts(daemon: &Daemon, rule: Option<TimeoutRule>) -> Result<(), String> {
    let Some(rule) = rule else { return Ok(()) };
    let control = daemon.control();
    control.set_timeouts(rule.apply_to(control.timeouts())).map_err(|error| error.to_string())
}

fn reload(daemon: &Daemon, rules: Option<&Path>) {
    let Some(path) = rules else {
        warn!("nothing to reload: started without --rules");
        return;
    };
    service_manager::reloading();
    let outcome = read(path).and_then(|Rules { config, timeouts }| {
        let services = config.services.len();
        daemon.reload(config).map_err(|error| error.to_string())?;
        set_timeouts(daemon, timeouts).map(|()| services)
    });
    match outcome {
        Ok(services) => info!(services, "reloaded {}", path.display()),
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
