//! Changes of configuration and of health that belong together.

use std::net::SocketAddr;

use super::{Director, Services};
use crate::config::{Config, ConfigError, ServiceKey};
use crate::health::{Condition, Probe};
use crate::plan::Changes;
use crate::service::Service;
use crate::time::Time;

/// Outcomes of probes that are to be taken in with a configuration.
pub(super) struct Outcomes<'a> {
    pub(super) probes: &'a [(ServiceKey, SocketAddr, Probe)],
    pub(super) now: Time,
}

impl Director {
    /// Makes this change of the configuration and takes in these outcomes of probes, at once and as a whole:
    /// whoever schedules finds all of it, or nothing. As [`Director::apply`] and [`Director::probe`] do, one
    /// after the other, with moments between them.
    ///
    /// ```
    /// # use lvs_core::*;
    /// # let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
    /// # let [server, sorry] = ["10.0.0.1:80".parse()?, "10.0.0.9:80".parse()?];
    /// # let flow = Flow::new("198.51.100.7:40000".parse()?);
    /// # let director = Director::new();
    /// # director.add_service(ServiceConfig::new(web.clone(), Algorithm::Rr).server(ServerConfig::new(server)))?;
    /// let down = (web.clone(), server, Probe::Failed("connect refused".into()));
    /// let add = |config: &mut Config| config.services[0].servers.push(ServerConfig::new(sorry));
    /// director.amend(add, &[down], Time::ZERO)?;
    /// assert_eq!(director.schedule(&web, &flow, Time::ZERO)?.server(), sorry);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Says what contradicts itself; then nothing has changed. Outcomes for what is not configured are left
    /// out.
    pub fn amend(
        &self,
        change: impl FnOnce(&mut Config),
        probes: &[(ServiceKey, SocketAddr, Probe)],
        now: Time,
    ) -> Result<Changes, ConfigError> {
        let mut writer = self.writer();
        let mut config = writer.config.clone();
        change(&mut config);
        self.replace(&mut writer, config, None, &Outcomes { probes, now })
    }
}

impl Outcomes<'_> {
    pub(super) const NONE: Outcomes<'static> = Outcomes { probes: &[], now: Time::ZERO };

    /// Whether a server of the service would go up or down by them.
    pub(super) fn turn(&self, service: &Service) -> bool {
        self.probes.iter().filter(|(key, ..)| *key == service.state.key).any(|(_, server, probe)| {
            let place = service.position(*server);
            place.is_some_and(|place| service.servers[place].live.health().is_contradicted_by(probe))
        })
    }

    /// Takes them in at services that nobody sees yet.
    pub(super) fn reach(&self, services: &Services) {
        for (key, server, probe) in self.probes {
            let Some(service) = services.get(key) else { continue };
            let Some(place) = service.position(*server) else { continue };
            let live = &service.servers[place].live;
            service.state.set_clock(self.now);
            let turned = live.health().probe(probe.clone(), &service.config.health, self.now);
            let Some(turned) = turned else { continue };
            service.refresh(place);
            if turned.condition == Condition::Up {
                service.warm_up(place, self.now);
            }
            service.find_next_lapse();
            service.note(place, self.now);
        }
    }
}
