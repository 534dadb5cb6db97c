//! What a director can serve: asked of every edit before anything changes.

use lvs_core::{Forwarding, Protocol, ServerConfig, ServiceConfig, ServiceKey};
use lvsadm::{CommitError, Edit};

use crate::fwmark::Entrance;

/// Whether a director with these entrances can carry out this edit: a check for those who read rules
/// line by line.
///
/// # Errors
/// What about it a proxy cannot do, or this one not yet.
pub fn accepts(entrances: &[Entrance], edit: &Edit) -> Result<(), CommitError> {
    match edit {
        Edit::AddService(service) | Edit::EditService(service) => can_serve(entrances, service),
        Edit::AddServer(service, server) | Edit::EditServer(service, server) => can_forward(service, server),
        Edit::Replace(config) => config.services.iter().try_for_each(|service| can_serve(entrances, service)),
        Edit::DeleteService(_) | Edit::DeleteServer(..) | Edit::Drain { .. } => Ok(()),
    }
}

fn can_serve(entrances: &[Entrance], service: &ServiceConfig) -> Result<(), CommitError> {
    let key = &service.key;
    let reason = match key {
        ServiceKey::Address { protocol: Protocol::Sctp, .. } => Some("this build forwards no SCTP"),
        ServiceKey::Address { address, .. } if address.port() != 0 => None,
        ServiceKey::Address { .. } => Some(
            "a proxy listens on one port, not on all; --fwmark gathers several ports in one service (see --fwmark-help)",
        ),
        ServiceKey::Mark { .. } if entrances.iter().any(|entrance| entrance.leads_to(key)) => None,
        ServiceKey::Mark { mark, .. } => {
            return Err(CommitError::Refused(format!(
                "service {key} cannot be served: a proxy has to listen where its packets arrive; start \
                 l4-proxy with --fwmark {mark}=VIP:PORT (see --fwmark-help)"
            )));
        }
        ServiceKey::Name(_) => Some("it has no address to listen on"),
    };
    if let Some(reason) = reason {
        return Err(CommitError::Refused(format!("service {key} cannot be served: {reason}")));
    }
    service.servers.iter().try_for_each(|server| can_forward(key, server))
}

fn can_forward(service: &ServiceKey, server: &ServerConfig) -> Result<(), CommitError> {
    let option = match server.forwarding {
        Forwarding::Masquerading => return Ok(()),
        Forwarding::Gatewaying => "-g",
        _ => "-i",
    };
    // The port is the service's, whatever was asked for: only NAT leads to another.
    let server = server.address.ip();
    let reason = "this build forwards by masquerading only (-m)";
    Err(CommitError::Refused(format!("server {server} of service {service} has {option}: {reason}")))
}
