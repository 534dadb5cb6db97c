//! VRRP as keepalived speaks it: several hosts share an address, one of them holds it, and another one
//! takes it over when that one falls silent.
//!
//! Everything here is pure: [`packet`] and [`ah`] turn advertisements into bytes and back, [`router`]
//! decides who is master, [`group`] keeps routers together. None of it knows a socket, a clock or a
//! thread: events and the time go in, actions come out.
//!
//! ```
//! use std::net::IpAddr;
//! use std::time::Duration;
//! use vrrp::packet::{Authentication, Version};
//! use vrrp::router::{Action, Answer, Config, Consent, Event, Preempt, Router, State};
//!
//! let mut router = Router::new(Config {
//!     vrid: 51,
//!     version: Version::V2(Authentication::None),
//!     priority: 100,
//!     interval: Duration::from_secs(1),
//!     down_adverts: 3,
//!     preempt: Preempt::AtOnce,
//!     address: IpAddr::from([10, 8, 0, 2]),
//!     addresses: vec![IpAddr::from([10, 8, 0, 100])],
//!     announce_again: Some(Duration::from_secs(5)),
//!     announce_every: None,
//!     consent: Consent::NotNeeded,
//!     to_lower: Answer::Advert,
//!     to_higher: Answer::Advert,
//!     begins: Duration::ZERO,
//! });
//! router.handle(Event::Start, Duration::ZERO);
//! assert_eq!(router.state(), State::Backup);
//!
//! // Three intervals and a part of one, the larger the lower the priority: then nobody is there.
//! let silence = router.deadline().expect("a backup waits");
//! assert_eq!(silence, Duration::from_micros(3_609_375));
//! let actions = router.handle(Event::Timer, silence);
//! assert_eq!(router.state(), State::Master);
//! assert_eq!(actions[0], Action::AddAddresses);
//! ```
//!
//! VRRP alone cannot keep two hosts that do not hear each other from both being master; no protocol
//! between two can. What it can do is say so: [`router::Warning::Rival`]. What can is a third party that
//! both have to ask: [`router::Consent`].

#![cfg_attr(not(feature = "os"), forbid(unsafe_code))]

pub mod ah;
pub mod arbiter;
pub mod group;
#[cfg(feature = "os")]
pub mod os;
pub mod packet;
pub mod router;
