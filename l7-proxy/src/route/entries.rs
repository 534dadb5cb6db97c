//! What is listened on, gathered from all virtual servers: their addresses, and who is the default of each.

use std::net::SocketAddr;

use super::{Endpoint, NameTable, RouteError, Socket};
use crate::model::{Listen, SocketOptions, VirtualServer};

/// One address while its servers are gathered.
pub(super) struct EntryDraft {
    addr: SocketAddr,
    servers: Vec<usize>,
    default: Option<usize>,
    options: Option<SocketOptions>,
}

impl EntryDraft {
    /// Returns what is spoken here: TLS and HTTP/2 if any of the servers says so of the address.
    pub(super) fn endpoint(&self, servers: &[VirtualServer]) -> Endpoint {
        let of = |place: &usize| servers[*place].listen.iter().filter(|listen| listen.addr == self.addr);
        let mut listens = self.servers.iter().flat_map(of);
        let default = self.default.or(self.servers.first().copied());
        Endpoint {
            ssl: listens.clone().any(|listen| listen.ssl),
            proxy_protocol: listens.clone().any(|listen| listen.proxy_protocol),
            http2: listens.any(|listen| listen.http2)
                || default.is_some_and(|place| servers[place].settings.http2.on),
        }
    }

    pub(super) fn new(addr: SocketAddr) -> Self {
        Self::of(addr, Vec::new())
    }

    /// One that has these servers.
    pub(super) fn of(addr: SocketAddr, servers: Vec<usize>) -> Self {
        Self { addr, servers, default: None, options: None }
    }

    pub(super) fn add(&mut self, server: usize, listen: &Listen) -> Result<(), RouteError> {
        if !self.servers.contains(&server) {
            self.servers.push(server);
        }
        if listen.default_server && self.default.replace(server).is_some() {
            return Err(RouteError::DuplicateDefault(self.addr));
        }
        if let Some(options) = &listen.socket
            && self.options.replace(options.clone()).is_some()
        {
            return Err(RouteError::DuplicateOptions(self.addr));
        }
        Ok(())
    }

    pub(super) fn compile(self, servers: &[VirtualServer]) -> NameTable {
        // The first server of an address is its default unless another says that it is.
        let default = self.default.or(self.servers.first().copied()).unwrap_or(0);
        NameTable::new(default, self.servers.iter().map(|&number| (number, &*servers[number].names)))
    }
}

/// Returns the sockets that the addresses need.
pub(super) fn sockets(entries: &[EntryDraft]) -> Vec<Socket> {
    let covered = |entry: &EntryDraft| {
        !entry.addr.ip().is_unspecified()
            && entry.options.is_none()
            && entries.iter().any(|other| {
                other.addr.ip().is_unspecified()
                    && other.addr.port() == entry.addr.port()
                    && other.addr.is_ipv4() == entry.addr.is_ipv4()
            })
    };
    entries
        .iter()
        .filter(|entry| !covered(entry))
        .map(|entry| Socket { addr: entry.addr, options: entry.options.clone().unwrap_or_default() })
        .collect()
}
