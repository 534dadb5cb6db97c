//! The list of connections (`-L -c`), to the letter.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lvs_core::{Config, Protocol, ServiceKey, TemplateStats};

use crate::arguments::PersistenceColumns;
use crate::control::{Connection, ConnectionState};
use crate::listing::{Fit, endpoint, protocol};
use crate::names::Names;

/// One line of the list.
struct Entry {
    /// `None` for what a firewall mark ties together, which is shown as `IP`.
    protocol: Option<Protocol>,
    expires: Duration,
    state: ConnectionState,
    client: SocketAddr,
    virtual_address: SocketAddr,
    server: SocketAddr,
}

/// Lists connections in the order given, then templates in the order of their services.
pub(crate) fn list(
    connections: &[Connection],
    templates: Vec<TemplateStats>,
    config: &Config,
    columns: PersistenceColumns,
    names: Option<&Names>,
) -> String {
    let mut out = "IPVS connection entries\n\
                   pro expire state       source             virtual            destination"
        .to_owned();
    out.push_str(match columns {
        PersistenceColumns::Absent => "\n",
        PersistenceColumns::Present => "        pe name          pe_data\n",
    });
    for connection in connections {
        write(&mut out, &Entry::of_connection(connection), names);
    }
    for template in in_order(templates, config) {
        if let Some(entry) = Entry::of_template(&template) {
            write(&mut out, &entry, names);
        }
    }
    out
}

fn in_order(mut templates: Vec<TemplateStats>, config: &Config) -> Vec<TemplateStats> {
    let places: std::collections::HashMap<&ServiceKey, usize> =
        config.services.iter().enumerate().map(|(place, service)| (&service.key, place)).collect();
    templates.sort_by_cached_key(|template| (places.get(&template.service).copied(), template.client));
    templates
}

impl Entry {
    fn of_connection(connection: &Connection) -> Entry {
        Entry {
            protocol: Some(connection.protocol),
            expires: connection.expires,
            state: connection.state,
            client: connection.client,
            virtual_address: connection.virtual_address,
            server: connection.server,
        }
    }

    /// A template of a firewall-mark service has the mark where an address would be. A pool that no
    /// address leads to has nothing to show there.
    fn of_template(template: &TemplateStats) -> Option<Entry> {
        let virtual_address = match &template.service {
            ServiceKey::Address { address, .. } => *address,
            ServiceKey::Mark { mark, .. } => SocketAddr::new(Ipv4Addr::from(mark.get()).into(), 0),
            ServiceKey::Name(_) => return None,
        };
        let ties_all_ports = virtual_address.port() == 0;
        let server_port = if ties_all_ports { 0 } else { template.server.port() };
        Some(Entry {
            protocol: protocol(&template.service),
            expires: template.left,
            state: ConnectionState::None,
            client: SocketAddr::new(template.client, 0),
            virtual_address,
            server: SocketAddr::new(template.server.ip(), server_port),
        })
    }
}

fn write(out: &mut String, entry: &Entry, names: Option<&Names>) {
    let protocol = entry.protocol.map_or_else(|| "IP".to_owned(), |protocol| protocol.to_string());
    let seconds = entry.expires.as_secs();
    let expires = format!("{:02}:{:02}", seconds / 60, seconds % 60);
    let [client, virtual_address, server] = [entry.client, entry.virtual_address, entry.server]
        .map(|address| endpoint(address, entry.protocol, names, Fit::Whole));
    let state = entry.state.name();
    out.push_str(&format!(
        "{protocol:<3} {expires:<6} {state:<11} {client:<18} {virtual_address:<18} {server}\n"
    ));
}
