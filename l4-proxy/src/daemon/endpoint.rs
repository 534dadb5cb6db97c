//! Where a configuration has the director listen, and for whom.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;

use lvs_core::{Config, Protocol, ServiceKey};
use lvsadm::CommitError;

use crate::fwmark::Entrance;

/// An address to listen on, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    pub(super) whose: Whose,
}

/// Whom what arrives there belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    /// One service.
    Service(ServiceKey),
    /// The service that its packets are marked for.
    Marked,
}

/// All endpoints of a configuration.
///
/// # Errors
/// Two services want the same.
pub(super) fn endpoints(config: &Config, entrances: &[Entrance]) -> Result<Vec<Endpoint>, CommitError> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for service in &config.services {
        let key = &service.key;
        if let ServiceKey::Address { protocol, address } = *key {
            endpoints.push(Endpoint { protocol, address, whose: Whose::Service(key.clone()) });
        }
        for entrance in entrances.iter().filter(|entrance| entrance.leads_to(key)) {
            let (protocol, address, whose) = match *entrance {
                Entrance::OfMark { protocol, address, .. } => {
                    (protocol, address, Whose::Service(key.clone()))
                }
                Entrance::OfPackets { address } => (Protocol::Tcp, address, Whose::Marked),
            };
            let endpoint = Endpoint { protocol, address, whose };
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
    }
    let mut wanted = HashSet::with_capacity(endpoints.len());
    match endpoints.iter().find(|endpoint| !wanted.insert((endpoint.protocol, endpoint.address))) {
        Some(Endpoint { protocol, address, .. }) => Err(CommitError::Refused(format!(
            "{protocol} {address} belongs to more than one service, one of them by firewall mark (--fwmark)"
        ))),
        None => Ok(endpoints),
    }
}

/// As its service is called, with the address where that does not say it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { protocol, address, whose } = self;
        match whose {
            Whose::Service(key) if key.address() == Some(*address) => key.fmt(f),
            Whose::Service(key) => write!(f, "{key} at {protocol} {address}"),
            Whose::Marked => write!(f, "marks at {protocol} {address}"),
        }
    }
}
