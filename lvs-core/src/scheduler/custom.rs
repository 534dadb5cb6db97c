//! A scheduler of the embedder's own.

use std::fmt;
use std::sync::Arc;

use crate::scheduler::{Scheduler, Setup};

/// How to make a scheduler of one's own, for
/// [`ServiceConfig::scheduler`](crate::ServiceConfig::scheduler).
///
/// It is called for each configuration of the service, with the servers it has then. Two are equal
/// if one is a clone of the other, and a service of which nothing has changed keeps the scheduler
/// that it has.
///
/// This one takes the server that was added first, and the next one when that cannot be chosen:
///
/// ```
/// use lvs_core::{
///     Algorithm, Config, CustomScheduler, Director, Flow, Pool, Scheduler, ServerConfig, ServiceConfig,
///     ServiceKey, Time,
/// };
///
/// struct First;
///
/// impl Scheduler for First {
///     fn schedule(&self, pool: Pool<'_>, _flow: &Flow, _ticket: u64) -> Option<usize> {
///         pool.oldest_first().next()
///     }
/// }
///
/// let web = ServiceKey::tcp("192.0.2.10:80".parse()?);
/// let director = Director::new();
/// director.apply(Config {
///     services: vec![
///         ServiceConfig::new(web.clone(), Algorithm::default())
///             .scheduler(CustomScheduler::new("first", |_| Box::new(First)))
///             .server(ServerConfig::new("10.0.0.1:80".parse()?))
///             .server(ServerConfig::new("10.0.0.2:80".parse()?)),
///     ],
/// })?;
/// let flow = Flow::new("198.51.100.7:40000".parse()?);
/// let lease = director.schedule(&web, &flow, Time::ZERO)?;
/// assert_eq!(lease.server(), "10.0.0.1:80".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CustomScheduler {
    name: Arc<str>,
    build: Arc<Factory>,
}

type Factory = dyn Fn(&Setup<'_>) -> Box<dyn Scheduler> + Send + Sync;

impl CustomScheduler {
    /// A scheduler with this name, made by this function.
    pub fn new(
        name: &str,
        build: impl Fn(&Setup<'_>) -> Box<dyn Scheduler> + Send + Sync + 'static,
    ) -> CustomScheduler {
        CustomScheduler { name: name.into(), build: Arc::new(build) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn build(&self, setup: &Setup<'_>) -> Box<dyn Scheduler> {
        (self.build)(setup)
    }
}

impl PartialEq for CustomScheduler {
    fn eq(&self, other: &CustomScheduler) -> bool {
        Arc::ptr_eq(&self.build, &other.build)
    }
}

impl fmt::Debug for CustomScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CustomScheduler").field(&self.name).finish()
    }
}
