//! Servers of upstreams that are known by name (`server NAME resolve`): asked for again and again, for
//! as long as each answer holds.
//!
//! Addresses that stay keep their counts, health and connections. When nobody can tell, what was
//! told last goes on holding: a name server that fails must not take the site with it. When nobody can tell of
//! some (one family of addresses, one target of a service), those of before stay beside what was told. When they
//! say that there is no such name, or nothing under it, its servers go, as nginx's do: the address may be somebody
//! else's by now.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use lvs_core::{ServerConfig, ServiceKey};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error;

use crate::dns::{self, Extent, Found, RETRY, ResolveError};
use crate::model::{Http, NamedServer, Resolver, Role, Server, Stream};
use crate::site::{server_config, stream_key};

/// A name that is to be followed.
#[derive(Debug)]
pub(crate) struct Followed {
    /// The upstream that its addresses are servers of.
    pub(crate) key: ServiceKey,
    named: NamedServer,
    resolver: Arc<Resolver>,
}

/// Who is told what a name stands for.
pub(crate) trait Told {
    /// These are the servers under a name now; none, if there is no such name or nothing under it. Beside a part of
    /// them those of before stay.
    fn found(&self, name: &Followed, servers: Vec<ServerConfig>, extent: Extent);
}

/// Returns the names that a configuration has to be followed.
pub(crate) fn names(http: &Http, stream: &Stream) -> Vec<Arc<Followed>> {
    let upstreams = http.upstreams.iter();
    let of_http = upstreams.map(|of| (ServiceKey::name(&of.name), &of.named, &of.resolver));
    let of_stream = stream.upstreams.iter().map(|of| (stream_key(of), &of.named, &of.resolver));
    let names = of_http.chain(of_stream).flat_map(|(key, named, resolver)| {
        named.iter().filter_map(move |named| {
            let resolver = Arc::clone(resolver.as_ref()?);
            Some(Arc::new(Followed { key: key.clone(), named: named.clone(), resolver }))
        })
    });
    names.collect()
}

/// Follows the names that are wanted until nobody wants any.
pub(crate) async fn follow<T>(told: Arc<T>, mut wanted: watch::Receiver<Vec<Arc<Followed>>>)
where
    T: Told + 'static,
{
    loop {
        let mut tasks = JoinSet::new();
        for name in &*wanted.borrow_and_update() {
            tasks.spawn_local(follow_one(Arc::clone(&told), Arc::clone(name)));
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

async fn follow_one<T: Told>(told: Arc<T>, name: Arc<Followed>) {
    loop {
        let pause = match name.look_up().await {
            Ok(Found { found, valid, extent }) => {
                told.found(&name, found, extent);
                valid.max(VALID_MIN)
            }
            Err(failure) => {
                error!("{name} could not be resolved ({failure})");
                if failure.is_an_answer() {
                    told.found(&name, Vec::new(), Extent::Whole);
                }
                name.resolver.valid.unwrap_or(RETRY).clamp(VALID_MIN, RETRY)
            }
        };
        sleep(pause).await;
    }
}

impl Followed {
    /// What tells it from the other names of its upstream.
    pub(crate) fn identity(&self) -> (ServiceKey, String) {
        (self.key.clone(), format!("{}/{}", self.named.question(), self.named.port))
    }

    async fn look_up(&self) -> Result<Found<ServerConfig>, ResolveError> {
        let (name, template) = (self.named.question(), &self.named.server);
        let (mut servers, valid, extent) = match self.named.service {
            None => {
                let found = dns::addresses(&self.resolver, &name).await?;
                let port = self.named.port;
                let server = |ip| Server { addr: SocketAddr::new(ip, port), ..template.clone() };
                (found.found.into_iter().map(server).collect::<Vec<_>>(), found.valid, found.extent)
            }
            Some(_) => {
                let found = dns::services(&self.resolver, &name).await?;
                let server = |service: dns::Service| Server {
                    addr: service.addr,
                    weight: NonZeroU16::new(service.weight).unwrap_or(NonZeroU16::MIN),
                    role: if service.is_backup { Role::Backup } else { template.role },
                    ..template.clone()
                };
                (found.found.into_iter().map(server).collect(), found.valid, found.extent)
            }
        };
        // Name servers turn the order with each answer, which is no change.
        servers.sort_by_key(|server| server.addr);
        servers.dedup_by_key(|server| server.addr);
        // What cannot be a server's parameters was refused when the file was read.
        let found = servers.iter().filter_map(|server| server_config(server).ok()).collect();
        Ok(Found { found, valid, extent })
    }
}

impl fmt::Display for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of upstream \"{}\"", self.named.question(), self.key)
    }
}

/// Shorter times to live than this are of no use to anybody.
const VALID_MIN: Duration = Duration::from_millis(100);
