//! What the tests of several crates play with: [`Hosts`] in network namespaces of their own, a [`Watch`] over
//! who has an address, a real [`etcd`](Cluster), a [`WallClock`] that jumps for one process alone.
//!
//! Nothing of it touches the machine that it runs on, and all of it goes with the values. What is missing is
//! said by [`skip`], and is a failure where the environment variable `REQUIRE_PEERS` is set. It panics where a
//! test would.

mod claim;
mod etcd;
mod hosts;
mod patience;
mod peers;
mod pipes;
mod ports;
mod process;
mod wall_clock;
mod watch;

pub use self::etcd::{Cluster, Papers, Protection};
pub use self::hosts::{BRIDGE, Hosts};
pub use self::patience::{PATIENCE, eventually, eventually_or, throughout, wait_for};
pub use self::peers::{is_installed, skip};
pub use self::pipes::with_pages_of_pipes;
pub use self::ports::free_port;
pub use self::process::{Descendant, signal, tcp_sockets};
pub use self::wall_clock::WallClock;
pub use self::watch::{Seen, Watch};
