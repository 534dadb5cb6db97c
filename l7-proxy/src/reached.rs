//! Servers that no configuration lists, because only a request says who they are: an address, or a name
//! that is resolved then.
//!
//! What clients can name must not grow without a bound, nor show up where the configuration is looked at.
//! So each of these groups has a director of its own and is forgotten when it was not used for longest,
//! which leaves alone the requests that are still with it. While it is remembered, its servers keep their
//! turns and their failures.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use lvs_core::{Config, Director, ServiceKey};

use crate::dns::{Cache, ResolveError};
use crate::model::{Resolver, Server, Upstream};
use crate::moment::Moment;
use crate::site::{self, SiteError};
use crate::upstream::Pool;

/// The groups of servers that a worker was led to by requests.
#[derive(Default)]
pub(crate) struct Reached {
    names: Cache,
    groups: RefCell<HashMap<Destination, Group>>,
}

/// What a request has named.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Destination {
    host: Box<str>,
    port: u16,
    /// Who was asked; nobody is for an address.
    resolver: Option<Arc<Resolver>>,
}

struct Group {
    /// The answer it was made of, to be known again at a glance.
    answer: Option<Rc<[IpAddr]>>,
    /// In order, since name servers turn it with each answer.
    servers: Vec<SocketAddr>,
    director: Arc<Director>,
    pool: Rc<Pool>,
    used: Moment,
}

impl Reached {
    /// Returns the server at an address, as a group.
    ///
    /// # Errors
    /// None that is known: a server without parameters has none that contradict each other.
    pub(crate) fn at(&self, host: &str, addr: SocketAddr) -> Result<Rc<Pool>, SiteError> {
        let destination = Destination { host: host.into(), port: addr.port(), resolver: None };
        self.group(destination, None, || vec![addr])
    }

    /// Returns the servers under a name.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub(crate) async fn under(
        &self,
        host: &str,
        port: u16,
        resolver: &Arc<Resolver>,
    ) -> Result<Rc<Pool>, ResolveError> {
        let answer = self.names.addresses(resolver, host).await?;
        let host = host.to_ascii_lowercase().into_boxed_str();
        let destination = Destination { host, port, resolver: Some(Arc::clone(resolver)) };
        let servers = || answer.iter().map(|&ip| SocketAddr::new(ip, port)).collect();
        self.group(destination, Some(&answer), servers).map_err(|_| ResolveError::Malformed)
    }

    fn group(
        &self,
        destination: Destination,
        answer: Option<&Rc<[IpAddr]>>,
        servers: impl FnOnce() -> Vec<SocketAddr>,
    ) -> Result<Rc<Pool>, SiteError> {
        let mut groups = self.groups.borrow_mut();
        let now = Moment::now();
        if let Some(group) = groups.get_mut(&destination) {
            group.used = now;
            if let (Some(before), Some(answer)) = (&group.answer, answer)
                && !Rc::ptr_eq(before, answer)
            {
                group.answer = Some(Rc::clone(answer));
                group.follow(&destination, servers())?;
            }
            return Ok(Rc::clone(&group.pool));
        }
        if groups.len() >= GROUPS_MAX {
            let oldest = groups.iter().min_by_key(|(_, group)| group.used);
            if let Some(oldest) = oldest.map(|(destination, _)| destination.clone()) {
                groups.remove(&oldest);
            }
        }
        let mut servers = servers();
        servers.sort_unstable();
        let director = Arc::new(Director::new());
        let pool = destination.pool(&servers, &director)?;
        let group = Group { answer: answer.cloned(), servers, director, pool: Rc::clone(&pool), used: now };
        groups.insert(destination, group);
        Ok(pool)
    }
}

impl Group {
    /// Takes over what a name stands for now. Servers that it still stands for go on as they are.
    fn follow(&mut self, destination: &Destination, mut servers: Vec<SocketAddr>) -> Result<(), SiteError> {
        servers.sort_unstable();
        if servers != self.servers {
            self.pool = destination.pool(&servers, &self.director)?;
            self.servers = servers;
        }
        Ok(())
    }
}

impl Destination {
    fn pool(&self, servers: &[SocketAddr], director: &Arc<Director>) -> Result<Rc<Pool>, SiteError> {
        let name = format!("{}:{}", self.host, self.port);
        let key = ServiceKey::name(&name);
        let upstream = Upstream::new(name, servers.iter().map(|&addr| Server::new(addr)).collect());
        let services = vec![site::service(key.clone(), &upstream)?];
        director.apply(Config { services }).map_err(SiteError::Service)?;
        Ok(Rc::new(Pool::reached(&upstream, key, Arc::clone(director))))
    }
}

/// How many groups a worker remembers.
const GROUPS_MAX: usize = 1024;
