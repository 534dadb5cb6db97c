//! Connections that another director carries, counted at their servers here: schedulers, thresholds and
//! drains weigh them as if they were this one's.

use std::collections::HashMap;
use std::net::SocketAddr;

use lvs_core::{Director, Lease, Load, ServiceKey};

/// The places that the connections of one director take here.
#[derive(Default)]
pub(super) struct Carried(HashMap<(ServiceKey, SocketAddr), Vec<Lease>>);

impl Carried {
    /// There are so many of them now. Those at a server that is not configured here take no place.
    pub(super) fn become_as(&mut self, director: &Director, open: &[(ServiceKey, SocketAddr, Load)]) {
        let mut before = std::mem::take(&mut self.0);
        for (service, server, load) in open {
            let place = (service.clone(), *server);
            let mut leases = before.remove(&place).unwrap_or_default();
            leases.truncate(load.total() as usize);
            while leases.len() < load.total() as usize {
                let Some(lease) = director.resume(service, *server) else { break };
                leases.push(lease);
            }
            let (closing, active) = leases.split_at(leases.len().min(load.inactive as usize));
            closing.iter().for_each(Lease::closing);
            active.iter().for_each(Lease::reopened);
            self.0.insert(place, leases);
        }
    }
}

#[cfg(test)]
mod tests {
    use lvs_core::{Algorithm, ServerConfig, ServiceConfig};

    use super::*;

    #[test]
    fn places_follow_what_is_told_and_end_with_it() {
        let web = ServiceKey::tcp("192.0.2.1:80".parse().expect("an address"));
        let [server, strange] = ["10.0.0.1:80", "10.0.0.2:80"].map(|address| address.parse().expect("one"));
        let director = Director::new();
        let service = ServiceConfig::new(web.clone(), Algorithm::Rr).server(ServerConfig::new(server));
        director.add_service(service).expect("a service");
        let load = || director.stats()[0].servers[0].load;
        let mut carried = Carried::default();
        for (active, inactive) in [(3, 2), (1, 2), (0, 1), (4, 0)] {
            let told = Load { active, inactive };
            carried.become_as(&director, &[(web.clone(), server, told), (web.clone(), strange, told)]);
            assert_eq!(load(), told);
        }
        carried.become_as(&director, &[]);
        assert_eq!(load().total(), 0);
        assert_eq!(director.stats()[0].connections, 0, "none began here");
    }
}
