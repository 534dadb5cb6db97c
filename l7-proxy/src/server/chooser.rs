//! What a client of TLS is answered with: the server block that has the name it asks for, and its
//! certificate where variables name that.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, Version};

use super::connection::Client;
use crate::model::PemText;
use crate::tls::{self, Handshake, Terminator};
use crate::uri::Target;
use crate::variable::{Captures, Connection, Exchange, Findings, Moment, Nowhere, Scheme};

/// Chooses for one client.
pub(super) struct Chooser<'a> {
    pub(super) client: &'a Client,
    /// Groups of a name that is an expression.
    pub(super) captures: Captures,
    /// The number of the block that was chosen.
    pub(super) server: usize,
}

impl tls::Chooser for Chooser<'_> {
    fn choose(&mut self, name: &str) -> Arc<Terminator> {
        let site = &self.client.generation.site;
        self.server = site.router.server(self.client.entry, name, &mut self.captures).number();
        Arc::clone(&site.terminators[self.server])
    }

    fn tell(&mut self, text: &PemText, begun: &Handshake) -> Vec<u8> {
        let router = &self.client.generation.site.router;
        let (PemText::Http(value), Some(server), Ok(target)) =
            (text, router.servers().get(self.server), Target::parse("/"))
        else {
            return Vec::new();
        };
        // There is no request yet: what would be of one is empty.
        let now = Instant::now();
        let connection = Connection {
            remote: self.client.remote,
            peer: self.client.remote,
            local: self.client.local,
            serial: 0,
            requests: 0,
            scheme: Scheme::Https,
            opened: now,
            pipelined: false,
        };
        let mut out = Vec::new();
        value.write(
            &Exchange {
                connection: &connection,
                tls: Some(begun),
                proxied: self.client.proxied.as_deref(),
                method: &Method::GET,
                asked_method: &Method::GET,
                head: b"",
                received: 0,
                version: Version::HTTP_11,
                request_uri: "",
                target: &target,
                headers: &HeaderMap::new(),
                host: &begun.server_name,
                server_name: server.name(),
                settings: server.settings(),
                captures: &self.captures,
                definitions: router.definitions(),
                findings: &Findings::default(),
                socket: None,
                around: &Nowhere,
                proxy: None,
                attempts: &[],
                response: None,
                moment: Moment::Asked(now),
            },
            &mut out,
        );
        out
    }
}
