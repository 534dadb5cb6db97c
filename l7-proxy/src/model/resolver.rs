//! Who is asked for the addresses of names while the proxy runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The name servers of a block (`resolver`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resolver {
    /// Those; one after the other is asked.
    pub servers: Vec<SocketAddr>,
    /// How long an answer is gone by, in place of what it says (`valid=`).
    pub valid: Option<Duration>,
    /// Which addresses are asked for.
    pub families: Families,
    /// How long a name may take; 30 s by default.
    pub timeout: Duration,
}

/// Which addresses a name is resolved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Families {
    /// Those of IPv4 and of IPv6.
    Both,
    /// Those of IPv4 (`ipv6=off`).
    V4,
    /// Those of IPv6 (`ipv4=off`).
    V6,
}

/// What a block says of name servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolving {
    /// Which there are; `None` where none was named.
    resolver: Option<Arc<Resolver>>,
    /// How long a name may take, in place of the 30 s (`resolver_timeout`).
    timeout: Option<Duration>,
}

impl Resolver {
    /// Returns these name servers, asked for addresses of both families.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, valid: None, families: Families::Both, timeout: Duration::from_secs(30) }
    }
}

impl Resolving {
    /// Names the name servers.
    pub fn ask(&mut self, mut resolver: Resolver) {
        resolver.timeout = self.timeout.unwrap_or(resolver.timeout);
        self.resolver = Some(Arc::new(resolver));
    }

    /// Sets how long a name may take.
    pub fn within(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
        if let Some(resolver) = &mut self.resolver {
            Arc::make_mut(resolver).timeout = timeout;
        }
    }

    /// Returns the name servers with the block's time.
    pub fn resolver(&self) -> Option<&Arc<Resolver>> {
        self.resolver.as_ref()
    }
}
