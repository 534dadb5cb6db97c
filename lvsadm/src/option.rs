//! The words of a command line taken apart into options, values and arguments, as popt does it.
//!
//! Short options may be bundled and glued to their value (`-Ln`, `-srr`, `-s=rr`), long options
//! take theirs after `=` or as the next word. Names are not abbreviated. What surprises: a value
//! that has to be there is the next word whatever it looks like (`-s -t` asks for a scheduler
//! named `-t`), and one that may be there is the next word unless it begins with `-`.

use crate::message::Failure;

/// Everything that may stand behind a dash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Verb(Verb),
    TcpService,
    UdpService,
    SctpService,
    MarkService,
    /// A pool without an address, such as an `upstream` of nginx (`--pool`).
    Pool,
    Ipv6,
    Gatewaying,
    Ipip,
    Masquerading,
    /// Accepted and without effect: sorting is the default.
    Sort,
    Plain(Opt),
}

/// The commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Clear,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Restore,
    Save,
    Set,
    StartDaemon,
    StopDaemon,
    Help,
    Version,
    /// What would become of a client, and why (`--explain`).
    Explain,
    /// What a file of rules would change (`--plan`).
    Plan,
    /// Takes a server out, and cuts off who stays too long (`--drain`).
    Drain,
    /// A live view, which the program shows by itself (`--top`).
    Top,
}

/// The options that a command allows or not, in the order in which ipvsadm checks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opt {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    Forwarding,
    Weight,
    UpperThreshold,
    LowerThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Vrrp,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    Nosort,
    Syncid,
    Exact,
    Ops,
    PersistenceEngine,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
    Json,
    Health,
    Full,
    Deadline,
    Backup,
}

/// One option as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) name: Name,
    /// Its value; `None` for an option that takes none, or may go without.
    pub(crate) value: Option<&'a str>,
    /// The last word that belongs to it, which messages name.
    pub(crate) word: &'a str,
}

/// Takes options off a command line, one at a time.
pub(crate) struct Scanner<'a> {
    words: std::slice::Iter<'a, String>,
    /// The word that a bundle of short options stands in, and what is left of it.
    bundle: Option<(&'a str, &'a str)>,
    arguments: Vec<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Never,
    Always,
    Maybe,
}

struct Spec {
    name: Name,
    short: Option<char>,
    long: &'static str,
    value: Value,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(words: &'a [String]) -> Scanner<'a> {
        Scanner { words: words.iter(), bundle: None, arguments: Vec::new() }
    }

    /// The next option; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Found<'a>>, Failure> {
        loop {
            if let Some((word, rest)) = self.bundle.take()
                && let Some(short) = rest.chars().next()
            {
                return self.short(word, short, &rest[short.len_utf8()..]).map(Some);
            }
            let Some(word) = self.words.next() else { return Ok(None) };
            match word.strip_prefix("--") {
                Some("") => self.arguments.extend(self.words.by_ref().map(String::as_str)),
                Some(long) => return self.long(word, long).map(Some),
                None => match word.strip_prefix('-') {
                    None | Some("") => self.arguments.push(word),
                    Some(bundle) => self.bundle = Some((word, bundle)),
                },
            }
        }
    }

    /// The words that are neither options nor values, of which all options have been taken.
    pub(crate) fn arguments(self) -> Vec<&'a str> {
        self.arguments
    }

    fn short(&mut self, word: &'a str, short: char, rest: &'a str) -> Result<Found<'a>, Failure> {
        let spec = SPECS.iter().find(|spec| spec.short == Some(short));
        let spec = spec.ok_or_else(|| Failure::option(word, UNKNOWN))?;
        if spec.value == Value::Never {
            if rest.starts_with('=') {
                return Err(Failure::option(word, UNWANTED_VALUE));
            }
            self.bundle = Some((word, rest));
            return Ok(Found { name: spec.name, value: None, word });
        }
        let glued = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest));
        self.with_value(spec, word, glued)
    }

    fn long(&mut self, word: &'a str, long: &'a str) -> Result<Found<'a>, Failure> {
        let (long, glued) = match long.split_once('=') {
            Some((long, glued)) => (long, Some(glued)),
            None => (long, None),
        };
        let spec = SPECS.iter().find(|spec| spec.long == long);
        let spec = spec.ok_or_else(|| Failure::option(word, UNKNOWN))?;
        match (spec.value, glued) {
            (Value::Never, Some(_)) => Err(Failure::option(word, UNWANTED_VALUE)),
            (Value::Never, None) => Ok(Found { name: spec.name, value: None, word }),
            (Value::Always | Value::Maybe, glued) => self.with_value(spec, word, glued),
        }
    }

    fn with_value(
        &mut self,
        spec: &Spec,
        word: &'a str,
        glued: Option<&'a str>,
    ) -> Result<Found<'a>, Failure> {
        let name = spec.name;
        if glued.is_some() {
            return Ok(Found { name, value: glued, word });
        }
        let next = self.words.as_slice().first();
        match next.filter(|next| spec.value == Value::Always || !next.starts_with('-')) {
            Some(value) => {
                self.words.next();
                Ok(Found { name, value: Some(value), word: value })
            }
            None if spec.value == Value::Maybe => Ok(Found { name, value: None, word }),
            None => Err(Failure::option(word, MISSING_VALUE)),
        }
    }
}

impl Verb {
    /// The name that messages give the command.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verb::AddService => "add-service",
            Verb::EditService => "edit-service",
            Verb::DeleteService => "delete-service",
            Verb::Clear => "flush",
            Verb::AddServer => "add-server",
            Verb::EditServer => "edit-server",
            Verb::DeleteServer => "delete-server",
            Verb::List => "list",
            Verb::Zero => "zero",
            Verb::Restore => "restore",
            Verb::Save => "save",
            Verb::Set => "set",
            Verb::StartDaemon => "start-daemon",
            Verb::StopDaemon => "stop-daemon",
            Verb::Help => "help",
            Verb::Version => "version",
            Verb::Explain => "explain",
            Verb::Plan => "plan",
            Verb::Drain => "drain",
            Verb::Top => "top",
        }
    }
}

impl Opt {
    /// Every option, in the order in which ipvsadm checks them, and then those it does not have.
    pub(crate) const ALL: [Opt; 40] = [
        Opt::Numeric,
        Opt::Connection,
        Opt::Service,
        Opt::Scheduler,
        Opt::Persistent,
        Opt::Netmask,
        Opt::RealServer,
        Opt::Forwarding,
        Opt::Weight,
        Opt::UpperThreshold,
        Opt::LowerThreshold,
        Opt::McastInterface,
        Opt::Timeout,
        Opt::Daemon,
        Opt::Vrrp,
        Opt::Stats,
        Opt::Rate,
        Opt::Thresholds,
        Opt::PersistentConn,
        Opt::Nosort,
        Opt::Syncid,
        Opt::Exact,
        Opt::Ops,
        Opt::PersistenceEngine,
        Opt::SchedFlags,
        Opt::McastGroup,
        Opt::McastPort,
        Opt::McastTtl,
        Opt::SyncMaxlen,
        Opt::TunInfo,
        Opt::TunType,
        Opt::TunPort,
        Opt::TunNocsum,
        Opt::TunCsum,
        Opt::TunRemcsum,
        Opt::Json,
        Opt::Health,
        Opt::Full,
        Opt::Deadline,
        Opt::Backup,
    ];

    /// The name that messages give the option.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Opt::Service => "service-address",
            Opt::Forwarding => "forwarding-method",
            _ => SPECS.iter().find(|spec| spec.name == Name::Plain(self)).map_or("", |spec| spec.long),
        }
    }
}

const fn spec(name: Name, short: char, long: &'static str, value: Value) -> Spec {
    Spec { name, short: Some(short), long, value }
}

const fn long(name: Name, long: &'static str, value: Value) -> Spec {
    Spec { name, short: None, long, value }
}

const UNKNOWN: &str = "unknown option";
const MISSING_VALUE: &str = "missing argument";
const UNWANTED_VALUE: &str = "option does not take an argument";

use Name::Plain;

const SPECS: [Spec; 69] = [
    spec(Name::Verb(Verb::AddService), 'A', "add-service", Value::Never),
    spec(Name::Verb(Verb::EditService), 'E', "edit-service", Value::Never),
    spec(Name::Verb(Verb::DeleteService), 'D', "delete-service", Value::Never),
    spec(Name::Verb(Verb::Clear), 'C', "clear", Value::Never),
    spec(Name::Verb(Verb::AddServer), 'a', "add-server", Value::Never),
    spec(Name::Verb(Verb::EditServer), 'e', "edit-server", Value::Never),
    spec(Name::Verb(Verb::DeleteServer), 'd', "delete-server", Value::Never),
    spec(Name::Verb(Verb::List), 'L', "list", Value::Never),
    spec(Name::Verb(Verb::List), 'l', "list", Value::Never),
    spec(Name::Verb(Verb::Zero), 'Z', "zero", Value::Never),
    spec(Name::Verb(Verb::Restore), 'R', "restore", Value::Never),
    spec(Name::Verb(Verb::Save), 'S', "save", Value::Never),
    long(Name::Verb(Verb::Set), "set", Value::Never),
    long(Name::Verb(Verb::StartDaemon), "start-daemon", Value::Always),
    long(Name::Verb(Verb::StopDaemon), "stop-daemon", Value::Always),
    spec(Name::Verb(Verb::Help), 'h', "help", Value::Never),
    spec(Name::Verb(Verb::Version), 'v', "version", Value::Never),
    spec(Name::TcpService, 't', "tcp-service", Value::Always),
    spec(Name::UdpService, 'u', "udp-service", Value::Always),
    long(Name::SctpService, "sctp-service", Value::Always),
    spec(Name::MarkService, 'f', "fwmark-service", Value::Always),
    spec(Name::Ipv6, '6', "ipv6", Value::Never),
    spec(Name::Gatewaying, 'g', "gatewaying", Value::Never),
    spec(Name::Ipip, 'i', "ipip", Value::Never),
    spec(Name::Masquerading, 'm', "masquerading", Value::Never),
    long(Name::Sort, "sort", Value::Never),
    spec(Plain(Opt::Numeric), 'n', "numeric", Value::Never),
    spec(Plain(Opt::Connection), 'c', "connection", Value::Never),
    spec(Plain(Opt::Scheduler), 's', "scheduler", Value::Always),
    spec(Plain(Opt::Persistent), 'p', "persistent", Value::Maybe),
    spec(Plain(Opt::Netmask), 'M', "netmask", Value::Always),
    spec(Plain(Opt::RealServer), 'r', "real-server", Value::Always),
    spec(Plain(Opt::Weight), 'w', "weight", Value::Always),
    spec(Plain(Opt::UpperThreshold), 'x', "u-threshold", Value::Always),
    spec(Plain(Opt::LowerThreshold), 'y', "l-threshold", Value::Always),
    long(Plain(Opt::McastInterface), "mcast-interface", Value::Always),
    long(Plain(Opt::Timeout), "timeout", Value::Never),
    long(Plain(Opt::Daemon), "daemon", Value::Never),
    long(Plain(Opt::Vrrp), "vrrp", Value::Never),
    long(Plain(Opt::Stats), "stats", Value::Never),
    long(Plain(Opt::Rate), "rate", Value::Never),
    long(Plain(Opt::Thresholds), "thresholds", Value::Never),
    long(Plain(Opt::PersistentConn), "persistent-conn", Value::Never),
    long(Plain(Opt::Nosort), "nosort", Value::Never),
    long(Plain(Opt::Syncid), "syncid", Value::Always),
    spec(Plain(Opt::Exact), 'X', "exact", Value::Never),
    spec(Plain(Opt::Ops), 'o', "ops", Value::Never),
    long(Plain(Opt::PersistenceEngine), "pe", Value::Always),
    spec(Plain(Opt::SchedFlags), 'b', "sched-flags", Value::Always),
    long(Plain(Opt::McastGroup), "mcast-group", Value::Always),
    long(Plain(Opt::McastPort), "mcast-port", Value::Always),
    long(Plain(Opt::McastTtl), "mcast-ttl", Value::Always),
    long(Plain(Opt::SyncMaxlen), "sync-maxlen", Value::Always),
    long(Plain(Opt::TunInfo), "tun-info", Value::Never),
    long(Plain(Opt::TunType), "tun-type", Value::Always),
    long(Plain(Opt::TunPort), "tun-port", Value::Always),
    long(Plain(Opt::TunNocsum), "tun-nocsum", Value::Never),
    long(Plain(Opt::TunCsum), "tun-csum", Value::Never),
    long(Plain(Opt::TunRemcsum), "tun-remcsum", Value::Never),
    long(Name::Verb(Verb::Explain), "explain", Value::Never),
    long(Name::Verb(Verb::Plan), "plan", Value::Always),
    long(Name::Verb(Verb::Drain), "drain", Value::Always),
    long(Name::Verb(Verb::Top), "top", Value::Never),
    long(Name::Pool, "pool", Value::Always),
    long(Plain(Opt::Json), "json", Value::Never),
    long(Plain(Opt::Health), "health", Value::Never),
    long(Plain(Opt::Full), "full", Value::Never),
    long(Plain(Opt::Deadline), "deadline", Value::Always),
    long(Plain(Opt::Backup), "backup", Value::Never),
];
