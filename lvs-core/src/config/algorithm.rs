//! The schedulers' names.

use std::fmt;
use std::str::FromStr;

use crate::config::UnknownAlgorithm;

/// How a server is chosen, named as in `ipvsadm -s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub enum Algorithm {
    /// `rr`: each server in turn.
    Rr,
    /// `wrr`: each server in turn, as often as its weight says, in bursts as IPVS deals them.
    Wrr,
    /// `lc`: the server with the fewest connections.
    Lc,
    /// `wlc`: the server with the fewest connections for its weight.
    #[default]
    Wlc,
    /// `lblc`: each destination address stays on a server that `wlc` chose, until that is busy.
    Lblc,
    /// `lblcr`: as `lblc`, on a set of servers that grows while they are busy.
    Lblcr,
    /// `dh`: a table of 256 slots, by hash of the destination address.
    Dh,
    /// `sh`: a table of 256 slots, by hash of the client's address; `sh-port`, `sh-fallback`.
    Sh,
    /// `sed`: the shortest expected delay, (active connections + 1) for the weight.
    Sed,
    /// `nq`: an idle server if there is one, else as `sed`.
    Nq,
    /// `fo`: the heaviest server takes all.
    Fo,
    /// `ovf`: the heaviest server that has no more active connections than its weight says.
    Ovf,
    /// `mh`: Maglev hashing of the client's address; `mh-port`, `mh-fallback`.
    Mh,
    /// `twos`: the less loaded of two servers drawn by weight.
    Twos,
    /// `swrr`: weighted turns spread as evenly as they can be, as nginx deals them.
    Swrr,
    /// `ip_hash`: nginx's hash of an IPv4 client's /24 or of an IPv6 address.
    IpHash,
    /// `hash`: nginx's hash of the flow's [`key`](crate::Flow::key), by weight.
    Hash,
    /// `hash_consistent`: nginx's `hash … consistent`, a ring of 160 points for each unit of weight.
    HashConsistent,
    /// `least_conn`: nginx's, the fewest connections for the weight; equals take turns.
    LeastConn,
    /// `least_time`: the shortest mean time of an answer, times connections + 1, for the weight.
    LeastTime,
    /// `random`: nginx's, drawn by weight.
    Random,
    /// `random_two`: nginx's `random two`, of two drawn by weight the one with fewer connections.
    RandomTwo,
    /// `ewma`: of two drawn by weight, the one with the lower recent peak of latency for its load.
    Ewma,
    /// `rendezvous`: the highest of numbers that the servers draw from the key, by weight.
    Rendezvous,
    /// `hash-bounded`: as `hash_consistent`, but no server takes many more connections than its
    /// share.
    HashBounded {
        /// Percent above its share that a server may take; 25 where the name says nothing else,
        /// as in `hash-bounded:50`.
        slack: u16,
    },
}

impl Algorithm {
    /// Every algorithm, in the order of the documentation.
    pub const ALL: [Algorithm; 25] = [
        Algorithm::Rr,
        Algorithm::Wrr,
        Algorithm::Lc,
        Algorithm::Wlc,
        Algorithm::Lblc,
        Algorithm::Lblcr,
        Algorithm::Dh,
        Algorithm::Sh,
        Algorithm::Sed,
        Algorithm::Nq,
        Algorithm::Fo,
        Algorithm::Ovf,
        Algorithm::Mh,
        Algorithm::Twos,
        Algorithm::Swrr,
        Algorithm::IpHash,
        Algorithm::Hash,
        Algorithm::HashConsistent,
        Algorithm::LeastConn,
        Algorithm::LeastTime,
        Algorithm::Random,
        Algorithm::RandomTwo,
        Algorithm::Ewma,
        Algorithm::Rendezvous,
        Algorithm::HashBounded { slack: SLACK_DEFAULT },
    ];

    /// The name that rules and listings use, without parameters.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rr => "rr",
            Algorithm::Wrr => "wrr",
            Algorithm::Lc => "lc",
            Algorithm::Wlc => "wlc",
            Algorithm::Lblc => "lblc",
            Algorithm::Lblcr => "lblcr",
            Algorithm::Dh => "dh",
            Algorithm::Sh => "sh",
            Algorithm::Sed => "sed",
            Algorithm::Nq => "nq",
            Algorithm::Fo => "fo",
            Algorithm::Ovf => "ovf",
            Algorithm::Mh => "mh",
            Algorithm::Twos => "twos",
            Algorithm::Swrr => "swrr",
            Algorithm::IpHash => "ip_hash",
            Algorithm::Hash => "hash",
            Algorithm::HashConsistent => "hash_consistent",
            Algorithm::LeastConn => "least_conn",
            Algorithm::LeastTime => "least_time",
            Algorithm::Random => "random",
            Algorithm::RandomTwo => "random_two",
            Algorithm::Ewma => "ewma",
            Algorithm::Rendezvous => "rendezvous",
            Algorithm::HashBounded { .. } => "hash-bounded",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Algorithm::HashBounded { slack } if *slack != SLACK_DEFAULT => write!(f, "hash-bounded:{slack}"),
            _ => f.write_str(self.name()),
        }
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Algorithm, UnknownAlgorithm> {
        if let Some(algorithm) = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name) {
            return Ok(algorithm);
        }
        let slack = name.strip_prefix("hash-bounded:").and_then(|slack| slack.parse().ok());
        slack.map(|slack| Algorithm::HashBounded { slack }).ok_or_else(|| UnknownAlgorithm(name.to_owned()))
    }
}

/// Percent above its share that a server takes under `hash-bounded`.
const SLACK_DEFAULT: u16 = 25;
