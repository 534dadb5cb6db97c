//! Clients that stay on one server of an upstream (`sticky`).
//!
//! A server that drains keeps those who are bound to it; one that is down, marked so or full does
//! not, and its clients are bound to whoever serves them in its place. The text that a cookie names
//! a server by is nginx's: the MD5 of its address, or its `route=`.

mod explained;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use lvs_core::{Director, Lease, ServiceKey};
use md5::{Digest, Md5};

use crate::date;
use crate::model::{Sticky, StickyCookie, Upstream};
use crate::moment::Moment;
use crate::variable::{Completion, Exchange, Response, Value, Variable};

/// How the clients of an upstream are bound, on one worker.
pub(crate) struct Bound {
    sticky: Sticky,
    /// The cookie's value, as a variable shows it.
    cookie: Option<Value>,
    /// Servers that have a name of their own (`route=`).
    routes: HashMap<SocketAddr, String>,
    /// Servers that are marked as down.
    down: Vec<SocketAddr>,
    /// The servers by their names; those of others come to be known as they are chosen.
    servers: RefCell<HashMap<Vec<u8>, SocketAddr>>,
    sessions: Option<Arc<Sessions>>,
}

impl Bound {
    /// How the clients of an upstream are bound, if they are.
    pub(crate) fn new(upstream: &Upstream, zones: &SessionZones) -> Option<Bound> {
        let sticky = upstream.sticky.clone()?;
        let routes: HashMap<_, _> =
            upstream.servers.iter().filter_map(|server| Some((server.addr, server.route.clone()?))).collect();
        let down = upstream.servers.iter().filter(|server| server.down).map(|server| server.addr).collect();
        let sessions = match &sticky {
            Sticky::Learn(learn) => Some(zones.sessions(&learn.zone, learn.sessions_max, learn.timeout)),
            Sticky::Cookie(_) | Sticky::Route(_) => None,
        };
        let cookie = match &sticky {
            Sticky::Cookie(cookie) => Some(Value::variable(Variable::Cookie((*cookie.name).into()))),
            Sticky::Route(_) | Sticky::Learn(_) => None,
        };
        let bound = Bound { sticky, cookie, routes, down, servers: RefCell::default(), sessions };
        bound.learn(upstream.servers.iter().map(|server| server.addr));
        Some(bound)
    }

    /// Learns the names of servers.
    pub(crate) fn learn(&self, servers: impl Iterator<Item = SocketAddr>) {
        let known = &mut *self.servers.borrow_mut();
        known.extend(servers.map(|server| (self.name(server).into_bytes(), server)));
    }

    fn name(&self, server: SocketAddr) -> String {
        match self.routes.get(&server) {
            Some(route) => route.clone(),
            None => Md5::digest(server.to_string()).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// Takes the server that a client is bound to, if it is to any and the server may serve.
    pub(crate) fn take(
        &self,
        exchange: &Exchange<'_>,
        director: &Director,
        key: &ServiceKey,
    ) -> Option<Lease> {
        let server = self.server(exchange)?;
        if self.down.contains(&server) {
            return None;
        }
        director.schedule_on(key, server, Moment::now().as_time())
    }

    fn server(&self, exchange: &Exchange<'_>) -> Option<SocketAddr> {
        let mut text = Vec::new();
        match &self.sticky {
            Sticky::Cookie(_) => {
                let name = self.cookie.as_ref()?.bytes(exchange, &mut text);
                self.servers.borrow().get(name).copied()
            }
            Sticky::Route(values) => values.iter().find_map(|value| {
                text.clear();
                let route = value.bytes(exchange, &mut text);
                self.at_the_end_of(route)
            }),
            Sticky::Learn(learn) => {
                let session = first(&learn.lookup, exchange)?;
                self.sessions.as_ref()?.find(&session, Moment::now())
            }
        }
    }

    /// The server that a route names.
    fn at_the_end_of(&self, route: &[u8]) -> Option<SocketAddr> {
        // Tomcat's session ids end in the route, behind a dot.
        let last = route.rsplit(|&byte| byte == b'.').next().unwrap_or(route);
        let servers = self.servers.borrow();
        servers.get(route).or_else(|| servers.get(last)).copied()
    }

    /// Binds the client of an answer to the server that has given it.
    pub(crate) fn bind(&self, exchange: &Exchange<'_>, server: SocketAddr, headers: &mut HeaderMap) {
        match &self.sticky {
            Sticky::Cookie(cookie) => {
                let name = self.name(server);
                let mut text = Vec::new();
                let told = self
                    .cookie
                    .as_ref()
                    .is_some_and(|sent| sent.bytes(exchange, &mut text) == name.as_bytes());
                // A browser that has the cookie already gets it anew only to keep it longer.
                if told && cookie.expires.is_none() {
                    return;
                }
                if let Ok(value) = HeaderValue::from_str(&set_cookie(cookie, &name, SystemTime::now())) {
                    headers.append(SET_COOKIE, value);
                }
                self.learn(std::iter::once(server));
            }
            Sticky::Route(_) => {}
            Sticky::Learn(learn) => {
                let none = HeaderMap::new();
                let answered = Response {
                    status: 200,
                    headers: &none,
                    upstream_headers: Some(headers),
                    body_bytes_sent: 0,
                    bytes_sent: 0,
                    completion: Completion::Partial,
                    packed: None,
                    trailers: None,
                    upstream_trailers: None,
                };
                let exchange = Exchange { response: Some(answered), ..*exchange };
                if let (Some(session), Some(sessions)) = (first(&learn.create, &exchange), &self.sessions) {
                    sessions.learn(session, server, Moment::now());
                }
            }
        }
    }
}

fn set_cookie(cookie: &StickyCookie, value: &str, now: SystemTime) -> String {
    let mut text = format!("{}={value}", cookie.name);
    if let Some(time) = cookie.expires {
        let date = date::http(now + time);
        text.push_str(&format!("; expires={date}; max-age={}", time.as_secs()));
    }
    text + &cookie.attributes
}

/// The first value that says something.
fn first(values: &[Value], exchange: &Exchange<'_>) -> Option<Vec<u8>> {
    let texts = values.iter().map(|value| {
        let mut text = Vec::new();
        value.write(exchange, &mut text);
        text
    });
    texts.into_iter().find(|text| !text.is_empty() && text.len() <= SESSION_MAX)
}

/// Sessions by the names of their zones, shared by all workers and kept over reloads.
#[derive(Default)]
pub(crate) struct SessionZones {
    zones: Mutex<HashMap<String, Arc<Sessions>>>,
    /// What another process has left for zones that are not made yet.
    left: Mutex<HashMap<String, Vec<Seen>>>,
}

/// A session with its server, and when it was last asked for.
type Seen = (Vec<u8>, SocketAddr, Moment);

/// A session that is known, with its server and for how long nobody has asked for it.
pub(crate) type Known = (Vec<u8>, SocketAddr, Duration);

impl SessionZones {
    /// Returns the sessions of a zone, which is made if it is not there or has another size.
    fn sessions(&self, zone: &str, most: usize, timeout: Duration) -> Arc<Sessions> {
        let zones = &mut *lock(&self.zones);
        let known = zones.get(zone).filter(|known| known.most == most && known.timeout == timeout);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let made = Arc::new(Sessions { most, timeout, map: Mutex::default() });
        for (session, server, seen) in lock(&self.left).remove(zone).unwrap_or_default() {
            made.learn(session, server, seen);
        }
        zones.insert(zone.to_owned(), Arc::clone(&made));
        made
    }

    /// Returns the sessions that are known, by their zones.
    pub(crate) fn list(&self, now: Moment) -> Vec<(String, Vec<Known>)> {
        let listed = |sessions: &Sessions| {
            let map = lock(&sessions.map);
            map.iter().map(|(session, (server, seen))| (session.clone(), *server, now.since(*seen))).collect()
        };
        lock(&self.zones).iter().map(|(zone, sessions)| (zone.clone(), listed(sessions))).collect()
    }

    /// Leaves sessions to a zone that is made later.
    pub(crate) fn leave(&self, zone: String, sessions: Vec<Known>, now: Moment) {
        let seen = sessions.into_iter().map(|(session, server, age)| (session, server, now.before(age)));
        lock(&self.left).insert(zone, seen.collect());
    }
}

/// Which server began which session. The lock is held for a look-up, and now and then for a sweep.
pub(crate) struct Sessions {
    most: usize,
    timeout: Duration,
    map: Mutex<HashMap<Vec<u8>, (SocketAddr, Moment)>>,
}

impl Sessions {
    fn find(&self, session: &[u8], now: Moment) -> Option<SocketAddr> {
        let map = &mut *lock(&self.map);
        let (server, seen) = map.get_mut(session)?;
        if now.since(*seen) >= self.timeout {
            map.remove(session);
            return None;
        }
        *seen = now;
        Some(*server)
    }

    /// As [`find`](Sessions::find), but the session gets no older and no younger by it.
    fn peek(&self, session: &[u8], now: Moment) -> Option<SocketAddr> {
        let map = &*lock(&self.map);
        map.get(session).filter(|(_, seen)| now.since(*seen) < self.timeout).map(|(server, _)| *server)
    }

    fn learn(&self, session: Vec<u8>, server: SocketAddr, now: Moment) {
        let map = &mut *lock(&self.map);
        if map.len() >= self.most && !map.contains_key(&session) {
            map.retain(|_, (_, seen)| now.since(*seen) < self.timeout);
            // Still full: the eighth that nobody has asked for the longest goes, so that it is not
            // looked for at each session.
            if map.len() >= self.most {
                let mut ages: Vec<Moment> = map.values().map(|(_, seen)| *seen).collect();
                let (_, limit, _) = ages.select_nth_unstable(map.len() / 8);
                let limit = *limit;
                let mut left = map.len() / 8 + 1;
                map.retain(|_, (_, seen)| {
                    let goes = *seen <= limit && left > 0;
                    left -= usize::from(goes);
                    !goes
                });
            }
        }
        map.insert(session, (server, now));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Longer names of sessions are none.
const SESSION_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn server(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn session_is_forgotten_after_its_time_and_not_while_it_is_asked_for() {
        let now = Moment::now();
        let minute = Duration::from_secs(60);
        let sessions = Sessions { most: 10, timeout: 2 * minute, map: Mutex::default() };
        sessions.learn(b"a".to_vec(), server(1), now);
        assert_eq!(sessions.find(b"a", now + minute), Some(server(1)));
        assert_eq!(sessions.find(b"a", now + 2 * minute), Some(server(1)));
        assert_eq!(sessions.find(b"a", now + 4 * minute), None);
    }

    #[test]
    fn full_zone_forgets_the_oldest_and_takes_the_new() {
        let now = Moment::now();
        let sessions = Sessions { most: 16, timeout: Duration::from_secs(600), map: Mutex::default() };
        for age in 0..40_u8 {
            sessions.learn(vec![age], server(age.into()), now + Duration::from_secs(age.into()));
            assert!(lock(&sessions.map).len() <= 16);
        }
        assert_eq!(sessions.find(&[39], now), Some(server(39)));
        assert_eq!(sessions.find(&[0], now), None);
    }

    #[test]
    fn cookie_says_what_the_file_says_of_it() {
        let mut cookie = StickyCookie {
            name: "srv".to_owned(),
            expires: None,
            attributes: "; path=/; httponly".to_owned(),
        };
        assert_eq!(set_cookie(&cookie, "x", SystemTime::UNIX_EPOCH), "srv=x; path=/; httponly");
        cookie.expires = Some(Duration::from_secs(3600));
        let expected = "srv=x; expires=Thu, 01 Jan 1970 01:00:00 GMT; max-age=3600; path=/; httponly";
        assert_eq!(set_cookie(&cookie, "x", SystemTime::UNIX_EPOCH), expected);
    }
}
