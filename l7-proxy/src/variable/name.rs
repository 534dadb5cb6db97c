//! From text to variables: the names that nginx gives them.

use std::fmt;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use crate::tls::TlsVariable;

use super::field::Field;
use super::{Counting, Part, Proxied, TcpFact, Value, Variable};

/// Names that the configuration itself gives meaning to: named groups of its regular expressions,
/// and the variables that it defines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    names: Vec<Box<str>>,
    /// In lower case; the place is the variable's number.
    defined: Vec<Box<str>>,
}

impl Names {
    /// Makes `name` known.
    pub fn insert(&mut self, name: &str) {
        if !self.contains(name) {
            self.names.push(name.into());
        }
    }

    /// Returns whether `name` is that of a group.
    pub fn contains(&self, name: &str) -> bool {
        self.names.iter().any(|known| &**known == name)
    }

    /// Returns the number of the variable called `name`, which becomes known if it was not.
    ///
    /// `None` if there are 65,536 variables already.
    pub fn define(&mut self, name: &str) -> Option<u16> {
        if let Some(number) = self.number(name) {
            return Some(number);
        }
        let number = u16::try_from(self.defined.len()).ok()?;
        self.defined.push(name.to_ascii_lowercase().into());
        Some(number)
    }

    /// Returns the number of the variable called `name`, if the configuration defines it.
    pub fn number(&self, name: &str) -> Option<u16> {
        let place = self.defined.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        u16::try_from(place).ok()
    }
}

/// Why a text with variables cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// Nobody defines this variable.
    Unknown(String),
    /// nginx has this variable, this program has not.
    Unsupported(String),
    /// A `$` is followed by nothing that could be a name.
    InvalidName,
    /// A `${` is not closed.
    Unclosed(String),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, r#"unknown "{name}" variable"#),
            Self::Unsupported(name) => write!(f, r#""{name}" variable is not supported by l7-proxy"#),
            Self::InvalidName => f.write_str("invalid variable name"),
            Self::Unclosed(name) => write!(f, r#"the closing bracket in "{name}" variable is missing"#),
        }
    }
}

impl std::error::Error for ValueError {}

pub(super) fn parse(text: &str, names: &Names) -> Result<Value, ValueError> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        literal.extend_from_slice(before.as_bytes());
        let (name, next) = split_variable(after)?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal).into()));
        }
        let variable = match after.as_bytes() {
            // What a `set $1` has defined is another one, `${1}`, as in nginx.
            [digit @ b'1'..=b'9', ..] => Variable::Capture(digit - b'0'),
            _ => lookup(name, names)?,
        };
        parts.push(Part::Variable(variable));
        rest = next;
    }
    literal.extend_from_slice(rest.as_bytes());
    if parts.is_empty() {
        return Ok(Value::literal(literal));
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    Ok(Value { parts: parts.into(), literal: None })
}

/// Splits what follows a `$` into the variable's name and the rest.
pub(crate) fn split_variable(after: &str) -> Result<(&str, &str), ValueError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(inner) = after.strip_prefix('{') {
        if inner.is_empty() {
            return Err(ValueError::InvalidName);
        }
        let end = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        let Some(rest) = rest.strip_prefix('}') else {
            return Err(ValueError::Unclosed(name.to_owned()));
        };
        if name.is_empty() {
            return Err(ValueError::InvalidName);
        }
        return Ok((name, rest));
    }
    // `$10` is the first group followed by a zero, as in nginx.
    if after.starts_with(|c: char| ('1'..='9').contains(&c)) {
        return Ok(after.split_at(1));
    }
    let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
    if end == 0 {
        return Err(ValueError::InvalidName);
    }
    Ok(after.split_at(end))
}

impl Variable {
    /// Returns the variable that is called `name` in every configuration.
    pub fn named(name: &str) -> Option<Self> {
        lookup(name, &Names::default()).ok()
    }

    /// Whether it is known by how its name begins alone, as `$arg_x` is, or a number of a group. As in nginx a
    /// configuration may give such a name another meaning, but not the few that stand for themselves.
    pub(crate) fn is_of_a_family(name: &str) -> bool {
        if let [b'1'..=b'9'] = name.as_bytes() {
            return true;
        }
        let name = name.to_ascii_lowercase();
        // So it is with these, though they are no families.
        if matches!(&*name, "ancient_browser" | "modern_browser" | "msie") {
            return true;
        }
        FAMILIES.iter().any(|family| name.starts_with(family)) && !OF_THEMSELVES.contains(&&*name)
    }
}

/// How the names begin of variables that are made by what follows.
const FAMILIES: [&str; 8] = [
    "arg_",
    "http_",
    "sent_http_",
    "sent_trailer_",
    "upstream_http_",
    "upstream_trailer_",
    "upstream_cookie_",
    "cookie_",
];

/// Names of such a beginning that nginx has by themselves.
const OF_THEMSELVES: [&str; 15] = [
    "http_host",
    "http_user_agent",
    "http_referer",
    "http_via",
    "http_x_forwarded_for",
    "http_cookie",
    "sent_http_content_type",
    "sent_http_content_length",
    "sent_http_location",
    "sent_http_last_modified",
    "sent_http_connection",
    "sent_http_keep_alive",
    "sent_http_transfer_encoding",
    "sent_http_cache_control",
    "sent_http_link",
];

/// Returns the variable of that name; names have no case, as in nginx.
fn lookup(written: &str, names: &Names) -> Result<Variable, ValueError> {
    if names.contains(written) {
        return Ok(Variable::NamedCapture(written.into()));
    }
    if let Some(number) = names.number(written) {
        return Ok(Variable::Defined(number));
    }
    let name = written.to_ascii_lowercase();
    if let &[digit @ b'1'..=b'9'] = name.as_bytes() {
        return Ok(Variable::Capture(digit - b'0'));
    }
    let variable = match &*name {
        "ancient_browser" => Variable::AncientBrowser,
        "args" | "query_string" => Variable::Args,
        "binary_remote_addr" => Variable::BinaryRemoteAddr,
        "body_bytes_sent" => Variable::BodyBytesSent,
        "bytes_sent" => Variable::BytesSent,
        "connection" => Variable::Connection,
        "connections_active" => Variable::Connections(Counting::Active),
        "connections_reading" => Variable::Connections(Counting::Reading),
        "connections_waiting" => Variable::Connections(Counting::Waiting),
        "connections_writing" => Variable::Connections(Counting::Writing),
        "connection_requests" => Variable::ConnectionRequests,
        "connection_time" => Variable::ConnectionTime,
        "content_length" => Variable::RequestHeader(Field::exact(CONTENT_LENGTH)),
        "content_type" => Variable::RequestHeader(Field::exact(CONTENT_TYPE)),
        "document_root" => Variable::DocumentRoot,
        "document_uri" | "uri" => Variable::Uri,
        "gzip_ratio" => Variable::GzipRatio,
        "host" => Variable::Host,
        "http2" => Variable::Http2,
        "hostname" => Variable::Hostname,
        "http3" => Variable::Http3,
        "https" => Variable::Https,
        "invalid_referer" => Variable::InvalidReferer,
        "is_args" => Variable::IsArgs,
        "is_request_port" => Variable::IsRequestPort,
        "limit_conn_status" => Variable::LimitConnStatus,
        "limit_rate" => Variable::LimitRate,
        "limit_req_status" => Variable::LimitReqStatus,
        "modern_browser" => Variable::ModernBrowser,
        "msec" => Variable::Msec,
        "msie" => Variable::Msie,
        "nginx_version" => Variable::NginxVersion,
        "pid" => Variable::Pid,
        "pipe" => Variable::Pipe,
        "proxy_add_x_forwarded_for" => Variable::ProxyAddXForwardedFor,
        "proxy_host" => Variable::ProxyHost,
        "proxy_port" => Variable::ProxyPort,
        "realpath_root" => Variable::RealpathRoot,
        "realip_remote_addr" => Variable::RealipRemoteAddr,
        "realip_remote_port" => Variable::RealipRemotePort,
        "remote_addr" => Variable::RemoteAddr,
        "remote_port" => Variable::RemotePort,
        "remote_user" => Variable::RemoteUser,
        "request" => Variable::Request,
        "request_body" => Variable::RequestBody,
        "request_body_file" => Variable::RequestBodyFile,
        "request_completion" => Variable::RequestCompletion,
        "request_filename" => Variable::RequestFilename,
        "request_id" => Variable::RequestId,
        "request_length" => Variable::RequestLength,
        "request_method" => Variable::RequestMethod,
        "request_port" => Variable::RequestPort,
        "request_time" => Variable::RequestTime,
        "request_uri" => Variable::RequestUri,
        "scheme" => Variable::Scheme,
        "secure_link" => Variable::SecureLink,
        "secure_link_expires" => Variable::SecureLinkExpires,
        "server_addr" => Variable::ServerAddr,
        "server_name" => Variable::ServerName,
        "server_port" => Variable::ServerPort,
        "server_protocol" => Variable::ServerProtocol,
        "slice_range" => Variable::SliceRange,
        "status" => Variable::Status,
        "tcpinfo_rtt" => Variable::TcpInfo(TcpFact::Rtt),
        "tcpinfo_rttvar" => Variable::TcpInfo(TcpFact::Rttvar),
        "tcpinfo_snd_cwnd" => Variable::TcpInfo(TcpFact::SndCwnd),
        "tcpinfo_rcv_space" => Variable::TcpInfo(TcpFact::RcvSpace),
        "time_iso8601" => Variable::TimeIso8601,
        "time_local" => Variable::TimeLocal,
        "uid_got" => Variable::UidGot,
        "uid_set" => Variable::UidSet,
        "upstream_addr" => Variable::UpstreamAddr,
        "upstream_bytes_received" => Variable::UpstreamBytesReceived,
        "upstream_bytes_sent" => Variable::UpstreamBytesSent,
        "upstream_cache_etag" => Variable::UpstreamCacheEtag,
        "upstream_cache_last_modified" => Variable::UpstreamCacheLastModified,
        "upstream_cache_status" => Variable::UpstreamCacheStatus,
        "upstream_connect_time" => Variable::UpstreamConnectTime,
        "upstream_header_time" => Variable::UpstreamHeaderTime,
        "upstream_response_length" => Variable::UpstreamResponseLength,
        "upstream_response_time" => Variable::UpstreamResponseTime,
        "upstream_status" => Variable::UpstreamStatus,
        _ => {
            return prefixed(&name).ok_or_else(|| match unsupported(&name) {
                true => ValueError::Unsupported(written.to_owned()),
                false => ValueError::Unknown(written.to_owned()),
            });
        }
    };
    Ok(variable)
}

/// Returns whether nginx has a variable of this name that this program has not.
fn unsupported(name: &str) -> bool {
    let known = UNSUPPORTED.split_ascii_whitespace();
    let families = ["fastcgi_", "geoip_", "jwt_", "otel_", "proxy_cache_", "session_log_"];
    known.into_iter().any(|known| known == name) || families.iter().any(|family| name.starts_with(family))
}

/// Variables of modules of nginx that this program has not.
const UNSUPPORTED: &str = "
    date_gmt date_local memcached_key proxy_internal_body_length
    proxy_protocol_tlv_ spdy ssl_client_sigalg ssl_ech_outer_server_name ssl_ech_status
    uid_reset upstream_last_server_name upstream_queue_time
";

/// Fields of requests that nginx has a variable for, where a name has a hyphen.
const OWN_OF_REQUESTS: &[&str] = &["user-agent", "x-forwarded-for"];

/// The same of answers.
const OWN_OF_ANSWERS: &[&str] =
    &["content-type", "content-length", "last-modified", "keep-alive", "transfer-encoding", "cache-control"];

/// Returns the variable of a family, whose name goes on after a prefix.
fn prefixed(name: &str) -> Option<Variable> {
    if let Some(rest) = name.strip_prefix("proxy_protocol_") {
        return Proxied::named(rest).map(Variable::Proxied);
    }
    if let Some(rest) = name.strip_prefix("upstream_http_") {
        return Field::of_family(rest, &[]).map(Variable::UpstreamHeader);
    }
    if let Some(rest) = name.strip_prefix("upstream_cookie_") {
        return Some(Variable::UpstreamCookie(rest.into()));
    }
    if let Some(rest) = name.strip_prefix("upstream_trailer_") {
        return Field::of_family(rest, &[]).map(Variable::UpstreamTrailer);
    }
    if let Some(rest) = name.strip_prefix("sent_trailer_") {
        return Field::of_family(rest, &[]).map(Variable::SentTrailer);
    }
    if let Some(rest) = name.strip_prefix("sent_http_") {
        return Field::of_family(rest, OWN_OF_ANSWERS).map(Variable::SentHeader);
    }
    if let Some(rest) = name.strip_prefix("http_") {
        return Field::of_family(rest, OWN_OF_REQUESTS).map(Variable::RequestHeader);
    }
    if let Some(rest) = name.strip_prefix("ssl_") {
        return TlsVariable::named(rest).map(Variable::Tls);
    }
    if let Some(rest) = name.strip_prefix("arg_") {
        return Some(Variable::Arg(rest.into()));
    }
    name.strip_prefix("cookie_").map(|rest| Variable::Cookie(rest.into()))
}
