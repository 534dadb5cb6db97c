//! The list of connections (`-L -c`), to the letter.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lvs_core::{Config, Protocol, ServiceKey, TemplateStats};

use crate::arguments::PersistenceColumns;
use crate::control::{Connection, ConnectionState};
use crate::document;
use crate::listing::{Fit, endpoint, protocol};
use crate::names::Names;

/// One line of the list.
struct Entry {
    /// `None` for what a firewall mark ties together, which is shown as `IP`.
    protocol: Option<Protocol>,
    expires: Duration,
    state: &'static str,
    client: SocketAddr,
    virtual_address: SocketAddr,
    server: SocketAddr,
    template: bool,
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
    for entry in entries(connections, templates, config) {
        write(&mut out, &entry, names);
    }
    out
}

/// The same list as a document.
pub(crate) fn document(
    connections: &[Connection],
    templates: Vec<TemplateStats>,
    config: &Config,
) -> document::Connections {
    let entry = |entry: Entry| document::ConnectionEntry {
        protocol: protocol_name(entry.protocol),
        expires_seconds: entry.expires.as_secs(),
        state: entry.state.to_owned(),
        client: entry.client,
        r#virtual: entry.virtual_address,
        server: entry.server,
        template: entry.template,
    };
    let connections = entries(connections, templates, config).map(entry).collect();
    document::Connections { version: document::VERSION, connections }
}

fn entries(
    connections: &[Connection],
    templates: Vec<TemplateStats>,
    config: &Config,
) -> impl Iterator<Item = Entry> {
    let templates = in_order(templates, config);
    let templates = templates.into_iter().filter_map(|template| Entry::of_template(&template));
    connections.iter().map(Entry::of_connection).chain(templates)
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
            state: connection.state.name(),
            client: connection.client,
            virtual_address: connection.virtual_address,
            server: connection.server,
            template: false,
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
            state: if template.assured { "ASSURED" } else { ConnectionState::None.name() },
            client: SocketAddr::new(template.client, 0),
            virtual_address,
            server: SocketAddr::new(template.server.ip(), server_port),
            template: true,
        })
    }
}

fn protocol_name(protocol: Option<Protocol>) -> String {
    protocol.map_or_else(|| "IP".to_owned(), |protocol| protocol.to_string())
}

fn write(out: &mut String, entry: &Entry, names: Option<&Names>) {
    let protocol = protocol_name(entry.protocol);
    let seconds = entry.expires.as_secs();
    let expires = format!("{:02}:{:02}", seconds / 60, seconds % 60);
    let [client, virtual_address, server] = [entry.client, entry.virtual_address, entry.server]
        .map(|address| endpoint(address, entry.protocol, names, Fit::Whole));
    let state = entry.state;
    out.push_str(&format!(
        "{protocol:<3} {expires:<6} {state:<11} {client:<18} {virtual_address:<18} {server}\n"
    ));
}
