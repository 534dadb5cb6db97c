//! A command line, understood: words in, a [`Command`] out.
//!
//! The order of the checks is ipvsadm's, since it decides which of several mistakes is named:
//! options and their values from left to right, then arguments too many, then which options go
//! together, then what they say about each other. Two things wait for the whole line where
//! ipvsadm does not: a mask, which it forgets when `-M` comes before an IPv6 service, and a real
//! server, whose port it cannot look up by name when `-r` comes before the service.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lvs_core::{Config, Protocol, ServiceKey};

use crate::address::{Endpoint, number};
use crate::control::Edit;
use crate::line::{Line, TIMEOUT_MAX, invalid_timeout};
use crate::message::Failure;
use crate::names::{Names, Naming};
use crate::option::{Found, Name, Scanner, Verb};

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Edit(Box<Edit>),
    List(Listing, Naming, Format),
    Zero(Option<ServiceKey>),
    Save(Naming, Extent),
    Restore,
    /// Seconds for TCP, TCP after FIN, UDP; 0 leaves one as it is.
    SetTimeouts([u32; 3]),
    /// Start or stop a connection synchronisation daemon.
    Daemon,
    Help,
    Version,
    /// The first of these services that there is, and the client.
    Explain(Vec<ServiceKey>, SocketAddr, Format),
    /// The file is read by the client, and comes as the input.
    Plan(String, Format),
    Drain(Drain),
    /// Shown by the program, not by the director.
    Top,
}

/// What `--drain` takes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    /// Of this service only, or of all.
    pub(crate) service: Option<ServiceKey>,
    pub(crate) host: IpAddr,
    /// At this port only, or at all.
    pub(crate) port: Option<u16>,
    /// How long those who are there may stay, if that was said.
    pub(crate) deadline: Option<Duration>,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// How much is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What ipvsadm saves.
    Ipvsadm,
    /// All that a command line can say: thresholds, backups, named pools and timeouts too.
    Full,
}

/// What a command line wants read for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Nothing,
    Stdin,
    File(String),
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
    /// What shares templates with other directors.
    Daemons,
    /// VRRP instances. Not ipvsadm's.
    VirtualRouters,
}

/// Which columns a listing of services has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Plain,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    TunInfo,
    /// Not ipvsadm's.
    Health,
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

/// What a command line wants read for it: `-R` its standard input, `--plan` a file, which may be `-`.
pub(crate) fn input(words: &[String]) -> Input {
    match Scanner::new(words).next() {
        Ok(Some(Found { name: Name::Verb(Verb::Restore), .. })) => Input::Stdin,
        Ok(Some(Found { name: Name::Verb(Verb::Plan), value: Some("-"), .. })) => Input::Stdin,
        Ok(Some(Found { name: Name::Verb(Verb::Plan), value: Some(file), .. })) => {
            Input::File(file.to_owned())
        }
        _ => Input::Nothing,
    }
}

/// Understands a command line; without words it is `-L`.
pub(crate) fn parse(words: &[String], names: &Names) -> Result<Command, Failure> {
    let Some(first) = words.first() else {
        let line = Line::new(names);
        return Ok(Command::List(line.listing()?, line.naming(), Format::Text));
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
    if verb == Verb::Explain {
        line.check_options(verb)?;
        return explain(line, &arguments, names);
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
        Verb::List => Command::List(line.listing()?, line.naming(), line.format()),
        Verb::Zero => Command::Zero(line.into_service()),
        Verb::Save => Command::Save(line.naming(), line.extent()),
        Verb::Restore => Command::Restore,
        Verb::Set => Command::SetTimeouts(timeouts),
        Verb::StartDaemon | Verb::StopDaemon => Command::Daemon,
        Verb::Help => Command::Help,
        Verb::Version => Command::Version,
        Verb::Plan => Command::Plan(value.to_owned(), line.format()),
        Verb::Drain => Command::Drain(drain(line, value, names)?),
        Verb::Explain | Verb::Top => Command::Top,
    })
}

/// `--explain VIP:PORT CIP`, or a service by its option and `CIP`.
fn explain(line: Line<'_>, arguments: &[&str], names: &Names) -> Result<Command, Failure> {
    let format = line.format();
    let (services, rest) = match (line.into_service(), arguments) {
        (Some(service), rest) => (vec![service], rest),
        (None, [service, rest @ ..]) => (services_named(service, names), rest),
        (None, []) => return Err(Failure::words(EXPLAIN_USAGE)),
    };
    match rest {
        [client] => {
            let endpoint = Endpoint::parse(client, Protocol::Tcp, names);
            let endpoint = endpoint
                .ok_or_else(|| Failure::words("illegal client address[:port] specified").blame(client))?;
            let client = SocketAddr::new(endpoint.host, endpoint.port.unwrap_or(0));
            Ok(Command::Explain(services, client, format))
        }
        [] => Err(Failure::words(EXPLAIN_USAGE)),
        [_, extra, ..] => Err(Failure::words(format!("unexpected argument {extra}"))),
    }
}

/// The services that a word can mean: an address of any protocol, or a pool.
fn services_named(word: &str, names: &Names) -> Vec<ServiceKey> {
    let pool = ServiceKey::name(word);
    // A word alone is no address, and is not worth asking the name servers for.
    if !word.contains(':') && word.parse::<IpAddr>().is_err() {
        return vec![pool];
    }
    let at = |protocol| {
        let endpoint = Endpoint::parse(word, protocol, names)?;
        let address = SocketAddr::new(endpoint.host, endpoint.port.unwrap_or(0));
        Some(ServiceKey::Address { protocol, address })
    };
    let addresses = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().filter_map(at);
    [pool].into_iter().chain(addresses).collect()
}

fn drain(line: Line<'_>, server: &str, names: &Names) -> Result<Drain, Failure> {
    let endpoint = Endpoint::parse(server, Protocol::Tcp, names)
        .ok_or_else(|| Failure::words("illegal real server address[:port] specified").blame(server))?;
    let deadline = line.deadline();
    Ok(Drain { service: line.into_service(), host: endpoint.host, port: endpoint.port, deadline })
}

fn edit(edit: Edit) -> Command {
    Command::Edit(Box::new(edit))
}

const EXPLAIN_USAGE: &str =
    "--explain requires a service, as VIP:PORT, a pool's name or an option, and a client address";

/// What a synchronisation daemon may be started or stopped as.
const DAEMONS: [&str; 2] = ["master", "backup"];
