//! Virtual routers on a Linux host: sockets, interfaces, addresses, and a thread that runs them.
//!
//! [`Node::start`] takes [`Settings`] and runs until it is dropped. It tells what happens as [`Notice`]s
//! and takes what others know through its [`Handle`]: what trackers say, an arbiter's consent, other
//! settings. What depends on the host itself it watches alone: interfaces that go down, addresses that
//! disappear, virtual ones that a killed predecessor left behind.
//!
//! ```no_run
//! use vrrp::os::{Instance, Node, Schedule, Settings, VirtualAddress};
//!
//! let mut instance = Instance::new("VI_1", "eth0", 51);
//! instance.addresses = vec![VirtualAddress::new([10, 8, 0, 100].into())];
//! let settings = Settings { instances: vec![instance], ..Settings::default() };
//! let node = Node::start(settings, Schedule::First(1), |notice| eprintln!("{notice}"))?;
//! # drop(node);
//! # Ok::<(), std::io::Error>(())
//! ```

mod addresses;
mod announce;
mod arbiters;
mod clock;
mod engine;
mod frame;
mod hear;
mod holdings;
mod host;
mod lateness;
mod legacy;
mod links;
mod member;
mod netlink;
mod node;
mod notice;
mod ping;
mod probe;
mod settings;
mod settling;
mod sys;
mod unit;
mod vmac;
mod wire;

pub use self::arbiters::{Arbiters, Consent, Said, View};
pub use self::clock::now;
pub use self::legacy::Legacy;
pub use self::node::{Gone, Handle, Node, Schedule};
pub use self::notice::{Claim, Counters, Delay, Fault, Notice, Status, Verdict};
pub use self::ping::Ping;
pub use self::settings::{
    Accepted, AddressFlag, Advertises, Announcing, Authentication, Dependence, Dialect, Effect, Instance,
    LinkDelay, Mac, Peer, Reach, Scope, Settings, SyncGroup, VirtualAddress, WatchedLink,
};
