//! Values with variables: compiled once, written per request.
//!
//! A [`Value`] is a list of literal pieces and [`Variable`]s. Reading one costs no lookup by name,
//! and the two frequent shapes are special: a literal knows its own header value, and a lone
//! variable that names a request field hands on the field without a copy.
//!
//! What a variable means is nginx's. One that has no value is empty, except in an access log in
//! the default escaping, which shows it as `-`.

mod around;
mod browser;
mod cached;
mod defined;
mod exchange;
mod field;
mod findings;
mod form;
mod link;
mod name;
mod proxied;
mod slice;
mod userid;
mod write;

use std::fmt;

use http::HeaderValue;
use l4_proxy::socket::TcpInfo;

use crate::tls::TlsVariable;

pub use self::around::{Around, Connections, Counting, Nowhere};
pub use self::cached::{Asking, Cached, Outcome};
pub use self::defined::{Assigned, Definitions};
pub use self::exchange::{Attempt, Captures, Completion, Connection, Exchange, Moment, Response, Scheme};
pub use self::field::Field;
pub use self::findings::{Findings, Slicing};
pub(crate) use self::form::{escape_log, number};
pub(crate) use self::name::split_variable;
pub use self::name::{Names, ValueError};
pub use self::proxied::Proxied;
pub(crate) use self::userid::{DIGITS as UID_DIGITS, Uid, set as uid_set};
pub(crate) use self::write::request_line;

/// A text with variables in it.
#[derive(Clone)]
pub struct Value {
    parts: Box<[Part]>,
    /// The value as a header field, where it is a literal that may be one.
    literal: Option<HeaderValue>,
}

/// A piece of a [`Value`].
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Box<[u8]>),
    Variable(Variable),
}

impl Value {
    /// Returns a value that is always `text`, dollar signs included.
    pub fn literal(text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        let literal = HeaderValue::from_bytes(&text).ok();
        let parts = if text.is_empty() { Box::default() } else { Box::from([Part::Literal(text.into())]) };
        Self { parts, literal }
    }

    /// Returns a value that is one variable.
    pub fn variable(variable: Variable) -> Self {
        Self { parts: Box::from([Part::Variable(variable)]), literal: None }
    }

    /// Compiles `text`, in which `$name` and `${name}` stand for variables.
    ///
    /// `names` are the variables that the configuration defines itself, such as named groups.
    ///
    /// ```
    /// # use l7_proxy::variable::{Names, Value};
    /// assert!(Value::parse("http://$host$request_uri", &Names::default()).is_ok());
    ///
    /// let error = Value::parse("${hots}", &Names::default()).unwrap_err();
    /// assert_eq!(error.to_string(), r#"unknown "hots" variable"#);
    /// ```
    ///
    /// # Errors
    /// For a variable that nobody defines, and for a `$` without a name.
    pub fn parse(text: &str, names: &Names) -> Result<Self, ValueError> {
        name::parse(text, names)
    }

    /// Returns the text of a value without variables.
    pub fn as_literal(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns whether the value is the empty literal.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the variables of the value in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Literal(_) => None,
        })
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::literal(text)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.parts).finish()
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for Value {}

/// Something that the kernel knows of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TcpFact {
    /// How long a packet takes there and back, in microseconds.
    Rtt,
    /// By how much that varies.
    Rttvar,
    /// How many packets may be on their way.
    SndCwnd,
    /// How many bytes the client may send without a word of ours.
    RcvSpace,
}

impl TcpFact {
    fn of(self, info: &TcpInfo) -> u32 {
        match self {
            Self::Rtt => info.rtt,
            Self::Rttvar => info.rttvar,
            Self::SndCwnd => info.snd_cwnd,
            Self::RcvSpace => info.rcv_space,
        }
    }
}

/// Something that is known about a request, its connection or its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Variable {
    /// `$ancient_browser`: what the configuration says of a browser that is ancient.
    AncientBrowser,
    /// `$modern_browser`: the same of one that is modern.
    ModernBrowser,
    /// `$msie`: `1` for Internet Explorer.
    Msie,
    /// `$args`, `$query_string`: what follows the `?`.
    Args,
    /// `$arg_NAME`: one argument of the query, as sent.
    Arg(Box<str>),
    /// `$binary_remote_addr`: the client's address in 4 or 16 bytes.
    BinaryRemoteAddr,
    /// `$body_bytes_sent`.
    BodyBytesSent,
    /// `$bytes_sent`.
    BytesSent,
    /// `$1` to `$9`: a group of the regular expression that matched last.
    Capture(u8),
    /// A named group.
    NamedCapture(Box<str>),
    /// A variable that the configuration defines (`set`, `map`, `geo`, `split_clients`), by its number in
    /// [`Definitions`].
    Defined(u16),
    /// `$connection`: serial number of the connection.
    Connection,
    /// `$connection_requests`: number of the request on its connection.
    ConnectionRequests,
    /// `$connection_time`: age of the connection, in seconds with milliseconds.
    ConnectionTime,
    /// `$connections_active` and the like: connections of clients, as `stub_status` counts them.
    Connections(Counting),
    /// `$cookie_NAME`.
    Cookie(Box<str>),
    /// `$document_root`.
    DocumentRoot,
    /// `$gzip_ratio`: how many times smaller an answer has become.
    GzipRatio,
    /// `$host`: name the request is for, lower case, without port; else the server's first name.
    Host,
    /// `$hostname`: name of this machine.
    Hostname,
    /// `$http_NAME`, `$content_type`, `$content_length`, …: a field of the request.
    RequestHeader(Field),
    /// `$https`: `on` over TLS, else empty.
    Https,
    /// `$invalid_referer`: `1` if the request says that it comes from a page which is not welcome.
    InvalidReferer,
    /// `$is_args`: `?` if there are arguments.
    IsArgs,
    /// `$is_request_port`: `:` if the request names a port.
    IsRequestPort,
    /// `$limit_rate`: bytes per second that the answer may have.
    LimitRate,
    /// `$limit_conn_status`: `PASSED`, `REJECTED` or `REJECTED_DRY_RUN`.
    LimitConnStatus,
    /// `$limit_req_status`: the same, or `DELAYED` or `DELAYED_DRY_RUN`.
    LimitReqStatus,
    /// `$msec`: now, in seconds with milliseconds.
    Msec,
    /// `$nginx_version`: version of this program.
    NginxVersion,
    /// `$pid`: id of this process.
    Pid,
    /// `$pipe`: `p` if the request had begun before the one before it was answered, else `.`.
    Pipe,
    /// `$proxy_add_x_forwarded_for`: the request's `X-Forwarded-For` and the client's address.
    ProxyAddXForwardedFor,
    /// `$proxy_protocol_…`: what a header of the PROXY protocol said.
    Proxied(Proxied),
    /// `$realpath_root`: the document root without symbolic links in it.
    RealpathRoot,
    /// `$realip_remote_addr`: the address of the peer, where that named another as the client's.
    RealipRemoteAddr,
    /// `$realip_remote_port`: likewise.
    RealipRemotePort,
    /// `$proxy_host`: the name in `proxy_pass`.
    ProxyHost,
    /// `$proxy_port`: the port in `proxy_pass`.
    ProxyPort,
    /// `$remote_addr`.
    RemoteAddr,
    /// `$remote_port`.
    RemotePort,
    /// `$remote_user`: the name in `Authorization: Basic`.
    RemoteUser,
    /// `$request`: the request line.
    Request,
    /// `$request_body`: the request's body, where it was read into memory.
    RequestBody,
    /// `$request_body_file`: the file that the request's body is in.
    RequestBodyFile,
    /// `$request_id`: 16 random bytes in hexadecimal.
    RequestId,
    /// `$request_completion`: `OK` if the answer was sent whole.
    RequestCompletion,
    /// `$request_filename`: root or alias, and path.
    RequestFilename,
    /// `$request_length`: bytes of the request, its body as far as it has come.
    RequestLength,
    /// `$request_method`.
    RequestMethod,
    /// `$request_port`: the port that the request names.
    RequestPort,
    /// `$request_time`: seconds with milliseconds since the request began.
    RequestTime,
    /// `$request_uri`: path and query as the client sent them.
    RequestUri,
    /// `$scheme`: `http` or `https`.
    Scheme,
    /// `$secure_link`: `1` if the link was made by who knows the secret, `0` if its time is over.
    SecureLink,
    /// `$secure_link_expires`: until when the link holds.
    SecureLinkExpires,
    /// `$sent_http_NAME`: a field of the answer.
    SentHeader(Field),
    /// `$sent_trailer_NAME`: a field behind the body.
    SentTrailer(Field),
    /// `$server_addr`.
    ServerAddr,
    /// `$server_name`: first name of the virtual server.
    ServerName,
    /// `$server_port`.
    ServerPort,
    /// `$server_protocol`: `HTTP/1.1`.
    ServerProtocol,
    /// `$status`.
    Status,
    /// `$slice_range`: the piece of an answer that a server is asked for.
    SliceRange,
    /// `$tcpinfo_…`: what the kernel knows of the client's connection.
    TcpInfo(TcpFact),
    /// `$time_iso8601`.
    TimeIso8601,
    /// `$time_local`, as the clocks of this machine have it.
    TimeLocal,
    /// `$uid_got`: what the request's cookie says of who its client is.
    UidGot,
    /// `$uid_set`: what that cookie is set to.
    UidSet,
    /// `$upstream_addr`: the servers that were tried.
    UpstreamAddr,
    /// `$upstream_bytes_received`, per server that was tried.
    UpstreamBytesReceived,
    /// `$upstream_bytes_sent`, per server that was tried.
    UpstreamBytesSent,
    /// `$upstream_connect_time`: until there was a connection, per server that was tried.
    UpstreamConnectTime,
    /// `$upstream_cookie_NAME`: a cookie that the server sets.
    UpstreamCookie(Box<str>),
    /// `$upstream_header_time`: until the head of its answer, per server that was tried.
    UpstreamHeaderTime,
    /// `$upstream_http_NAME`: a field of the server's answer.
    UpstreamHeader(Field),
    /// `$upstream_response_length`: size of the body of each attempt.
    UpstreamResponseLength,
    /// `$upstream_cache_etag`: the tag of what is kept, while a server is asked if it has changed.
    UpstreamCacheEtag,
    /// `$upstream_cache_last_modified`: when it was changed, likewise.
    UpstreamCacheLastModified,
    /// `$upstream_cache_status`: what the cache has to do with the answer.
    UpstreamCacheStatus,
    /// `$upstream_response_time`, per server that was tried.
    UpstreamResponseTime,
    /// `$upstream_trailer_NAME`: a field that the server sent behind its body.
    UpstreamTrailer(Field),
    /// `$upstream_status`, per server that was tried.
    UpstreamStatus,
    /// `$uri`, `$document_uri`: the path that is matched.
    Uri,
    /// `$http2`: `h2` or `h2c` where HTTP/2 is spoken.
    Http2,
    /// `$http3`: nothing, for HTTP/3 is not spoken.
    Http3,
    /// `$ssl_…`
    Tls(TlsVariable),
}
