//! The running program: what each signal does to it.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use l7_proxy::daemon::Daemon;
use l7_proxy::error_log::{EMERG, Errno, ErrorLog};
use l7_proxy::model;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::launch::{Starter, Successor};
use crate::limits;
use crate::options::Options;
use crate::{leave_terminal, places};

/// The running program.
pub(crate) struct Service<'a> {
    pub(crate) options: &'a Options,
    pub(crate) daemon: Daemon,
    pub(crate) log: ErrorLog,
    pub(crate) early: model::ErrorLog,
    pub(crate) pid_file: PidFile,
    pub(crate) process: model::Process,
    /// Who started it in its place, or into the background.
    pub(crate) starter: Option<Starter>,
    /// What goes on in its place.
    pub(crate) successor: Option<Successor>,
}

/// The signals that nginx's users send.
pub(crate) struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
    usr1: tokio::signal::unix::Signal,
    usr2: tokio::signal::unix::Signal,
    winch: tokio::signal::unix::Signal,
}

/// What a signal asks for.
enum Wish {
    Stop,
    Quit,
    Reload,
    Reopen,
    /// Start the program anew, with the sockets of this one.
    Upgrade,
    /// Accept no more, but stay.
    Rest,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            winch: signal(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            biased;
            _ = self.term.recv() => Wish::Stop,
            _ = self.int.recv() => Wish::Stop,
            _ = self.quit.recv() => Wish::Quit,
            _ = self.hup.recv() => Wish::Reload,
            _ = self.usr1.recv() => Wish::Reopen,
            _ = self.usr2.recv() => Wish::Upgrade,
            _ = self.winch.recv() => Wish::Rest,
        }
    }
}

impl Service<'_> {
    /// Serves until a signal ends it.
    pub(crate) async fn serve(&mut self, signals: &mut Signals) {
        loop {
            let wish = tokio::select! {
                wish = signals.next() => wish,
                () = ended(&mut self.successor) => {
                    self.go_on();
                    continue;
                }
            };
            // Any wish may be the end of a listening socket.
            if !self.has_other() {
                self.daemon.hold_alone();
            }
            match wish {
                Wish::Stop => {
                    info!("exiting");
                    return;
                }
                Wish::Quit => return self.finish(signals).await,
                // As long as there is a successor, this is the way back.
                Wish::Reload if self.successor.is_some() && self.daemon.resume() => {}
                Wish::Reload => self.reload(),
                Wish::Upgrade => self.upgrade(),
                Wish::Rest if is_at_a_terminal() => {}
                Wish::Rest => {
                    info!("accepting no more connections");
                    self.daemon.rest();
                }
                Wish::Reopen => {
                    info!("reopening logs");
                    self.daemon.reopen_logs();
                    if let Err(error) = self.log.reopen().and_then(|()| self.follow_log()) {
                        error!(target: EMERG, "{error}");
                    }
                }
            }
        }
    }

    /// Has standard error go where the log of errors goes now, unless somebody looks at it.
    fn follow_log(&self) -> io::Result<()> {
        if self.process.daemon { leave_terminal(&self.log) } else { Ok(()) }
    }

    /// Whether another process serves the same: a predecessor or a successor.
    fn has_other(&self) -> bool {
        self.successor.is_some() || self.starter.as_ref().is_some_and(Starter::is_alive)
    }

    /// Lets the program's file, which may be another by now, go on beside this process.
    fn upgrade(&mut self) {
        if self.has_other() {
            return info!("the changing binary signal is ignored: another process is there already");
        }
        info!("changing binary");
        if let Err(error) = self.pid_file.step_aside() {
            return error!("{error}");
        }
        let legacy = self.daemon.legacy();
        let started = self.daemon.sockets().and_then(|sockets| Successor::start(&sockets, &legacy));
        match started {
            Ok(successor) => {
                if let Some(process) = successor.process() {
                    info!("start new binary process {process}");
                }
                self.successor = Some(successor);
            }
            Err(error) => {
                error!("the new binary cannot be run ({})", Errno(&error));
                self.go_on();
            }
        }
    }

    /// There is no successor, or none any more: everything is as before.
    fn go_on(&mut self) {
        self.successor = None;
        if let Err(error) = self.pid_file.step_back() {
            error!("{error}");
        }
        if let Err(error) = self.daemon.reclaim_control() {
            error!("{error}");
        }
        self.daemon.hold_alone();
        self.daemon.resume();
    }

    /// Finishes what is at hand, however long that takes unless `worker_shutdown_timeout` says so; a further
    /// word to stop ends it at once.
    async fn finish(&self, signals: &mut Signals) {
        info!("gracefully shutting down");
        let limit = self.process.shutdown_timeout;
        let finishing = self.daemon.shutdown(limit.unwrap_or(Duration::MAX));
        let stop = async { while !matches!(signals.next().await, Wish::Stop) {} };
        tokio::select! {
            finished = finishing => {
                if let (false, Some(limit)) = (finished, limit) {
                    warn!("connections were cut: they took longer than worker_shutdown_timeout ({} s)", limit.as_secs());
                }
            }
            () = stop => {}
            () = self.tell_what_is_awaited() => {}
        }
        info!("exiting");
    }

    /// Says what the end of the process waits for, now and then for as long as it does.
    async fn tell_what_is_awaited(&self) {
        // What has nothing at hand has gone by then.
        let mut pause = REMINDER_FIRST;
        loop {
            tokio::time::sleep(pause).await;
            info!("still shutting down, waiting for {}", self.daemon.remaining());
            pause = REMINDER;
        }
    }

    /// Reads the configuration anew; if anything is wrong with it, nothing changes.
    fn reload(&mut self) {
        info!("reconfiguring");
        let loaded = match self.options.load() {
            Ok(loaded) => loaded,
            Err(error) => return error!(target: EMERG, "{error}"),
        };
        for note in &loaded.notes {
            warn!("{note}");
        }
        let (process, places) = (loaded.config.process.clone(), places(&loaded.config, &self.early));
        let others = loaded.config.error_logs();
        if let Err(error) = self.daemon.reload(loaded.config) {
            return error!(target: EMERG, "{error}");
        }
        let opened = self.log.write_to(&places).and_then(|()| self.log.write_apart_to(others));
        if let Err(error) = opened.and_then(|()| self.follow_log()) {
            error!(target: EMERG, "{error}");
        }
        if process.pid != self.process.pid {
            match PidFile::write(&process.pid) {
                Ok(pid_file) => self.pid_file = pid_file,
                Err(error) => error!(target: EMERG, "{error}"),
            }
        }
        limits::set(&process);
        self.process = process;
        info!("reconfigured");
    }
}

/// Waits until the successor has ended, if there is one.
async fn ended(successor: &mut Option<Successor>) {
    match successor {
        None => std::future::pending().await,
        Some(running) => match running.ended().await {
            Ok(status) => warn!("new binary process exited: {status}"),
            Err(error) => error!("waitpid() failed ({})", Errno(&error)),
        },
    }
}

/// Whether somebody looks on: then WINCH only says that the terminal has another size.
fn is_at_a_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

/// The file with the process id; removed when dropped.
pub(crate) struct PidFile {
    path: PathBuf,
    place: Place,
}

/// Where the file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where the configuration says.
    Own,
    /// Beside it: a successor has its own there.
    Aside,
}

impl PidFile {
    pub(crate) fn write(path: &Path) -> Result<PidFile, String> {
        fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|error| format!("open() \"{}\" failed ({})", path.display(), Errno(&error)))?;
        Ok(PidFile { path: path.to_owned(), place: Place::Own })
    }

    /// Checks that one can be written, and leaves no trace.
    pub(crate) fn check(path: &Path) -> Result<(), String> {
        let is_there = path.exists();
        match fs::File::options().append(true).create(true).open(path) {
            Ok(_) if is_there => Ok(()),
            // Whoever has removed it meanwhile wanted the same.
            Ok(_) => Ok(_ = fs::remove_file(path)),
            Err(error) => Err(format!("open() \"{}\" failed ({})", path.display(), Errno(&error))),
        }
    }

    /// Where it is while a successor has its own.
    fn aside(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".oldbin");
        path.into()
    }

    /// Makes place for that of a successor.
    fn step_aside(&mut self) -> Result<(), String> {
        rename(&self.path, &self.aside())?;
        self.place = Place::Aside;
        Ok(())
    }

    /// Takes the place again.
    fn step_back(&mut self) -> Result<(), String> {
        if self.place == Place::Aside {
            rename(&self.aside(), &self.path)?;
            self.place = Place::Own;
        }
        Ok(())
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), String> {
    fs::rename(from, to).map_err(|error| {
        format!("rename() \"{}\" to \"{}\" failed ({})", from.display(), to.display(), Errno(&error))
    })
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let path = match self.place {
            Place::Own => self.path.clone(),
            Place::Aside => self.aside(),
        };
        // It may have been removed, or be somebody else's by now.
        let own = fs::read_to_string(&path).is_ok_and(|text| text.trim() == std::process::id().to_string());
        if own && let Err(error) = fs::remove_file(&path) {
            warn!("unlink() \"{}\" failed ({})", path.display(), Errno(&error));
        }
    }
}

/// How long it takes until somebody may wonder why a process does not end.
const REMINDER_FIRST: Duration = Duration::from_secs(2);

/// How long it takes until they may have forgotten.
const REMINDER: Duration = Duration::from_secs(60);
