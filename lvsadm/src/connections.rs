//! The list of connections (`-L -c`), to the letter.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lvs_core::{Config, Protocol, ServiceKey, TemplateStats};

use crate::arguments::PersistenceColumns;
use crate::control::{Connection, ConnectionState, Moved};
use crate::document;
use crate::listing::{Fit, endpoint, protocol};
use crate::names::Names;

/// One line of the list.
struct Entry {
    /// `None` for what a firewall mark or a pool ties together, which is shown as `IP`.
    protocol: Option<Protocol>,
    expires: Duration,
    state: &'static str,
    client: SocketAddr,
    asked_for: AskedFor,
    server: SocketAddr,
    template: bool,
    session: Option<Session>,
    moved: Option<Moved>,
}

/// What a persistence engine found.
struct Session {
    engine: &'static str,
    found: String,
}

/// What a client asked for.
enum AskedFor {
    Address(SocketAddr),
    /// A pool that no address leads to.
    Pool(Arc<str>),
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
        write(&mut out, &entry, columns, names);
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
        r#virtual: match &entry.asked_for {
            AskedFor::Address(address) => Some(*address),
            AskedFor::Pool(_) => None,
        },
        pool: match &entry.asked_for {
            AskedFor::Address(_) => None,
            AskedFor::Pool(name) => Some(name.to_string()),
        },
        server: entry.server,
        template: entry.template,
        session: entry.session.map(|session| session.found),
        bytes_in: entry.moved.map(|moved| moved.to_server),
        bytes_out: entry.moved.map(|moved| moved.to_client),
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
    let templates = templates.into_iter().map(|template| Entry::of_template(&template, config));
    connections.iter().map(Entry::of_connection).chain(templates)
}

fn in_order(mut templates: Vec<TemplateStats>, config: &Config) -> Vec<TemplateStats> {
    let places: std::collections::HashMap<&ServiceKey, usize> =
        config.services.iter().enumerate().map(|(place, service)| (&service.key, place)).collect();
    templates.sort_by_cached_key(|template| {
        (places.get(&template.service).copied(), template.client, template.session.clone())
    });
    templates
}

impl Entry {
    fn of_connection(connection: &Connection) -> Entry {
        Entry {
            protocol: Some(connection.protocol),
            expires: connection.expires,
            state: connection.state.name(),
            client: connection.client,
            asked_for: AskedFor::Address(connection.virtual_address),
            server: connection.server,
            template: false,
            session: None,
            moved: connection.moved,
        }
    }

    /// A template of a firewall-mark service has the mark where an address would be, that of a pool its name.
    fn of_template(template: &TemplateStats, config: &Config) -> Entry {
        let asked_for = match &template.service {
            ServiceKey::Address { address, .. } => AskedFor::Address(*address),
            ServiceKey::Mark { mark, .. } => {
                AskedFor::Address(SocketAddr::new(Ipv4Addr::from(mark.get()).into(), 0))
            }
            ServiceKey::Name(name) => AskedFor::Pool(Arc::clone(name)),
        };
        let ties_all_ports = matches!(asked_for, AskedFor::Address(address) if address.port() == 0);
        let rule = config.service(&template.service).and_then(|service| service.persistence);
        let engine = rule.and_then(|rule| rule.persistence_engine());
        let session = template.session.as_deref().map(|found| Session {
            engine: engine.map_or("", |engine| engine.name()),
            found: String::from_utf8_lossy(found).into_owned(),
        });
        let server_port = if ties_all_ports { 0 } else { template.server.port() };
        Entry {
            protocol: protocol(&template.service),
            expires: template.left,
            state: if template.assured { "ASSURED" } else { ConnectionState::None.name() },
            client: SocketAddr::new(template.client, 0),
            asked_for,
            server: SocketAddr::new(template.server.ip(), server_port),
            template: true,
            session,
            moved: None,
        }
    }
}

fn protocol_name(protocol: Option<Protocol>) -> String {
    protocol.map_or_else(|| "IP".to_owned(), |protocol| protocol.to_string())
}

fn write(out: &mut String, entry: &Entry, columns: PersistenceColumns, names: Option<&Names>) {
    let protocol = protocol_name(entry.protocol);
    let seconds = entry.expires.as_secs();
    let expires = format!("{:02}:{:02}", seconds / 60, seconds % 60);
    let written = |address| endpoint(address, entry.protocol, names, Fit::Whole);
    let (client, server) = (written(entry.client), written(entry.server));
    let asked_for = match &entry.asked_for {
        AskedFor::Address(address) => written(*address),
        AskedFor::Pool(name) => name.to_string(),
    };
    let state = entry.state;
    out.push_str(&format!("{protocol:<3} {expires:<6} {state:<11} {client:<18} {asked_for:<18} "));
    out.push_str(&match (&entry.session, columns) {
        (Some(Session { engine, found }), PersistenceColumns::Present) => {
            // A terminal does as it is told.
            let found = found.replace(char::is_control, "\u{fffd}");
            format!("{server:<16} {engine:<18} {found}\n")
        }
        _ => format!("{server}\n"),
    });
}
