//! What is said of a change, to whom, and which script is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use lvs_core::{Protocol, ServiceKey};
use tracing::{info, warn};

use crate::fifo;
use crate::keepalived::model::{Global, Mail, Mailing, Script, VirtualServer, endpoint};
use crate::keepalived::pool::Change;
use crate::mail::{Letter, Office};

/// Who is told of changes, beside scripts.
#[derive(Default)]
pub(super) struct Audience {
    mailing: Mailing,
    fifos: Vec<PathBuf>,
}

impl Audience {
    pub(super) fn of(global: &Global) -> Audience {
        Audience { mailing: global.mailing.clone(), fifos: global.check_fifos.clone() }
    }

    /// Writes a change to the log and the FIFOs and posts it; returns the script that it calls for.
    pub(super) fn tell(&self, service: &VirtualServer, change: &Change, office: &Office) -> Option<Script> {
        log(service, change);
        let name = &service.name;
        let (line, mail, usual) = match change {
            Change::Up(server) | Change::Down(server, _) => {
                let server = &service.servers[*server];
                (format!("RS {} {name}", server_name(service, server.address)), server.mail, Mail::On)
            }
            Change::Gained(_) | Change::Lost(_) => (format!("VS {name}"), service.mail, Mail::Off),
            Change::Weight(..) => return None,
        };
        let standing = if matches!(change, Change::Up(_) | Change::Gained(_)) { "UP" } else { "DOWN" };
        for path in &self.fifos {
            fifo::write(path, &format!("{line} {standing}\n"));
        }
        if mail.is_on(self.mailing.of_checks, usual) {
            office.post(letter(service, change, standing), &self.mailing);
        }
        script(service, change)
    }
}

fn log(service: &VirtualServer, change: &Change) {
    let name = &service.name;
    let quorum = service.quorum;
    match change {
        Change::Up(server) => {
            let server = &service.servers[*server];
            info!(service = %name, server = %server.address, "server is up");
        }
        Change::Down(server, cause) => {
            let server = &service.servers[*server];
            let what = if server.inhibit { "server is down and has weight 0" } else { "server is down" };
            warn!(service = %name, server = %server.address, "{what}: {cause}");
        }
        Change::Weight(server, weight) => {
            let server = &service.servers[*server];
            info!(service = %name, server = %server.address, "server has weight {weight} now");
        }
        Change::Gained(live) => {
            let instead = if service.sorry.is_some() { "; the sorry server rests" } else { "" };
            info!(service = %name, "quorum gained: weight {live}, wanted {quorum}{instead}");
        }
        Change::Lost(live) => {
            let instead =
                service.sorry.as_ref().map(|sorry| format!("; the sorry server {} serves", sorry.address));
            warn!(service = %name, "quorum lost: weight {live}, wanted {quorum}{}", instead.unwrap_or_default());
        }
    }
}

/// keepalived's subject, and the reason.
fn letter(service: &VirtualServer, change: &Change, standing: &str) -> Letter {
    let (name, quorum) = (&service.name, service.quorum);
    let of_server = |server: usize| {
        let server = server_name(service, service.servers[server].address);
        format!("Realserver {server} of virtual server {name} - {standing}")
    };
    let of_service = || format!("Virtualserver {name} - {standing}");
    let (subject, text) = match change {
        Change::Up(server) => (of_server(*server), "=> CHECK succeed on service <=".to_owned()),
        Change::Down(server, cause) => {
            (of_server(*server), format!("=> CHECK failed on service : {cause} <="))
        }
        Change::Weight(server, weight) => (of_server(*server), format!("=> weight {weight} <=")),
        Change::Gained(live) => {
            (of_service(), format!("=> Gained quorum: weight {live}, wanted {quorum} <="))
        }
        Change::Lost(live) => (of_service(), format!("=> Lost quorum: weight {live}, wanted {quorum} <=")),
    };
    Letter { subject, text: text + "\n" }
}

fn script(service: &VirtualServer, change: &Change) -> Option<Script> {
    match change {
        Change::Up(server) => service.servers[*server].notify_up.clone(),
        Change::Down(server, _) => service.servers[*server].notify_down.clone(),
        Change::Weight(..) => None,
        Change::Gained(_) => service.quorum_up.clone(),
        Change::Lost(_) => service.quorum_down.clone(),
    }
}

/// How keepalived calls a real server.
fn server_name(service: &VirtualServer, address: SocketAddr) -> String {
    let protocol = match service.keys.first() {
        Some(ServiceKey::Address { protocol, .. }) => *protocol,
        _ => Protocol::Tcp,
    };
    endpoint(address.ip(), &protocol.to_string().to_lowercase(), address.port())
}
