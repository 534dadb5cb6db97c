//! The two connections of a client's way to its server.

use tokio::net::TcpStream;

use crate::relay::reset_on_drop;

/// Dropped before their time, as at the deadline of a drain, both are reset: who got the beginning of a
/// stream would take it for the whole, if all it saw then was an end.
pub(super) struct Legs {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    /// Servers that could not be connected to on the way.
    pub(super) failed: u32,
    /// The relay has ended, and has left them as they are to end.
    settled: bool,
}

impl Legs {
    pub(super) fn new(client: TcpStream, server: TcpStream, failed: usize) -> Legs {
        Legs { client, server, failed: u32::try_from(failed).unwrap_or(u32::MAX), settled: false }
    }

    /// Ends them as they stand.
    pub(super) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Legs {
    fn drop(&mut self) {
        if !self.settled {
            reset_on_drop(&self.client);
            reset_on_drop(&self.server);
        }
    }
}
