//! The Linux Virtual Server's decisions as a library: which real server takes a connection.
//!
//! A [`Director`] holds virtual services and their real servers. [`Director::schedule`] chooses a
//! server and returns a [`Lease`], which counts the connection until it is dropped. The crate has
//! no sockets, no runtime and no clock: it decides, and whoever embeds it connects.
//!
//! ```
//! use lvs_core::{Algorithm, Config, Director, Flow, ServerConfig, ServiceConfig, ServiceKey, Time};
//!
//! let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
//! let director = Director::new();
//! director.apply(Config {
//!     services: vec![
//!         ServiceConfig::new(web.clone(), Algorithm::Wlc)
//!             .server(ServerConfig::new("10.0.0.1:8080".parse()?))
//!             .server(ServerConfig::new("10.0.0.2:8080".parse()?)),
//!     ],
//! })?;
//!
//! let flow = Flow::new("198.51.100.7:40000".parse()?);
//! let first = director.schedule(&web, &flow, Time::ZERO)?;
//! let second = director.schedule(&web, &flow, Time::ZERO)?;
//! // While the first connection lives, its server has more of them than the other.
//! assert_ne!(first.server(), second.server());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # From here
//!
//! | to | see |
//! |---|---|
//! | say what is served | [`Config`], [`ServiceConfig`], [`ServerConfig`], [`Algorithm`], [`Persistence`] |
//! | decide | [`Director::schedule`], [`Picker`], [`Flow`], [`Lease`], [`Refusal`] |
//! | tell what became of it | [`Director::report`], [`Director::probe`], [`HealthPolicy`] |
//! | change what is served, losing nothing | [`Director::apply`], and `ipvsadm`'s verbs such as [`Director::add_server`] |
//! | look | [`Director::explain`], [`Director::plan`], [`Director::stats`], [`Director::templates`], [`Director::history`] |
//! | choose in a way of your own | [`Scheduler`], [`Pool`] |
//!
//! # Which reason counts
//!
//! A server is not chosen for the first of these that holds: it was *removed*; it is *quiesced*
//! (weight 0); it is *down* (probes failed); it is *ejected* (traffic failed); it is *full*
//! (thresholds). A client that persistence ties to a server stays with it while it is quiesced or
//! full, as in IPVS, but not while it is removed, down or ejected. When nobody else can take a
//! connection, the servers that are only ejected are tried, by their own clients too
//! ([`AllEjected`]). A server that *warms up* after it came back takes only a part of its turns
//! ([`HealthPolicy::slow_start`]). When too few servers are left, a *panic* has health ignored, and
//! never administration ([`HealthPolicy::panic_percent`]). [`Director::explain`] says which reason
//! holds.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | virtual service | protocol, VIP and port (or firewall mark, or name) that clients ask for |
//! | real server | address, weight, thresholds, counters, health |
//! | scheduler | the algorithm that picks a real server, named as in `ipvsadm` |
//! | template | one entry of persistence: clients of one network stay on one server |
//! | lease | the claim of one connection or request on a real server |
//! | quiesced | weight 0: no new clients; connections and persistent clients stay |
//!
//! # Fidelity
//!
//! The picks of IPVS's fourteen schedulers are those of the kernel (Linux 6.1), to the last tie,
//! through additions, deletions, edits and thresholds. `swrr`, `ip_hash`, `hash`, `hash_consistent`
//! and `least_conn` choose as nginx does. Where `sh`, `mh` or `dh` lead to a server that is down,
//! another one is sought: an IPVS director has keepalived take such a server off the list.

#![forbid(unsafe_code)]

mod config;
mod director;
mod explain;
mod flow;
mod health;
mod history;
mod latency;
mod lease;
mod persistence;
mod picker;
mod plan;
mod pool;
mod scheduler;
#[cfg(feature = "serde")]
mod serial;
mod server;
mod service;
mod snapshot;
mod time;

pub use config::{
    Algorithm, Config, ConfigError, EditError, Family, Forwarding, Persistence, Protocol, SchedulerFlags,
    ServerConfig, ServiceConfig, ServiceKey, Thresholds, Tunnel, TunnelChecksum, UnknownAlgorithm, Weight,
};
pub use director::{Director, Draining, Notice, Rejected, ServerStats, ServiceStats, TemplateStats};
pub use explain::{Candidate, Decider, Explanation, Outcome, Verdict};
pub use flow::Flow;
pub use health::{AllEjected, Cause, Condition, Event, HealthPolicy, Passive, Probe, SlowStart, Transition};
pub use history::{History, ServiceHistory, Spell, State};
pub use lease::Lease;
pub use picker::Picker;
pub use plan::{Changes, Moved, Reweighted};
pub use pool::{Load, Pool};
pub use scheduler::{Change, CustomScheduler, Key, Peek, Scheduler, Seat, Setup};
pub use service::Refusal;
pub use snapshot::{RestoreError, Restored};
pub use time::Time;
