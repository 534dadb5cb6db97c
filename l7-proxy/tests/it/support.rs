//! A configuration read from a text, and a request as the pure half of the proxy sees it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use l7_proxy::conf::{self, Loaded, Source};
use l7_proxy::model::{ProxyPass, Root, Settings};
use l7_proxy::uri::Target;
use l7_proxy::variable::{
    Attempt, Captures, Connection, Definitions, Exchange, Findings, Moment, Nowhere, Response, Scheme, Value,
};

/// Reads `text` as the nginx.conf of a folder.
pub(crate) fn load_in(folder: &Path, text: &str) -> Result<Loaded, conf::Error> {
    fs::write(folder.join("nginx.conf"), text).unwrap();
    load_file(folder, "nginx.conf")
}

/// Reads a file below a folder that is the prefix.
pub(crate) fn load_file(folder: &Path, file: &str) -> Result<Loaded, conf::Error> {
    conf::load(&Source { file: file.into(), prefix: folder.to_owned(), globals: String::new() })
}

/// Everything that an [`Exchange`] refers to.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) request_uri: String,
    pub(crate) target: Target<'static>,
    pub(crate) headers: HeaderMap,
    pub(crate) connection: Connection,
    pub(crate) host: String,
    pub(crate) server_name: String,
    pub(crate) settings: Settings,
    pub(crate) captures: Captures,
    pub(crate) proxy: Option<ProxyPass>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) definitions: Definitions,
    pub(crate) findings: Findings,
}

impl Request {
    pub(crate) fn get(request_uri: &str) -> Self {
        Self {
            method: Method::GET,
            version: Version::HTTP_11,
            request_uri: request_uri.to_owned(),
            target: Target::parse(request_uri).unwrap().into_owned(),
            headers: HeaderMap::new(),
            connection: Connection {
                remote: SocketAddr::from(([192, 0, 2, 7], 50_000)),
                peer: SocketAddr::from(([192, 0, 2, 7], 50_000)),
                local: SocketAddr::from(([192, 0, 2, 1], 8080)),
                serial: 3,
                requests: 2,
                scheme: Scheme::Http,
                opened: std::time::Instant::now(),
                pipelined: false,
            },
            host: "example.org".to_owned(),
            server_name: "www.example.org".to_owned(),
            settings: Settings::default(),
            captures: Captures::default(),
            proxy: None,
            attempts: Vec::new(),
            definitions: Definitions::none(),
            findings: Findings::default(),
        }
    }

    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn field(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    pub(crate) fn root(mut self, root: &std::path::Path) -> Self {
        self.settings.files.root = Root::Root(Value::literal(root.to_str().unwrap()));
        self
    }

    pub(crate) fn exchange<'a>(&'a self, response: Option<Response<'a>>) -> Exchange<'a> {
        Exchange {
            connection: &self.connection,
            tls: None,
            proxied: None,
            method: &self.method,
            asked_method: &self.method,
            version: self.version,
            head: b"",
            received: 0,
            request_uri: &self.request_uri,
            target: &self.target,
            headers: &self.headers,
            host: &self.host,
            server_name: &self.server_name,
            settings: &self.settings,
            captures: &self.captures,
            definitions: &self.definitions,
            findings: &self.findings,
            socket: None,
            around: &Nowhere,
            proxy: self.proxy.as_ref(),
            attempts: &self.attempts,
            response,
            moment: Moment::At {
                elapsed: Duration::from_millis(1234),
                now: SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_366_245_678),
            },
        }
    }
}
