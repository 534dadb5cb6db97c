//! The words that a virtual router and its surroundings have for each other: what it is set up with, what
//! happens to it, what it wants done, and why it changed.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::packet::{Advert, Version};

/// A moment: how long it is after some moment that the caller chose and keeps, on a clock that never
/// steps.
pub type Moment = Duration;

/// What a virtual router is set up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which virtual router it is, 1 to 255.
    pub vrid: u8,
    /// How its advertisements are written.
    pub version: Version,
    /// 255 owns the addresses; the others compare.
    pub priority: u8,
    /// From one advertisement to the next.
    pub interval: Duration,
    /// Silent intervals after which a master is taken for gone: 3 in the RFCs (`down_timer_adverts`).
    pub down_adverts: u8,
    /// Whether it takes the addresses from a master of lower priority.
    pub preempt: Preempt,
    /// Its own address, which decides between equals.
    pub address: IpAddr,
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// When a new master announces its addresses again, after the first time (`garp_master_delay`).
    pub announce_again: Option<Duration>,
    /// How often it announces them for as long as it is master (`garp_master_refresh`).
    pub announce_every: Option<Duration>,
    /// Who has a say in who is master.
    pub consent: Consent,
    /// What a master answers one of lower priority; it announces its addresses again anyhow
    /// (`lower_prio_no_advert`).
    pub to_lower: Answer,
    /// What a master answers one of higher priority, before it gives way (`higher_prio_send_advert`).
    pub to_higher: Answer,
    /// Until then it only listens: a backup takes nobody for gone, and an owner begins only then
    /// (`vrrp_startup_delay`).
    pub begins: Moment,
}

/// What a master answers another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// An advertisement at once, so that both know of each other.
    #[default]
    Advert,
    /// Nothing; it speaks when it would have anyhow, if at all.
    Nothing,
}

/// Who has a say in who is master.
///
/// Two routers that do not hear each other cannot know whether the other one is there; only a third
/// party can keep both from being master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consent {
    /// Nobody but the routers.
    #[default]
    NotNeeded,
    /// Becoming master needs an arbiter's consent, and so does staying it: see [`Event::Granted`].
    Needed,
}

/// Whether a router takes the addresses from a master of lower priority. The owner always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preempt {
    /// As soon as it may.
    #[default]
    AtOnce,
    /// When it has heard such masters for so long (`preempt_delay`).
    After(Duration),
    /// Only when the master falls silent (`nopreempt`).
    Never,
}

/// Where a router stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not started, or shut down.
    Init,
    /// It listens.
    Backup,
    /// It holds the addresses.
    Master,
    /// Something it depends on is down.
    Fault,
}

/// What happens to a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It may run.
    Start,
    /// It may run, and goes on as the master that it was in another process of this host.
    Resume {
        /// The end of the arbiter's consent that has passed with it, where it needs one.
        consent: Option<Moment>,
    },
    /// The deadline has come.
    Timer,
    /// An advertisement for it that passed every check arrived from this address.
    Heard {
        /// Where it came from.
        from: IpAddr,
        /// Its priority.
        priority: u8,
        /// Its interval.
        interval: Duration,
    },
    /// What is added to the configured priority by what is tracked, all together.
    Weighed(i32),
    /// Something it depends on is down.
    Failed,
    /// All that it depends on is there.
    Recovered,
    /// The others of its group are master now.
    Take,
    /// It must not be master although nothing of its own is wrong: its group gave way.
    GiveWay,
    /// The arbiter lets it be master, until this moment and no longer. Word of a later moment
    /// prolongs that; without it the router gives its addresses away when the moment comes.
    Granted {
        /// The end of the consent.
        until: Moment,
    },
    /// The arbiter says that another one has its consent.
    Refused,
    /// There is another arbiter from now on, whose consent it does not have.
    Withdrawn,
    /// It is to stop.
    Stop,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this advertisement.
    Send(Advert),
    /// Put the virtual addresses on the interface.
    AddAddresses,
    /// Take the virtual addresses away.
    RemoveAddresses,
    /// The addresses may stay until [`Router::consent`](super::Router::consent), which moved: whoever keeps them on the
    /// interface with a lifetime prolongs it.
    ProlongAddresses,
    /// Ask the arbiter for its consent, and go on asking until [`Action::Release`].
    Ask,
    /// The arbiter's consent is not wanted, or not any more: the addresses are gone by now.
    Release,
    /// Tell the neighbours who has the addresses: gratuitous ARP, unsolicited neighbour
    /// advertisements.
    Announce(Occasion),
    /// Tell whoever wants to know.
    Became(State, Reason),
    /// Something is not as it should be.
    Warn(Warning),
}

/// When neighbours are told who has the addresses; how often they are told then is the host's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The router has just become master.
    Taken,
    /// A while after, for those who missed it (`garp_master_delay`).
    Again,
    /// From time to time (`garp_master_refresh`).
    Refresh,
    /// Another master was heard that has to give way: some neighbours look there
    /// (`garp_lower_prio_repeat`).
    Contested,
}

/// Why a router changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It was started.
    Started,
    /// It owns the addresses.
    Owner,
    /// No advertisement came for so long.
    Silence(Duration),
    /// The master said that it stops.
    Resigned,
    /// A master of higher priority, or of the same and a higher address, was heard.
    Outranked {
        /// Its address.
        by: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Something that it depends on failed.
    Fault,
    /// All that it depends on is there again.
    Recovered,
    /// It followed its group.
    Followed,
    /// The arbiter gave its consent to another one.
    Refused,
    /// The arbiter's consent ran out and was not prolonged in time.
    Lapsed,
    /// There is another arbiter.
    Withdrawn,
    /// It was stopped.
    Stopped,
    /// It goes on as what it was in another process.
    Resumed,
}

/// What an operator should look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Two masters at once: what one hears means that the other does not hear it, or will not.
    Rival {
        /// The other one.
        address: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// The other master has not been heard any more.
    RivalGone {
        /// The other one.
        address: IpAddr,
    },
    /// Two routers say that they own the addresses.
    TwoOwners {
        /// The other one.
        address: IpAddr,
    },
    /// Another interval than the configured one; in v2 such advertisements do not count.
    Interval {
        /// Who advertises.
        address: IpAddr,
        /// Its interval.
        interval: Duration,
    },
    /// The timer was looked at so much too late: the process did not run.
    Late(Duration),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Init => "INIT",
            State::Backup => "BACKUP",
            State::Master => "MASTER",
            State::Fault => "FAULT",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Started => f.write_str("started"),
            Reason::Owner => f.write_str("owns the addresses"),
            Reason::Silence(silence) => {
                write!(f, "no advertisement for {:.3} s", silence.as_secs_f64())
            }
            Reason::Resigned => f.write_str("the master resigned"),
            Reason::Outranked { by, priority } => write!(f, "{by} advertises priority {priority}"),
            Reason::Fault => f.write_str("something it depends on is down"),
            Reason::Recovered => f.write_str("all that it depends on is there again"),
            Reason::Followed => f.write_str("its group decided"),
            Reason::Refused => f.write_str("the arbiter gave its consent to another one"),
            Reason::Lapsed => f.write_str("the arbiter's consent ran out"),
            Reason::Withdrawn => {
                f.write_str("it has another arbiter now, whose consent it does not have yet")
            }
            Reason::Stopped => f.write_str("stopped"),
            Reason::Resumed => f.write_str("goes on where another process of this host ended"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Rival { address, priority } => write!(
                f,
                "split brain: {address} is master too, with priority {priority}; most likely it does not receive \
                 these advertisements (multicast filtered, protocol 112 blocked, unequal unicast_peer lists)"
            ),
            Warning::RivalGone { address } => write!(f, "{address} is no longer heard as a second master"),
            Warning::TwoOwners { address } => {
                write!(f, "{address} advertises priority 255 too: only one can own the addresses")
            }
            Warning::Interval { address, interval } => {
                write!(
                    f,
                    "{address} advertises every {} s, which is not what is configured",
                    interval.as_secs_f64()
                )
            }
            Warning::Late(late) => {
                write!(
                    f,
                    "the timer was {:.3} s late: the process was not given the processor",
                    late.as_secs_f64()
                )
            }
        }
    }
}
