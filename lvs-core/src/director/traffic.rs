//! What connections ask and what is learned from them: which server takes one, what became of it, and
//! what probes say. None of it waits for a writer, but where health changes.

use std::net::SocketAddr;
use std::sync::TryLockError;

use crate::config::ServiceKey;
use crate::director::Director;
use crate::flow::Flow;
use crate::health::{Condition, Ejection, Event, Health, HealthPolicy, Passive, Probe, Transition};
use crate::lease::Lease;
use crate::server::Live;
use crate::service::{Ask, Refusal, Service};
use crate::time::Time;

impl Director {
    /// Chooses a real server for a flow and counts the connection there until the lease is dropped.
    ///
    /// # Errors
    /// The service is unknown or without servers, or all of them are quiesced, down, ejected or full;
    /// [`Refusal`] tells which, and [`Director::explain`] tells it of each server.
    pub fn schedule(&self, service: &ServiceKey, flow: &Flow, now: Time) -> Result<Lease, Refusal> {
        self.schedule_except(service, flow, &[], now)
    }

    /// Chooses a real server that is none of `tried`: those that already failed this flow.
    ///
    /// A persistent client is moved with its template, since its server did not take it.
    ///
    /// # Errors
    /// As [`Director::schedule`]; [`Refusal::AllTried`] where only those of `tried` are left, so a loop
    /// that adds each server which failed comes to an end.
    pub fn schedule_except(
        &self,
        service: &ServiceKey,
        flow: &Flow,
        tried: &[SocketAddr],
        now: Time,
    ) -> Result<Lease, Refusal> {
        self.schedule_for(service, Ask::of(flow, tried), now)
    }

    /// Chooses as [`Director::schedule_except`] does for a flow in whose words the service's
    /// [persistence engine](crate::PersistenceEngine) has found this session, which stays on one server.
    /// Where the service has no engine, the session counts for nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use lvs_core::*;
    /// let phones = ServiceKey::udp("192.0.2.10:5060".parse()?);
    /// let mut service = ServiceConfig::new(phones.clone(), Algorithm::Rr)
    ///     .server(ServerConfig::new("10.0.0.1:5060".parse()?))
    ///     .server(ServerConfig::new("10.0.0.2:5060".parse()?));
    /// let rule = Persistence::new(Duration::from_secs(60))?.mask([0, 0, 0, 0].into());
    /// service.persistence = Some(rule.engine(PersistenceEngine::Sip));
    /// let director = Director::new();
    /// director.add_service(service)?;
    ///
    /// let server = |client: &str, call: &[u8]| {
    ///     let flow = Flow::new(client.parse().expect("an address"));
    ///     director.schedule_session(&phones, &flow, call, &[], Time::ZERO).map(|lease| lease.server())
    /// };
    /// assert_ne!(server("198.51.100.7:5060", b"one@call"), server("198.51.100.7:5060", b"another"));
    /// assert_eq!(server("198.51.100.7:5060", b"one@call"), server("203.0.113.1:40000", b"one@call"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As there. A service with an engine refuses those of whom it is told no session
    /// ([`Refusal::NoSession`]).
    pub fn schedule_session(
        &self,
        service: &ServiceKey,
        flow: &Flow,
        session: &[u8],
        tried: &[SocketAddr],
        now: Time,
    ) -> Result<Lease, Refusal> {
        self.schedule_for(service, Ask { flow, session: Some(session), tried }, now)
    }

    fn schedule_for(&self, service: &ServiceKey, ask: Ask<'_>, now: Time) -> Result<Lease, Refusal> {
        let table = self.table.load();
        let service = table.services.get(service).ok_or(Refusal::NoService)?;
        service.schedule(ask, now, None, Service::ticket, |service| self.lapse(&service.state.key, now))
    }

    /// Counts a connection on this server, whom something that the director does not know of has bound
    /// its client to: a cookie, say.
    ///
    /// As for a persistent client, that it is quiesced does not stand in the way. That it is down,
    /// ejected or full does; then there is no lease, and the client is scheduled as any other.
    pub fn schedule_on(&self, service: &ServiceKey, server: SocketAddr, now: Time) -> Option<Lease> {
        let table = self.table.load();
        let service = table.services.get(service)?;
        if service.has_lapsed(now) {
            self.lapse(&service.state.key, now);
        }
        let live = &service.servers[service.position(server)?].live;
        if !service.keeps_clients(live) || live.is_full() {
            return None;
        }
        Some(Lease::new(live.bind(), None))
    }

    /// Takes in what became of a connection or request; says if its server was ejected by it.
    pub fn report(&self, lease: &Lease, event: Event, now: Time) -> Option<Transition> {
        let live = lease.live();
        match event {
            Event::Succeeded => lease.assure(),
            Event::Responded { latency } => {
                lease.assure();
                live.latency.observe(latency, now);
            }
            Event::ConnectFailed(_) | Event::Failed(_) => live.latency.failed(now),
        }
        let (Event::ConnectFailed(cause) | Event::Failed(cause)) = event else {
            if now > live.pardon() {
                self.with_health(live, now, |health, _, passive, _| {
                    if let Some(passive) = passive {
                        health.succeeded(&passive, now);
                    }
                    None
                });
            }
            return None;
        };
        self.with_health(live, now, |health, _, passive, ejection| {
            health.failed(cause, &passive?, ejection, now)
        })
    }

    /// Takes in the outcome of an active check; says if the server went up or down by it. A server
    /// that is not configured is left alone.
    pub fn probe(
        &self,
        service: &ServiceKey,
        server: SocketAddr,
        probe: Probe,
        now: Time,
    ) -> Option<Transition> {
        let table = self.table.load();
        let service = table.services.get(service)?;
        let live = &service.servers[service.position(server)?].live;
        self.with_health(live, now, |health, policy, _, _| health.probe(probe, policy, now))
    }

    /// Changes a server's health and brings the bits of the present snapshot up to date.
    fn with_health(
        &self,
        live: &Live,
        now: Time,
        change: impl FnOnce(&mut Health, &HealthPolicy, Option<Passive>, Ejection) -> Option<Transition>,
    ) -> Option<Transition> {
        let _writer = self.writer();
        let table = self.table.load();
        let service = table.services.get(&live.service.key)?;
        let server = service.position(live.address)?;
        if !std::ptr::eq(&*service.servers[server].live, live) {
            return None;
        }
        service.state.set_clock(now);
        let (passive, ejection) = (service.passive(server), service.ejection(server));
        let transition = change(&mut live.health(), &service.config.health, passive, ejection);
        service.refresh(server);
        if let Some(transition) = &transition {
            if transition.condition == Condition::Up {
                service.warm_up(server, now);
            }
            service.find_next_lapse();
            service.note(server, now);
            service.note_service(now);
        }
        transition
    }

    /// Ends the ejections of a service whose time is over; leaves it to the next caller if a writer
    /// is at work, since connections must not wait for it.
    pub(crate) fn lapse(&self, key: &ServiceKey, now: Time) {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(writer)) => writer.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Some(service) = self.table.load().services.get(key) {
            writer.lapse(service, now);
        }
    }
}
