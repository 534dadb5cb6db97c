//! Connections of HTTP/1.1 to servers that wait for their next request.
//!
//! The one that was given back last is taken first, so that a quiet hour lets the others run out. What has
//! to go when there is no room is nginx's choice, the one that was idle for longest of the whole upstream,
//! but for one case: a server that has others here pays with its own before it takes the last one of
//! another server. So a server that is asked once in a while has its connection, however busy the others
//! are, and gives way to them otherwise.
//!
//! They outlive the configuration that they were opened under, so a reload costs no server a handshake.
//! That a server is listed no more is seen once a second.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;

use super::{Connection, Secure};
use crate::model::Keepalive;
use crate::moment::Moment;

/// The idle connections of a worker to the servers of one upstream.
#[derive(Default)]
pub(super) struct Idle {
    /// The one given back last is at the end.
    list: RefCell<VecDeque<Waiting>>,
}

struct Waiting {
    connection: Connection,
    since: Moment,
}

impl Idle {
    /// Takes a connection to `server`.
    pub(super) fn take(
        &self,
        server: SocketAddr,
        secure: Option<&Secure>,
        keepalive: &Keepalive,
        now: Moment,
    ) -> Option<Connection> {
        let mut list = self.list.borrow_mut();
        while let Some(place) = list.iter().rposition(|waiting| waiting.connection.leads_to(server, secure)) {
            let Waiting { connection, since } = list.remove(place)?;
            if now.since(since) < keepalive.timeout && connection.link.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection, in the place of another if there is no room.
    pub(super) fn put(&self, connection: Connection, keepalive: &Keepalive, now: Moment) {
        let server = connection.server;
        let mut list = self.list.borrow_mut();
        if let Some(most) = keepalive.idle_max_per_server
            && list.iter().filter(|waiting| waiting.connection.server == server).count() >= most
        {
            match list.iter().position(|waiting| waiting.connection.server == server) {
                Some(oldest) => _ = list.remove(oldest),
                // None may be kept at all.
                None => return,
            }
        }
        while list.len() >= keepalive.idle_max {
            let Some(goes) = outcast(&list, server) else { return };
            list.remove(goes);
        }
        list.push_back(Waiting { connection, since: now });
    }

    /// Closes those that do not hold good under another configuration.
    pub(super) fn adopt(&self, keepalive: &Keepalive, still_meant: impl Fn(&Secure) -> bool) {
        let mut list = self.list.borrow_mut();
        list.retain(|waiting| waiting.connection.secure.as_ref().is_none_or(&still_meant));
        trim(&mut list, keepalive);
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        self.list.borrow_mut().clear();
    }

    /// Closes those that were idle for too long, that servers have closed, or whose server is listed no more.
    pub(super) fn sweep(&self, keepalive: &Keepalive, now: Moment, is_listed: impl Fn(SocketAddr) -> bool) {
        self.list.borrow_mut().retain(|waiting| {
            let connection = &waiting.connection;
            now.since(waiting.since) < keepalive.timeout
                && connection.link.is_quiet()
                && is_listed(connection.server)
        });
    }
}

/// Closes what a configuration has no room for, the longest idle ones first.
fn trim(list: &mut VecDeque<Waiting>, keepalive: &Keepalive) {
    let surplus = list.len().saturating_sub(keepalive.idle_max);
    list.drain(..surplus);
    let Some(most) = keepalive.idle_max_per_server else { return };
    let mut place = list.len();
    while let Some(before) = place.checked_sub(1) {
        place = before;
        let server = list[place].connection.server;
        let later = list.iter().skip(place + 1).filter(|waiting| waiting.connection.server == server);
        if later.count() >= most {
            list.remove(place);
        }
    }
}

/// Which one goes for a connection to `server`.
fn outcast(list: &VecDeque<Waiting>, server: SocketAddr) -> Option<usize> {
    let oldest = list.front()?.connection.server;
    let has_another = list.iter().skip(1).any(|waiting| waiting.connection.server == oldest);
    if oldest == server || has_another {
        return Some(0);
    }
    list.iter().position(|waiting| waiting.connection.server == server).or(Some(0))
}
