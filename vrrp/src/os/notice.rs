//! What a node tells: changes, and what an operator should look into; and what it shows when asked.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::router::{Reason, State, Warning};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A virtual router changed its state.
    Became {
        /// Its name.
        instance: String,
        /// What it was.
        was: State,
        /// What it is.
        state: State,
        /// Why.
        reason: Reason,
        /// What is down, where that is why.
        faults: Vec<Fault>,
        /// The priority that it has now.
        priority: u8,
    },
    /// A group changed its state: it is master when all are, and at fault when one is.
    GroupBecame {
        /// Its name.
        group: String,
        /// What it is.
        state: State,
    },
    /// A virtual router, or its group, asks for the arbiter's consent, until it is released.
    Asks {
        /// The one that asks; what it is told is for all of its group.
        instance: String,
    },
    /// It needs the consent no more: its addresses are gone.
    Releases {
        /// The one that gives it back, for all of its group.
        instance: String,
    },
    /// Something is not as it should be.
    Warned {
        /// The virtual router that noticed.
        instance: String,
        /// What it is.
        warning: Warning,
    },
    /// As master it finds that another host answers for an address of its own. Said once for each other
    /// host, until it is [`Notice::Unclaimed`] or the state changes.
    Claimed {
        /// The virtual router that is master.
        instance: String,
        /// What the other one answered.
        claim: Claim,
    },
    /// The other host does not answer any more.
    Unclaimed {
        /// The virtual router that is master.
        instance: String,
        /// What the other one answered.
        claim: Claim,
    },
    /// The node was run too late.
    Late {
        /// By how much.
        by: Duration,
        /// What kept it.
        cause: Delay,
    },
    /// Advertisements of this sender do not count; said once for each sender and reason.
    Rejected {
        /// The virtual router that they were meant for.
        instance: String,
        /// Who sends them.
        from: IpAddr,
        /// Why they do not count.
        why: String,
    },
    /// Something that was not to be expected, and what was done about it.
    Odd {
        /// The virtual router that it is about.
        instance: String,
        /// What it is.
        what: String,
    },
    /// Something could not be done.
    Trouble {
        /// The virtual router that it was for, if for one.
        instance: Option<String>,
        /// What, and why not.
        what: String,
    },
}

/// A host that says to have a virtual address which is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The first address that it answered for.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The interface that it was heard on.
    pub interface: String,
}

/// What a tracker says of a virtual router: a script, a file, a process, whatever it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well, and nothing is added to the priority.
    Well,
    /// It must not be master, for this reason.
    Failed(String),
    /// So much is added to the priority.
    Weight(i32),
}

/// Something that a virtual router depends on is down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fault {
    /// The tracker that says so.
    pub tracker: String,
    /// What it says.
    pub why: String,
}

/// What kept a node from running in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delay {
    /// The host slept.
    Asleep,
    /// Other programs had the processor.
    NoProcessor,
    /// It was at work itself: a call into the kernel took long.
    AtWork,
    /// It was stopped, or the whole virtual machine was.
    Stopped,
}

/// How a virtual router stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub instance: String,
    /// Its group, if it is in one.
    pub group: Option<String>,
    /// The interface that it speaks on.
    pub interface: Option<String>,
    /// Which virtual router it is.
    pub vrid: u8,
    /// Version of the protocol that it speaks.
    pub version: u8,
    /// What it is.
    pub state: State,
    /// Since when, by the clock on the wall.
    pub since: SystemTime,
    /// For how long, by a clock that nobody sets.
    pub lasted: Duration,
    /// Why; none before it was started.
    pub reason: Option<Reason>,
    /// What it depends on and is down.
    pub faults: Vec<Fault>,
    /// Trackers that it waits for before it starts.
    pub awaits: Vec<String>,
    /// The configured priority.
    pub base_priority: u8,
    /// The priority that it has now.
    pub priority: u8,
    /// What its trackers add to it.
    pub weights: Vec<(String, i32)>,
    /// Its own address, once it has one.
    pub address: Option<IpAddr>,
    /// Whom it last heard as master, and with what priority; itself, if it is master.
    pub master: Option<(IpAddr, u8)>,
    /// How long it would wait for a silent master.
    pub master_down: Duration,
    /// From one advertisement to the next.
    pub interval: Duration,
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Those of them that it has put on an interface.
    pub held: Vec<IpAddr>,
    /// What it counted.
    pub counters: Counters,
}

/// What a virtual router counted, as keepalived does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Advertisements that arrived and counted.
    pub received: u64,
    /// Advertisements sent.
    pub sent: u64,
    /// Times that it became master.
    pub became_master: u64,
    /// Times that it was master no longer.
    pub released_master: u64,
    /// Datagrams too short or too long.
    pub length_errors: u64,
    /// Datagrams that a router had forwarded, or came from too far away.
    pub ttl_errors: u64,
    /// Datagrams that were no advertisement.
    pub type_errors: u64,
    /// Advertisements of another version.
    pub version_errors: u64,
    /// Advertisements with a wrong checksum.
    pub checksum_errors: u64,
    /// Advertisements of another interval.
    pub interval_errors: u64,
    /// Advertisements of other addresses.
    pub address_list_errors: u64,
    /// Advertisements from a host that is no peer.
    pub peer_errors: u64,
    /// Ways of authentication that are unknown.
    pub auth_type_errors: u64,
    /// Another way of authentication than the configured one.
    pub auth_mismatches: u64,
    /// Wrong passwords and signatures.
    pub auth_failures: u64,
    /// Masters that resigned.
    pub priority_zero_received: u64,
    /// Times that it resigned.
    pub priority_zero_sent: u64,
    /// Advertisements that could not be sent.
    pub send_failures: u64,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Became { instance, state, reason, faults, .. } => {
                write!(f, "{instance} is {state} now: ")?;
                match (reason, faults.split_first()) {
                    (Reason::Fault, Some((first, more))) => {
                        write!(f, "{first}")?;
                        more.iter().try_for_each(|fault| write!(f, "; {fault}"))
                    }
                    _ => write!(f, "{reason}"),
                }
            }
            Notice::GroupBecame { group, state } => write!(f, "group {group} is {state} now"),
            Notice::Asks { instance } => write!(f, "{instance} asks for the arbiter's consent"),
            Notice::Releases { instance } => write!(f, "{instance} needs the arbiter's consent no more"),
            Notice::Warned { instance, warning } => write!(f, "{instance}: {warning}"),
            Notice::Claimed { instance, claim } => write!(
                f,
                "{instance}: split brain: {claim} as well; most likely another director is master there and neither \
                 hears the other's advertisements, or a real server has the address and answers for it (arp_ignore \
                 is 0 there), or a host was given it by mistake"
            ),
            Notice::Unclaimed { instance, claim } => write!(f, "{instance}: it is over: {claim} no longer"),
            Notice::Late { by, cause } => write!(f, "VRRP ran {:.3} s too late: {cause}", by.as_secs_f64()),
            Notice::Rejected { instance, from, why } => {
                write!(f, "{instance}: advertisements from {from} do not count: {why}")
            }
            Notice::Odd { instance, what } => write!(f, "{instance}: {what}"),
            Notice::Trouble { instance: Some(instance), what } => write!(f, "{instance}: {what}"),
            Notice::Trouble { instance: None, what } => f.write_str(what),
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac;
        write!(
            f,
            "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} on {} answers for {}",
            self.interface, self.address
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.tracker, self.why)
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Delay::Asleep => "the host slept",
            Delay::NoProcessor => "other programs had the processor",
            Delay::AtWork => "a call into the kernel took that long",
            Delay::Stopped => "the process was stopped, or the virtual machine was",
        })
    }
}
