//! What a director has counted, and how many connections it carries: whole in an estate, and afterwards what
//! has come since.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use lvs_core::{Counts, Director, Load, ServerStats, ServiceKey, ServiceStats};

use super::estate::{key, name, optional};

/// Counts and loads of services and their servers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    /// Of a server, or of those that a service had before.
    pub(super) counts: Vec<(ServiceKey, Option<SocketAddr>, Counts)>,
    /// Where there are any.
    pub(super) open: Vec<(ServiceKey, SocketAddr, Load)>,
}

impl Tally {
    /// Of a director, since its start.
    pub(super) fn of(director: &Director) -> Tally {
        let mut tally = Tally::default();
        for service in director.stats() {
            let key = &service.config.key;
            tally.counts.push((key.clone(), None, counts_of_departed(&service)));
            for server in &service.servers {
                let address = server.config.address;
                tally.counts.push((key.clone(), Some(address), counts_of(server)));
                if server.load.total() > 0 {
                    tally.open.push((key.clone(), address, server.load));
                }
            }
        }
        tally
    }

    /// The same with only those counts that have come since an earlier one.
    pub(super) fn since(mut self, earlier: &Tally) -> Tally {
        let counted = earlier.counts.iter().map(|(service, server, counts)| ((service, *server), counts));
        let counted: HashMap<_, _> = counted.collect();
        self.counts.retain_mut(|(service, server, counts)| {
            if let Some(earlier) = counted.get(&(&*service, *server)) {
                *counts = difference(counts, earlier);
            }
            *counts != Counts::default()
        });
        self
    }

    /// Adds the counts to a director's.
    pub(super) fn count(&self, director: &Director) {
        for (service, server, counts) in &self.counts {
            // It need not be configured any more.
            let _ = director.add_counts(service, *server, counts);
        }
    }

    /// Writes a line for each.
    pub(super) fn write(&self, text: &mut String) {
        // Writing to a string cannot fail.
        for (service, server, counts) in &self.counts {
            let service = name(service);
            let server = server.map_or("-".to_owned(), |server| server.to_string());
            let Counts { connections, bytes_in, bytes_out, packets_in, packets_out } = counts;
            let _ = writeln!(
                text,
                "counts {service} {server} {connections} {bytes_in} {bytes_out} {packets_in} {packets_out}"
            );
        }
        for (service, server, Load { active, inactive }) in &self.open {
            let _ = writeln!(text, "open {} {server} {active} {inactive}", name(service));
        }
    }

    /// Reads a line that begins with one of its words; others are passed over.
    pub(super) fn read(&mut self, what: &str, words: &str) -> Option<()> {
        let mut words = words.split(' ');
        let mut next = || words.next();
        match what {
            "counts" => {
                let service = key(next()?, next()?)?;
                let server = optional(next()?, |server| server.parse().ok())?;
                let mut count = || next()?.parse().ok();
                let counts = Counts {
                    connections: count()?,
                    bytes_in: count()?,
                    bytes_out: count()?,
                    packets_in: count()?,
                    packets_out: count()?,
                };
                self.counts.push((service, server, counts));
            }
            "open" => {
                let (service, server) = (key(next()?, next()?)?, next()?.parse().ok()?);
                let load = Load { active: next()?.parse().ok()?, inactive: next()?.parse().ok()? };
                self.open.push((service, server, load));
            }
            _ => {}
        }
        Some(())
    }

    /// Reads what another one [wrote](Tally::write); what makes no sense is passed over.
    pub(super) fn of_lines(text: &str) -> Tally {
        let mut tally = Tally::default();
        for (what, words) in text.lines().filter_map(|line| line.split_once(' ')) {
            let _ = tally.read(what, words);
        }
        tally
    }
}

fn counts_of(server: &ServerStats) -> Counts {
    Counts {
        connections: server.connections,
        bytes_in: server.bytes_in,
        bytes_out: server.bytes_out,
        packets_in: server.packets_in,
        packets_out: server.packets_out,
    }
}

/// What the service counts and none of its servers.
fn counts_of_departed(service: &ServiceStats) -> Counts {
    let rest = |total: u64, of: fn(&ServerStats) -> u64| {
        service.servers.iter().map(of).fold(total, u64::wrapping_sub)
    };
    Counts {
        connections: rest(service.connections, |server| server.connections),
        bytes_in: rest(service.bytes_in, |server| server.bytes_in),
        bytes_out: rest(service.bytes_out, |server| server.bytes_out),
        packets_in: rest(service.packets_in, |server| server.packets_in),
        packets_out: rest(service.packets_out, |server| server.packets_out),
    }
}

/// Nothing where a count was begun anew.
fn difference(now: &Counts, earlier: &Counts) -> Counts {
    Counts {
        connections: now.connections.saturating_sub(earlier.connections),
        bytes_in: now.bytes_in.saturating_sub(earlier.bytes_in),
        bytes_out: now.bytes_out.saturating_sub(earlier.bytes_out),
        packets_in: now.packets_in.saturating_sub(earlier.packets_in),
        packets_out: now.packets_out.saturating_sub(earlier.packets_out),
    }
}

#[cfg(test)]
impl Tally {
    pub(super) fn one_of_each(service: &ServiceKey, server: SocketAddr) -> Tally {
        let counts = Counts { connections: 1, bytes_in: 2, bytes_out: 3, packets_in: 4, packets_out: 5 };
        Tally {
            counts: vec![(service.clone(), Some(server), counts), (service.clone(), None, Counts::default())],
            open: vec![(service.clone(), server, Load { active: 6, inactive: 7 })],
        }
    }
}
