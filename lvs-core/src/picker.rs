//! A service looked up once, for those who schedule for it over and over.
//!
//! [`Director::schedule`] finds the service by its key and holds the snapshot with two atomic
//! writes, for each connection. A picker keeps both from call to call, and only checks that the
//! snapshot is still the one that serves: one read of a word that changes with a reload. What it
//! counts it counts for itself, until somebody asks.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::config::{PersistenceEngine, ServiceKey};
use crate::director::Director;
use crate::flow::Flow;
use crate::lease::Lease;
use crate::scheduler::Tickets;
use crate::service::{Ask, Refusal, Service};
use crate::tally::Tally;
use crate::time::Time;

/// One thread's handle on a service: the cheapest way to schedule.
///
/// It follows every reload; the service may come and go. Between calls it holds the service as it
/// was at the last one, so a picker that rests keeps the memory of what has been replaced.
///
/// ```
/// # use std::sync::Arc;
/// # use lvs_core::{Algorithm, Director, Flow, ServerConfig, ServiceConfig, ServiceKey, Time};
/// # let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
/// let director = Arc::new(Director::new());
/// let mut picker = director.picker(&web);
/// director.add_service(
///     ServiceConfig::new(web, Algorithm::Rr).server(ServerConfig::new("10.0.0.1:8080".parse()?)),
/// )?;
/// let lease = picker.schedule(&Flow::new("198.51.100.7:40000".parse()?), Time::ZERO)?;
/// # assert_eq!(lease.server(), "10.0.0.1:8080".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Picker {
    director: Arc<Director>,
    key: ServiceKey,
    /// The snapshot that `service` was looked up in.
    generation: u64,
    service: Option<(Arc<Service>, Arc<Tally>)>,
    /// Taken from the service and not used yet.
    tickets: Range<u64>,
}

/// Tickets taken at once where it does not matter whose turn it is.
const TICKETS: u64 = 64;

impl Picker {
    pub(crate) fn new(director: Arc<Director>, key: ServiceKey) -> Picker {
        // The generation is read first: a table that is replaced between the two is looked up again.
        let generation = director.generation();
        let mut picker = Picker { director, key, generation, service: None, tickets: 0..0 };
        picker.join();
        picker
    }

    /// Looks the service up.
    fn join(&mut self) {
        self.leave();
        self.service = self.director.service(&self.key).map(|service| {
            let tally = service.state.tallies.join(&service);
            (service, tally)
        });
    }

    fn leave(&mut self) {
        if let Some((service, tally)) = self.service.take() {
            service.state.tallies.leave(&tally);
        }
    }

    /// The service it schedules for.
    pub fn service(&self) -> &ServiceKey {
        &self.key
    }

    /// Does what [`Director::schedule`] does.
    ///
    /// # Errors
    /// As there.
    pub fn schedule(&mut self, flow: &Flow, now: Time) -> Result<Lease, Refusal> {
        self.schedule_except(flow, &[], now)
    }

    /// Does what [`Director::schedule_except`] does.
    ///
    /// # Errors
    /// As there.
    pub fn schedule_except(
        &mut self,
        flow: &Flow,
        tried: &[SocketAddr],
        now: Time,
    ) -> Result<Lease, Refusal> {
        self.schedule_for(Ask::of(flow, tried), now)
    }

    /// Does what [`Director::schedule_session`] does.
    ///
    /// # Errors
    /// As there.
    pub fn schedule_session(
        &mut self,
        flow: &Flow,
        session: &[u8],
        tried: &[SocketAddr],
        now: Time,
    ) -> Result<Lease, Refusal> {
        self.schedule_for(Ask { flow, session: Some(session), tried }, now)
    }

    /// What is to be found in a client's words before it is scheduled, if the service has it so.
    pub fn persistence_engine(&mut self) -> Option<PersistenceEngine> {
        self.follow();
        let (service, _) = self.service.as_ref()?;
        service.config.persistence?.persistence_engine()
    }

    /// Looks the service up anew if the snapshot is another.
    fn follow(&mut self) {
        let generation = self.director.generation();
        if generation != self.generation {
            self.join();
            self.tickets = 0..0;
            self.generation = generation;
        }
    }

    fn schedule_for(&mut self, ask: Ask<'_>, now: Time) -> Result<Lease, Refusal> {
        self.follow();
        let (service, tally) = self.service.as_ref().ok_or(Refusal::NoService)?;
        let ticket = |service: &Service| match service.tickets() {
            Tickets::Distinct => self.tickets.next().unwrap_or_else(|| {
                self.tickets = service.reserve_tickets(TICKETS);
                self.tickets.next().unwrap_or_default()
            }),
            _ => service.ticket(),
        };
        service.schedule(ask, now, Some(tally), ticket, |_| self.director.lapse(&self.key, now))
    }
}

impl Clone for Picker {
    fn clone(&self) -> Picker {
        Picker::new(Arc::clone(&self.director), self.key.clone())
    }
}

impl Drop for Picker {
    fn drop(&mut self) {
        self.leave();
    }
}

impl std::fmt::Debug for Picker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Picker").field(&self.key).finish()
    }
}
