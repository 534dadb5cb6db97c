//! Active checks: each server of an upstream is asked again and again, and what it answers decides
//! whether it gets requests.
//!
//! One task per server, at its own point of the interval. Which servers there are is the director's
//! to say, who is asked once a second: `lvsadm` and the name servers change them while checks go on.
//! What a server was found to be outlives a reload, as long as the upstream is checked.

mod exchange;
mod grpc;
mod required;
mod talk;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lvs_core::{Condition, Director, Probe, ServiceKey};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{error, info};

use self::required::Surroundings;
use crate::model::{
    Cadence, Expected, GrpcCheck, Handler, HealthCheck, Http, Location, ProxyPass, SetHeader, Stream,
    StreamCheck, StreamContent, StreamServer, StreamTarget, Talk, TlsClient, Transport,
};
use crate::moment::Moment;
use crate::route::proxy_settings;
use crate::site::stream_key;
use crate::tls::{Client, TlsError};
use crate::variable::{Value, Variable};

/// How the servers of one upstream are checked.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) key: ServiceKey,
    pub(crate) cadence: Cadence,
    question: Question,
    connect_timeout: Duration,
    read_timeout: Duration,
    /// How TLS is spoken with the servers, and the name they are to have.
    tls: Option<(Client, String)>,
}

/// What a server is asked.
#[derive(Debug)]
enum Question {
    Http(Asked),
    Grpc {
        asked: GrpcCheck,
        /// The name that the request is for.
        authority: String,
    },
    Talk(Transport, Arc<Talk>),
}

/// A request, and what is to be answered.
#[derive(Debug)]
struct Asked {
    /// The whole of it.
    request: Vec<u8>,
    expected: Arc<Expected>,
    /// What its variables are looked up in, if it has any.
    surroundings: Option<Arc<Surroundings>>,
    keepalive_time: Duration,
}

impl Checked {
    /// Where a server is asked.
    fn target(&self, server: SocketAddr) -> SocketAddr {
        SocketAddr::new(server.ip(), self.cadence.port.unwrap_or(server.port()))
    }
}

/// Returns what a configuration says of checks, by the number of the upstream.
pub(crate) fn checks(http: &Http) -> Vec<(usize, &HealthCheck)> {
    let found = locations(http).filter_map(|location| {
        let Handler::Proxy(pass) = &location.handler else { return None };
        Some((pass.upstream?.0, location.health_check.as_ref()?))
    });
    found.collect()
}

/// Makes the checks of a configuration ready.
///
/// # Errors
/// TLS with the servers cannot be set up.
pub(crate) fn prepare(http: &Http) -> Result<Vec<Arc<Checked>>, TlsError> {
    let mut checks = Vec::new();
    for location in locations(http) {
        let (Handler::Proxy(pass), Some(health)) = (&location.handler, &location.health_check) else {
            continue;
        };
        let Some(upstream) = pass.upstream.and_then(|upstream| http.upstreams.get(upstream.0)) else {
            continue;
        };
        let proxy = proxy_settings(&location.handler, &location.settings);
        let tls = match pass.tls {
            true => Some((Client::new(&TlsClient::clone(&proxy.tls), &[])?, told(&proxy.tls_name, pass))),
            false => None,
        };
        checks.push(Arc::new(Checked {
            key: ServiceKey::name(&upstream.name),
            cadence: health.cadence.clone(),
            question: match &health.grpc {
                Some(asked) => Question::Grpc { asked: asked.clone(), authority: pass.host.clone() },
                None => Question::Http(Asked {
                    request: request(health, &proxy.set_headers, pass),
                    expected: Arc::clone(&health.expected),
                    surroundings: Surroundings::of(http, location, pass, health),
                    keepalive_time: health.keepalive_time,
                }),
            },
            connect_timeout: proxy.connect_timeout,
            read_timeout: proxy.read_timeout,
            tls,
        }));
    }
    Ok(checks)
}

/// Returns what a configuration says of checks in `stream {}`, by the number of the upstream.
pub(crate) fn stream_checks(stream: &Stream) -> Vec<(usize, &StreamServer, &StreamCheck)> {
    let found = stream.servers.iter().filter_map(|server| {
        let StreamContent::Proxy(StreamTarget::Upstream(upstream)) = &server.content else { return None };
        Some((upstream.0, server, server.health_check.as_ref()?))
    });
    found.collect()
}

/// Makes the checks of `stream {}` ready.
///
/// # Errors
/// TLS with the servers cannot be set up.
pub(crate) fn prepare_stream(stream: &Stream) -> Result<Vec<Arc<Checked>>, TlsError> {
    let mut checks = Vec::new();
    for (upstream, server, check) in stream_checks(stream) {
        let Some(upstream) = stream.upstreams.get(upstream) else { continue };
        let settings = &server.settings;
        let tls = match settings.proxy_ssl {
            true => {
                let name = settings.proxy_tls_name.as_ref().and_then(|name| name.as_literal());
                let name =
                    name.map_or_else(|| upstream.name.clone(), |name| String::from_utf8_lossy(name).into());
                Some((Client::new(&settings.proxy_tls, &[])?, name))
            }
            false => None,
        };
        checks.push(Arc::new(Checked {
            key: stream_key(upstream),
            cadence: check.cadence.clone(),
            question: Question::Talk(check.transport, Arc::clone(&check.talk)),
            connect_timeout: settings.connect_timeout,
            read_timeout: settings.check_timeout,
            tls,
        }));
    }
    Ok(checks)
}

/// All locations, those inside of others too.
fn locations(http: &Http) -> impl Iterator<Item = &Location> {
    let mut left: Vec<&Location> = http.servers.iter().flat_map(|server| &server.locations).collect();
    std::iter::from_fn(move || {
        let next = left.pop()?;
        left.extend(&next.locations);
        Some(next)
    })
}

/// Writes the request of a check, with the fields that do not depend on a client's request.
fn request(health: &HealthCheck, set: &[SetHeader], pass: &ProxyPass) -> Vec<u8> {
    let mut request = format!("GET {} HTTP/1.1\r\n", health.uri);
    for SetHeader { written, value, .. } in set.iter().filter(|set| set.name != http::header::CONNECTION) {
        let text = told(value, pass);
        if !text.is_empty() && text.bytes().all(|byte| byte >= b' ') {
            request.push_str(&format!("{written}: {text}\r\n"));
        }
    }
    if health.keepalive_time.is_zero() {
        request.push_str("Connection: close\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// What a value says without a client's request.
fn told(value: &Value, pass: &ProxyPass) -> String {
    if let Some(text) = value.as_literal() {
        return String::from_utf8_lossy(text).into_owned();
    }
    let mut variables = value.variables();
    match (variables.next(), variables.next()) {
        (Some(Variable::ProxyHost), None) if *value == Value::variable(Variable::ProxyHost) => {
            pass.host.clone()
        }
        _ => String::new(),
    }
}

/// The checks that are wanted. `None` ends them all and leaves the servers as they were found: a
/// process that is to end gets no requests that could go by checks, and its servers may end as well.
pub(crate) type Wanted = Option<Vec<Arc<Checked>>>;

/// Follows the checks that are wanted until nobody can want any: a task on a thread of its own, where
/// requests cannot delay it.
pub(crate) async fn follow(director: Arc<Director>, mut wanted: watch::Receiver<Wanted>) {
    let mut running = Running { director, tasks: HashMap::new() };
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let checks = wanted.borrow_and_update().clone();
        match checks {
            Some(checks) => running.adjust(&checks),
            None => running.tasks.clear(),
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            _ = tick.tick() => {}
        }
    }
}

struct Running {
    director: Arc<Director>,
    tasks: HashMap<(ServiceKey, SocketAddr), Task>,
}

struct Task {
    check: Arc<Checked>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Running {
    /// Checks these servers and no others.
    fn adjust(&mut self, checks: &[Arc<Checked>]) {
        let services = self.director.config().services;
        let mut before = std::mem::take(&mut self.tasks);
        for check in checks {
            let Some(service) = services.iter().find(|service| service.key == check.key) else { continue };
            for server in &service.servers {
                let place = (check.key.clone(), server.address);
                let task = match before.remove(&place) {
                    Some(task) if Arc::ptr_eq(&task.check, check) => task,
                    _ => {
                        let director = Arc::clone(&self.director);
                        let watched = watch(director, Arc::clone(check), server.address);
                        Task { check: Arc::clone(check), handle: tokio::task::spawn_local(watched) }
                    }
                };
                self.tasks.insert(place, task);
            }
        }
        for (service, server) in before.into_keys() {
            release(&self.director, &service, server);
        }
    }
}

/// Brings a server back that is not checked any more: nobody would see it come up.
fn release(director: &Director, service: &ServiceKey, server: SocketAddr) {
    let Some(config) = director.config().service(service).cloned() else { return };
    for _ in 0..config.health.rise.max(1) {
        director.probe(service, server, Probe::Passed, Moment::now().as_time());
    }
}

/// Counts servers that were never checked as down.
pub(crate) fn suspect(director: &Director, check: &Checked, server: SocketAddr) {
    for _ in 0..check.cadence.fails {
        director.probe(&check.key, server, Probe::Failed(UNCHECKED.into()), Moment::now().as_time());
    }
}

async fn watch(director: Arc<Director>, check: Arc<Checked>, server: SocketAddr) {
    let mut kept = None;
    loop {
        let outcome = match &check.question {
            Question::Http(asked) => exchange::ask(&check, asked, server, &mut kept).await,
            Question::Grpc { asked, authority } => grpc::ask(&check, asked, authority, server).await,
            Question::Talk(Transport::Tcp, talk) => talk::connect(&check, talk, server).await,
            Question::Talk(Transport::Udp, talk) => talk::send(&check, talk, server).await,
        };
        let probe = match &outcome {
            Ok(()) => Probe::Passed,
            Err(cause) => Probe::Failed(cause.clone().into()),
        };
        let turned = director.probe(&check.key, server, probe, Moment::now().as_time());
        let key = &check.key;
        match turned.map(|transition| transition.condition) {
            Some(Condition::Up) => info!("peer is healthy while checking {server} in upstream \"{key}\""),
            Some(condition) => {
                error!("peer is unhealthy while checking {server} in upstream \"{key}\": {condition}");
            }
            None => {}
        }
        let jitter = check.cadence.jitter.as_millis().try_into().unwrap_or(u64::MAX);
        sleep(check.cadence.interval + Duration::from_millis(fastrand::u64(0..=jitter))).await;
    }
}

/// What a server is down for that no check has passed.
const UNCHECKED: &str = "not checked yet";

/// How often the director is asked which servers there are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_of_a_check_has_the_fields_that_need_no_client() {
        let mut pass = ProxyPass {
            upstream: Some(crate::model::UpstreamId(0)),
            tls: false,
            module: crate::model::PassModule::Proxy,
            host: "app".to_owned(),
            url: "http://app".to_owned(),
            port: 80,
            uri: None,
        };
        let set = |written: &str, value: Value| SetHeader {
            name: written.parse().unwrap(),
            written: written.to_owned(),
            value,
        };
        let fields = [
            set("Host", Value::variable(Variable::ProxyHost)),
            set("X-Check", Value::literal("yes")),
            set("X-Real-IP", Value::variable(Variable::RemoteAddr)),
        ];
        let text = |health: &HealthCheck, pass: &ProxyPass| {
            String::from_utf8(request(health, &fields, pass)).unwrap()
        };
        let expected = "GET / HTTP/1.1\r\nHost: app\r\nX-Check: yes\r\nConnection: close\r\n\r\n";
        assert_eq!(text(&HealthCheck::default(), &pass), expected);
        pass.host = "other:81".to_owned();
        let kept = HealthCheck {
            keepalive_time: Duration::from_secs(9),
            uri: "/up".to_owned(),
            ..Default::default()
        };
        assert_eq!(text(&kept, &pass), "GET /up HTTP/1.1\r\nHost: other:81\r\nX-Check: yes\r\n\r\n");
    }
}
