//! The shared handle: decide, report, reconfigure, look.
//!
//! Readers take one snapshot and go; they never wait for a writer. Writers (`apply`, probes,
//! failures) take turns on one lock, build what changes beside what serves, and store once.

mod amend;
mod edits;
mod handover;
mod succession;
mod traffic;
mod writer;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;

use self::amend::Outcomes;
pub use self::edits::Rejected;
use self::writer::Writer;
use crate::config::{Config, ConfigError, EditError, ServiceKey, Weight};
use crate::explain::{Candidate, Explanation};
use crate::flow::Flow;
use crate::health::Transition;
use crate::history::ServiceHistory;
use crate::occupancy::Load;
use crate::picker::Picker;
use crate::plan::{Changes, Moved};
use crate::server::{Handle, Live, Server};
use crate::service::{Refusal, Service};
use crate::stats::{self, ServiceStats};
use crate::time::Time;

/// Decides which real server takes a connection, for any number of services and threads.
///
/// Share it in an [`Arc`]. All methods take `&self`; [`Director::schedule`] takes no lock.
pub struct Director {
    table: ArcSwap<Table>,
    /// How often the table has been replaced; written after it, under the writer lock.
    generation: CachePadded<AtomicU64>,
    writer: Mutex<Writer>,
}

/// One snapshot of everything.
struct Table {
    services: Services,
}

pub(crate) type Services = HashMap<ServiceKey, Arc<Service>, foldhash::fast::RandomState>;

/// Something that happened by itself, as [`Director::tick`] tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The end of an ejection made a server usable, or showed that it is down.
    Turned {
        /// Service of the server.
        service: ServiceKey,
        /// Its address.
        server: SocketAddr,
        /// What it is now.
        transition: Transition,
    },
    /// A drain is over: the server is empty, or its deadline has come.
    Drained {
        /// Service of the server.
        service: ServiceKey,
        /// Its address.
        server: SocketAddr,
        /// Connections that did not end in time.
        load: Load,
    },
}

/// A server that drains, and what is left on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Draining {
    /// Its service.
    pub service: ServiceKey,
    /// Its address.
    pub server: SocketAddr,
    /// When whoever is left is to be cut off.
    pub deadline: Time,
    /// Connections now.
    pub load: Load,
    /// Clients that persistence still keeps on it.
    pub templates: u32,
}

impl Draining {
    fn of(live: &Handle) -> Option<Draining> {
        Some(Draining {
            service: live.service.key.clone(),
            server: live.address,
            deadline: live.deadline()?,
            load: live.load(),
            templates: live.templates.load(Ordering::Relaxed),
        })
    }
}

impl Default for Director {
    fn default() -> Director {
        Director::new()
    }
}

impl Director {
    /// A director without services.
    pub fn new() -> Director {
        let services = HashMap::with_hasher(foldhash::fast::RandomState::default());
        Director {
            table: ArcSwap::from_pointee(Table { services }),
            generation: CachePadded::new(AtomicU64::new(0)),
            writer: Mutex::default(),
        }
    }

    /// A handle for one thread to schedule for this service, which need not exist yet.
    pub fn picker(self: &Arc<Director>, service: &ServiceKey) -> Picker {
        Picker::new(Arc::clone(self), service.clone())
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn service(&self, key: &ServiceKey) -> Option<Arc<Service>> {
        self.table.load().services.get(key).cloned()
    }

    /// Ends what has run out: templates, ejections, drains. Call it about once a second. Returns
    /// what happened to servers since the last call that nobody else was told.
    ///
    /// If it is not called, no client goes wrong, but templates that have run out keep their room,
    /// and a template whose time ran out under a connection ends with that connection instead of a
    /// minute later. A call looks at a part of a large table of templates, so as not to keep its
    /// caller long.
    pub fn tick(&self, now: Time) -> Vec<Notice> {
        let table = self.table.load();
        for service in table.services.values() {
            match service.config.persistence {
                Some(_) => service.state.templates.sweep(now),
                // Made by a connection that was scheduled while persistence was switched off.
                None => service.state.templates.clear(),
            }
        }
        let mut writer = self.writer();
        for service in self.table.load().services.values() {
            service.state.set_clock(now);
            if service.has_lapsed(now) {
                writer.lapse(service, now);
            }
            for server in 0..service.servers.len() {
                service.note(server, now);
            }
            service.note_service(now);
            stats::estimate(service, now);
            service.settle();
        }
        writer.end_drains(now);
        writer.open_circles();
        std::mem::take(&mut writer.notices)
    }

    /// Quiesces a server, as weight 0 does, and sets a time at which those who are still there are
    /// to be cut off: then [`Lease::is_overdue`](crate::Lease::is_overdue). [`Director::tick`] tells when
    /// it is empty, or its time is over. A weight above 0 ends the drain.
    ///
    /// # Errors
    /// There is no such service or server.
    pub fn drain(
        &self,
        service: &ServiceKey,
        server: SocketAddr,
        deadline: Time,
    ) -> Result<Changes, Rejected> {
        let changes = self.edit(Some((service.clone(), server)), |config| {
            let found = config.service(service).ok_or(EditError::NoService)?;
            let found = found.servers.iter().find(|other| other.address == server);
            let quiesced = found.ok_or(EditError::NoServer)?.clone().weight(Weight::ZERO);
            config.edit_server(service, quiesced)
        })?;
        let mut writer = self.writer();
        if let Some(live) = self.live(service, server) {
            live.set_deadline(Some(deadline));
            // Asked for again, it has another deadline and still one end.
            writer.draining.retain(|other| !std::ptr::eq::<Live>(&**other, &*live));
            writer.draining.push(live);
        }
        Ok(changes)
    }

    /// What is left on the servers that drain.
    pub fn draining(&self) -> Vec<Draining> {
        let writer = self.writer();
        let draining = writer.draining.iter().filter_map(Draining::of);
        draining.collect()
    }

    /// How long a service and its servers were up and down. The director knows the time from
    /// [`Director::tick`], probes and reports.
    pub fn history(&self, service: &ServiceKey) -> Option<ServiceHistory> {
        let service = self.service(service)?;
        let history = |server: &Server| (server.live.address, server.live.history().clone());
        let own = service.state.history().clone();
        Some(ServiceHistory { service: own, servers: service.servers.iter().map(history).collect() })
    }

    fn live(&self, service: &ServiceKey, server: SocketAddr) -> Option<Handle> {
        let service = self.service(service)?;
        Some(service.servers[service.position(server)?].live.clone())
    }

    /// Makes this the configuration, at once and as a whole.
    ///
    /// Counters, health, templates and open connections stay with whatever keeps its service key
    /// and server address.
    ///
    /// # Errors
    /// Says what contradicts itself; then nothing has changed.
    pub fn apply(&self, config: Config) -> Result<Changes, ConfigError> {
        self.replace(&mut self.writer(), config, None, &Outcomes::NONE)
    }

    /// What [`Director::apply`] would change, without changing it.
    ///
    /// ```
    /// # use lvs_core::*;
    /// # let cache = ServiceKey::tcp("192.0.2.10:80".parse()?);
    /// # let server = |n: u8| ServerConfig::new(std::net::SocketAddr::from(([10, 0, 0, n], 80)));
    /// let service = ServiceConfig::new(cache, Algorithm::Mh).server(server(1)).server(server(2)).server(server(3));
    /// let director = Director::new();
    /// director.apply(Config { services: vec![service.clone()] })?;
    ///
    /// let wanted = Config { services: vec![service.server(server(4))] };
    /// let plan = director.plan(&wanted)?;
    /// assert_eq!(plan.servers_added.len(), 1);
    /// // A fourth server takes about a quarter of the clients over, and no other client moves.
    /// assert!((20.0..30.0).contains(&plan.moved[0].percent()));
    /// assert_eq!(director.apply(wanted)?, plan);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Says what contradicts itself.
    pub fn plan(&self, config: &Config) -> Result<Changes, ConfigError> {
        config.check()?;
        let writer = self.writer();
        let table = self.table.load();
        let mut changes = Changes::between(&writer.config, config, &table.services);
        let moved = config.services.iter().filter_map(|wanted| {
            let before = table.services.get(&wanted.key)?;
            Moved::by(before, wanted)
        });
        changes.moved.extend(moved);
        Ok(changes)
    }

    /// What would become of this flow now, and why; nothing is counted, moved or made.
    ///
    /// With a persistence engine: what would become of a session that nobody has heard of.
    ///
    /// ```
    /// # use lvs_core::*;
    /// # let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
    /// # let server = |n: u8| ServerConfig::new(std::net::SocketAddr::from(([10, 0, 0, n], 80)));
    /// let director = Director::new();
    /// director.add_service(
    ///     ServiceConfig::new(web.clone(), Algorithm::Wlc)
    ///         .server(server(1))
    ///         .server(server(2))
    ///         .server(server(3).weight(Weight::ZERO)),
    /// )?;
    /// director.probe(&web, "10.0.0.2:80".parse()?, Probe::Failed("connect refused".into()), Time::ZERO);
    ///
    /// let flow = Flow::new("198.51.100.7:40000".parse()?);
    /// let explanation = director.explain(&web, &flow, Time::ZERO)?;
    /// assert_eq!(explanation.outcome, Outcome::Server("10.0.0.1:80".parse()?));
    /// assert_eq!(
    ///     explanation.to_string(),
    ///     "TCP 192.0.2.10:80 from 198.51.100.7:40000: 10.0.0.1:80 (wlc)
    ///   10.0.0.1:80 weight 1 active 0 inactive 0: chosen
    ///   10.0.0.2:80 weight 1 active 0 inactive 0: down since 1970-01-01 00:00:00Z: connect refused
    ///   10.0.0.3:80 weight 0 active 0 inactive 0: quiesced: weight 0"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Refusal::NoService`]; other refusals are explained.
    pub fn explain(&self, service: &ServiceKey, flow: &Flow, now: Time) -> Result<Explanation, Refusal> {
        let table = self.table.load();
        let service = table.services.get(service).ok_or(Refusal::NoService)?;
        if service.has_lapsed(now) {
            // What has run out is over for whoever asks, too.
            self.lapse(&service.state.key, now);
        }
        Ok(Explanation::of(service, flow, now))
    }

    /// What [`schedule_on`](Director::schedule_on) would make of this server now, and why: it takes
    /// one whose verdict is [`Verdict::Chosen`](crate::Verdict::Chosen). `None` if the service has no
    /// such server. Nothing is counted.
    pub fn explain_on(&self, service: &ServiceKey, server: SocketAddr, now: Time) -> Option<Candidate> {
        let table = self.table.load();
        let service = table.services.get(service)?;
        if service.has_lapsed(now) {
            self.lapse(&service.state.key, now);
        }
        Some(Candidate::bound(service, service.position(server)?))
    }

    /// Every service as it is now, in the order they were added.
    pub fn stats(&self) -> Vec<ServiceStats> {
        let writer = self.writer();
        let table = self.table.load();
        let services = writer.config.services.iter().filter_map(|config| table.services.get(&config.key));
        services.map(|service| ServiceStats::of(service)).collect()
    }

    /// Sets the counters of one service or of all to zero (`ipvsadm -Z`). Open connections are no
    /// counter and stay.
    ///
    /// # Errors
    /// There is no such service.
    pub fn zero(&self, service: Option<&ServiceKey>) -> Result<(), EditError> {
        // Held so that no sample is taken between a counter and its rate.
        let _writer = self.writer();
        let table = self.table.load();
        if let Some(key) = service {
            stats::reset(table.services.get(key).ok_or(EditError::NoService)?);
        } else {
            table.services.values().for_each(|service| stats::reset(service));
        }
        Ok(())
    }

    /// The configuration and the list of the retired are replaced whole or not at all, so a panic
    /// elsewhere cannot leave them half done.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the circles of templates and services.
impl Drop for Director {
    fn drop(&mut self) {
        for service in self.table.load().services.values() {
            service.state.templates.clear();
        }
        self.writer().open_circles();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::config::{Algorithm, Persistence, ServerConfig, ServiceConfig};
    use crate::health::Event;
    use crate::service::Ask;

    fn key() -> ServiceKey {
        ServiceKey::name("web")
    }

    fn director(persistence: Option<Persistence>) -> Director {
        let mut service = ServiceConfig::new(key(), Algorithm::Rr);
        service.persistence = persistence;
        for address in ["10.0.0.1:80", "10.0.0.2:80"] {
            service = service.server(ServerConfig::new(address.parse().expect("an address")));
        }
        let director = Director::new();
        director.add_service(service).expect("a new service");
        director
    }

    fn flow() -> Flow {
        Flow::new(SocketAddr::from(([192, 0, 2, 1], 1)))
    }

    #[test]
    fn template_made_while_its_service_was_deleted_keeps_nothing_alive() {
        let director = director(Some(Persistence::new(Duration::from_secs(60)).expect("a timeout")));
        let before = director.table.load_full();
        director.delete_service(&key()).expect("a known service");
        let late = before.services[&key()]
            .schedule(Ask::of(&flow(), &[]), Time::ZERO, None, Service::ticket, |_| {})
            .expect("a server");
        let state = Arc::downgrade(&before.services[&key()].state);
        drop(before);
        director.tick(Time::ZERO);
        assert!(state.upgrade().is_some(), "the connection lives");
        drop(late);
        assert!(state.upgrade().is_none());
        director.tick(Time::ZERO);
        assert_eq!(director.writer().retired.len(), 0);
    }

    #[test]
    fn connections_do_not_wait_for_a_writer() {
        let director = director(None);
        let lease = director.schedule(&key(), &flow(), Time::ZERO).expect("a server");
        for _ in 0..3 {
            director.report(&lease, Event::Failed("reset".into()), Time::ZERO);
        }
        let other = director.schedule(&key(), &flow(), Time::ZERO).expect("the other server");
        director.report(&other, Event::Failed("reset".into()), Time::ZERO);
        // The first server's ejection is over; the second one's failure is not forgotten yet.
        let now = Time::ZERO + Duration::from_secs(10);

        let writer = director.writer();
        std::thread::scope(|scope| {
            let (done, outcome) = mpsc::channel();
            let director = &director;
            scope.spawn(move || {
                let lease = director.schedule(&key(), &flow(), now).expect("a server");
                let transition = director.report(&other, Event::Succeeded, now);
                let _ = done.send((lease.server(), transition));
            });
            let outcome = outcome.recv_timeout(Duration::from_secs(20));
            drop(writer);
            assert_eq!(outcome, Ok(("10.0.0.1:80".parse().expect("an address"), None)));
        });
    }
}
