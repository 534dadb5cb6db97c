//! What one director hands to another: templates and counts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{EditError, ServiceKey};
use crate::director::Director;
use crate::persistence::Saved;
use crate::service::Service;
use crate::snapshot::{self, Part, RestoreError, Restored};
use crate::stats::{Counts, TemplateStats};
use crate::time::Time;

impl Director {
    /// Every template that holds at `now`, in no order.
    pub fn templates(&self, now: Time) -> Vec<TemplateStats> {
        let table = self.table.load();
        let mut templates = Vec::new();
        for service in table.services.values() {
            service.state.templates.for_each(now, |saved, live| {
                templates.push(TemplateStats::new(&service.state.key, saved, live));
            });
        }
        templates
    }

    /// All templates that hold at `now`, as bytes for [`Director::restore_templates`] of another
    /// process or a standby: versioned, checksummed, times relative.
    pub fn save_templates(&self, now: Time) -> Vec<u8> {
        let mut writer = snapshot::Writer::new();
        for service in self.table.load().services.values() {
            let mut part = Part::of(service.state.key.to_string());
            let mut numbers = HashMap::new();
            service.state.templates.for_each(now, |saved, live| {
                let number = *numbers.entry(live.address).or_insert_with(|| {
                    part.servers.push(live.address);
                    part.servers.len() as u32 - 1
                });
                part.templates.push((number, saved));
            });
            if !part.templates.is_empty() {
                writer.part(&part);
            }
        }
        writer.finish()
    }

    /// Puts saved templates back, with the time they had left. Those of services and servers that
    /// are not configured are skipped, and a client that has a template by now keeps it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use lvs_core::*;
    /// # let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
    /// # let mut service = ServiceConfig::new(web.clone(), Algorithm::Rr)
    /// #     .server(ServerConfig::new("10.0.0.1:80".parse()?))
    /// #     .server(ServerConfig::new("10.0.0.2:80".parse()?));
    /// # service.persistence = Some(Persistence::new(Duration::from_secs(60))?);
    /// # let config = Config { services: vec![service] };
    /// # let flow = Flow::new("198.51.100.7:40000".parse()?);
    /// let (before, after) = (Director::new(), Director::new());
    /// before.apply(config.clone())?;
    /// let server = before.schedule(&web, &flow, Time::ZERO)?.server();
    ///
    /// after.apply(config)?;
    /// let restored = after.restore_templates(&before.save_templates(Time::ZERO), Time::ZERO)?;
    /// assert_eq!(restored.restored, 1);
    /// assert_eq!(after.schedule(&web, &flow, Time::ZERO)?.server(), server);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// These are not saved templates, or not as they were saved; then nothing was restored.
    pub fn restore_templates(&self, bytes: &[u8], now: Time) -> Result<Restored, RestoreError> {
        let parts = snapshot::read(bytes)?;
        // Held so that no server goes and no service changes its rule meanwhile.
        let _writer = self.writer();
        let table = self.table.load();
        let services: HashMap<String, &Arc<Service>> =
            table.services.values().map(|service| (service.state.key.to_string(), service)).collect();
        let mut restored = Restored::default();
        for part in parts {
            let service = services.get(&part.service);
            let Some((service, rule)) =
                service.and_then(|service| Some((service, service.config.persistence.as_ref()?)))
            else {
                restored.unknown_service += part.templates.len();
                continue;
            };
            let position = |server: &SocketAddr| service.position(*server);
            let places: Vec<Option<usize>> = part.servers.iter().map(position).collect();
            for (server, saved) in part.templates {
                let Some(place) = places[server as usize] else {
                    restored.unknown_server += 1;
                    continue;
                };
                let live = service.servers[place].live.clone();
                restored.count(service.state.templates.insert(rule, live, &saved, now));
            }
        }
        Ok(restored)
    }

    /// Templates that were made, moved or renewed since the last call, about `enough` of them, and
    /// whether there are more. The first call returns what there is, and has changes noted from then
    /// on; what was learned from another director is no change.
    ///
    /// A renewal counts a few times while a template holds, so a standby that
    /// [learns](Director::learn_templates) them lets a client go at most a quarter of the timeout early.
    pub fn changed_templates(&self, now: Time, enough: usize) -> (Vec<TemplateStats>, bool) {
        let table = self.table.load();
        let mut changed = Vec::new();
        let mut more = false;
        for service in table.services.values().filter(|service| service.config.persistence.is_some()) {
            let templates = &service.state.templates;
            templates.follow();
            let left = enough.saturating_sub(changed.len());
            more |= templates.take_changes(now, left, |saved, live| {
                changed.push(TemplateStats::new(&service.state.key, saved, live));
            });
        }
        (changed, more)
    }

    /// Counts every template as changed: somebody has to be told everything.
    pub fn change_all_templates(&self) {
        self.table.load().services.values().for_each(|service| service.state.templates.tell_everything());
    }

    /// Notes no more changes of templates.
    pub fn unfollow_templates(&self) {
        self.table.load().services.values().for_each(|service| service.state.templates.unfollow());
    }

    /// Takes over templates of another director, in the place of older ones. A client that is
    /// connected here keeps its own.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use lvs_core::*;
    /// # let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
    /// # let mut service = ServiceConfig::new(web.clone(), Algorithm::Rr)
    /// #     .server(ServerConfig::new("10.0.0.1:80".parse()?))
    /// #     .server(ServerConfig::new("10.0.0.2:80".parse()?));
    /// # service.persistence = Some(Persistence::new(Duration::from_secs(60))?);
    /// # let config = Config { services: vec![service] };
    /// # let flow = Flow::new("198.51.100.7:40000".parse()?);
    /// let (active, standby) = (Director::new(), Director::new());
    /// active.apply(config.clone())?;
    /// standby.apply(config)?;
    /// let server = active.schedule(&web, &flow, Time::ZERO)?.server();
    ///
    /// let (changed, _) = active.changed_templates(Time::ZERO, 1000);
    /// assert_eq!(standby.learn_templates(&changed, Time::ZERO).restored, 1);
    /// assert_eq!(standby.schedule(&web, &flow, Time::ZERO)?.server(), server);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn learn_templates(&self, templates: &[TemplateStats], now: Time) -> Restored {
        // Held so that no server goes and no service changes its rule meanwhile.
        let _writer = self.writer();
        let table = self.table.load();
        let mut restored = Restored::default();
        for template in templates {
            let service = table.services.get(&template.service);
            let Some((service, rule)) =
                service.and_then(|service| Some((service, service.config.persistence.as_ref()?)))
            else {
                restored.unknown_service += 1;
                continue;
            };
            let Some(place) = service.position(template.server) else {
                restored.unknown_server += 1;
                continue;
            };
            let TemplateStats { client, session, left, assured, .. } = template.clone();
            let saved = Saved { client, session, left, assured };
            let live = service.servers[place].live.clone();
            restored.count(service.state.templates.learn(rule, live, &saved, now));
        }
        restored
    }

    /// Adds to what is counted for a server, or for the servers that a service had before, as a process
    /// does that goes on where another one ended.
    ///
    /// # Errors
    /// There is no such service or server.
    pub fn add_counts(
        &self,
        service: &ServiceKey,
        server: Option<SocketAddr>,
        counts: &Counts,
    ) -> Result<(), EditError> {
        let table = self.table.load();
        let service = table.services.get(service).ok_or(EditError::NoService)?;
        let Some(server) = server else {
            let departed = &service.state.departed;
            departed.connections.add(counts.connections);
            departed.bytes_in.add(counts.bytes_in);
            departed.bytes_out.add(counts.bytes_out);
            departed.packets_in.add(counts.packets_in);
            departed.packets_out.add(counts.packets_out);
            return Ok(());
        };
        let live = &service.servers[service.position(server).ok_or(EditError::NoServer)?].live;
        live.add_begun(counts.connections);
        live.bytes_in.add(counts.bytes_in);
        live.bytes_out.add(counts.bytes_out);
        live.packets_in.add(counts.packets_in);
        live.packets_out.add(counts.packets_out);
        Ok(())
    }
}
