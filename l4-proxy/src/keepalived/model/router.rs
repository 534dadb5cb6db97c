//! VRRP as plain data: what `vrrp_*` blocks ask for.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Mail, NumberFile, Script};

/// Everything about VRRP in a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vrrp {
    /// The virtual routers.
    pub instances: Vec<Instance>,
    /// Those that change together.
    pub groups: Vec<SyncGroup>,
    /// Programs that are asked.
    pub scripts: Vec<VrrpScript>,
    /// Files that are read.
    pub files: Vec<TrackFile>,
    /// Processes that are watched.
    pub processes: Vec<TrackProcess>,
    /// Interfaces whose going down or coming up does not count at once.
    pub link_delays: Vec<LinkDelay>,
    /// How long after the start instances only listen.
    pub startup_delay: Duration,
    /// How long after the start of the host.
    pub boot_delay: Duration,
}

/// How long an interface has to be down, or up, before that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkDelay {
    /// Its name.
    pub interface: String,
    /// How long down.
    pub down: Duration,
    /// How long up.
    pub up: Duration,
}

/// A `vrrp_instance`.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// What it begins as.
    pub state: State,
    /// Interface that it speaks on.
    pub interface: Option<String>,
    /// Number of the virtual router, 1 to 255.
    pub router_id: u8,
    /// Who becomes master: 1 to 255, the owner of the addresses.
    pub priority: u8,
    /// Time between adverts.
    pub advertisement: Duration,
    /// Version of the protocol, 2 or 3.
    pub version: u8,
    /// Password of adverts (version 2).
    pub authentication: Option<Authentication>,
    /// Addresses that are advertised.
    pub addresses: Vec<Address>,
    /// Addresses that come and go with them, and are not advertised.
    pub excluded: Vec<Address>,
    /// Routes that come and go with them, as `ip route` takes them.
    pub routes: Vec<Vec<String>>,
    /// Rules that come and go with them, as `ip rule` takes them.
    pub rules: Vec<Vec<String>>,
    /// Adverts go to these and not to a group.
    pub peers: Vec<Peer>,
    /// Where adverts come from.
    pub source: Option<IpAddr>,
    /// A master of lower priority stays master.
    pub no_preempt: bool,
    /// How long to wait before preempting.
    pub preempt_delay: Duration,
    /// Packets to the addresses are taken although they are not owned.
    pub accept: bool,
    /// A virtual MAC address is used, on an interface of this name.
    pub vmac: Option<Option<String>>,
    /// What lowers or raises the priority, or is a fault.
    pub track: Track,
    /// The state of the interface does not count.
    pub ignores_interface: bool,
    /// Who has to consent to its being master.
    pub arbiter: Option<Arbiter>,
    /// Who is told.
    pub notify: Notify,
    /// How adverts travel.
    pub wire: Wire,
    /// How neighbours are told who has the addresses.
    pub announcing: Announcing,
    /// The keywords that the fields above say nothing of, with their values.
    pub further: Vec<Vec<String>>,
}

/// How adverts travel and when they are missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The group that they go to without peers, if not the usual one.
    pub group: Option<IpAddr>,
    /// Time to live of what peers are sent.
    pub unicast_ttl: u8,
    /// Only adverts of peers count.
    pub checks_source: bool,
    /// The checksum of version 3 over IPv4 covers the message alone.
    pub checksum_as_v2: bool,
    /// Silent intervals after which a master is taken for gone.
    pub down_adverts: u8,
    /// With a virtual MAC address: adverts go out with that of the interface below.
    pub from_base: bool,
    /// A master answers one of lower priority.
    pub answers_lower: bool,
    /// A master speaks once more when it hears one of higher priority, and then gives way.
    pub answers_higher: bool,
}

/// Gratuitous ARPs and unsolicited neighbour advertisements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcing {
    /// How often at each time.
    pub repeat: u32,
    /// When once more; zero for never.
    pub again: Duration,
    /// From then on every so often; zero for never.
    pub refresh: Duration,
    /// How often then.
    pub refresh_repeat: u32,
    /// How often when a master of lower priority is heard.
    pub contested_repeat: u32,
    /// When once more after that; zero for never.
    pub contested_again: Duration,
    /// Time between two gratuitous ARPs.
    pub arp_spacing: Duration,
    /// Time between two neighbour advertisements.
    pub na_spacing: Duration,
}

/// What an instance begins as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// `MASTER`
    Master,
    /// `BACKUP`
    #[default]
    Backup,
}

/// How adverts prove who sent them (RFC 2338, removed by RFC 3768).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// A password of up to 8 bytes, in the clear.
    Password(String),
    /// An authentication header.
    Header(String),
}

/// An `arbiter`: a third party without whose consent nobody is master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arbiter {
    /// Who it is.
    pub kind: ArbiterKind,
    /// How long its consent lasts.
    pub ttl: Duration,
    /// What a master does when it cannot be asked.
    pub on_loss: OnArbiterLoss,
}

/// Who an arbiter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArbiterKind {
    /// A lease in etcd: one holder at most, wherever the network parts.
    Etcd(Etcd),
    /// A gateway that has to answer: who is cut off from it gives way.
    Ping(IpAddr),
}

/// How etcd is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Its members: `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoints: Vec<String>,
    /// The key that the holder of the addresses has.
    pub key: String,
    /// Who signs its certificates.
    pub ca_file: Option<PathBuf>,
    /// The certificate and its key that are shown to it.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The user's name and password, where etcd wants to know who asks.
    pub login: Option<(String, String)>,
}

/// What a master does when its arbiter cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnArbiterLoss {
    /// It gives the addresses away: nobody has them until the arbiter is back.
    #[default]
    Yield,
    /// It keeps them; nobody takes them over until the arbiter is back.
    Keep,
}

/// A virtual address and how it is put on its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// Interface, if not that of the instance.
    pub device: Option<String>,
    /// Label of the alias.
    pub label: Option<String>,
    /// The other options, as `ip address` takes them.
    pub options: Vec<String>,
}

/// A router that adverts are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Its adverts arrive with at least, and at most, this time to live.
    pub ttl: (u8, u8),
}

/// What an instance or group watches: names, and weights where they have one of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// Interfaces.
    pub interfaces: Vec<(String, Option<Weight>)>,
    /// Scripts.
    pub scripts: Vec<(String, Option<Weight>)>,
    /// Files.
    pub files: Vec<(String, Option<Weight>)>,
    /// Processes.
    pub processes: Vec<(String, Option<Weight>)>,
    /// BFD sessions.
    pub sessions: Vec<(String, Option<Weight>)>,
}

/// What something that is watched does to a priority. Zero is a fault where it is down, or reversed where
/// it is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Above zero it is added while the thing is up, below zero while it is down.
    pub value: i64,
    /// The other way round: taken off, or added.
    pub reversed: bool,
}

impl Weight {
    /// What is added to the priority while the thing is up or down, if it is no fault.
    ///
    /// ```
    /// # use l4_proxy::keepalived::model::Weight;
    /// let bonus = Weight { value: 20, reversed: false };
    /// assert_eq!((bonus.adds(true), bonus.adds(false)), (Some(20), Some(0)));
    /// let malus = Weight { value: -20, reversed: false };
    /// assert_eq!((malus.adds(true), malus.adds(false)), (Some(0), Some(-20)));
    /// assert_eq!(Weight::default().adds(false), None);
    /// assert_eq!(Weight { value: 0, reversed: true }.adds(true), None);
    /// ```
    pub fn adds(self, up: bool) -> Option<i64> {
        if self.value == 0 {
            return (up != self.reversed).then_some(0);
        }
        let added = if (self.value > 0) == up { self.value } else { 0 };
        Some(if self.reversed { -added } else { added })
    }

    /// What is left of it in a group whose weights do not count: whether it is a fault.
    pub(crate) fn without_value(self) -> Weight {
        Weight { value: 0, reversed: self.reversed && self.value == 0 }
    }
}

/// Scripts that are told of changes, and whether mail is sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notify {
    /// Told when it becomes master.
    pub master: Option<Script>,
    /// Told when it becomes backup.
    pub backup: Option<Script>,
    /// Told of a fault.
    pub fault: Option<Script>,
    /// Told at the end.
    pub stop: Option<Script>,
    /// Told when it goes from the configuration.
    pub deleted: Option<Script>,
    /// Told of all.
    pub any: Option<Script>,
    /// Told when a master hears one of lower priority.
    pub lower_priority: Option<Script>,
    /// Told when somebody else has the addresses too.
    pub split_brain: Option<Script>,
    /// Mail.
    pub mail: Mail,
}

/// A `vrrp_sync_group`.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncGroup {
    /// Its name.
    pub name: String,
    /// Its instances.
    pub members: Vec<String>,
    /// What it watches.
    pub track: Track,
    /// Weights of what is watched count.
    pub weights_count: bool,
    /// Who is told.
    pub notify: Notify,
}

/// A `vrrp_script`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VrrpScript {
    /// Its name.
    pub name: String,
    /// What is run.
    pub script: Script,
    /// From one run to the next.
    pub interval: Duration,
    /// How long a run may take.
    pub timeout: Duration,
    /// What it does to a priority.
    pub weight: Weight,
    /// Runs that must pass.
    pub rise: u32,
    /// Runs that must fail.
    pub fall: u32,
    /// It counts as failed until it has passed.
    pub begins_failed: bool,
}

/// A `track_file`, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackFile {
    /// Its name.
    pub name: String,
    /// The file.
    pub file: NumberFile,
}

/// A `vrrp_track_process`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackProcess {
    /// Its name.
    pub name: String,
    /// The command, and its arguments if they count.
    pub command: Vec<String>,
    /// What it does to a priority.
    pub weight: Weight,
    /// How the arguments are compared.
    pub arguments: Arguments,
    /// How many must run; 0 where none may.
    pub quorum: u32,
    /// How many may run, no fewer than must.
    pub quorum_max: u32,
    /// For how long there must be enough before that counts.
    pub up_after: Duration,
    /// For how long there must be too few, or too many.
    pub down_after: Duration,
    /// The whole command line is compared.
    pub full_command: bool,
}

/// How the arguments of a process are compared with those that are asked for (`param_match`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arguments {
    /// They are the same; where none are asked for, any will do.
    #[default]
    AsGiven,
    /// They are the same: where none are asked for, there are none.
    Exact,
    /// The first ones are the same; where none are asked for, any will do.
    Partial,
    /// As partial, and the last of those may be longer.
    Initial,
}
