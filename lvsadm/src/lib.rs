//! ipvsadm's command line for a director in userspace.
//!
//! The director is administered over a Unix socket with the commands that LVS is administered
//! with. The program `lvsadm` is a pipe: it sends its words to the director, and prints what
//! comes back. All that decides is in this library, and runs in the director's process.
//!
//! | to | see |
//! |---|---|
//! | let a director be administered | [`Control`], [`bind`], [`serve`] |
//! | carry out a command line in this process | [`run`] |
//! | read and write files of rules | [`rules`] |
//! | read what `--json` writes | [`document`] |
//! | administer a director from another process | [`client`] |
//!
//! ```
//! use lvs_core::{Director, Time};
//! use lvsadm::{CommitError, Connection, Control, Edit, Timeouts};
//!
//! /// A director that schedules and has no sockets of its own.
//! #[derive(Default)]
//! struct Table(Director);
//!
//! impl Control for Table {
//!     fn director(&self) -> &Director {
//!         &self.0
//!     }
//!     fn now(&self) -> Time {
//!         Time::ZERO
//!     }
//!     fn commit(&self, edit: Edit) -> Result<(), CommitError> {
//!         let mut config = self.0.config();
//!         edit.apply_to(&mut config)?;
//!         self.0.apply(config)?;
//!         Ok(())
//!     }
//!     fn connections(&self) -> Vec<Connection> {
//!         Vec::new()
//!     }
//!     fn timeouts(&self) -> Timeouts {
//!         Timeouts::default()
//!     }
//!     fn set_timeouts(&self, _: Timeouts) -> Result<(), CommitError> {
//!         Err(CommitError::Refused("timeouts are fixed".to_owned()))
//!     }
//! }
//!
//! let table = Table::default();
//! let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
//! lvsadm::run(&words("-A -t 192.0.2.10:80 -s wrr"), "", &table);
//! lvsadm::run(&words("-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m"), "", &table);
//! let listing = lvsadm::run(&words("-L -n"), "", &table).stdout;
//! assert!(listing.ends_with(
//!     "TCP  192.0.2.10:80 wrr\n  -> 10.0.0.1:8080                Masq    1      0          0         \n"
//! ));
//! ```
//!
//! # What ipvsadm does not have
//!
//! | words | |
//! |---|---|
//! | `-L --health` | which servers can be used, why not, since when, and how much of the time |
//! | `--json`, with any `-L`, `--explain` and `--plan` | the same for programs: [`document`] |
//! | `--drain SERVER [SERVICE] [--deadline SECONDS]` | weight 0 in all services or one; cuts off at the deadline who is left |
//! | `--explain VIP:PORT\|POOL CLIENT` | the server that a client would get now, and what stands against the others |
//! | `--plan FILE` | what a file of rules in the place of the present ones would change, and for whom |
//! | `--top` | a live view (feature `top`, of the program only) |
//! | `--upgrade` | has the director start its program anew and hand over to it (of the control socket only) |
//! | `-L --vrrp` | VRRP instances: who is master, since when and why |
//! | `-S --full` | thresholds, timeouts, backups and named pools too; `-R` and [`rules`] read it |
//! | `--pool NAME`, as a service | a pool that no address leads to, such as an `upstream` of nginx |
//! | `-a … --backup` | a server that serves only while no other can |
//!
//! # What is not as in ipvsadm
//!
//! - `-R` applies its edits as one. Words that are wrong in any line leave everything as it was.
//! - `--pe sip` is for UDP and firewall marks; IPVS takes it for any service and then drops what is not UDP.
//! - `--start-daemon` and `--stop-daemon` are refused: what is synchronised, and with whose key, is written in
//!   `keepalived.conf`. `-L --daemon` lists it.
//! - Packets of TCP connections are counted as 0, since a proxy sees their bytes, unless `l4-proxy` is started
//!   with `--count-packets`: then they are those that clients sent and were sent; of more than 1000 open
//!   connections up to a minute late.
//! - From number to name, hosts are looked up in `/etc/hosts` only.
//! - An address is four decimal numbers, or a name; a mask is written in full. ipvsadm takes
//!   `1234:80` for `0.0.4.210:80`, and `-M 24` for `0.0.0.24`.

mod address;
mod arguments;
mod beyond;
pub mod client;
mod command;
mod connections;
mod control;
pub mod document;
mod edit;
mod failover;
mod frame;
mod line;
mod listing;
mod matrix;
mod message;
mod names;
mod option;
mod order;
pub mod rules;
mod server;
mod standing;

pub use command::run;
pub use control::{CommitError, Connection, ConnectionState, Control, Edit, Moved, Timeouts};
pub use message::Output;
pub use names::Naming;
pub use server::{Listener, Server, answer, bind, bind_over, serve};

/// Where a director is administered, if nothing else was said.
pub const DEFAULT_SOCKET: &str = "/run/l4-proxy.sock";
