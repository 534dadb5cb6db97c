//! What TLS has to say before a request is looked at: HTTP on a port of HTTPS, bad certificates of
//! clients, and a name that is not the one the handshake was about.

use super::strict::Refused;
use crate::route::Entry;
use crate::server::Protocol;
use crate::tls::Verified;
use crate::transaction::Transaction;
use crate::variable::Captures;

/// Refuses a request that TLS does not allow.
pub(super) fn check(transaction: &mut Transaction, entry: Entry) -> Option<Refused> {
    if let Protocol::Http1InTheClear = transaction.session.protocol {
        return Some(Refused { status: 497, reason: "client sent plain HTTP request to HTTPS port" });
    }
    let tls = transaction.session.tls.clone()?;
    let generation = std::rc::Rc::clone(&transaction.generation);
    let site = &generation.site;
    let server = transaction.find_server(&site.router, entry);
    let terminator = &site.terminators[server.number()];
    if !terminator.asks_for_certificates() {
        return None;
    }
    // The certificate was asked for in the name of another server.
    let asked = site.router.server(entry, &tls.server_name, &mut Captures::default());
    if !tls.server_name.is_empty() && asked.number() != server.number() {
        let reason = "client attempted to request the server name different from the one that was negotiated";
        return Some(Refused { status: 421, reason });
    }
    if terminator.admits(&tls.verified) {
        return None;
    }
    Some(match tls.verified {
        Verified::None => Refused { status: 496, reason: "client sent no required SSL certificate" },
        _ => Refused { status: 495, reason: "client SSL certificate verify error" },
    })
}
