//! Which server a connection, or a session of datagrams, is given to, and which next if that one fails.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use lvs_core::{Cause, Director, Event, Flow, Lease, Refusal, ServiceKey, Transition};
use tracing::{error, warn};

use super::Common;
use super::facts::{Attempt, Facts};
use super::text::Text;
use crate::conf::split_address;
use crate::model::{StreamSettings, StreamTimed, StreamUpstream, Transport, UpstreamId};
use crate::server::Proxy;
use crate::site::stream_key;
use crate::unix;
use crate::upstream::Pool;

/// An upstream, as connections are given to it.
pub(super) struct Group {
    name: String,
    pub(super) service: ServiceKey,
    key: Option<Text>,
    timed: Option<StreamTimed>,
}

impl Group {
    pub(super) fn new(upstream: &StreamUpstream) -> Self {
        Self {
            name: upstream.name.clone(),
            service: stream_key(upstream),
            key: upstream.balance.key.clone(),
            timed: upstream.balance.timed,
        }
    }
}

/// Where one is to go, and where it has been.
pub(super) struct Choice {
    whereto: Whereto,
    /// What `proxy_pass` names.
    name: String,
    /// What is hashed, for algorithms that do.
    key: Option<Vec<u8>>,
    tries: usize,
    tried: Vec<SocketAddr>,
    began: Instant,
}

enum Whereto {
    /// A group, by its number.
    Group(usize),
    /// Servers that no configuration lists.
    Named(Rc<Pool>),
}

/// A server that was chosen.
pub(super) struct Chosen {
    pub(super) addr: SocketAddr,
    /// Counts the connection at the server, until it is over.
    pub(super) lease: Option<Lease>,
}

impl Choice {
    /// One among the servers of an upstream.
    pub(super) fn of(common: &Common, settings: &StreamSettings, id: UpstreamId, facts: &Facts) -> Choice {
        let group = &common.groups[id.0];
        let key = group.key.as_ref().map(|key| key.bytes(facts));
        Choice::new(Whereto::Group(id.0), group.name.clone(), key, settings)
    }

    /// One among what a computed `proxy_pass` names: the servers of an upstream, the path of a Unix
    /// socket, an address, or a name that `resolver` is asked for.
    ///
    /// # Errors
    /// The status that it comes to if that is nothing.
    pub(super) async fn computed(
        worker: &Proxy,
        common: &Common,
        settings: &StreamSettings,
        text: &Text,
        facts: &Facts,
    ) -> Result<Choice, u16> {
        let text = String::from_utf8_lossy(&text.bytes(facts)).into_owned();
        let is_named = |group: &Group| group.name.eq_ignore_ascii_case(&text);
        if let Some(number) = common.groups.iter().position(is_named) {
            return Ok(Choice::of(common, settings, UpstreamId(number), facts));
        }
        // In a place of its own: most connections need no room for it.
        match Box::pin(find(worker, settings, &text)).await {
            Ok(pool) => Ok(Choice::new(Whereto::Named(pool), text, None, settings)),
            Err(why) => {
                error!("*{} {why}, {}", facts.serial, facts.client());
                Err(500)
            }
        }
    }

    fn new(whereto: Whereto, name: String, key: Option<Vec<u8>>, settings: &StreamSettings) -> Choice {
        let tries = match (settings.next_upstream, settings.next_upstream_tries) {
            (false, _) => 1,
            (true, None) => usize::MAX,
            (true, Some(tries)) => tries as usize,
        };
        Choice { whereto, name, key, tries, tried: Vec::new(), began: Instant::now() }
    }

    fn director<'c>(&'c self, common: &'c Common) -> &'c Director {
        match &self.whereto {
            Whereto::Group(_) => &common.director,
            Whereto::Named(pool) => pool.director(&common.director),
        }
    }

    /// What `proxy_pass` names.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Chooses a server that was not tried yet. It is noted as an attempt.
    ///
    /// # Errors
    /// The status that it comes to if there is none.
    pub(super) fn next(&mut self, common: &Common, facts: &mut Facts) -> Result<Chosen, u16> {
        let service = match &self.whereto {
            Whereto::Group(number) => &common.groups[*number].service,
            Whereto::Named(pool) => &pool.key,
        };
        let flow = Flow::new(facts.remote).to(facts.local);
        let flow = self.key.as_deref().map_or(flow, |key| flow.key(key));
        let now = l4_proxy::clock::now();
        match self.director(common).schedule_except(service, &flow, &self.tried, now) {
            Ok(lease) => {
                let addr = lease.server();
                facts.attempts.push(Attempt::new(unix::shown(addr).to_string()));
                Ok(Chosen { addr, lease: Some(lease) })
            }
            Err(refusal) => {
                if refusal != Refusal::AllTried && self.tried.is_empty() {
                    let (serial, client, name) = (facts.serial, facts.client(), &self.name);
                    error!(
                        "*{serial} no live upstreams while connecting to upstream, {client}, upstream: \"{name}\""
                    );
                    facts.attempts.push(Attempt::new(self.name.clone()));
                }
                Err(502)
            }
        }
    }

    /// Takes in that a server could not be reached; says whether another may be tried.
    pub(super) fn failed(
        &mut self,
        common: &Common,
        settings: &StreamSettings,
        chosen: &Chosen,
        cause: Cause,
        facts: &Facts,
    ) -> bool {
        if let Some(transition) = self.report_failure(common, chosen, cause) {
            let (serial, condition, traffic) = (facts.serial, transition.condition, facts.traffic());
            warn!(
                "*{serial} upstream server temporarily disabled while connecting to upstream ({condition}), {traffic}"
            );
        }
        self.tried.push(chosen.addr);
        self.has_more(settings)
    }

    /// Whether another server may be tried if the present one fails.
    pub(super) fn may_go_on(&self, settings: &StreamSettings) -> bool {
        self.tried.len() + 1 < self.tries && !self.is_late(settings)
    }

    fn has_more(&self, settings: &StreamSettings) -> bool {
        self.tried.len() < self.tries && !self.is_late(settings)
    }

    fn is_late(&self, settings: &StreamSettings) -> bool {
        settings.next_upstream_timeout.is_some_and(|limit| self.began.elapsed() >= limit)
    }

    /// Tells the balancer that a server failed; returns what follows from it for the server, if anything.
    pub(super) fn report_failure(
        &self,
        common: &Common,
        chosen: &Chosen,
        cause: Cause,
    ) -> Option<Transition> {
        let event = Event::ConnectFailed(cause);
        self.director(common).report(chosen.lease.as_ref()?, event, l4_proxy::clock::now())
    }

    /// Tells the balancer that a server has done a part, so long after it was asked to.
    ///
    /// Who is connected to has done what can be expected. No word of datagrams is a connection.
    pub(super) fn report_done(
        &self,
        common: &Common,
        chosen: &Chosen,
        transport: Transport,
        part: StreamTimed,
        latency: Duration,
    ) {
        let Some(lease) = &chosen.lease else { return };
        let first = match transport {
            Transport::Tcp => StreamTimed::Connect,
            Transport::Udp => StreamTimed::FirstByte,
        };
        let timed = match self.whereto {
            Whereto::Group(number) => common.groups[number].timed,
            Whereto::Named(_) => None,
        };
        let timed = timed.filter(|timed| *timed != StreamTimed::Connect).unwrap_or(first);
        let event = match part {
            part if part == timed => Event::Responded { latency },
            part if part == first => Event::Succeeded,
            _ => return,
        };
        self.director(common).report(lease, event, l4_proxy::clock::now());
    }
}

/// Returns the servers that a name stands for which is no upstream's.
///
/// # Errors
/// Why it names nothing.
async fn find(worker: &Proxy, settings: &StreamSettings, text: &str) -> Result<Rc<Pool>, String> {
    let of_upstream = |reason: &str| format!("{reason} in upstream \"{text}\"");
    let (host, port) = split_address(text).map_err(of_upstream)?;
    let reached = worker.reached();
    if let Some(path) = host.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        let addr = unix::address_for_request(path).ok_or_else(|| of_upstream("too many paths"))?;
        return reached.at(host, addr).map_err(|_| of_upstream("no server"));
    }
    let port = port.ok_or_else(|| of_upstream("no port"))?;
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => reached.at(host, SocketAddr::new(ip, port)).map_err(|_| of_upstream("no server")),
        Err(_) => {
            let resolver = settings.resolving.resolver();
            let resolver = resolver.ok_or_else(|| format!("no resolver defined to resolve {host}"))?;
            let found = reached.under(host, port, resolver).await;
            found.map_err(|error| format!("{host} could not be resolved ({error})"))
        }
    }
}
