//! Whom a request's client is bound to, for an explanation.
//!
//! It looks where the choice looks, and leaves all as it is: no session is renewed, nothing counted.

use std::net::SocketAddr;

use lvs_core::{Director, ServiceKey, Verdict};

use super::{Bound, first};
use crate::model::Sticky;
use crate::moment::Moment;
use crate::unix;
use crate::variable::{Exchange, Value};

/// What comes of the binding of a request's client.
pub(crate) struct Explained {
    /// The binding and where it leads to, or why it leads nowhere.
    pub(crate) words: String,
    /// The server that gets the request; `None` leaves it to the balancer.
    pub(crate) server: Option<SocketAddr>,
}

impl Bound {
    /// Says whom a request's client is bound to and whether that holds.
    pub(crate) fn explain(
        &self,
        exchange: &Exchange<'_>,
        director: &Director,
        key: &ServiceKey,
    ) -> Explained {
        let (rule, texts) = self.sign(exchange);
        if texts.is_empty() {
            return free(format!("{rule}: the request has none"));
        }
        let found = texts.iter().find_map(|text| Some((quoted(text), self.led_to(text)?)));
        let Some((text, server)) = found else {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            return free(format!("{rule} {}: leads to no known server", texts.join(" ")));
        };
        let rule = format!("{rule} {text}");
        let shown = unix::shown(server);
        if self.down.contains(&server) {
            return free(format!("{rule}: leads to {shown}, which is marked as down"));
        }
        match director.explain_on(key, server, Moment::now().as_time()) {
            None => free(format!("{rule}: leads to {shown}, which is no server of the upstream any more")),
            Some(candidate) if candidate.verdict == Verdict::Chosen => Explained {
                words: format!("{rule}: leads to {shown}, {}", candidate.words),
                server: Some(server),
            },
            Some(candidate) => free(format!("{rule}: leads to {shown}, but that is {}", candidate.words)),
        }
    }

    /// The rule in the file's words, and what the request has for it.
    fn sign(&self, exchange: &Exchange<'_>) -> (String, Vec<Vec<u8>>) {
        let text = |value: &Value| {
            let mut text = Vec::new();
            value.write(exchange, &mut text);
            text
        };
        match &self.sticky {
            Sticky::Cookie(cookie) => {
                let sent = self.cookie.iter().map(text).filter(|text| !text.is_empty());
                (format!("sticky cookie {}", cookie.name), sent.collect())
            }
            Sticky::Route(values) => {
                let routes = values.iter().map(text).filter(|text| !text.is_empty());
                ("sticky route".to_owned(), routes.collect())
            }
            Sticky::Learn(learn) => {
                ("sticky learn".to_owned(), first(&learn.lookup, exchange).into_iter().collect())
            }
        }
    }

    fn led_to(&self, text: &[u8]) -> Option<SocketAddr> {
        match &self.sticky {
            Sticky::Cookie(_) => self.servers.borrow().get(text).copied(),
            Sticky::Route(_) => self.at_the_end_of(text),
            Sticky::Learn(_) => self.sessions.as_ref()?.peek(text, Moment::now()),
        }
    }
}

fn quoted(text: &[u8]) -> String {
    format!("\"{}\"", text.escape_ascii())
}

/// The balancer chooses.
fn free(why: String) -> Explained {
    Explained { words: why + "; the balancer chooses", server: None }
}
