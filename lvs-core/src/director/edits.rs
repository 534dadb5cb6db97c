//! Changes of the configuration: `ipvsadm`'s verbs, and the one way in which a new table takes the place of
//! the old one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::amend::Outcomes;
use super::{Director, Table, Writer};
use crate::config::{Config, ConfigError, EditError, ServerConfig, ServiceConfig, ServiceKey};
use crate::plan::{Changes, Moved};
use crate::server::REMOVED;
use crate::service::{Service, ServiceState};

/// Why an edit was refused: it fits nothing that is there, or what it would make contradicts
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejected {
    /// There is nothing to edit, or already something where one is to be added.
    Edit(EditError),
    /// The result would not be a valid configuration.
    Config(ConfigError),
}

impl Director {
    /// The present configuration.
    pub fn config(&self) -> Config {
        self.writer().config.clone()
    }

    /// Adds a service (`ipvsadm -A`).
    ///
    /// # Errors
    /// It exists, or contradicts itself.
    pub fn add_service(&self, service: ServiceConfig) -> Result<Changes, Rejected> {
        self.edit(None, |config| config.add_service(service))
    }

    /// Replaces what is said about a service and keeps its servers (`ipvsadm -E`).
    ///
    /// # Errors
    /// It does not exist, or would contradict itself.
    pub fn edit_service(&self, service: ServiceConfig) -> Result<Changes, Rejected> {
        self.edit(None, |config| config.edit_service(service))
    }

    /// Removes a service (`ipvsadm -D`). Its connections go on.
    ///
    /// # Errors
    /// It does not exist.
    pub fn delete_service(&self, service: &ServiceKey) -> Result<Changes, Rejected> {
        self.edit(None, |config| config.delete_service(service))
    }

    /// Adds a server (`ipvsadm -a`). If it was deleted a while ago and still has connections, it
    /// comes back with them.
    ///
    /// # Errors
    /// There is no such service, it exists, or contradicts its service.
    pub fn add_server(&self, service: &ServiceKey, server: ServerConfig) -> Result<Changes, Rejected> {
        self.edit(None, |config| config.add_server(service, server))
    }

    /// Replaces what is said about a server (`ipvsadm -e`).
    ///
    /// # Errors
    /// There is no such service or server, or it would contradict its service.
    pub fn edit_server(&self, service: &ServiceKey, server: ServerConfig) -> Result<Changes, Rejected> {
        self.edit(Some((service.clone(), server.address)), |config| config.edit_server(service, server))
    }

    /// Removes a server (`ipvsadm -d`). Its connections go on.
    ///
    /// # Errors
    /// There is no such service or server.
    pub fn delete_server(&self, service: &ServiceKey, server: SocketAddr) -> Result<Changes, Rejected> {
        self.edit(None, |config| config.delete_server(service, server))
    }

    pub(super) fn edit(
        &self,
        touched: Option<(ServiceKey, SocketAddr)>,
        edit: impl FnOnce(&mut Config) -> Result<(), EditError>,
    ) -> Result<Changes, Rejected> {
        let mut writer = self.writer();
        let mut config = writer.config.clone();
        edit(&mut config).map_err(Rejected::Edit)?;
        self.replace(&mut writer, config, touched, &Outcomes::NONE).map_err(Rejected::Config)
    }

    pub(super) fn replace(
        &self,
        writer: &mut Writer,
        config: Config,
        touched: Option<(ServiceKey, SocketAddr)>,
        outcomes: &Outcomes<'_>,
    ) -> Result<Changes, ConfigError> {
        config.check()?;
        let old = self.table.load_full();
        let mut changes = Changes::between(&writer.config, &config, &old.services);
        let mut services =
            HashMap::with_capacity_and_hasher(config.services.len(), foldhash::fast::RandomState::default());
        for wanted in &config.services {
            let before = old.services.get(&wanted.key);
            let touched = touched.as_ref().filter(|(key, _)| *key == wanted.key).map(|(_, server)| *server);
            let service = match before {
                Some(before) if before.config == *wanted && touched.is_none() && !outcomes.turn(before) => {
                    Arc::clone(before)
                }
                Some(before) => {
                    let state = Arc::clone(&before.state);
                    let service = Service::build(wanted.clone(), state, Some(before), touched);
                    changes.moved.extend(Moved::to(&service, before));
                    Arc::new(service)
                }
                None => {
                    let revived = writer.retired.remove(&wanted.key).and_then(|state| state.upgrade());
                    let state = revived.unwrap_or_else(|| Arc::new(ServiceState::new(wanted.key.clone())));
                    Arc::new(Service::build(wanted.clone(), state, None, None))
                }
            };
            services.insert(wanted.key.clone(), service);
        }
        outcomes.reach(&services);
        let table = Arc::new(Table { services });
        self.table.store(Arc::clone(&table));
        self.generation.fetch_add(1, Ordering::Release);
        for (key, before) in &old.services {
            let after = table.services.get(key);
            before.retire_servers(after.map(|service| &**service));
            if after.is_none_or(|service| service.config.persistence.is_none()) {
                before.state.templates.clear();
            }
            if after.is_none() {
                writer.retired.insert(key.clone(), Arc::downgrade(&before.state));
            }
        }
        for service in table.services.values() {
            if let Some(now) = service.state.clock() {
                (0..service.servers.len()).for_each(|server| service.note(server, now));
                service.note_service(now);
            }
        }
        writer.draining.retain(|live| live.standing() & REMOVED == 0);
        writer.open_circles();
        writer.config = config;
        Ok(changes)
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rejected::Edit(error) => error.fmt(f),
            Rejected::Config(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Rejected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            Rejected::Edit(error) => error,
            Rejected::Config(error) => error,
        })
    }
}
