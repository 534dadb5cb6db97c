//! The Linux Virtual Server's decisions as a library: which real server takes a connection.
//!
//! A [`Director`] holds virtual services and their real servers. [`Director::schedule`] chooses a
//! server with the scheduler of the service, and returns a [`Lease`], which counts the connection there
//! until it is dropped. What IPVS, keepalived and nginx know of a server is known here: weights,
//! thresholds, persistence, probes, failures in traffic; counts, health and templates outlive every
//! reload. The crate has no sockets, no runtime and no clock: it decides, and whoever embeds it
//! connects.
//!
//! ```
//! use lvs_core::{Algorithm, Config, Director, Event, Flow, ServerConfig, ServiceConfig, ServiceKey, Time};
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
//!
//! director.report(&first, Event::ConnectFailed("connect refused".into()), Time::ZERO);
//! let retry = director.schedule_except(&web, &flow, &[first.server()], Time::ZERO)?;
//! assert_eq!(retry.server(), second.server());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # From here
//!
//! | to | see |
//! |---|---|
//! | say what is served | [`Config`], [`ServiceConfig`], [`ServerConfig`], [`Algorithm`], [`Persistence`] |
//! | decide | [`Director::schedule`], [`Picker`], [`Flow`], [`Lease`], [`Account`], [`Refusal`] |
//! | tell what became of it | [`Director::report`], [`Director::probe`], [`HealthPolicy`] |
//! | let time pass | [`Director::tick`], [`Time`], [`Notice`] |
//! | change what is served, losing nothing | [`Director::apply`], and `ipvsadm`'s verbs such as [`Director::add_server`] |
//! | take a server out | [`Weight::ZERO`], [`Director::drain`] |
//! | look | [`Director::explain`], [`Director::plan`], [`Director::stats`], [`Director::templates`], [`Director::history`] |
//! | carry clients over a restart | [`Director::save_templates`], [`Director::restore_templates`] |
//! | choose in a way of your own | [`Scheduler`], [`CustomScheduler`], [`Pool`] |
//!
//! Small programs are in the repository's `examples` package, and run with
//! `cargo run -p examples --example NAME`: `pick`, `accept_loop` (a TCP balancer in one function),
//! `own_scheduler`, `sticky`, `reload_under_load`, `drain`, `http_client` (a balanced hyper client).
//! `cargo run --release -p examples --bin simulate` plays a stated traffic against the algorithms on a
//! simulated clock, and says which one is for it.
//!
//! # Algorithms
//!
//! *A* and *I* are the active and inactive connections of a server, *w* its weight, *n* the number of
//! servers. *Cost* is the work of one choice where the first server that is looked at can be chosen.
//! The names are those of `ipvsadm -s` and of nginx; [`Algorithm`] parses and prints them.
//!
//! | name | chooses | cost | when | source |
//! |---|---|---|---|---|
//! | `rr` | the next server | 1 | equal servers, short requests of one size | `ip_vs_rr.c` |
//! | `wrr` | the next whose *w* reaches a sinking threshold | 1 to *n* | as `rr`, servers of different strength | `ip_vs_wrr.c` |
//! | `lc` | least 256 *A* + *I* | *n* | equal servers, long or uneven connections | `ip_vs_lc.c` |
//! | `wlc` | least (256 *A* + *I*) / *w* | *n* | the default: good for nearly everything | `ip_vs_wlc.c` |
//! | `sed` | least (*A* + 1) / *w* | *n* | few connections, strong servers first | `ip_vs_sed.c` |
//! | `nq` | an idle server, else as `sed` | *n* | as `sed`, where waiting is worse than a weak server | `ip_vs_nq.c` |
//! | `fo` | greatest *w* | *n* | one server works, the others stand by | `ip_vs_fo.c` |
//! | `ovf` | greatest *w* with *A* ≤ *w* | *n* | fill one server before the next | `ip_vs_ovf.c` |
//! | `dh` | slot of 256 by hash of the destination | 1 | caches, by destination; weights are not looked at | `ip_vs_dh.c` |
//! | `sh` | slot of 256 by hash of the client, runs of *w* | 1 | clients stay, without a table of them | `ip_vs_sh.c` |
//! | `mh` | slot of 4093 by hash of the client | 1 | as `sh`, few clients move when servers change | `ip_vs_mh.c`; Maglev (Eisenbud et al. 2016) |
//! | `lblc` | the destination's server, unless it is busy | a map | caches: each destination on one server | `ip_vs_lblc.c` |
//! | `lblcr` | the least of the destination's servers | a map, its set | as `lblc`, for destinations too hot for one server | `ip_vs_lblcr.c` |
//! | `twos` | of two drawn by *w*, the less (256 *A* + *I*) / *w* | 1 | as `wlc`, with many servers | `ip_vs_twos.c`; Mitzenmacher 2001 |
//! | `swrr` | the next, spread evenly by *w* | 1 | as `wrr`, without bursts | `ngx_http_upstream_round_robin.c` |
//! | `ip_hash` | by hash of a client's /24, or IPv6 address | log *n* | sites that come from nginx | `ngx_http_upstream_ip_hash_module.c` |
//! | `hash` | by CRC-32 of the [key](Flow::key), share of *w* | log *n* | a fixed set of servers | `ngx_http_upstream_hash_module.c` |
//! | `hash_consistent` | next of 160 *w* points on a ring | log points | keys stay when servers change; as nginx spreads them | the same; Ketama |
//! | `rendezvous` | greatest *w* / −ln hash(key, server) | *n* | as above, exactly by weight, a few servers | Thaler and Ravishankar 1998 |
//! | `hash-bounded` | next on the ring below its share + 25 % | *n* | keys stay, and hot ones do not drown a server | Mirrokni et al. 2016 |
//! | `least_conn` | least (*A* + *I*) / *w*, equals in turn | *n* | as `wlc`; sites that come from nginx | `ngx_http_upstream_least_conn_module.c` |
//! | `least_time` | least mean time × (*A* + *I* + 1) / *w* | *n* | servers of unlike or unknown speed; needs [reports](Event::Responded) | formula of our own, after NGINX Plus |
//! | `random` | drawn by *w* | 1 | many balancers that know nothing of each other | `ngx_http_upstream_random_module.c` |
//! | `random_two` | of two drawn by *w*, the less (*A* + *I*) / *w* | 1 | many balancers, uneven requests | the same; Mitzenmacher 2001 |
//! | `ewma` | of two drawn by *w*, the less peak × (*A* + 1) / *w* | 1 | servers that slow down at times; needs [reports](Event::Responded) | Finagle's peak EWMA |
//!
//! The picks of IPVS's fourteen schedulers are those of the kernel (Linux 6.1), to the last tie, through
//! additions, deletions, edits and thresholds. `swrr`, `ip_hash`, `hash`, `hash_consistent` and
//! `least_conn` choose as nginx does. Where `sh`, `mh` or `dh` lead to a server that is down, another
//! one is sought: an IPVS director has keepalived take such a server off the list.
//!
//! A choice waits for no change of the configuration and for no probe. `lblc` and `lblcr` hold a
//! lock for one look at their table, `least_conn` and `least_time` while equals are dealt,
//! persistence that of a part of the templates. Memory is allocated for what is to be remembered (a
//! new template or destination, the turns of `swrr` after servers changed) and for nothing else.
//!
//! # Which reason counts
//!
//! The first line that holds of a server decides.
//!
//! | a server is | since | new clients | clients tied to it | its connections |
//! |---|---|---|---|---|
//! | removed | it is not configured | go elsewhere | move | go on, or are [cut off](Lease::is_cut_off) |
//! | inhibited | its weight is 0 because [probes](Probe::Inhibited) failed | go elsewhere | stay, or [move](Persistence::expire_quiescent_template) | go on |
//! | quiesced | its weight is 0 | go elsewhere | stay, or [move](Persistence::expire_quiescent_template) | go on, or until a [deadline](Director::drain) |
//! | down | [probes](Director::probe) failed | go elsewhere | move | go on |
//! | ejected | [traffic](Director::report) failed | go elsewhere | move | go on |
//! | full | it reached its [upper threshold](Thresholds) | go elsewhere | stay | go on |
//! | spared | it is a [backup](ServerConfig::backup), and others can be chosen | go elsewhere | stay | go on |
//! | warming up | it [came back](HealthPolicy::slow_start) | come little by little | stay | go on |
//!
//! When nobody else can take a connection, the servers that are only ejected are tried, by their own
//! clients too ([`AllEjected`]). When too few servers are left, a *panic* has health ignored, and never
//! administration ([`HealthPolicy::panic_percent`]). [`Director::explain`] says which reason holds.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | director | the process that receives connections and forwards them |
//! | virtual service | protocol, VIP and port (or firewall mark, or name) that clients ask for |
//! | real server | address, weight, thresholds, counters, health |
//! | CIP, VIP, RIP | address of the client, the virtual service, the real server |
//! | scheduler | the algorithm that picks a real server, named as in `ipvsadm` |
//! | flow | what is known of a client's connection or request |
//! | lease | the claim of one connection or request on a real server |
//! | active, inactive | connections in use; those that are closing, and all of UDP |
//! | template | one entry of persistence: clients of one network stay on one server |
//! | quiesced | weight 0: no new clients; connections and persistent clients stay |
//! | probe, event | outcome of an active check; of real traffic |
//! | ejected | left alone for a while, since traffic failed |
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `serde` | no | [`Config`] from and to any format; [`Explanation`] and [`Changes`] to it |
//!
//! Rust 1.95 is what the crate is built and tested with, and what it asks for; older compilers are not
//! tested. It is for `std`, forbids unsafe code, and depends on four small crates.
//!
//! # Neighbours
//!
//! What others for Rust do, as of pingora-load-balancing 0.9.1, tower 0.5 and sozu-lib 2.0:
//!
//! | | lvs-core | pingora-load-balancing | `tower::balance` | sozu-lib |
//! |---|---|---|---|---|
//! | licence | MIT or Apache-2.0 | Apache-2.0 | MIT | AGPL-3.0 |
//! | what it is | decisions | backends, health checks, discovery | a [`Service`][tower] over services | a proxy's event loop |
//! | runtime | none | tokio | any | its own |
//! | shared by threads | yes | yes | no: `&mut self` | no: `Rc` |
//! | schedulers | the above, and your own | round robin, random, FNV hash, Ketama, and your own | two random choices | round robin, random, least loaded, two choices |
//! | weights | yes; 0 quiesces | yes; a ring with a 0 panics, and so do the others if all are 0 | no ([#696]) | of random |
//! | counts connections | yes, in the lease | no ([#144]) | as a `Load` of the service | yes |
//! | a failed server | probes and traffic, with reasons | probes | is dropped, until discovery adds it again | probes, retry policy |
//! | persistence | templates by network | by hash | none | by cookie |
//!
//! [tower]: https://docs.rs/tower/0.5/tower/trait.Service.html
//! [#696]: https://github.com/tower-rs/tower/issues/696
//! [#144]: https://github.com/cloudflare/pingora/issues/144

#![forbid(unsafe_code)]

mod config;
mod counter;
mod director;
mod estimator;
mod explain;
mod flow;
mod health;
mod history;
mod latency;
mod lease;
mod occupancy;
mod pairing;
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
mod stats;
mod sync;
mod tally;
mod time;

pub use config::{
    Algorithm, Config, ConfigError, EditError, Family, Forwarding, MalformedKey, Persistence,
    PersistenceEngine, Protocol, SchedulerFlags, ServerConfig, ServiceConfig, ServiceKey, Thresholds, Tunnel,
    TunnelChecksum, UnknownAlgorithm, Weight,
};
pub use director::{Director, Draining, Notice, Rejected};
pub use estimator::Rates;
pub use explain::{Candidate, Decider, Explanation, Outcome, Verdict};
pub use flow::Flow;
pub use health::{
    AllEjected, Cause, Condition, Event, Finding, HealthPolicy, HealthRecord, Passive, Probe, SlowStart,
    Transition,
};
pub use history::{History, ServiceHistory, Spell, State};
pub use lease::{Account, Lease};
pub use occupancy::Load;
pub use picker::Picker;
pub use plan::{Changes, Moved, Reweighted};
pub use pool::Pool;
pub use scheduler::{Change, CustomScheduler, Key, Peek, Scheduler, Seat, Setup, Share, Tickets};
pub use service::Refusal;
pub use snapshot::{RestoreError, Restored};
pub use stats::{Counts, ServerStats, ServiceStats, TemplateStats};
pub use time::Time;

/// The example of the crate's page, which is to compile too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
