//! What the file asks for, and what `lvsadm` has made of it since.
//!
//! A change by `lvsadm` is about the moment, one in the file about the rule. So a reload takes over
//! what the file says anew, and leaves alone what it says as before: a server that was drained for
//! maintenance does not come back because a certificate was renewed.

use std::net::SocketAddr;

use lvs_core::{ServerConfig, ServiceConfig};

/// Returns the services to serve: `wanted`, with the changes that `present` has over `before`
/// wherever `wanted` says the same as `before`.
pub(super) fn merge(
    before: &[ServiceConfig],
    wanted: &[ServiceConfig],
    present: &[ServiceConfig],
) -> Vec<ServiceConfig> {
    let services = wanted.iter().map(|wanted| {
        let of = |services: &[ServiceConfig]| services.iter().find(|other| other.key == wanted.key).cloned();
        match (of(before), of(present)) {
            (Some(before), Some(present)) => merge_service(before, wanted.clone(), present),
            _ => wanted.clone(),
        }
    });
    services.collect()
}

fn merge_service(
    mut before: ServiceConfig,
    mut wanted: ServiceConfig,
    mut present: ServiceConfig,
) -> ServiceConfig {
    let [old, new, now] = [&mut before, &mut wanted, &mut present].map(|of| std::mem::take(&mut of.servers));
    let mut service = if before == wanted { present } else { wanted };
    let kept = new.iter().filter_map(|server| {
        let now = find(&now, server.address);
        match find(&old, server.address) {
            Some(old) if old == server => now,
            _ => Some(server),
        }
    });
    // A server that only `lvsadm` knows.
    let is_added =
        |server: &&ServerConfig| find(&old, server.address).is_none() && find(&new, server.address).is_none();
    service.servers = kept.chain(now.iter().filter(is_added)).cloned().collect();
    service
}

fn find(servers: &[ServerConfig], address: SocketAddr) -> Option<&ServerConfig> {
    servers.iter().find(|server| server.address == address)
}

#[cfg(test)]
mod tests {
    use lvs_core::{Algorithm, ServiceKey, Weight};

    use super::*;

    /// A service whose servers have these ports and weights.
    fn service(servers: &[(u16, u32)]) -> ServiceConfig {
        let mut service = ServiceConfig::new(ServiceKey::name("app"), Algorithm::Swrr);
        service.servers = servers
            .iter()
            .map(|&(port, weight)| {
                ServerConfig::new(SocketAddr::from(([127, 0, 0, 1], port)))
                    .weight(Weight::new(weight).unwrap())
            })
            .collect();
        service
    }

    #[track_caller]
    fn check(before: &[(u16, u32)], wanted: &[(u16, u32)], present: &[(u16, u32)], expected: &[(u16, u32)]) {
        let [before, wanted, present, expected] = [before, wanted, present, expected].map(service);
        assert_eq!(merge(&[before], &[wanted], &[present]), [expected]);
    }

    #[test]
    fn drained_server_stays_drained_while_the_file_says_the_same() {
        check(&[(1, 5), (2, 1)], &[(1, 5), (2, 1), (3, 1)], &[(1, 0), (2, 1)], &[(1, 0), (2, 1), (3, 1)]);
    }

    #[test]
    fn weight_that_the_file_changes_is_the_files() {
        check(&[(1, 5)], &[(1, 7)], &[(1, 0)], &[(1, 7)]);
    }

    #[test]
    fn server_that_was_added_or_deleted_by_hand_stays_so() {
        check(&[(1, 1), (2, 1)], &[(1, 1), (2, 1)], &[(1, 1), (9, 3)], &[(1, 1), (9, 3)]);
    }

    #[test]
    fn server_that_the_file_drops_is_gone() {
        check(&[(1, 1), (2, 1)], &[(1, 1)], &[(1, 1), (2, 9)], &[(1, 1)]);
    }

    #[test]
    fn scheduler_set_by_hand_stays_until_the_file_names_another() {
        let with = |algorithm| {
            let mut service = service(&[(1, 1)]);
            service.algorithm = algorithm;
            [service]
        };
        let [file, other, by_hand] = [Algorithm::Swrr, Algorithm::LeastConn, Algorithm::Wlc].map(with);
        assert_eq!(merge(&file, &file, &by_hand), by_hand);
        assert_eq!(merge(&file, &other, &by_hand), other);
        assert_eq!(merge(&[], &other, &[]), other);
    }
}
