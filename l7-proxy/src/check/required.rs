//! What variables have to be of a server's answer (`match`'s `require`).
//!
//! They are those of a request that a check stands for: of the answer, the server and the configuration. There is no
//! client, so that what would be of one is empty.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, Version};

use crate::model::{Expected, HealthCheck, Http, Location, Mismatch, ProxyPass, Settings};
use crate::uri::Target;
use crate::variable::{
    Attempt, Captures, Connection, Definitions, Exchange, Findings, Moment, Nowhere, Response, Scheme,
};

/// What variables are looked up in.
#[derive(Debug)]
pub(super) struct Surroundings {
    definitions: Definitions,
    settings: Settings,
    pass: ProxyPass,
    uri: String,
}

impl Surroundings {
    /// Those of a check that asks for any variable.
    pub(super) fn of(
        http: &Http,
        location: &Location,
        pass: &ProxyPass,
        health: &HealthCheck,
    ) -> Option<Arc<Self>> {
        let surroundings = || Surroundings {
            definitions: http.definitions.clone(),
            settings: location.settings.clone(),
            pass: pass.clone(),
            uri: health.uri.clone(),
        };
        (!health.expected.required.is_empty()).then(|| Arc::new(surroundings()))
    }

    /// Judges the head of a server's answer.
    ///
    /// # Errors
    /// With the first variable that is empty or `0`.
    pub(super) fn judge(
        &self,
        expected: &Expected,
        server: SocketAddr,
        status: u16,
        fields: &HeaderMap,
    ) -> Result<(), Mismatch> {
        let now = Instant::now();
        // Which client it would be nobody can say.
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let connection = Connection {
            remote: nobody,
            peer: nobody,
            local: nobody,
            serial: 0,
            requests: 0,
            scheme: Scheme::Http,
            opened: now,
            pipelined: false,
        };
        let target = Target::parse(&self.uri).or_else(|_| Target::parse("/"));
        let Ok(target) = target else { return Ok(()) };
        let exchange = Exchange {
            connection: &connection,
            tls: None,
            proxied: None,
            method: &Method::GET,
            asked_method: &Method::GET,
            head: b"",
            received: 0,
            version: Version::HTTP_11,
            request_uri: &self.uri,
            target: &target,
            headers: &HeaderMap::new(),
            host: &self.pass.host,
            server_name: "",
            settings: &self.settings,
            captures: &Captures::default(),
            definitions: &self.definitions,
            findings: &Findings::default(),
            socket: None,
            around: &Nowhere,
            proxy: Some(&self.pass),
            attempts: &[Attempt::new(Some(server), Some(status), None)],
            response: Some(Response { upstream_headers: Some(fields), ..Response::begun(status, fields) }),
            moment: Moment::Asked(now),
        };
        let mut scratch = Vec::new();
        for (name, value) in &expected.required {
            if let b"" | b"0" = value.bytes(&exchange, &mut scratch) {
                return Err(Mismatch::Variable(name.clone()));
            }
        }
        Ok(())
    }
}
