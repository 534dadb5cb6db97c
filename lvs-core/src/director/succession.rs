//! What one director hands to another of its servers' health, and of the connections that stay.

use std::net::SocketAddr;

use crate::config::{EditError, ServiceKey};
use crate::director::Director;
use crate::health::{Health, HealthRecord};
use crate::lease::Lease;
use crate::server::{Live, QUIESCED};
use crate::time::Time;

impl Director {
    /// What stands against servers at `now`, or did a short while ago; those that nothing is to be told of
    /// are left out.
    pub fn health_records(&self, now: Time) -> Vec<(ServiceKey, SocketAddr, HealthRecord)> {
        let table = self.table.load();
        let servers = table.services.values().flat_map(|service| &service.servers);
        let records = servers.map(|server| {
            let live = &server.live;
            let mut record = live.health().record(now);
            record.warming = live.warming().map(|since| now.since(since));
            record.drains = live.deadline().map(|deadline| deadline.since(now));
            (live.service.key.clone(), live.address, record)
        });
        records.filter(|(.., record)| *record != HealthRecord::default()).collect()
    }

    /// Goes on with what another director knew of a server. A drain goes on only if the server has weight 0
    /// here, too.
    ///
    /// # Errors
    /// There is no such service or server.
    pub fn restore_health(
        &self,
        service: &ServiceKey,
        server: SocketAddr,
        record: &HealthRecord,
        now: Time,
    ) -> Result<(), EditError> {
        let mut writer = self.writer();
        let table = self.table.load();
        let service = table.services.get(service).ok_or(EditError::NoService)?;
        let place = service.position(server).ok_or(EditError::NoServer)?;
        let live = &service.servers[place].live;
        service.state.set_clock(now);
        *live.health() = Health::restored(record, now);
        service.refresh(place);
        if let Some(warm) = record.warming {
            service.warm_up(place, Time::from_epoch(now.since(Time::ZERO).saturating_sub(warm)));
        }
        if let Some(left) = record.drains
            && live.standing() & QUIESCED != 0
        {
            live.set_deadline(Some(now + left));
            writer.draining.retain(|other| !std::ptr::eq::<Live>(&**other, &**live));
            writer.draining.push(live.clone());
        }
        service.find_next_lapse();
        service.note(place, now);
        service.note_service(now);
        Ok(())
    }

    /// Takes up a connection that another director has scheduled: it is there, and did not begin here.
    /// Nothing that stands against new connections matters; `None` if there is no such server.
    ///
    /// ```
    /// # use lvs_core::*;
    /// # let dns = ServiceKey::udp("192.0.2.10:53".parse()?);
    /// # let server = "10.0.0.1:53".parse()?;
    /// # let director = Director::new();
    /// # director.add_service(ServiceConfig::new(dns.clone(), Algorithm::Rr).server(ServerConfig::new(server)))?;
    /// let lease = director.resume(&dns, server).ok_or("it is configured")?;
    /// let stats = &director.stats()[0].servers[0];
    /// assert_eq!((stats.load.total(), stats.connections), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(&self, service: &ServiceKey, server: SocketAddr) -> Option<Lease> {
        let table = self.table.load();
        let service = table.services.get(service)?;
        let live = &service.servers[service.position(server)?].live;
        Some(Lease::new(live.claim(), None))
    }
}
