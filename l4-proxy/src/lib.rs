//! A layer-4 director in userspace: accepts a client's connection, lets [`lvs_core`] choose a real
//! server, connects to it and carries bytes both ways until both sides have ended.
//!
//! # Embedding
//!
//! A [`Proxy`] forwards one virtual service on a runtime of yours:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use l4_proxy::{Proxy, Settings};
//! use lvs_core::{Algorithm, Director, ServerConfig, ServiceConfig, ServiceKey};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let director = Arc::new(Director::new());
//! let echo = ServiceKey::name("echo");
//! let server = ServerConfig::new("127.0.0.1:7007".parse()?);
//! director.add_service(ServiceConfig::new(echo.clone(), Algorithm::Wlc).server(server))?;
//!
//! let proxy = Proxy::new(director, echo, Settings::default());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:7000").await?;
//! proxy.serve(listener, std::future::pending()).await;
//! # Ok(())
//! # }
//! ```
//!
//! It owns no thread, no signal and no global. A server that fails to accept is tried around while
//! the client waits; [`probe`] takes it out and brings it back in the background. The director's time is
//! [`clock::now`]; the program lets it pass by a [`tick`](lvs_core::Director::tick) about once a second.
//!
//! # A whole director
//!
//! [`daemon::Daemon`] is what the binary `l4-proxy` runs: listeners and [`worker`] threads, probes,
//! the control socket for `ipvsadm`'s commands, atomic changes of configuration, draining. It
//! starts threads of its own; signals and logging stay with the program.
//!
//! # From here
//!
//! | to | see |
//! |---|---|
//! | forward connections you accepted | [`Proxy::handle`] |
//! | accept them as well | [`Proxy::serve`], [`listen::group`] |
//! | forward datagrams | [`udp::DatagramProxy`], [`listen::datagrams`] |
//! | know what became of a connection | [`Outcome`], [`Ended`] |
//! | see those that are open | [`connections::Connections`] |
//! | read a `keepalived.conf` | [`keepalived::load`], [`daemon::Daemon::follow`] |
//! | check servers as it says | [`check::once`], [`check::rhythm`] |
//! | serve what has a firewall mark | [`fwmark::Entrance`], [`daemon::Options::entrances`] |
//! | only move bytes | [`relay::relay`] |

pub mod check;
pub mod clock;
pub mod congestion;
pub mod connections;
mod consents;
pub mod daemon;
mod failover;
mod fifo;
pub mod fwmark;
pub mod inherit;
pub mod keepalived;
pub mod listen;
mod mail;
pub mod metrics;
pub mod probe;
mod proxy;
pub mod proxy_protocol;
pub mod relay;
pub mod script;
mod settings;
mod smtp;
pub mod socket;
mod sync;
mod sys;
pub mod takeover;
pub mod tls;
pub mod udp;
pub mod users;
pub mod worker;

/// What chooses: its types are in the signatures here.
pub use lvs_core;
pub use proxy::{Ended, Outcome, Proxy, Unidentified};
pub use settings::{AcceptProxy, Network, NotANetwork, Settings, Source};
