//! Commands that ipvsadm does not have: why, what if, and out with it.

use std::collections::HashMap;
use std::net::SocketAddr;

use lvs_core::{Changes, Config, EditError, Explanation, Flow, ServerConfig, ServiceKey};
use serde::Serialize;

use crate::arguments::{Drain, Extent, Format};
use crate::control::{Control, Edit};
use crate::document::VERSION;
use crate::message::{Failure, Subject};
use crate::rules::{server_words, service_words};
use crate::standing::{NO_DEADLINE, count, cut_off, left};

#[derive(Serialize)]
struct Explained {
    version: u32,
    explanation: Explanation,
}

#[derive(Serialize)]
struct Planned {
    version: u32,
    plan: Changes,
}

/// Writes a document as text that people can read, too.
pub(crate) fn json(document: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(document);
    // No map has keys that are no text, and nothing else can fail.
    text.map(|text| text + "\n").map_err(|error| Failure::refused(error.to_string()))
}

/// What would become of a client, and why (`--explain`).
pub(crate) fn explain(
    services: &[ServiceKey],
    client: SocketAddr,
    format: Format,
    control: &dyn Control,
) -> Result<String, Failure> {
    let config = control.director().config();
    let service = services.iter().find(|service| config.service(service).is_some());
    let service = service.ok_or_else(Failure::unknown_service)?;
    let mut flow = Flow::new(client);
    if let Some(address) = service.address() {
        flow = flow.to(address);
    }
    let explanation = control.director().explain(service, &flow, control.now());
    // The service can have gone since the look at the configuration.
    let explanation = explanation.map_err(|_| Failure::unknown_service())?;
    match format {
        Format::Text => Ok(format!("{explanation}\n")),
        Format::Json => json(&Explained { version: VERSION, explanation }),
    }
}

/// What a configuration in the place of the present one would change (`--plan`).
pub(crate) fn plan(wanted: Config, format: Format, control: &dyn Control) -> Result<String, Failure> {
    let present = control.director().config();
    let changes = control.plan(wanted.clone());
    let changes = changes.map_err(|error| Failure::uncommitted(&error, Subject::Service))?;
    match format {
        Format::Text => Ok(Words { present: &present, wanted: &wanted }.tell(&changes)),
        Format::Json => json(&Planned { version: VERSION, plan: changes }),
    }
}

/// Takes a server out of one service or of all, and says what is left on it (`--drain`).
pub(crate) fn drain(drain: &Drain, control: &dyn Control) -> Result<String, Failure> {
    let config = control.director().config();
    if let Some(service) = &drain.service
        && config.service(service).is_none()
    {
        return Err(Failure::uncommitted(&EditError::NoService.into(), Subject::Server));
    }
    let services = config.services.iter();
    let services = services.filter(|service| drain.service.as_ref().is_none_or(|only| *only == service.key));
    let is_meant = |server: &SocketAddr| {
        server.ip() == drain.host && drain.port.is_none_or(|port| port == server.port())
    };
    let deadline = control.now() + drain.deadline.unwrap_or(NO_DEADLINE);
    let mut found: Vec<(ServiceKey, SocketAddr)> = Vec::new();
    for service in services {
        let servers = service.servers.iter().map(|server| server.address).filter(is_meant);
        found.extend(servers.map(|server| (service.key.clone(), server)));
    }
    if found.is_empty() {
        return Err(Failure::uncommitted(&EditError::NoServer.into(), Subject::Server));
    }
    for (service, server) in &found {
        let edit = Edit::Drain { service: service.clone(), server: *server, deadline };
        control.commit(edit).map_err(|error| Failure::uncommitted(&error, Subject::Server))?;
    }
    let mut out = String::new();
    for draining in control.director().draining() {
        if found.contains(&(draining.service.clone(), draining.server)) {
            let connections = count(draining.load.total().into(), "connection", "connections");
            let clients = count(draining.templates.into(), "persistent client", "persistent clients");
            let (server, service) = (draining.server, &draining.service);
            out.push_str(&format!("{server} of {service} drains: {connections} and {clients} left"));
            if let Some(time) = cut_off(&draining, control.now()) {
                out.push_str(&format!(", cut off in {}", left(time)));
            }
            out.push('\n');
        }
    }
    Ok(out)
}

/// A plan in words, a line for each change: `+` comes, `-` goes, `~` is another.
struct Words<'a> {
    present: &'a Config,
    wanted: &'a Config,
}

impl Words<'_> {
    fn tell(&self, changes: &Changes) -> String {
        if changes.is_empty() {
            return "nothing would change\n".to_owned();
        }
        let (before, after) = (Servers::of(self.present), Servers::of(self.wanted));
        let mut lines = Vec::new();
        for key in &changes.services_removed {
            lines.push(format!("- service {key}"));
        }
        // With a service its servers go, and need no line each.
        let stays = |(key, _): &&(ServiceKey, SocketAddr)| self.wanted.service(key).is_some();
        for (key, server) in changes.servers_removed.iter().filter(stays) {
            lines.push(format!("- server {server} of {key}"));
        }
        for key in &changes.services_added {
            let words = self.wanted.service(key).map(service_words).unwrap_or_default();
            lines.push(format!("+ service {key} {words}"));
        }
        for place @ (key, server) in &changes.servers_added {
            lines.push(format!("+ server {server} of {key} {}", after.words(place)));
        }
        for key in &changes.services_edited {
            let words = |config: &Config| config.service(key).map(service_words).unwrap_or_default();
            let step = step(&words(self.present), &words(self.wanted), "its health policy");
            lines.push(format!("~ service {key} {step}"));
        }
        for place @ (key, server) in &changes.servers_edited {
            let step = step(&before.words(place), &after.words(place), "its rule for failures");
            lines.push(format!("~ server {server} of {key} {step}"));
        }
        for moved in &changes.moved {
            let percent = moved.percent();
            lines.push(format!("{percent:.1} % of the clients of {} get another server", moved.service));
        }
        if changes.connections > 0 {
            let connections = count(changes.connections, "connection is", "connections are");
            lines.push(format!("{connections} on servers that go"));
        }
        if changes.templates > 0 {
            let clients =
                count(changes.templates, "persistent client loses its", "persistent clients lose their");
            lines.push(format!("{clients} server"));
        }
        lines.join("\n") + "\n"
    }
}

/// `-w 1 => -w 3`, or what it is that words cannot say.
fn step(before: &str, after: &str, unsaid: &str) -> String {
    if before == after { format!("{before}: {unsaid}") } else { format!("{before} => {after}") }
}

/// The servers of a configuration, by service and address.
struct Servers<'a>(HashMap<(&'a ServiceKey, SocketAddr), &'a ServerConfig>);

impl Servers<'_> {
    fn of(config: &Config) -> Servers<'_> {
        let mut servers = HashMap::new();
        for service in &config.services {
            for server in &service.servers {
                servers.insert((&service.key, server.address), server);
            }
        }
        Servers(servers)
    }

    fn words(&self, (service, server): &(ServiceKey, SocketAddr)) -> String {
        self.0.get(&(service, *server)).map(|server| server_words(server, Extent::Full)).unwrap_or_default()
    }
}
