//! The same by HTTP/2: a stream of a connection that others share.
//!
//! `Host` becomes `:authority`; fields of a connection do not exist. `TE` goes along where trailers
//! come back, since a gRPC server takes it for a sign that nobody between it and its client drops them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, HOST, TE};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};

use super::relayed::Rest;
use super::{Connect, Failure, Journey, Response, asked, headers, hints, outgoing};
use crate::handle::exchange;
use crate::model::Trailers;
use crate::transaction::Transaction;
use crate::upstream::{self, AskError, Call, Fields, Hint, Route, Slot, call};

impl Journey<'_> {
    /// Sends the request once.
    pub(super) async fn attempt_http2(
        &self,
        transaction: &Transaction,
        server: SocketAddr,
        connect: Connect,
    ) -> Result<Response, Failure> {
        let request = self.request(transaction).map_err(|what| Failure::Invalid(what.into()))?;
        let began = self.is_told.then(Instant::now);
        let slot = self.slot(transaction, server, connect).await.map_err(Failure::Connect)?;
        let kept = slot.kept;
        if let Some(began) = began {
            transaction.attempts.connected(if kept { Duration::ZERO } else { began.elapsed() });
        }
        if let Some(source) = &self.source {
            source.rewind();
        }
        let all = self.wants_all(transaction);
        let relay = &self.settings.relay;
        let wanted = |name: &HeaderName| {
            headers::is_end_to_end(name) && (!headers::is_ours(name) || all || relay.pass.contains(name))
        };
        let pass = |fields: &[Hint<'_>]| hints::pass(&transaction.session, relay, fields);
        let wanted_early = hints::are_wanted(transaction, self.server, self.route, self.target);
        let question = Call {
            request,
            body: self.source.clone(),
            asked: asked(transaction),
            fields: Fields {
                headers: transaction.session.worker.take_fields(),
                wanted: &wanted,
                spelling: &transaction.session.spelling,
                hints: if wanted_early { Some(&pass) } else { None },
            },
            head_max: self.settings.buffer_size,
            read_timeout: self.settings.read_timeout,
            send_timeout: self.settings.send_timeout,
        };
        match call(slot, question).await {
            Ok((head, streamed)) => Ok(Response { head, rest: Rest::Http2(Box::new(streamed)) }),
            Err(AskError::Client(cut)) => Err(Failure::Client(cut)),
            Err(AskError::Expired(expired)) => Err(Failure::TimedOut(expired)),
            Err(AskError::Invalid(what)) => Err(Failure::Invalid(what)),
            Err(AskError::Refused(what)) => Err(Failure::Refused { what, kept }),
            Err(AskError::Broken(error)) => Err(Failure::Broken { error, reach: super::Reach::Server, kept }),
        }
    }

    /// Returns a place on a connection: a shared one where connections are kept.
    async fn slot(
        &self,
        transaction: &Transaction,
        server: SocketAddr,
        connect: Connect,
    ) -> Result<Slot, upstream::ConnectError> {
        let worker = &transaction.session.worker;
        let secure = self.secure.as_deref();
        let within = self.settings.connect_timeout;
        let route = Route { server, secure, leg: self.leg(), within };
        let (channels, keepalive) = match (&self.pool.keepalive, self.origin) {
            (Some(keepalive), None) => (&self.pool.channels, keepalive),
            _ => return upstream::dial_alone(worker, route).await,
        };
        let kept = match connect {
            Connect::Pooled => channels.take(server, secure, keepalive),
            Connect::New => None,
        };
        match kept {
            Some(slot) => Ok(slot),
            None => channels.dial(worker, route, keepalive).await,
        }
    }

    /// Returns the request's head; its body has a length, or ends with the stream.
    fn request(&self, transaction: &Transaction) -> Result<Request<()>, &'static str> {
        let exchange = exchange(transaction, self.server, self.route, self.target);
        let settings = self.settings;
        let client = exchange.headers;
        let mut fields = HeaderMap::with_capacity(client.len() + settings.set_headers.len());
        let mut authority = None;
        let mut scratch = Vec::new();
        for set in settings.set_headers.iter().filter(|set| !headers::frames(&set.name)) {
            let value = set.value.bytes(&exchange, &mut scratch);
            let Ok(value) = HeaderValue::from_bytes(value) else { continue };
            if value.is_empty() {
                continue;
            }
            if set.name == HOST {
                authority.get_or_insert(value);
            } else if !headers::is_of_one_connection(&set.name) || (set.name == TE && value == TRAILERS) {
                fields.append(set.name.clone(), value);
            }
        }
        let framing = self.framing(transaction);
        for (name, value) in headers::conditions(&exchange, settings) {
            fields.insert(name, value);
        }
        let stays = headers::held_back(&exchange, settings, framing);
        for (name, value) in client {
            let is_clear = headers::is_unambiguous(name, exchange.settings.client.names);
            if *name != HOST && is_clear && !stays(name) {
                fields.append(name.clone(), value.clone());
            }
        }
        if let headers::Framing::Length(size) = framing {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(size));
        }
        let decided = settings.set_headers.iter().any(|set| set.name == TE);
        if settings.relay.trailers == Trailers::Passed
            && settings.pass.headers
            && !decided
            && takes_trailers(client)
        {
            fields.insert(TE, HeaderValue::from_static(TRAILERS));
        }
        let authority = match &authority {
            Some(value) => Authority::try_from(value.as_bytes()),
            None => Authority::try_from(exchange.proxy.map_or("", |proxy| &proxy.host)),
        };
        let uri = Uri::builder()
            .scheme(if self.secure.is_some() { Scheme::HTTPS } else { Scheme::HTTP })
            .authority(authority.map_err(|_| "invalid \":authority\" for upstream")?)
            .path_and_query(self.path.as_str(transaction))
            .build();
        let mut request = Request::new(());
        *request.uri_mut() = uri.map_err(|_| "invalid request target for upstream")?;
        *request.method_mut() =
            outgoing::method(settings, &exchange).unwrap_or_else(|| exchange.method.clone());
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = fields;
        Ok(request)
    }
}

/// Whether the client says that it takes trailers.
fn takes_trailers(client: &HeaderMap) -> bool {
    let values = client.get_all(TE).iter().map(HeaderValue::as_bytes);
    let mut tokens = values.flat_map(|value| value.split(|&byte| byte == b','));
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(TRAILERS.as_bytes()))
}

const TRAILERS: &str = "trailers";
