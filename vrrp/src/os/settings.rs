//! What a node is asked to run: virtual routers as a host has them, with interface, peers and the
//! addresses to be put there.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::packet::Authentication as Written;
use crate::packet::{Coverage, GROUP_V4, GROUP_V6, TTL, Version};
use crate::router::{Answer, Config, Consent, Moment, Preempt};

/// All that a node runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The virtual routers, each of another name.
    pub instances: Vec<Instance>,
    /// Those that are master together or not at all. A virtual router is in one of them at most.
    pub groups: Vec<SyncGroup>,
    /// Interfaces whose going down or coming up does not count at once.
    pub link_delays: Vec<LinkDelay>,
}

/// How long an interface has to be down, or up, before that counts (`interface_up_down_delays`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkDelay {
    /// Its name.
    pub interface: String,
    /// How long down. A backup that hears nothing should not have become master by then.
    pub down: Duration,
    /// How long up, once it has been up.
    pub up: Duration,
}

/// Virtual routers that are master together or not at all (`vrrp_sync_group`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    /// Its name.
    pub name: String,
    /// The names of its virtual routers.
    pub members: Vec<String>,
}

/// A virtual router on this host (`vrrp_instance`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Interface that it speaks on and that its addresses come to; only one that speaks to peers can do
    /// without.
    pub interface: Option<String>,
    /// Which virtual router it is, 1 to 255.
    pub vrid: u8,
    /// How its advertisements are written.
    pub dialect: Dialect,
    /// 255 owns the addresses; the others compare.
    pub priority: u8,
    /// From one advertisement to the next.
    pub interval: Duration,
    /// Silent intervals after which a master is taken for gone.
    pub down_adverts: u8,
    /// Whether it takes the addresses from a master of lower priority.
    pub preempt: Preempt,
    /// Whom it speaks to.
    pub reach: Reach,
    /// Where its advertisements come from; without it, from the interface's first address.
    pub source: Option<IpAddr>,
    /// The virtual addresses that are advertised, of one family.
    pub addresses: Vec<VirtualAddress>,
    /// Further ones, which come and go with them and are not advertised.
    pub excluded: Vec<VirtualAddress>,
    /// Whether it has a MAC address of its own (`use_vmac`).
    pub mac: Mac,
    /// How neighbours are told who has the addresses.
    pub announcing: Announcing,
    /// Whether it depends on its interface.
    pub dependence: Dependence,
    /// Further interfaces that it depends on (`track_interface`).
    pub links: Vec<WatchedLink>,
    /// Trackers that have to say something before it starts.
    pub awaits: Vec<String>,
    /// Who has a say in who is master.
    pub consent: Consent,
    /// What a master answers one of lower priority.
    pub to_lower: Answer,
    /// What a master answers one of higher priority, before it gives way.
    pub to_higher: Answer,
    /// Before this moment of [`now`](super::now) it takes nobody for gone.
    pub begins: Moment,
}

/// How advertisements are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// VRRPv2, IPv4 only.
    V2(Authentication),
    /// VRRPv3; over IPv4 the checksum covers what is said here.
    V3(Coverage),
}

/// How v2 advertisements prove who sent them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all.
    None,
    /// By a password in clear, of which 8 bytes count.
    Password(Vec<u8>),
    /// By an authentication header made with this key.
    Header(Vec<u8>),
}

/// Whom a virtual router speaks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everybody who listens to this group; none is the usual one of the family.
    Group(Option<IpAddr>),
    /// These hosts, and nobody else.
    Peers {
        /// The hosts.
        peers: Vec<Peer>,
        /// Hop limit of what they are sent.
        ttl: u8,
        /// Whose advertisements count.
        accepted: Accepted,
    },
}

/// A host that a virtual router speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Its advertisements arrive with a hop limit from here to there.
    pub ttl: (u8, u8),
}

/// Whose advertisements count where peers are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accepted {
    /// Everybody's, as far as they can be authenticated.
    #[default]
    All,
    /// Those of the peers (`check_unicast_src`).
    Peers,
}

/// An address that the master has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// Its interface, if not that of the virtual router.
    pub device: Option<String>,
    /// Label of the alias, as `eth0:1`.
    pub label: Option<String>,
    /// How far it is valid.
    pub scope: Scope,
    /// Broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// The other end, of a point-to-point interface.
    pub peer: Option<IpAddr>,
    /// What else the kernel is told of it.
    pub flags: Vec<AddressFlag>,
}

/// How far an address is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everywhere.
    #[default]
    Global,
    /// In this site.
    Site,
    /// On this link.
    Link,
    /// In this host.
    Host,
    /// As a number says.
    Other(u8),
}

/// What the kernel is told of an address, as `ip address` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressFlag {
    /// `home`
    Home,
    /// `mngtmpaddr`
    ManageTemporary,
    /// `noprefixroute`
    NoPrefixRoute,
    /// `autojoin`
    AutoJoin,
    /// Not as a source of connections that name none: `preferred_lft 0`.
    Deprecated,
}

/// Whether a virtual router has a MAC address of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mac {
    /// It has that of the interface; neighbours have to learn who is master.
    #[default]
    OfInterface,
    /// It has that of the RFC, 00:00:5e:00:01:VRID, on an interface of its own.
    Virtual {
        /// The interface's name; `vrrp.VRID` without.
        name: Option<String>,
        /// Where advertisements come from.
        advertises: Advertises,
    },
}

/// Which MAC address advertisements come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Advertises {
    /// The virtual one.
    #[default]
    Virtually,
    /// That of the interface below (`vmac_xmit_base`).
    FromInterface,
}

/// How neighbours are told who has the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcing {
    /// How often at each time (`garp_master_repeat`).
    pub repeat: u32,
    /// When once more, after the first time (`garp_master_delay`).
    pub again: Option<Duration>,
    /// From then on every so often (`garp_master_refresh`).
    pub refresh: Option<Duration>,
    /// How often at each of these (`garp_master_refresh_repeat`).
    pub refresh_repeat: u32,
    /// How often when a lower master was heard (`garp_lower_prio_repeat`).
    pub contested_repeat: u32,
    /// When once more after that (`garp_lower_prio_delay`).
    pub contested_again: Option<Duration>,
    /// Time between two gratuitous ARPs on an interface (`garp_interval`).
    pub arp_spacing: Duration,
    /// Time between two unsolicited neighbour advertisements on an interface (`gna_interval`).
    pub na_spacing: Duration,
}

/// Whether a virtual router depends on its interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dependence {
    /// It cannot be master while the interface is down.
    #[default]
    Tracked,
    /// The state of the interface does not count (`dont_track_primary`).
    Untracked,
}

/// An interface that a virtual router depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedLink {
    /// Its name.
    pub interface: String,
    /// What it means that it is up.
    pub up: Effect,
    /// What it means that it is down, or not there.
    pub down: Effect,
}

/// What the state of something that is watched means to a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This is added to the priority.
    Adds(i32),
    /// The virtual router cannot be master.
    Fault,
}

impl WatchedLink {
    /// An interface that has to be up.
    pub fn needed(interface: impl Into<String>) -> WatchedLink {
        WatchedLink { interface: interface.into(), up: Effect::Adds(0), down: Effect::Fault }
    }
}

impl Instance {
    /// A virtual router as keepalived has it where nothing else is said.
    pub fn new(name: impl Into<String>, interface: impl Into<String>, vrid: u8) -> Instance {
        Instance {
            name: name.into(),
            interface: Some(interface.into()),
            vrid,
            dialect: Dialect::V2(Authentication::None),
            priority: 100,
            interval: Duration::from_secs(1),
            down_adverts: 3,
            preempt: Preempt::AtOnce,
            reach: Reach::Group(None),
            source: None,
            addresses: Vec::new(),
            excluded: Vec::new(),
            mac: Mac::OfInterface,
            announcing: Announcing::default(),
            dependence: Dependence::Tracked,
            links: Vec::new(),
            awaits: Vec::new(),
            consent: Consent::NotNeeded,
            to_lower: Answer::Advert,
            to_higher: Answer::Advert,
            begins: Moment::ZERO,
        }
    }

    /// Whether another one is the same virtual router in the same place, set up in another way.
    pub(super) fn is_same(&self, other: &Instance) -> bool {
        self.identity() == other.identity()
    }

    /// What makes it the virtual router that it is, however it is set up: name, interface, number, family
    /// and MAC address.
    pub fn identity(&self) -> String {
        format!("{:?}", (&self.name, &self.interface, self.vrid, self.is_v6(), &self.mac))
    }

    /// Whether it speaks over IPv6: as its source does, its peers, its addresses.
    pub fn is_v6(&self) -> bool {
        let peer = match &self.reach {
            Reach::Group(group) => *group,
            Reach::Peers { peers, .. } => peers.first().map(|peer| peer.address),
        };
        let told = self.source.or(peer).or(self.addresses.first().map(|virtual_one| virtual_one.address));
        told.is_some_and(|address| address.is_ipv6())
    }

    /// Where its advertisements go.
    pub(super) fn destinations(&self) -> Vec<IpAddr> {
        match &self.reach {
            Reach::Group(Some(group)) => vec![*group],
            Reach::Group(None) if self.is_v6() => vec![GROUP_V6.into()],
            Reach::Group(None) => vec![GROUP_V4.into()],
            Reach::Peers { peers, .. } => peers.iter().map(|peer| peer.address).collect(),
        }
    }

    /// The hop limit of its advertisements.
    pub(super) fn ttl(&self) -> u8 {
        match self.reach {
            Reach::Group(_) => TTL,
            Reach::Peers { ttl, .. } => ttl,
        }
    }

    /// All virtual addresses.
    pub(super) fn all_addresses(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.addresses.iter().chain(&self.excluded)
    }

    /// How its advertisements are written, where every version has its own words.
    pub(super) fn version(&self) -> Version {
        match &self.dialect {
            Dialect::V2(Authentication::None) => Version::V2(Written::None),
            Dialect::V2(Authentication::Password(password)) => Version::V2(Written::password(password)),
            Dialect::V2(Authentication::Header(_)) => Version::V2(Written::Header),
            Dialect::V3(_) => Version::V3,
        }
    }

    /// What the state machine is set up with, at an address of its own.
    pub(super) fn config(&self, address: IpAddr) -> Config {
        Config {
            vrid: self.vrid,
            version: self.version(),
            priority: self.priority,
            interval: self.interval,
            down_adverts: self.down_adverts,
            preempt: self.preempt,
            address,
            addresses: self.addresses.iter().map(|virtual_one| virtual_one.address).collect(),
            announce_again: self.announcing.again,
            announce_every: self.announcing.refresh,
            consent: self.consent,
            to_lower: self.to_lower,
            to_higher: self.to_higher,
            begins: self.begins,
        }
    }
}

impl VirtualAddress {
    /// One address by itself, on the interface of its virtual router. In IPv6, connections of this
    /// host's own do not come from it.
    pub fn new(address: IpAddr) -> VirtualAddress {
        VirtualAddress {
            address,
            prefix: if address.is_ipv4() { 32 } else { 128 },
            device: None,
            label: None,
            scope: Scope::Global,
            broadcast: None,
            peer: None,
            flags: if address.is_ipv6() { vec![AddressFlag::Deprecated] } else { Vec::new() },
        }
    }
}

impl Default for Announcing {
    fn default() -> Announcing {
        Announcing {
            repeat: 5,
            again: Some(Duration::from_secs(5)),
            refresh: None,
            refresh_repeat: 1,
            contested_repeat: 5,
            contested_again: Some(Duration::from_secs(5)),
            arp_spacing: Duration::ZERO,
            na_spacing: Duration::ZERO,
        }
    }
}
