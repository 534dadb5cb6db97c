//! The command line of `l4-proxy`.

mod marks;
mod services;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use l4_proxy::daemon::Options;
use l4_proxy::keepalived::Dialect;
use l4_proxy::probe::Schedule;
use l4_proxy::relay::Engine;
use lexopt::{Arg, Parser, ValueExt};
use tracing_subscriber::filter::{LevelFilter, Targets};

pub(crate) use self::services::Named;
use self::services::{Services, TRANSPARENT_HELP};
use crate::sources::Sources;

/// What is to be done.
pub(crate) enum Command {
    /// Print this and end well.
    Say(String),
    /// Check the files.
    Check(Sources),
    /// Be a director.
    Run(Box<Run>),
}

/// How to be a director.
pub(crate) struct Run {
    /// What it is configured by, read at start and again on SIGHUP.
    pub(crate) sources: Sources,
    /// The director itself.
    pub(crate) daemon: Options,
    /// Goes on where the director at the control socket ends.
    pub(crate) takeover: bool,
    /// Who it is to be, `NAME` or `NAME:GROUP`.
    pub(crate) user: Option<String>,
    /// How long a drain may take.
    pub(crate) drain: Duration,
    /// What is logged.
    pub(crate) log: Targets,
    /// What of it cannot be as it was said.
    pub(crate) warnings: Vec<String>,
}

/// Reads the command line, the name of the program first.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = Parser::from_iter(arguments);
    let descriptors = descriptors();
    let mut daemon = Options {
        connections_max: (descriptors / 2).max(1),
        flows_max: (descriptors / 4).max(1),
        ..Options::default()
    };
    let (mut sources, mut check, mut user) = (Sources::default(), false, None);
    let mut warnings = Vec::new();
    let mut takeover = false;
    let (mut drain, mut log) = (DRAIN, default_log());
    let mut services = Services::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let name = match &argument {
            Arg::Long(name) => format!("--{name}"),
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Value(value) => return Err(format!("unexpected argument \"{}\"", value.to_string_lossy())),
        };
        let mut value = || -> Result<String, String> {
            let value = parser.value().map_err(|error| error.to_string())?;
            value.string().map_err(|error| format!("{name}: {error}"))
        };
        match name.as_str() {
            "--rules" => sources.rules = Some(PathBuf::from(value()?)),
            "--config" => sources.config = Some(PathBuf::from(value()?)),
            "-i" | "--config-id" => sources.id = Some(value()?),
            "--lenient" => sources.dialect = Dialect::Lenient,
            "--control" => daemon.control = Some(PathBuf::from(value()?)),
            "--metrics" => {
                let text = value()?;
                let address = text.parse().map_err(|_| wrong(&name, &text, "an address and port"))?;
                daemon.metrics = Some(address);
            }
            "--user" => user = Some(value()?),
            "--workers" => {
                let text = value()?;
                let workers = text.parse().ok().filter(|workers| (1..=WORKERS_MAX).contains(workers));
                daemon.workers = workers.ok_or_else(|| wrong(&name, &text, "a number from 1 to 1024"))?;
            }
            "--relay" => {
                let text = value()?;
                let engine = ENGINES.iter().find(|(name, _)| *name == text);
                daemon.settings.engine =
                    engine.ok_or_else(|| wrong(&name, &text, "auto, copy, pooled or tokio-splice"))?.1;
            }
            "--max-connections" => {
                let text = value()?;
                let max = text.parse().ok().filter(|max| *max > 0);
                daemon.connections_max = max.ok_or_else(|| wrong(&name, &text, "a number above 0"))?;
                warnings.extend(too_many(&name, daemon.connections_max, descriptors / 2));
            }
            "--max-flows" => {
                let text = value()?;
                let max = text.parse().ok().filter(|max| *max > 0);
                daemon.flows_max = max.ok_or_else(|| wrong(&name, &text, "a number above 0"))?;
                warnings.extend(too_many(&name, daemon.flows_max, descriptors));
            }
            "--connect-timeout" => daemon.settings.connect = seconds(&name, &value()?)?,
            "--user-timeout" => daemon.settings.user_timeout = Some(seconds(&name, &value()?)?),
            "--count-packets" => daemon.settings.count_packets = true,
            _ if Services::know(&name) => {
                let text = value()?;
                services.take(&name, &text).map_err(|wanted| wrong(&name, &text, wanted))?;
            }
            "--fwmark" => {
                let text = value()?;
                let entrances = marks::read(&text).ok_or_else(|| wrong(&name, &text, marks::WANTED))?;
                sources.named.extend(entrances.iter().copied().map(Named::at));
                daemon.entrances.extend(entrances);
            }
            "--fwmark-help" => return Ok(Command::Say(marks::HELP.trim_end().to_owned())),
            "--transparent-help" => return Ok(Command::Say(TRANSPARENT_HELP.trim_end().to_owned())),
            "--probe-interval" => {
                let interval = seconds(&name, &value()?)?;
                let timeout = interval.min(Schedule::default().timeout);
                daemon.probes = Some(Schedule { interval, timeout });
            }
            "--takeover" => takeover = true,
            "--no-probes" => daemon.probes = None,
            "--drain-timeout" => drain = seconds(&name, &value()?)?,
            "--log" => {
                log = value()?;
                // A level that is misspelled would be a target, and all others silent.
                let is_sound = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
                if !log.split(',').all(is_sound) {
                    return Err(wrong("--log", &log, LEVELS));
                }
            }
            "-t" | "--test" => check = true,
            "-h" | "--help" => return Ok(Command::Say(HELP.trim_end().to_owned())),
            "-v" | "-V" | "--version" => {
                return Ok(Command::Say(format!("l4-proxy {}", env!("CARGO_PKG_VERSION"))));
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    sources.named.extend(services.named());
    daemon.services = services.on(&daemon.settings);
    sources.entrances.clone_from(&daemon.entrances);
    let log = log.parse().map_err(|_| wrong("--log", &log, LEVELS))?;
    if takeover && daemon.control.is_none() {
        return Err("--takeover needs --control PATH, where the running director answers".to_owned());
    }
    match (check, sources.is_empty()) {
        (true, false) => Ok(Command::Check(sources)),
        (true, true) => Err("-t needs --config FILE or --rules FILE".to_owned()),
        (false, true) if daemon.control.is_none() => {
            Err("nothing to do: give --config FILE, --rules FILE or --control PATH".to_owned())
        }
        (false, _) => {
            Ok(Command::Run(Box::new(Run { sources, daemon, user, takeover, drain, log, warnings })))
        }
    }
}

/// Seconds with an optional fraction, a millisecond to a day.
fn seconds(name: &str, text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| wrong(name, text, "seconds from 0.001 to 86400"))
}

fn wrong(name: &str, value: &str, wanted: &str) -> String {
    format!("invalid value \"{value}\" for {name}: wanted {wanted}")
}

const LEVELS: &str = "a level and levels by target, such as info,connection=off";

fn default_log() -> String {
    std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned())
}

/// Descriptors that are left for connections, which take two each, and flows of datagrams, which take
/// one, after asking for all the system allows. Where both come in numbers they may meet its limit
/// before their own; then accepting pauses, and flows give way as at theirs.
fn descriptors() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If the limit cannot be raised, the present one holds.
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS_MAX).min(DESCRIPTORS_MAX);
    descriptors.saturating_sub(DESCRIPTORS_OWN) as usize
}

/// What is to be said of a bound above what the descriptors are enough for.
fn too_many(name: &str, asked: usize, enough_for: usize) -> Option<String> {
    (asked > enough_for).then(|| {
        format!(
            "{name} {asked}: the descriptor limit is enough for {enough_for}; raise it by LimitNOFILE= of the unit or ulimit -Hn"
        )
    })
}

const ENGINES: [(&str, Engine); 4] = [
    ("auto", Engine::Auto),
    ("copy", Engine::Copy),
    ("pooled", Engine::Pooled),
    ("tokio-splice", Engine::TokioSplice),
];

const WORKERS_MAX: usize = 1024;

const DRAIN: Duration = Duration::from_secs(30);

/// Listeners, pipes, probes, the control socket, the log.
const DESCRIPTORS_OWN: u64 = 256;

/// Two million connections; more is a limit that nobody set.
const DESCRIPTORS_MAX: u64 = 4_000_000;

const HELP: &str = "\
l4-proxy: a Linux Virtual Server director in userspace

usage: l4-proxy --config FILE [options]         as keepalived.conf says
       l4-proxy --rules FILE [options]          as ipvsadm-save writes it
       l4-proxy --control PATH [options]        start empty, configure with lvsadm
       l4-proxy -t --config FILE|--rules FILE   check the files and exit

  --config FILE           virtual servers, real servers, their checks and VRRP instances in
                          keepalived's format; read again on SIGHUP; may stand beside --rules
  -i, --config-id ID      what lines that begin with @ID go by (default: the machine's name)
  --lenient               leave out lines that cannot be understood, as keepalived does
  --rules FILE            services and servers as ipvsadm-save writes them; read again on SIGHUP
  --control PATH          socket on which lvsadm finds the director
  --takeover              go on where the director at --control ends: with its sockets, templates,
                          UDP flows, counters and health, as VRRP master where it was one, and with
                          its rules if no files are given; `lvsadm --upgrade' has the running
                          director start its program so
  --metrics ADDRESS:PORT  where Prometheus finds /metrics (default: nowhere)
  --user NAME[:GROUP]     whom to become, keeping only the capabilities to bind low ports, to be
                          transparent, to ping and to speak VRRP
  --workers N             worker threads (default: the number of cores)
  --relay ENGINE          auto, copy, pooled or tokio-splice (default: auto)
  --max-connections N     most connections at a time (default: what the descriptor limit allows)
  --max-flows N           most UDP flows at a time (default: a quarter of the descriptor limit)
  --connect-timeout S     time for one server to accept (default: 3)
  --user-timeout S        time for a peer to acknowledge bytes (default: the kernel's, 15 minutes)
  --count-packets         count packets of TCP connections, too, for lvsadm --stats and --rate: at
                          the end of each, once a minute, and for a listing those of 1000 that
                          are open (a system call more for each)
  --probe-interval S      time between probes of a server (default: 2)
  --no-probes             servers go down by failed connections only
  --drain-timeout S       time for connections to end after SIGTERM (default: 30)
  --log LEVELS            what is logged, by target (default: info, or RUST_LOG);
                          info,connection=debug has a line for each connection and flow, in place
                          of only for a connection that went wrong; info,connection=off has none
  --fwmark MARK=VIP:PORT  where the service of a firewall mark is reached, MARK \"packets\" where
                          packets' own marks decide; see --fwmark-help
  of one service, VIP:PORT or MARK:
  --send-proxy VIP:PORT=v2            servers are told the client's address (PROXY protocol v1, v2)
  --accept-proxy VIP:PORT=NETWORKS    clients in these networks tell it, and must
  --source VIP:PORT=ADDRESS[,...]     connect to servers from these addresses, in turn
  --transparent VIP:PORT              connect from the client's address; see --transparent-help
  --limit VIP:PORT=N                  most connections at a time, of all workers; more wait to be accepted
  --redispatch VIP:PORT=BYTES         try another server also if one closes before its first byte,
                                      while the client has sent no more than this
  -t, --test              check the files and exit
  -h, --help              this text
  -V, --version           the version

SIGHUP reloads the files; SIGTERM and SIGINT give virtual addresses to another director, stop accepting
and let connections end, a second one ends them. SIGUSR1 writes how the VRRP instances stand to
/tmp/keepalived.json (or json_dump_file of global_defs), SIGUSR2 what they counted to
/tmp/keepalived.stats.json (or stats_dump_file).
";
