//! What is said of a change, and which script is told.

use tracing::{info, warn};

use crate::keepalived::model::{Script, VirtualServer};
use crate::keepalived::pool::Change;

/// Writes a change to the log; returns the script that it calls for.
pub(super) fn tell(service: &VirtualServer, change: Change) -> Option<Script> {
    let name = &service.name;
    let quorum = service.quorum;
    match change {
        Change::Up(server) => {
            let server = &service.servers[server];
            info!(service = %name, server = %server.address, "server is up");
            server.notify_up.clone()
        }
        Change::Down(server, cause) => {
            let server = &service.servers[server];
            let what = if server.inhibit { "server is down and has weight 0" } else { "server is down" };
            warn!(service = %name, server = %server.address, "{what}: {cause}");
            server.notify_down.clone()
        }
        Change::Weight(server, weight) => {
            let server = &service.servers[server];
            info!(service = %name, server = %server.address, "server has weight {weight} now");
            None
        }
        Change::Gained(live) => {
            let instead = if service.sorry.is_some() { "; the sorry server rests" } else { "" };
            info!(service = %name, "quorum gained: weight {live}, wanted {quorum}{instead}");
            service.quorum_up.clone()
        }
        Change::Lost(live) => {
            let instead =
                service.sorry.as_ref().map(|sorry| format!("; the sorry server {} serves", sorry.address));
            warn!(service = %name, "quorum lost: weight {live}, wanted {quorum}{}", instead.unwrap_or_default());
            service.quorum_down.clone()
        }
    }
}
