//! The upstreams as `lvsadm` sees them: services with a name, which are listed and edited.
//!
//! Every change of the director's table goes through here, whether it comes from a file or from
//! `lvsadm`. Which upstreams there are is the file's to say, for nothing would lead to another.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use l4_proxy::connections::{Connections, Open};
use l4_proxy::relay::Side;
use lvs_core::{
    Algorithm, Changes, Config, ConfigError, Director, ServerConfig, ServiceConfig, ServiceKey, Time,
};
use lvsadm::{CommitError, Connection, ConnectionState, Control, Edit, Moved, Timeouts};
use tracing::{error, info, warn};

use super::desired;
use crate::check::{self, Checked};
use crate::dns::Extent;
use crate::model::{ControlSocket, Unchecked};
use crate::moment::Moment;
use crate::names::{Followed, Told};

/// The director of a proxy, and what its configuration asks of it.
pub(super) struct Administered {
    director: Arc<Director>,
    /// Those of `stream {}`; a request is no connection.
    connections: Arc<Connections>,
    /// Held while the table is changed, so that changes take turns.
    desired: Mutex<Desired>,
}

/// What the file asks for.
#[derive(Default)]
struct Desired {
    /// What the file says itself.
    file: Vec<ServiceConfig>,
    /// The same with the servers that names stand for.
    services: Vec<ServiceConfig>,
    checks: Vec<Arc<Checked>>,
    names: Vec<Arc<Followed>>,
    /// What names stand for.
    found: HashMap<(ServiceKey, String), Vec<ServerConfig>>,
}

/// What upstreams are beyond their file.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// What the file says, with the servers that names stand for.
    pub(super) wanted: Vec<ServiceConfig>,
    /// What has become of it.
    pub(super) present: Vec<ServiceConfig>,
    /// What names stand for, each with its upstream.
    pub(super) found: Vec<(ServiceKey, String, Vec<ServerConfig>)>,
}

impl Desired {
    /// Returns services with the servers that names stand for.
    fn with_names(&self, mut services: Vec<ServiceConfig>) -> Vec<ServiceConfig> {
        for name in &self.names {
            let Some(found) = self.found.get(&name.identity()) else { continue };
            let Some(service) = services.iter_mut().find(|service| service.key == name.key) else { continue };
            for server in found {
                if !service.servers.iter().any(|other| other.address == server.address) {
                    service.servers.push(server.clone());
                }
            }
        }
        services
    }
}

impl Administered {
    pub(super) fn new(director: Arc<Director>, connections: Arc<Connections>) -> Administered {
        Administered { director, connections, desired: Mutex::default() }
    }

    /// What the file has said so far, with what names stand for, and what has become of it.
    pub(super) fn standing(&self) -> Standing {
        let desired = self.desired();
        let found = desired.found.iter();
        Standing {
            wanted: desired.services.clone(),
            present: self.director.config().services,
            found: found.map(|((key, name), servers)| (key.clone(), name.clone(), servers.clone())).collect(),
        }
    }

    /// Begins where another left off: what a file says from now on is compared with what the other's said.
    ///
    /// # Errors
    /// It contradicts itself.
    pub(super) fn begin_with(&self, standing: Standing) -> Result<(), ConfigError> {
        let Standing { wanted, present, found } = standing;
        let mut desired = self.desired();
        self.director.apply(Config { services: present })?;
        desired.services = wanted;
        desired.found = found.into_iter().map(|(key, name, servers)| ((key, name), servers)).collect();
        Ok(())
    }

    /// Serves what is wanted beside what is there: requests that workers still answer by the old
    /// configuration need its services until all have changed over.
    pub(super) fn widen(
        &self,
        wanted: &[ServiceConfig],
        checks: &[Arc<Checked>],
        names: &[Arc<Followed>],
    ) -> Result<(), ConfigError> {
        let mut before = self.desired();
        before.checks = checks.to_vec();
        before.names = names.to_vec();
        let present = self.director.config().services;
        let all = before.with_names(wanted.to_vec());
        let mut services = desired::merge(&before.services, &all, &present);
        services.extend(present.into_iter().filter(|old| !wanted.iter().any(|new| new.key == old.key)));
        self.apply(Config { services }, &before).map(drop)
    }

    /// Serves what is wanted and nothing else, with what `lvsadm` has changed.
    pub(super) fn settle(&self, file: Vec<ServiceConfig>) -> Result<(), ConfigError> {
        let mut before = self.desired();
        let known: HashSet<_> = before.names.iter().map(|name| name.identity()).collect();
        before.found.retain(|identity, _| known.contains(identity));
        before.file = file;
        self.serve(&mut before)
    }

    /// Serves what the file says and what names stand for, with what `lvsadm` has changed.
    fn serve(&self, before: &mut Desired) -> Result<(), ConfigError> {
        let wanted = before.with_names(before.file.clone());
        let services = desired::merge(&before.services, &wanted, &self.director.config().services);
        tell_differences(&wanted, &services);
        self.apply(Config { services }, before)?;
        before.services = wanted;
        Ok(())
    }

    /// Changes the table. A server that is new and has to be checked first gets nothing until then.
    fn apply(&self, config: Config, desired: &Desired) -> Result<Changes, ConfigError> {
        let changes = self.director.apply(config)?;
        let strict = desired.checks.iter().filter(|check| check.cadence.unchecked == Unchecked::Down);
        for check in strict {
            let is_new = |server: SocketAddr| {
                changes.services_added.contains(&check.key)
                    || changes.servers_added.contains(&(check.key.clone(), server))
            };
            let config = self.director.config();
            let servers = config.service(&check.key).map(|service| &*service.servers).unwrap_or_default();
            let new = servers.iter().map(|server| server.address).filter(|server| is_new(*server));
            new.for_each(|server| check::suspect(&self.director, check, server));
        }
        Ok(changes)
    }

    fn desired(&self) -> MutexGuard<'_, Desired> {
        self.desired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told for Administered {
    fn found(&self, name: &Followed, mut servers: Vec<ServerConfig>, extent: Extent) {
        let mut desired = self.desired();
        let identity = name.identity();
        let is_wanted = desired.names.iter().any(|other| other.identity() == identity);
        let known = desired.found.get(&identity).map_or(&[][..], |known| known);
        if extent == Extent::Part {
            let told = servers.len();
            for old in known {
                if servers[..told].iter().all(|server| server.address != old.address) {
                    servers.push(old.clone());
                }
            }
            servers.sort_by_key(|server| server.address);
        }
        if !is_wanted || known == servers {
            return;
        }
        let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
        match &*addresses {
            [] => info!("{name} stands for nothing any more"),
            _ => info!("{name} stands for {}", addresses.join(", ")),
        }
        desired.found.insert(identity, servers);
        if let Err(error) = self.serve(&mut desired) {
            error!("{name} cannot be served: {error}");
        }
    }
}

/// Says which servers are not as the file has them.
fn tell_differences(wanted: &[ServiceConfig], services: &[ServiceConfig]) {
    for (wanted, service) in wanted.iter().zip(services) {
        for server in &service.servers {
            let asked = wanted.servers.iter().find(|asked| asked.address == server.address);
            if asked != Some(server) {
                let (key, address, weight) = (&service.key, server.address, server.weight.value());
                warn!("upstream server {address} of \"{key}\" stays as lvsadm set it, with weight {weight}");
            }
        }
    }
}

impl Control for Administered {
    fn director(&self) -> &Director {
        &self.director
    }

    fn now(&self) -> Time {
        Moment::now().as_time()
    }

    fn commit(&self, edit: Edit) -> Result<(), CommitError> {
        let turn = self.desired();
        let present = self.director.config();
        let mut after = present.clone();
        edit.apply_to(&mut after)?;
        accepts(&present, &mut after)?;
        if let Edit::Drain { service, server, deadline } = edit {
            self.director.drain(&service, server, deadline)?;
            info!("upstream server {server} of \"{service}\" drains, as lvsadm says");
            return Ok(());
        }
        let changes = self.apply(after, &turn)?;
        for (service, server) in &changes.servers_edited {
            info!("upstream server {server} of \"{service}\" was edited by lvsadm");
        }
        Ok(())
    }

    fn connections(&self) -> Vec<Connection> {
        self.connections.list().iter().map(|open| listed(open)).collect()
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts::default()
    }

    fn set_timeouts(&self, _: Timeouts) -> Result<(), CommitError> {
        Err(CommitError::Refused("timeouts are set in nginx.conf".to_owned()))
    }
}

/// Checks that the upstreams stay what the file makes of them, and writes what a proxy always does.
fn accepts(present: &Config, after: &mut Config) -> Result<(), CommitError> {
    let keys = |config: &Config| -> HashSet<_> {
        config.services.iter().map(|service| service.key.clone()).collect()
    };
    if keys(present) != keys(after) {
        let why = "upstreams come and go with nginx.conf; edit the servers of one with --pool NAME";
        return Err(CommitError::Refused(why.to_owned()));
    }
    for service in &mut after.services {
        let was = present.service(&service.key).map(|service| service.algorithm);
        if was != Some(service.algorithm) && needs_the_file(service.algorithm) {
            let (key, algorithm) = (&service.key, service.algorithm);
            let why = format!("upstream {key} cannot take {algorithm} by hand: name it in nginx.conf");
            return Err(CommitError::Refused(why));
        }
        for server in &mut service.servers {
            // Whatever way ipvsadm takes by default: a proxy has one.
            server.forwarding = lvs_core::Forwarding::Masquerading;
        }
    }
    Ok(())
}

/// Whether an algorithm goes by what is only measured, or known, where the file asks for it.
fn needs_the_file(algorithm: Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::Hash
            | Algorithm::HashConsistent
            | Algorithm::HashBounded { .. }
            | Algorithm::LeastTime
            | Algorithm::Ewma
    )
}

fn listed(open: &Open) -> Connection {
    let state = match open.progress.ended_first() {
        None => ConnectionState::Established,
        Some(Side::Client) => ConnectionState::CloseWait,
        Some(Side::Server) => ConnectionState::FinWait,
    };
    Connection {
        protocol: open.protocol,
        expires: Timeouts::default().tcp.saturating_sub(open.progress.silent_for()),
        state,
        client: open.client,
        virtual_address: open.virtual_address,
        server: open.server,
        moved: Some(Moved {
            to_server: open.progress.bytes_to_server(),
            to_client: open.progress.bytes_to_client(),
        }),
    }
}

/// How a control socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Where nobody answers.
    Free,
    /// In the place of a predecessor, which answers there until then.
    Predecessor,
}

/// Binds a control socket.
pub(super) fn bind(control: &ControlSocket, claim: Claim) -> io::Result<lvsadm::Listener> {
    let listener = match claim {
        Claim::Free => lvsadm::bind(&control.path)?,
        Claim::Predecessor => lvsadm::bind_over(&control.path)?,
    };
    permit(control)?;
    Ok(listener)
}

/// Lets those use a control socket who may.
pub(super) fn permit(control: &ControlSocket) -> io::Result<()> {
    fs::set_permissions(&control.path, Permissions::from_mode(control.mode))
}
