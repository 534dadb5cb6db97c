//! A command line, understood: words in, a [`Command`] out.
//!
//! The order of the checks is ipvsadm's, since it decides which of several mistakes is named:
//! options and their values from left to right, then arguments too many, then which options go
//! together, then what they say about each other. Two things wait for the whole line where
//! ipvsadm does not: a mask, which it forgets when `-M` comes before an IPv6 service, and a real
//! server, whose port it cannot look up by name when `-r` comes before the service.

use lvs_core::{Config, ServiceKey};

use crate::address::number;
use crate::control::Edit;
use crate::line::{Line, TIMEOUT_MAX, invalid_timeout};
use crate::message::Failure;
use crate::names::{Names, Naming};
use crate::option::{Found, Name, Scanner, Verb};

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Edit(Box<Edit>),
    List(Listing, Naming),
    Zero(Option<ServiceKey>),
    Save(Naming),
    Restore,
    /// Seconds for TCP, TCP after FIN, UDP; 0 leaves one as it is.
    SetTimeouts([u32; 3]),
    /// Start or stop a connection synchronisation daemon.
    Daemon,
    Help,
    Version,
}

/// What `-L` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    Services {
        only: Option<ServiceKey>,
        layout: Layout,
        numbers: Numbers,
        order: Order,
    },
    Connections(PersistenceColumns),
    Timeouts,
    /// Connection synchronisation daemons, of which there are none.
    Daemons,
}

/// Which columns a listing of services has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Plain,
    Stats,
    Thresholds,
    PersistentConn,
    TunInfo,
}

/// How large numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    Exact,
    /// In thousands, millions and so on.
    Scaled,
}

/// In which order services and servers are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    ByAddress,
    /// Servers last added first.
    Kernel,
}

/// Whether a list of connections has columns for persistence engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PersistenceColumns {
    Absent,
    Present,
}

/// Whether a command line asks for what is on its standard input.
pub(crate) fn asks_for_input(words: &[String]) -> bool {
    matches!(Scanner::new(words).next(), Ok(Some(Found { name: Name::Verb(Verb::Restore), .. })))
}

/// Understands a command line; without words it is `-L`.
pub(crate) fn parse(words: &[String], names: &Names) -> Result<Command, Failure> {
    let Some(first) = words.first() else {
        let line = Line::new(names);
        return Ok(Command::List(line.listing()?, line.naming()));
    };
    let mut scanner = Scanner::new(words);
    let (verb, value) = match scanner.next() {
        Ok(Some(Found { name: Name::Verb(verb), value, .. })) => (verb, value.unwrap_or_default()),
        _ => return Err(Failure::no_command(first)),
    };
    match verb {
        Verb::Help => return Ok(Command::Help),
        Verb::Version => return Ok(Command::Version),
        Verb::StartDaemon if !DAEMONS.contains(&value) => {
            return Err(Failure::words("illegal start-daemon parameter specified").blame(value));
        }
        Verb::StopDaemon if !DAEMONS.contains(&value) => {
            return Err(Failure::words("illegal start_daemon specified").blame(value));
        }
        _ => {}
    }

    let mut line = Line::new(names);
    while let Some(found) = scanner.next()? {
        line.take(found)?;
    }
    let mut arguments = scanner.arguments();
    let mut timeouts = [0; 3];
    if verb == Verb::Set {
        if arguments.len() < timeouts.len() {
            return Err(Failure::words("--set option requires 3 timeout values"));
        }
        for (timeout, word) in timeouts.iter_mut().zip(arguments.drain(..3)) {
            *timeout = number(word, 0, TIMEOUT_MAX).ok_or_else(|| invalid_timeout(word))?;
        }
    }
    if let Some(extra) = arguments.first() {
        return Err(Failure::words(format!("unexpected argument {extra}")));
    }
    let flags = line.scheduler_flags()?;
    line.check_options(verb)?;

    Ok(match verb {
        Verb::AddService => edit(Edit::AddService(line.service_config(flags)?)),
        Verb::EditService => edit(Edit::EditService(line.service_config(flags)?)),
        Verb::DeleteService => edit(Edit::DeleteService(line.service()?)),
        Verb::AddServer => edit(Edit::AddServer(line.service()?, line.server_config()?)),
        Verb::EditServer => edit(Edit::EditServer(line.service()?, line.server_config()?)),
        Verb::DeleteServer => edit(Edit::DeleteServer(line.service()?, line.server_address()?)),
        Verb::Clear => edit(Edit::Replace(Config::default())),
        Verb::List => Command::List(line.listing()?, line.naming()),
        Verb::Zero => Command::Zero(line.into_service()),
        Verb::Save => Command::Save(line.naming()),
        Verb::Restore => Command::Restore,
        Verb::Set => Command::SetTimeouts(timeouts),
        Verb::StartDaemon | Verb::StopDaemon => Command::Daemon,
        Verb::Help => Command::Help,
        Verb::Version => Command::Version,
    })
}

fn edit(edit: Edit) -> Command {
    Command::Edit(Box::new(edit))
}

/// What a synchronisation daemon may be started or stopped as.
const DAEMONS: [&str; 2] = ["master", "backup"];
