//! Why a request would be answered as it would be: which server block, location and rule, which
//! server of which upstream.
//!
//! The request goes the way of any other, and each step is taken down. Nothing is sent to a server:
//! where that would be done the director is asked whom it would choose, and the explanation is the
//! answer. So it is asked for on a running proxy, whose health and counts it goes by:
//!
//! ```text
//! curl -H 'X-Lvs-Explain: 1' http://shop.example/cart.jsp       where lvs_explain_from allows it
//! l7-proxy --explain http://shop.example/cart.jsp               by the file alone
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue, Method, Uri, uri::Scheme};

use crate::host::Host;
use crate::model::{Http, Listen, ServerName, VirtualServer};
use crate::server::{Direct, Proxy};
use crate::site::SiteError;
use crate::stream::access::Network;
use crate::variable;

/// The steps of a request's way.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    text: RefCell<String>,
}

impl Trace {
    pub(crate) fn add(&self, step: &str) {
        let text = &mut *self.text.borrow_mut();
        text.push_str(step);
        text.push('\n');
    }

    pub(crate) fn into_text(self) -> String {
        self.text.into_inner()
    }
}

/// A request to be explained.
#[derive(Clone, Debug)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// The whole URL: scheme, name, port if it is not the scheme's, path and query.
    pub url: Uri,
    /// Fields beside `Host`.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// The address it comes from.
    pub from: IpAddr,
}

/// Why a request cannot be explained.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExplainError {
    /// The URL has no scheme, or no host.
    NotWhole,
    /// Nothing is configured at the URL's port.
    Unheard {
        /// The port.
        port: u16,
        /// The URL's scheme.
        scheme: &'static str,
        /// The ports at which that scheme is listened for, in order.
        others: Vec<u16>,
    },
    /// The configuration contradicts itself.
    Site(SiteError),
}

/// Explains a request by a configuration, as if all servers were up and idle.
///
/// To be called inside of a tokio `LocalRuntime` or `LocalSet`.
///
/// # Errors
/// The URL leads to no listener of the configuration, or the configuration contradicts itself.
pub async fn explain(mut http: Http, question: &Question) -> Result<String, ExplainError> {
    let (local, name) = address(&http, &question.url)?;
    http.explain_from = ["0.0.0.0/0", "::/0"].into_iter().filter_map(Network::parse).collect();
    let proxy = Proxy::new(http).map_err(ExplainError::Site)?;
    let path = question.url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = http::Request::builder().method(&question.method).uri(path).header("host", name);
    request = request.header(FIELD.clone(), "1");
    for (field, value) in &question.fields {
        request = request.header(field, value);
    }
    let (parts, ()) = request.body(()).map_err(|_| ExplainError::NotWhole)?.into_parts();
    let scheme = match question.url.scheme() == Some(&Scheme::HTTPS) {
        true => variable::Scheme::Https,
        false => variable::Scheme::Http,
    };
    let remote = SocketAddr::new(question.from, PORT);
    Ok(proxy.explain(parts, Direct { remote, local, scheme }).await)
}

/// Returns the address that a request for a URL comes to, and its name as `Host` has it.
fn address(http: &Http, url: &Uri) -> Result<(SocketAddr, String), ExplainError> {
    let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
        return Err(ExplainError::NotWhole);
    };
    let secure = *scheme == Scheme::HTTPS;
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let host = Host::parse(authority.as_str().as_bytes()).map_err(|_| ExplainError::NotWhole)?;
    let name = host.name().to_ascii_lowercase();
    let speaks = |listen: &&Listen| listen.ssl == secure;
    let hears = |listen: &&Listen| listen.addr.port() == port && speaks(listen);
    let all = || http.servers.iter().flat_map(|server| &server.listen);
    let listens = || all().filter(hears);
    let literal: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
    let literal = literal.map(|ip| SocketAddr::new(ip, port));
    let is_named = |server: &&VirtualServer| server.names.iter().any(|of| of.is(&name));
    // The listener at the URL's own address, one of a server with its name, or any.
    let found = listens()
        .find(|listen| Some(listen.addr) == literal)
        .or_else(|| http.servers.iter().filter(is_named).flat_map(|server| &server.listen).find(hears))
        .or_else(|| listens().next());
    let scheme = if secure { "https" } else { "http" };
    let listen = found.ok_or_else(|| {
        let others: BTreeSet<u16> = all().filter(speaks).map(|listen| listen.addr.port()).collect();
        ExplainError::Unheard { port, scheme, others: others.into_iter().collect() }
    })?;
    let mut local = listen.addr;
    if local.ip().is_unspecified() {
        let own = if local.is_ipv4() {
            IpAddr::from([127, 0, 0, 1])
        } else {
            IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])
        };
        local.set_ip(literal.map_or(own, |literal| literal.ip()));
    }
    Ok((local, authority.as_str().to_owned()))
}

/// Why a server has a request: in words behind its name.
pub(crate) fn reason(names: &[ServerName], host: &str) -> String {
    match names.iter().find(|name| name.is(host)) {
        Some(name) => format!("has the name \"{host}\" ({name})"),
        None => format!("is the default here, for no other has the name \"{host}\""),
    }
}

impl ServerName {
    /// Whether it is a name of this host, given in lower case.
    pub(crate) fn is(&self, host: &str) -> bool {
        let below = |end: &str| host.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
        match self {
            ServerName::Exact(name) => name == host,
            ServerName::LeadingWildcard(end) => below(end),
            ServerName::NameAndSubdomains(name) => name == host || below(name),
            ServerName::TrailingWildcard(start) => {
                host.strip_prefix(&**start).is_some_and(|rest| rest.starts_with('.'))
            }
            ServerName::Regex(pattern) => pattern.is_match(host.as_bytes()),
        }
    }
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExplainError::NotWhole => f.write_str("a whole URL is wanted, as in http://shop.example/cart"),
            ExplainError::Unheard { port, scheme, others } => {
                write!(f, "nothing listens for {scheme} at port {port}")?;
                if others.is_empty() {
                    return f.write_str(", nor at any other");
                }
                for (place, other) in others.iter().enumerate() {
                    write!(f, "{}{other}", if place == 0 { ", only at " } else { ", " })?;
                }
                Ok(())
            }
            ExplainError::Site(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ExplainError {}

/// The field that asks for an explanation.
pub(crate) static FIELD: HeaderName = HeaderName::from_static("x-lvs-explain");

/// A port that a client may have.
const PORT: u16 = 40_000;
