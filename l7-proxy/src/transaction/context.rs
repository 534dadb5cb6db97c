//! The end of a line in the log of errors, in nginx's form: programs that read such logs look for it.

use std::fmt;
use std::net::SocketAddr;

use http::header::{HOST, REFERER};

use super::{Transaction, request_uri};
use crate::forward::request_target;
use crate::model::ProxyPass;
use crate::unix;
use crate::variable::request_line;

/// What a line in the log of errors says of the request it is about.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(super) transaction: &'a Transaction,
    pub(super) server_name: &'a str,
    pub(super) upstream: Option<Upstream<'a>>,
}

/// The server that was to answer, as a URL.
#[derive(Clone, Copy)]
pub(crate) struct Upstream<'a> {
    pub(crate) scheme: &'static str,
    /// Its address, or the name of the upstream where none was chosen.
    pub(crate) name: &'a dyn fmt::Display,
    /// Path and query as they were sent to it.
    pub(crate) path: &'a str,
}

impl<'a> Context<'a> {
    /// Says which server was to answer, too.
    pub(crate) fn at(self, upstream: Upstream<'a>) -> Context<'a> {
        Context { upstream: Some(upstream), ..self }
    }
}

impl fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Transaction { parts, connection, head, .. } = self.transaction;
        let (client, name) = (connection.remote.ip().to_canonical(), self.server_name);
        write!(f, ", client: {client}, server: {name}, request: \"")?;
        match request_line(head) {
            [] => write!(f, "{} {} {:?}\"", parts.method, request_uri(parts), parts.version)?,
            line => write!(f, "{}\"", line.escape_ascii())?,
        }
        if let Some(path) = self.transaction.question_path() {
            write!(f, ", subrequest: \"{path}\"")?;
        }
        if let Some(Upstream { scheme, name, path }) = self.upstream {
            write!(f, ", upstream: \"{scheme}://{name}{path}\"")?;
        }
        for (what, name) in [("host", HOST), ("referrer", REFERER)] {
            if let Some(value) = parts.headers.get(name) {
                write!(f, ", {what}: \"{}\"", value.as_bytes().escape_ascii())?;
            }
        }
        Ok(())
    }
}

/// Has something said of a request whose forwarding is over, with the URL at which a server was asked.
#[cold]
pub(crate) fn say_of(transaction: &Transaction, asked: Option<SocketAddr>, say: impl FnOnce(Context<'_>)) {
    let Some(place) = transaction.place else { return };
    let (server, _) = transaction.generation.site.router.at(place);
    transaction.look(|route, exchange| {
        let pass = exchange.proxy;
        let path = pass.and_then(|pass| request_target(transaction, server, route, pass, exchange.target));
        let path = path.as_ref().map_or("", |path| path.as_str(transaction));
        let scheme = pass.map_or("http", ProxyPass::scheme);
        let context = transaction.context(server);
        match asked.map(unix::in_url) {
            Some(name) => say(context.at(Upstream { scheme, name: &name, path })),
            None => say(context),
        }
    });
}
