//! `l7-proxy`: an HTTP proxy that is started, configured and signalled as nginx is.

mod launch;
mod limits;
mod options;
mod service;

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use l7_proxy::LogFiles;
use l7_proxy::conf::{self, Loaded, Source};
use l7_proxy::daemon::{self, Daemon, Legacy, Options as DaemonOptions};
use l7_proxy::error_log::{EMERG, Errno, ErrorLog};
use l7_proxy::explain::{self, Question};
use l7_proxy::model::{self, Config, ControlSocket, ErrorLogTarget, LogLevel, LogTarget};
use l7_proxy::site::{self, Site};
use mimalloc::MiMalloc;
use rustix::process::{Pid, Signal, kill_process};
use tracing::{error, info, warn};
use warm_alloc::Warm;

use crate::launch::Origin;
use crate::options::{Options, Task, Voice};
use crate::service::{PidFile, Service, Signals};

#[allow(unsafe_code)]
// SAFETY: it is the only one, and the global allocator.
#[global_allocator]
static ALLOCATOR: Warm<MiMalloc> = unsafe { Warm::new(MiMalloc) };

fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(error) => return complain(&error),
    };
    let outcome = match &options.task {
        Task::Say(text) => {
            complain_plainly(text);
            return ExitCode::SUCCESS;
        }
        Task::Test | Task::Dump => test(&options),
        Task::Explain(question) => explain(&options, question),
        Task::Signal(signal) => send(&options, *signal),
        Task::Run => run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Reported) => ExitCode::FAILURE,
    }
}

/// The person has been told what is wrong.
struct Reported;

/// Writes a line to standard error, as nginx does with all that it has to say to a terminal.
fn complain_plainly(text: &str) {
    // Nobody is there to be told that nobody is there.
    let _ = writeln!(io::stderr(), "{text}");
}

fn complain(error: &dyn Display) -> ExitCode {
    complain_plainly(&format!("l7-proxy: {error}"));
    ExitCode::FAILURE
}

/// Says on standard error what keeps the program from doing what it was told.
fn emerg(error: &dyn Display) -> Reported {
    complain(&format!("[emerg] {error}"));
    Reported
}

impl Options {
    /// Reads the configuration, with what the command line says in its place.
    fn load(&self) -> Result<Loaded, conf::Error> {
        let mut loaded = conf::load(&self.source())?;
        if let Some(path) = &self.control {
            loaded.config.process.control = Some(ControlSocket::new(self.prefix.join(path)));
        }
        Ok(loaded)
    }

    fn source(&self) -> Source {
        Source { file: self.file.clone(), prefix: self.prefix.clone(), globals: self.globals.clone() }
    }

    /// Where errors go until the configuration says otherwise: to the terminal, too, if the file that the
    /// command line names cannot be written.
    fn early_log(&self) -> model::ErrorLog {
        let file = self.error_log.as_ref().map(|path| LogTarget::File(self.prefix.join(path)));
        let log =
            |target| model::ErrorLog { target: ErrorLogTarget::Written(target), level: LogLevel::Notice };
        let named = log(file.unwrap_or(LogTarget::Stderr));
        match ErrorLog::new().write_to(std::slice::from_ref(&named)) {
            Ok(()) => named,
            Err(error) => {
                complain(&format!("[alert] could not open error log file: {error}"));
                log(LogTarget::Stderr)
            }
        }
    }

    /// The configuration file as messages name it.
    fn path(&self) -> PathBuf {
        self.prefix.join(&self.file)
    }
}

/// Checks the configuration, and prints it if that was asked for.
fn test(options: &Options) -> Result<(), Reported> {
    let path = options.path();
    let path = path.display();
    let early = options.early_log();
    let checked = options.load().map_err(|error| error.to_string()).and_then(|loaded| {
        notes(&loaded);
        check(&loaded.config)?;
        if options.voice == Voice::Normal {
            complain(&format!("the configuration file {path} syntax is ok"));
        }
        check_surroundings(&loaded.config, &early)?;
        Ok(loaded)
    });
    match checked {
        Ok(loaded) => {
            if options.voice == Voice::Normal {
                complain(&format!("configuration file {path} test is successful"));
            }
            if let Task::Dump = options.task {
                dump(&loaded);
            }
            Ok(())
        }
        Err(error) => {
            emerg(&error);
            complain(&format!("configuration file {path} test failed"));
            Err(Reported)
        }
    }
}

/// Checks what takes more than reading: that the parts fit together, that logs can be written.
fn check(config: &Config) -> Result<(), String> {
    let http = config.http.clone().unwrap_or_default();
    let mut services = site::services(&http).map_err(|error| error.to_string())?;
    if let Some(stream) = &config.stream {
        services.extend(site::stream_services(stream).map_err(|error| error.to_string())?);
    }
    lvs_core::Config { services }.check().map_err(|error| error.to_string())?;
    Site::new(http).map_err(|error| error.to_string())?;
    let stream = config.stream.clone().unwrap_or_default();
    l7_proxy::stream::check(&stream).map_err(|error| error.to_string())
}

/// Checks what a configuration needs of the system, as nginx does: logs and the pid file that can be
/// written, addresses that can be bound.
fn check_surroundings(config: &Config, early: &model::ErrorLog) -> Result<(), String> {
    let site = Site::new(config.http.clone().unwrap_or_default()).map_err(|error| error.to_string())?;
    let stream = config.stream.clone().unwrap_or_default();
    let logs = site.router().log_targets().chain(stream.log_targets());
    LogFiles::default().open(logs).map_err(|error| error.to_string())?;
    let log = ErrorLog::new();
    log.write_to(&places(config, early)).map_err(|error| error.to_string())?;
    log.write_apart_to(config.error_logs()).map_err(|error| error.to_string())?;
    PidFile::check(&config.process.pid)?;
    daemon::check_addresses(config).map_err(|error| error.to_string())
}

/// Says why a request would be answered as it would be, by the file.
fn explain(options: &Options, question: &Question) -> Result<(), Reported> {
    let loaded = options.load().map_err(|error| emerg(&error))?;
    let http = loaded.config.http.unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let explained = runtime.map_err(|error| emerg(&error))?.block_on(explain::explain(http, question));
    let text = explained.map_err(|error| {
        complain(&error);
        Reported
    })?;
    // A reader that has seen enough closes the pipe.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

fn dump(loaded: &Loaded) {
    let mut out = io::stdout().lock();
    for file in &loaded.files {
        // A reader that has seen enough closes the pipe.
        let _ = writeln!(out, "# configuration file {}:", file.path.display());
        let _ = out.write_all(&file.text).and_then(|()| writeln!(out));
    }
}

/// Says what is odd about the configuration.
fn notes(loaded: &Loaded) {
    for note in &loaded.notes {
        complain(&format!("[warn] {note}"));
    }
}

/// Sends a signal to the process whose id is in the pid file.
fn send(options: &Options, signal: Signal) -> Result<(), Reported> {
    let loaded = options.load().map_err(|error| emerg(&error))?;
    let path = loaded.config.process.pid;
    let text = std::fs::read_to_string(&path).map_err(|error| {
        complain(&format!("[error] open() \"{}\" failed ({})", path.display(), Errno(&error)));
        Reported
    })?;
    let process = text.trim().parse().ok().and_then(Pid::from_raw).ok_or_else(|| {
        complain(&format!("[error] invalid PID number \"{}\" in \"{}\"", text.trim(), path.display()));
        Reported
    })?;
    kill_process(process, signal).map_err(|error| {
        let error = io::Error::from(error);
        complain(&format!(
            "[alert] kill({}, {}) failed ({})",
            process.as_raw_nonzero(),
            signal.as_raw(),
            Errno(&error)
        ));
        Reported
    })
}

/// Serves until a signal ends it.
fn run(options: &Options) -> Result<(), Reported> {
    // The allocator asks for pages of 2 MB, which for connections that come and go costs half as much
    // memory again and buys nothing that can be measured. Where the kernel has none there is none to refuse.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let log = ErrorLog::new();
    let early = options.early_log();
    log.write_to(std::slice::from_ref(&early)).map_err(|error| emerg(&error))?;
    // The only global of the program; a second one cannot have been set.
    let _ = tracing::subscriber::set_global_default(log.clone());
    // Whoever started it looks at the terminal, not at the log.
    let fail = |error: &dyn Display| {
        error!(target: EMERG, "{error}");
        if log.writes_to_stderr() { Reported } else { emerg(error) }
    };

    let origin = Origin::find().map_err(|error| fail(&error))?;
    // Before the file: it knows Unix sockets by other numbers than a new process would give them.
    let legacy = match &origin {
        Origin::Successor(.., legacy) => Legacy::read(legacy),
        Origin::Outside | Origin::Background(_) => Legacy::default(),
    };
    let loaded = options.load().map_err(|error| fail(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| fail(&error))?;
    if let (Origin::Outside, true) = (&origin, loaded.config.process.daemon) {
        let started = runtime.block_on(launch::background()).map_err(|error| fail(&error))?;
        // What it failed at it has said itself.
        return started.map_err(|_| Reported);
    }
    log.write_to(&places(&loaded.config, &early)).map_err(|error| fail(&error))?;
    log.write_apart_to(loaded.config.error_logs()).map_err(|error| fail(&error))?;
    for note in &loaded.notes {
        warn!("{note}");
    }
    let process = loaded.config.process.clone();
    limits::begin(&process);
    let (daemon, starter) = match origin {
        Origin::Outside => (Daemon::start(loaded.config, DaemonOptions::default()), None),
        Origin::Background(starter) => {
            (Daemon::start(loaded.config, DaemonOptions::default()), Some(starter))
        }
        Origin::Successor(starter, inherited, _) => {
            let options = DaemonOptions::default();
            (Daemon::succeed(loaded.config, options, inherited, legacy), Some(starter))
        }
    };
    let daemon = daemon.map_err(|error| fail(&error))?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(|error| fail(&error))?;
        let pid_file = PidFile::write(&process.pid).map_err(|error| fail(&error))?;
        info!("l7-proxy/{} started", env!("CARGO_PKG_VERSION"));
        if let Some(starter) = &starter {
            if process.daemon {
                leave_terminal(&log).map_err(|error| fail(&error))?;
            }
            starter.tell();
        }
        let mut service = Service {
            options,
            daemon,
            log: log.clone(),
            early: early.clone(),
            pid_file,
            process,
            starter,
            successor: None,
        };
        service.serve(&mut signals).await;
        Ok(())
    })
}

/// Lets go of the terminal, or whatever the standard streams are. What a successor says before it knows its own logs,
/// and what none of them is told, goes to the log of errors.
pub(crate) fn leave_terminal(log: &ErrorLog) -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    if !log.writes_to_stderr() {
        rustix::stdio::dup2_stderr(log.file().unwrap_or(null))?;
    }
    Ok(())
}

/// Where errors go: where the configuration says, else where the command line says.
fn places(config: &Config, early: &model::ErrorLog) -> Vec<model::ErrorLog> {
    if config.process.error_log.is_empty() {
        vec![model::ErrorLog { level: LogLevel::Error, ..early.clone() }]
    } else {
        config.process.error_log.clone()
    }
}
