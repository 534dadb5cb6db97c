//! Why a flow would go where it would go.
//!
//! An explanation is made of what a decision looks at, in the order it looks, and changes nothing:
//! no cursor moves, nothing is counted, no template is made or renewed. It is true of its moment;
//! the next flow may meet other loads.

use std::fmt;
use std::net::SocketAddr;

use crate::config::{Algorithm, ServiceKey};
use crate::flow::Flow;
use crate::health::Condition;
use crate::occupancy::Load;
use crate::persistence::Client;
use crate::server::{DOWN, EJECTED, INHIBITED, QUIESCED};
use crate::service::{Refusal, Service};
use crate::time::Time;

/// What would become of a flow, and why, as [`Director::explain`](crate::Director::explain) tells it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Explanation {
    /// The service that was asked about.
    pub service: ServiceKey,
    /// The client.
    pub client: SocketAddr,
    /// Who decides.
    pub decider: Decider,
    /// What it comes to.
    pub outcome: Outcome,
    /// Whether so few servers can be used that health is ignored.
    pub panic: bool,
    /// Every server, in the order they were added.
    pub candidates: Vec<Candidate>,
}

/// Who decides where a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Decider {
    /// The client has a template.
    Template,
    /// This scheduler.
    Scheduler(Algorithm),
}

/// Where a flow would go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Outcome {
    /// To this server. (Where a server that warms up leaves its turn to the next, a scheduler that
    /// remembers its choices, such as `rr`, may choose yet another.)
    Server(SocketAddr),
    /// To one of these; the scheduler cannot tell which without choosing. It is one of another crate
    /// that has no [`peek`](crate::Scheduler::peek).
    OneOf(Vec<SocketAddr>),
    /// Nowhere.
    Refused(Refusal),
}

/// One server in a decision.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Candidate {
    /// Its address.
    pub server: SocketAddr,
    /// Its weight.
    pub weight: u32,
    /// Its connections, as the scheduler sees them.
    pub load: Load,
    /// What stands for or against it.
    pub verdict: Verdict,
    /// The verdict in words.
    pub words: String,
}

/// What stands for or against a server; of several reasons, the first that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Verdict {
    /// It would be chosen, or could be, where the scheduler cannot tell.
    Chosen,
    /// It could be chosen, and another one is.
    Passed,
    /// It has weight 0.
    Quiesced,
    /// Probes failed.
    Down,
    /// Traffic failed.
    Ejected,
    /// It has reached its upper threshold.
    Full,
    /// It is a backup, and not needed.
    Spared,
    /// It could be chosen, but takes only a part of its share yet.
    WarmingUp,
}

impl Explanation {
    pub(crate) fn of(service: &Service, flow: &Flow, now: Time) -> Explanation {
        let client = Client { address: flow.client().ip(), session: None };
        // Whoever asks this way names no session, and a persistence engine's templates are of sessions.
        let rule = service.config.persistence.filter(|rule| rule.persistence_engine().is_none());
        let template = rule.as_ref().and_then(|rule| {
            let live = service.state.templates.peek(rule, client, now)?;
            service.keeps_clients(&live).then_some(live.address)
        });
        let (decider, outcome) = match template {
            Some(server) => (Decider::Template, Outcome::Server(server)),
            None => (Decider::Scheduler(service.config.algorithm), Outcome::scheduled(service, flow, now)),
        };
        let candidate = |server| Candidate::of(service, server, &outcome, now);
        Explanation {
            service: service.state.key.clone(),
            client: flow.client(),
            decider,
            panic: service.is_panicking(),
            candidates: (0..service.servers.len()).map(candidate).collect(),
            outcome,
        }
    }
}

impl Outcome {
    fn scheduled(service: &Service, flow: &Flow, now: Time) -> Outcome {
        let address = |server: usize| service.servers[server].live.address;
        match service.peek(flow, now) {
            Ok(Some(server)) => Outcome::Server(address(server)),
            Ok(None) => Outcome::Refused(service.refusal(&[])),
            Err(servers) => Outcome::OneOf(servers.into_iter().map(address).collect()),
        }
    }

    fn includes(&self, server: SocketAddr) -> bool {
        match self {
            Outcome::Server(chosen) => *chosen == server,
            Outcome::OneOf(servers) => servers.contains(&server),
            Outcome::Refused(_) => false,
        }
    }
}

impl Candidate {
    fn of(service: &Service, server: usize, outcome: &Outcome, now: Time) -> Candidate {
        let live = &service.servers[server].live;
        let warmth = service.warmth(server, now);
        let verdict = match live.standing() {
            _ if outcome.includes(live.address) => Verdict::Chosen,
            standing if standing & INHIBITED != 0 => Verdict::Down,
            standing if standing & QUIESCED != 0 => Verdict::Quiesced,
            standing if standing & DOWN != 0 => Verdict::Down,
            standing if standing & EJECTED != 0 => Verdict::Ejected,
            _ if live.is_full() => Verdict::Full,
            _ if service.config.servers[server].backup => Verdict::Spared,
            _ if warmth.is_some() => Verdict::WarmingUp,
            _ => Verdict::Passed,
        };
        Candidate::with(service, server, verdict, warmth)
    }

    /// A server that something else than the scheduler leads to.
    pub(crate) fn bound(service: &Service, server: usize) -> Candidate {
        let live = &service.servers[server].live;
        let verdict = match (service.keeps_clients(live), live.standing()) {
            (true, _) if live.is_full() => Verdict::Full,
            (true, _) => Verdict::Chosen,
            (false, standing) if standing & (DOWN | INHIBITED) != 0 => Verdict::Down,
            (false, standing) if standing & EJECTED != 0 => Verdict::Ejected,
            (false, _) => Verdict::Quiesced,
        };
        Candidate::with(service, server, verdict, None)
    }

    fn with(service: &Service, server: usize, verdict: Verdict, warmth: Option<f64>) -> Candidate {
        let live = &service.servers[server].live;
        let standing = live.standing();
        let condition = live.health().condition();
        let words = match verdict {
            Verdict::Chosen if condition != Condition::Up => format!("chosen although {condition}"),
            Verdict::Chosen if standing & QUIESCED != 0 => "chosen although quiesced".to_owned(),
            Verdict::Chosen => "chosen".to_owned(),
            Verdict::Passed => "could be chosen".to_owned(),
            Verdict::Quiesced => "quiesced: weight 0".to_owned(),
            Verdict::Down | Verdict::Ejected => condition.to_string(),
            Verdict::Full => {
                let upper = service.config.servers[server].thresholds.upper();
                format!("full: {} connections, upper threshold {upper}", live.load().total())
            }
            Verdict::Spared => "backup: others can be chosen".to_owned(),
            Verdict::WarmingUp => format!("warming up: at {:.0} %", warmth.unwrap_or(1.0) * 100.0),
        };
        Candidate {
            server: live.address,
            weight: service.servers[server].weight,
            load: live.load(),
            verdict,
            words,
        }
    }
}

/// A line for the decision, and one for each server.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}: ", self.service, self.client)?;
        match &self.outcome {
            Outcome::Server(server) => write!(f, "{server}")?,
            Outcome::OneOf(servers) => write!(f, "one of {} servers", servers.len())?,
            Outcome::Refused(refusal) => write!(f, "refused, {refusal}")?,
        }
        match self.decider {
            Decider::Template => write!(f, " (template)")?,
            Decider::Scheduler(algorithm) => write!(f, " ({algorithm})")?,
        }
        if self.panic {
            write!(f, " (panic: health is ignored)")?;
        }
        for candidate in &self.candidates {
            let Candidate { server, weight, load, words, .. } = candidate;
            write!(
                f,
                "\n  {server} weight {weight} active {} inactive {}: {words}",
                load.active, load.inactive
            )?;
        }
        Ok(())
    }
}
