//! `pass`: a connection goes on as if it had come to another address of the configuration.
//!
//! No connection is made: the socket itself changes hands, with TLS on it if that was spoken here. So
//! whoever goes on with it sees the client, and what the client has sent. That it was here is not logged:
//! who goes on with it logs it.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::task::spawn_local;
use tracing::error;

use super::session;
use super::side::Side;
use super::visit::Visit;
use crate::model::PassTarget;
use crate::server::Passed;
use crate::unix;

impl Visit {
    /// Hands the connection over.
    ///
    /// # Errors
    /// The status that it comes to, as nobody may have it.
    pub(super) fn pass(&mut self, client: Side, target: &PassTarget) -> Result<(), u16> {
        let serial = self.facts.serial;
        let addr = match target {
            PassTarget::Address(addr) => *addr,
            PassTarget::Computed(text) => {
                let text = String::from_utf8_lossy(&text.bytes(&self.facts)).into_owned();
                read(&text).ok_or_else(|| {
                    error!("*{serial} invalid address in pass \"{text}\" {PASSING}, {}", self.facts.client());
                    500_u16
                })?
            }
        };
        if self.passes >= PASSES_MAX {
            error!("*{serial} stream pass cycle {PASSING}, {}", self.facts.client());
            return Err(500);
        }
        let remote = self.facts.remote;
        let passed = Passed {
            client,
            tls: self.facts.tls.take().map(Rc::new),
            proxied: self.facts.proxied.clone(),
            remote,
            local: addr,
            held: Box::new((
                self.door.common.connections.place(),
                std::mem::take(&mut self.places),
                self.held.take(),
            )),
        };
        let Some(passed) = self.worker.take_over(passed) else { return Ok(()) };
        let tls = passed.tls.and_then(Rc::into_inner);
        let Some(door) = self.door.common.door(addr) else {
            // Its line in the log tells of it.
            self.facts.tls = tls;
            let (name, client) = (unix::shown(addr), self.facts.client());
            error!("*{serial} port not found for \"{name}\" {PASSING}, {client}");
            return Err(200);
        };
        let mut visit = Visit::new(&self.worker, &door, remote, addr);
        visit.passes = self.passes + 1;
        (visit.facts.tls, visit.facts.proxied) = (tls, passed.proxied);
        visit.held = Some(passed.held);
        spawn_local(session::serve_visit(visit, passed.client));
        Ok(())
    }
}

/// Reads an address that was computed: names are nobody's to look up here.
fn read(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => unix::address_for_request(path),
        Some(_) => None,
        None => text.parse().ok(),
    }
}

/// What is being done, in nginx's words.
pub(super) const PASSING: &str = "while passing connection to port";

/// How often a connection may be handed over, as in nginx.
const PASSES_MAX: u8 = 10;
