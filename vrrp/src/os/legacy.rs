//! What a virtual router passes on to the process that takes the place of its own, on the same host.
//!
//! The one that goes falls silent without a word and leaves its addresses where they are
//! ([`Handle::rest`](super::Handle::rest)); the one that comes goes on as what the other was
//! ([`Handle::resume`](super::Handle::resume)). No other router has anything to notice but a pause that is
//! shorter than its patience.

use std::net::IpAddr;

use super::notice::Fault;
use super::settings::Instance;
use crate::router::{Moment, State};

/// What a virtual router leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Legacy {
    /// Which one it is: see [`Instance::identity`].
    pub identity: String,
    /// What it was.
    pub state: State,
    /// What trackers say is down.
    pub faults: Vec<Fault>,
    /// What trackers add to its priority.
    pub weights: Vec<(String, i32)>,
    /// Its addresses, where they are: index of the interface, address, length of the prefix.
    pub held: Vec<(u32, IpAddr, u8)>,
    /// Until when an arbiter lets it be master, if it is one that needs that.
    pub consent: Option<Moment>,
    /// Number of its last authentication header, where others let none come twice.
    pub serial: u32,
}

impl Legacy {
    /// Whether it is that of a virtual router.
    pub(super) fn is_for(&self, instance: &Instance) -> bool {
        self.identity == instance.identity()
    }
}
