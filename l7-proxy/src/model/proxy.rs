//! How requests are forwarded to servers (`proxy_*`, `grpc_*`).

use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderName;

use crate::variable::Value;

use super::answer::{Relay, Trailers};
use super::cache::{CacheRules, CacheUse};
use super::server_socket::ServerSocket;
use super::tls::TlsClient;

/// How requests are forwarded to an upstream.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// The version spoken to servers; 1.1 by default.
    pub http_version: HttpVersion,
    /// Fields set in the forwarded request, in this order; the client's own of that name are dropped.
    ///
    /// Complete: the defaults (`Host $proxy_host`) are in it unless replaced. An
    /// empty value means that the field is not sent at all.
    pub set_headers: Vec<SetHeader>,
    /// Time to establish a connection; 60 s by default.
    pub connect_timeout: Duration,
    /// Time between two reads of an answer; 60 s by default.
    pub read_timeout: Duration,
    /// Time between two writes of a request; 60 s by default.
    pub send_timeout: Duration,
    /// The largest head of an answer; 4 kB by default, as in nginx.
    pub buffer_size: usize,
    /// The buffers that are asked for beside that one.
    pub buffers: Buffers,
    /// When another server is tried.
    pub next_upstream: NextUpstream,
    /// How TLS is spoken with servers.
    pub tls: TlsClient,
    /// The name of a server in TLS (`proxy_ssl_name`, `$proxy_host` by default).
    pub tls_name: Value,
    /// The method that servers are asked with, in place of the client's (`proxy_method`).
    pub method: Option<Value>,
    /// What of a request goes to the server.
    pub pass: PassRequest,
    /// Whether a body is read before a server is asked (`proxy_request_buffering`).
    pub buffering: RequestBuffering,
    /// A body in place of the client's (`proxy_set_body`).
    pub set_body: Option<Value>,
    /// The address that connections come from (`proxy_bind`); an empty one is the system's choice.
    pub bind: Option<Value>,
    /// The sockets of connections.
    pub socket: ServerSocket,
    /// Bytes per second that an answer is read with (`proxy_limit_rate`); 0 sets no limit.
    pub limit_rate: Option<Value>,
    /// What becomes of an answer.
    pub relay: Relay,
    /// What becomes of a request whose client has gone (`proxy_ignore_client_abort`).
    pub client_abort: ClientAbort,
    /// Whether answers become files.
    pub store: Storing,
    /// The permissions of such files (`proxy_store_access`); 0600 by default.
    pub store_access: u32,
    /// Whether answers are kept.
    pub cache: CacheUse,
    /// How they are, if they are.
    pub cache_rules: Arc<CacheRules>,
}

/// The buffers that a file asks for (`proxy_buffers` and the like). They tune nothing here; what contradicts itself
/// is refused when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffers {
    /// How many there are; 8 by default.
    pub count: u64,
    /// How large each is; 4 kB by default.
    pub size: u64,
    /// How much of an answer may be on its way to the client (`proxy_busy_buffers_size`).
    pub busy: Option<u64>,
    /// How much is written to a file at once (`proxy_temp_file_write_size`).
    pub written: Option<u64>,
    /// How large that file may be (`proxy_max_temp_file_size`).
    pub file_max: Option<u64>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { count: 8, size: 4096, busy: None, written: None, file_max: None }
    }
}

/// Whether answers of servers become files, for others to serve (`proxy_store`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Storing {
    /// They do not.
    #[default]
    Off,
    /// They do, where the location would look for a file.
    Root,
    /// They do, under this name; an empty one stores nothing.
    At(Value),
}

/// What becomes of a request whose client has gone before it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAbort {
    /// It is given up, and so is the connection to the server.
    #[default]
    Heeded,
    /// The server answers it, for nobody.
    Ignored,
}

/// Whether a request's body is read before a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestBuffering {
    /// It is, so that a slow client keeps no server busy; above 1 MB it goes into a file
    /// ([`BodyStore`](super::BodyStore)).
    On,
    /// It is sent on as it comes.
    Off,
}

/// What of a client's request goes to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassRequest {
    /// Its fields (`proxy_pass_request_headers`).
    pub headers: bool,
    /// Its body (`proxy_pass_request_body`).
    pub body: bool,
}

impl Default for PassRequest {
    fn default() -> Self {
        Self { headers: true, body: true }
    }
}

/// How requests are forwarded by `grpc_pass`: by default with HTTP/2, trailers and all, and a request's
/// body as it comes.
#[derive(Debug, Clone)]
pub struct GrpcSettings(pub Arc<ProxySettings>);

impl Default for GrpcSettings {
    fn default() -> Self {
        Self(Arc::new(ProxySettings {
            http_version: HttpVersion::Http2,
            buffering: RequestBuffering::Off,
            relay: Relay { trailers: Trailers::Passed, ..Relay::default() },
            ..ProxySettings::default()
        }))
    }
}

impl Default for ProxySettings {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            http_version: HttpVersion::Http11,
            set_headers: vec![SetHeader {
                name: ::http::header::HOST,
                written: "Host".to_owned(),
                value: Value::variable(crate::variable::Variable::ProxyHost),
            }],
            connect_timeout: minute,
            read_timeout: minute,
            send_timeout: minute,
            buffer_size: 4096,
            buffers: Buffers::default(),
            next_upstream: NextUpstream::default(),
            tls: TlsClient::default(),
            tls_name: Value::variable(crate::variable::Variable::ProxyHost),
            method: None,
            pass: PassRequest::default(),
            buffering: RequestBuffering::On,
            set_body: None,
            bind: None,
            socket: ServerSocket::default(),
            limit_rate: None,
            relay: Relay::default(),
            client_abort: ClientAbort::Heeded,
            store: Storing::Off,
            store_access: 0o600,
            cache: CacheUse::Off,
            cache_rules: Arc::default(),
        }
    }
}

/// The version of HTTP that is spoken with servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0: a connection per request.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2: many requests at a time on a connection that is kept.
    Http2,
}

/// A field that is set in forwarded requests.
#[derive(Debug, Clone)]
pub struct SetHeader {
    /// The name.
    pub name: HeaderName,
    /// The name as the configuration spells it.
    pub written: String,
    /// The value; empty means that the field is not sent.
    pub value: Value,
}

/// When a request is given to another server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NextUpstream {
    /// What counts as a reason; `error` and `timeout` by default.
    pub on: RetryOn,
    /// The most servers that are tried; `None` tries each once.
    pub tries: Option<u32>,
    /// Time after which no further server is tried; `None` sets no limit.
    pub timeout: Option<Duration>,
}

/// What counts as a reason to try another server (`proxy_next_upstream`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOn {
    /// A connection that cannot be made or breaks.
    pub error: bool,
    /// A server that takes too long.
    pub timeout: bool,
    /// An answer that is no HTTP.
    pub invalid_header: bool,
    /// Requests that are not idempotent are tried again even if they were sent.
    pub non_idempotent: bool,
    /// Statuses of an answer: 403, 404, 429, 500, 502, 503, 504.
    pub statuses: Vec<u16>,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self { error: true, timeout: true, ..Self::off() }
    }
}

impl RetryOn {
    /// Returns the set without any reason.
    pub fn off() -> Self {
        Self {
            error: false,
            timeout: false,
            invalid_header: false,
            non_idempotent: false,
            statuses: Vec::new(),
        }
    }
}
