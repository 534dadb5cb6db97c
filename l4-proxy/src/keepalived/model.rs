//! What a `keepalived.conf` asks for, checked: plain data without places or defaults left open.

mod arbiter;
mod build;
mod check;
mod checker;
mod global;
mod idle;
mod lvs;
mod mail;
mod persistence;
mod router;
mod sync;
mod vrrp;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lvs_core::{Algorithm, Forwarding, Persistence, SchedulerFlags, ServiceKey, Thresholds};

use super::complaint::Place;

pub(super) use self::build::build;
pub use self::check::{
    Body, Checker, Kind, Match, Method, Origin, Protocol, Query, Rhythm, SmtpHost, StatusCodes, Url, Wildcard,
};
pub use self::mail::{Mail, Mailing};
pub use self::router::{
    Address, Announcing, Arbiter, ArbiterKind, Arguments, Authentication, Etcd, Instance, LinkDelay, Notify,
    OnArbiterLoss, Peer, State, SyncGroup, Track, TrackFile, TrackProcess, Vrrp, VrrpScript, Weight, Wire,
};

pub use self::sync::SyncDaemon;

/// A whole `keepalived.conf`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// What holds for all.
    pub global: Global,
    /// The virtual servers, in the order of the file.
    pub services: Vec<VirtualServer>,
    /// VRRP.
    pub vrrp: Vrrp,
}

impl Model {
    /// The addresses that come and go with its VRRP instances: nobody needs to have them to listen
    /// there.
    pub fn floating(&self) -> impl Iterator<Item = IpAddr> {
        let instances = self.vrrp.instances.iter();
        let addresses = instances.flat_map(|instance| instance.addresses.iter().chain(&instance.excluded));
        addresses.map(|address| address.address)
    }
}

/// `global_defs`, as far as it says anything to a director.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Global {
    /// The name of this machine in messages.
    pub router_id: Option<String>,
    /// Who runs scripts that name nobody.
    pub script_user: Option<User>,
    /// No script runs as root that somebody else could change.
    pub script_security: bool,
    /// Failed checks are logged even where they change nothing.
    pub log_all_failures: bool,
    /// Idle timeouts of connections: TCP, TCP after a FIN, UDP.
    pub lvs_timeouts: [Option<Duration>; 3],
    /// Templates are shared with other directors.
    pub sync: Option<SyncDaemon>,
    /// Pipes that changes of VRRP instances are written to.
    pub fifos: Vec<PathBuf>,
    /// Pipes that changes of servers and quorums are written to.
    pub check_fifos: Vec<PathBuf>,
    /// Mail.
    pub mailing: Mailing,
    /// Real-time priority of the thread that speaks VRRP.
    pub vrrp_priority: Option<u8>,
    /// Where SIGUSR1 writes how the instances stand, if not to the usual place.
    pub state_file: Option<PathBuf>,
    /// Where SIGUSR2 writes what they counted.
    pub stats_file: Option<PathBuf>,
    /// Run once before the director begins, by the program that it is; [`Daemon`](crate::daemon::Daemon) runs
    /// neither.
    pub startup: Option<Errand>,
    /// Run once when it has ended.
    pub shutdown: Option<Errand>,
}

/// A program that is run once and waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// The program.
    pub script: Script,
    /// How long it may take.
    pub patience: Duration,
}

/// A `virtual_server`, for one address or a group of them.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualServer {
    /// How scripts and messages name it.
    pub name: String,
    /// What clients connect to; one for each member of a group.
    pub keys: Vec<ServiceKey>,
    /// Where it was asked for.
    pub place: Place,
    /// How a server is chosen.
    pub algorithm: Algorithm,
    /// Options of the scheduler.
    pub flags: SchedulerFlags,
    /// Every datagram is scheduled on its own.
    pub one_packet: bool,
    /// Keeps clients on their server.
    pub persistence: Option<Persistence>,
    /// Weight that live servers must have together.
    pub quorum: u32,
    /// How far above the quorum it is gained, and below it lost.
    pub hysteresis: u32,
    /// Run when the quorum is gained.
    pub quorum_up: Option<Script>,
    /// Run when the quorum is lost.
    pub quorum_down: Option<Script>,
    /// Mail of the quorum; none where nothing is said.
    pub mail: Mail,
    /// At the end, servers and quorum are told to go down.
    pub omega: bool,
    /// Checks rest while the virtual address is not on this host.
    pub ha_suspend: bool,
    /// Takes the clients while the quorum is lost.
    pub sorry: Option<Sorry>,
    /// Its real servers, in the order of the file.
    pub servers: Vec<RealServer>,
}

/// A `sorry_server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sorry {
    /// Where it listens.
    pub address: SocketAddr,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// It stays in the table at weight 0 while it is not needed.
    pub inhibit: bool,
}

/// A `real_server`.
#[derive(Clone, Debug, PartialEq)]
pub struct RealServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of new connections.
    pub weight: u32,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// When it is full.
    pub thresholds: Thresholds,
    /// While it is down it has weight 0 and keeps its persistent clients, in place of being out.
    pub inhibit: bool,
    /// Run when it comes up.
    pub notify_up: Option<Script>,
    /// Run when it goes down.
    pub notify_down: Option<Script>,
    /// Mail of it going down or coming up; sent where nothing is said.
    pub mail: Mail,
    /// It is up if all of these are.
    pub checkers: Vec<Checker>,
}

/// A program with its arguments, and who runs it. No shell is involved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Script {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Who runs it, if not `script_user`.
    pub user: Option<User>,
}

/// A user and a group, by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    /// The user.
    pub user: String,
    /// The group, if not the user's own.
    pub group: Option<String>,
}

/// A file with a number in it (`track_file`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NumberFile {
    /// Where it is.
    pub path: PathBuf,
    /// What the number is multiplied by.
    pub weight: i64,
}

impl Script {
    /// Splits a command at blanks; single quotes protect them.
    pub(crate) fn parse(command: &str) -> Option<Vec<String>> {
        let mut words: Vec<String> = Vec::new();
        let (mut word, mut quoted) = (None::<String>, false);
        for character in command.chars() {
            match character {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                _ if character.is_whitespace() && !quoted => words.extend(word.take()),
                _ => word.get_or_insert_default().push(character),
            }
        }
        words.extend(word);
        (!words.is_empty() && !quoted).then_some(words)
    }
}

/// How keepalived names an address and port in messages and to scripts.
pub(crate) fn endpoint(address: IpAddr, protocol: &str, port: u16) -> String {
    format!("[{address}]:{protocol}:{port}")
}
