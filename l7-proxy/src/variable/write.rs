//! Writing a value for one request.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Version};
use l4_proxy::socket::TcpInfo;
use ring::rand::{SecureRandom, SystemRandom};

use crate::credentials::Credentials;
use crate::date;
use crate::host::Host;
use crate::hostname::hostname;
use crate::model::{Escape, LimitStatus, Root};
use crate::unix;

use super::browser::{Age, age, is_msie};
use super::exchange::{Completion, Exchange, Scheme};
use super::field::{Field, Underscores};
use super::form::{address, escape_log, milliseconds, number, status, time_or_dash};
use super::{Cached, Part, Value, Variable, link, userid};

impl Value {
    /// Appends the value to `out`.
    pub fn write(&self, exchange: &Exchange<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Variable(variable) => {
                    variable.write(exchange, out);
                }
            }
        }
    }

    /// Appends the value to `out` as a log line wants it: what the client controls is escaped.
    pub fn write_log(&self, exchange: &Exchange<'_>, escape: Escape, out: &mut Vec<u8>) {
        let mut raw = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Variable(variable) => {
                    raw.clear();
                    let presence = variable.write(exchange, &mut raw);
                    let value = (presence == Presence::Present).then_some(&*raw);
                    escape_log(value, escape, out);
                }
            }
        }
    }

    /// Returns the value; a literal is borrowed, anything else is written to `scratch`, which is
    /// cleared first.
    pub fn bytes<'a>(&'a self, exchange: &Exchange<'_>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        match self.as_literal() {
            Some(text) => text,
            None => {
                scratch.clear();
                self.write(exchange, scratch);
                scratch
            }
        }
    }

    /// Returns the value as a header field's.
    ///
    /// `None` if it is empty, which means "do not send the field", or holds bytes that a field
    /// must not hold. Neither a literal nor a lone field of the request is copied.
    pub fn header(&self, exchange: &Exchange<'_>, scratch: &mut Vec<u8>) -> Option<HeaderValue> {
        if let Some(literal) = &self.literal {
            return (!literal.is_empty()).then(|| literal.clone());
        }
        if let [Part::Variable(Variable::RequestHeader(field))] = &*self.parts
            && let Some(value) = field.only(exchange.headers, exchange.settings.client.names.into())
        {
            return (!value.is_empty()).then(|| value.clone());
        }
        scratch.clear();
        self.write(exchange, scratch);
        if scratch.is_empty() {
            return None;
        }
        HeaderValue::from_bytes(scratch).ok()
    }
}

/// Whether a variable has a value; an empty value is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Present,
    Missing,
}

impl Variable {
    /// Appends the variable's value to `out`; says whether it has one.
    fn write(&self, exchange: &Exchange<'_>, out: &mut Vec<u8>) -> Presence {
        match self {
            Self::AncientBrowser => {
                let browsers = &exchange.settings.browsers;
                if age(exchange.headers, browsers) == Age::Ancient {
                    out.extend_from_slice(browsers.ancient_value.as_bytes());
                }
            }
            Self::ModernBrowser => {
                let browsers = &exchange.settings.browsers;
                if age(exchange.headers, browsers) == Age::Modern {
                    out.extend_from_slice(browsers.modern_value.as_bytes());
                }
            }
            Self::Msie if is_msie(exchange.headers) => out.push(b'1'),
            Self::Msie => {}
            Self::Args => return text(exchange.target.args().map(str::as_bytes), out),
            Self::Arg(name) => return text(argument(exchange.target.args(), name), out),
            Self::BinaryRemoteAddr => match exchange.connection.remote.ip() {
                IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
            },
            Self::BodyBytesSent => {
                number(exchange.response.map_or(0, |response| response.body_bytes_sent), out)
            }
            Self::BytesSent => number(exchange.response.map_or(0, |response| response.bytes_sent), out),
            Self::Capture(group) => return text(exchange.captures.group(*group).as_deref(), out),
            Self::NamedCapture(name) => return text(exchange.captures.named(name).as_deref(), out),
            Self::Defined(place) => match exchange.findings.assigned.get(*place) {
                Some(value) => out.extend_from_slice(value),
                None => exchange.definitions.write(*place, exchange, out),
            },
            Self::Connection => number(exchange.connection.serial, out),
            Self::ConnectionRequests => number(exchange.connection.requests, out),
            Self::ConnectionTime => {
                milliseconds(exchange.connection.opened.elapsed(), out);
            }
            Self::Connections(counting) => number(counting.of(exchange.around.connections()), out),
            Self::Cookie(name) => return text(cookie(exchange.headers, name), out),
            Self::DocumentRoot => document_root(exchange, out),
            Self::GzipRatio => return gzip_ratio(exchange, out),
            Self::Host if exchange.host.is_empty() => out.extend_from_slice(exchange.server_name.as_bytes()),
            Self::Host => out.extend_from_slice(exchange.host.as_bytes()),
            Self::Hostname => out.extend_from_slice(hostname().as_bytes()),
            Self::RequestHeader(field) => {
                return field.write(exchange.headers, exchange.settings.client.names.into(), out);
            }
            Self::Http3 => return Presence::Missing,
            Self::Http2 if exchange.version != Version::HTTP_2 => return Presence::Missing,
            Self::Http2 => out.extend_from_slice(if exchange.tls.is_some() { b"h2" } else { b"h2c" }),
            Self::Tls(variable) => return text(variable.value(exchange.tls).as_deref(), out),
            Self::Https => {
                if exchange.connection.scheme == Scheme::Https {
                    out.extend_from_slice(b"on");
                }
            }
            Self::InvalidReferer => {
                let said = exchange.headers.get(http::header::REFERER).map(HeaderValue::as_bytes);
                let referers = exchange.settings.referers.as_deref().filter(|referers| !referers.is_empty());
                if referers.is_some_and(|referers| !referers.admit(said)) {
                    out.push(b'1');
                }
            }
            Self::IsRequestPort => {
                if request_port(exchange).is_some() {
                    out.push(b':');
                }
            }
            Self::IsArgs => {
                if exchange.target.args().is_some_and(|args| !args.is_empty()) {
                    out.push(b'?');
                }
            }
            Self::LimitRate => number(limit_rate(exchange), out),
            Self::LimitConnStatus => return limit_status(exchange.findings.limit_conn, out),
            Self::LimitReqStatus => return limit_status(exchange.findings.limit_req, out),
            Self::Msec => milliseconds(since_epoch(exchange.moment.now()), out),
            Self::NginxVersion => out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes()),
            Self::Pid => number(u64::from(std::process::id()), out),
            Self::Pipe => out.push(if exchange.connection.pipelined { b'p' } else { b'.' }),
            Self::ProxyAddXForwardedFor => {
                if X_FORWARDED_FOR.write(exchange.headers, Underscores::Ignored, out) == Presence::Present {
                    out.extend_from_slice(b", ");
                }
                address(exchange.connection.remote, out);
            }
            Self::Proxied(part) => {
                let value = exchange.proxied.and_then(|header| part.of(header));
                return text(value.as_deref(), out);
            }
            Self::RealipRemoteAddr => address(exchange.connection.peer, out),
            Self::RealipRemotePort => number(u64::from(exchange.connection.peer.port()), out),
            Self::ProxyHost => return text(exchange.proxy.map(|proxy| proxy.host.as_bytes()), out),
            Self::ProxyPort => match exchange.proxy {
                Some(proxy) => number(u64::from(proxy.port), out),
                None => return Presence::Missing,
            },
            Self::RemoteAddr => address(exchange.connection.remote, out),
            // A peer's word on the client's address may come without a port.
            Self::RemotePort if exchange.connection.remote.port() == 0 => {}
            Self::RemotePort => number(u64::from(exchange.connection.remote.port()), out),
            Self::RemoteUser => return remote_user(exchange.headers, out),
            Self::Request if !exchange.head.is_empty() => out.extend_from_slice(request_line(exchange.head)),
            Self::Request => {
                out.extend_from_slice(exchange.method.as_str().as_bytes());
                out.push(b' ');
                out.extend_from_slice(exchange.request_uri.as_bytes());
                out.push(b' ');
                out.extend_from_slice(protocol(exchange.version).as_bytes());
            }
            Self::RealpathRoot => return realpath_root(exchange, out),
            Self::RequestBody => return text(exchange.findings.body.as_deref(), out),
            Self::RequestBodyFile => {
                let file = exchange.findings.body_file.as_ref();
                return text(file.map(|file| file.path().as_os_str().as_bytes()), out);
            }
            Self::RequestId => return request_id(exchange, out),
            Self::RequestPort => {
                if let Some(port) = request_port(exchange) {
                    number(u64::from(port), out);
                }
            }
            Self::RequestCompletion => {
                if exchange.response.is_some_and(|response| response.completion == Completion::Whole) {
                    out.extend_from_slice(b"OK");
                }
            }
            Self::RequestFilename => request_filename(exchange, out),
            Self::RequestLength => number(request_length(exchange), out),
            Self::RequestMethod => out.extend_from_slice(exchange.asked_method.as_str().as_bytes()),
            Self::RequestTime => milliseconds(exchange.moment.elapsed(), out),
            Self::RequestUri => out.extend_from_slice(exchange.request_uri.as_bytes()),
            Self::Scheme => out.extend_from_slice(exchange.connection.scheme.as_str().as_bytes()),
            Self::SecureLink => return text(link::state(exchange).as_deref(), out),
            Self::SecureLinkExpires => return text(link::expires(exchange).as_deref(), out),
            Self::SentHeader(field) => match exchange.response {
                Some(response) => return field.write(response.headers, Underscores::Taken, out),
                None => return Presence::Missing,
            },
            Self::SentTrailer(field) => match exchange.response.and_then(|response| response.trailers) {
                Some(trailers) => return field.write(trailers, Underscores::Taken, out),
                None => return Presence::Missing,
            },
            Self::ServerAddr => address(exchange.connection.local, out),
            Self::ServerName => out.extend_from_slice(exchange.server_name.as_bytes()),
            Self::ServerPort if unix::is_unix(exchange.connection.local.ip()) => {}
            Self::ServerPort => number(u64::from(exchange.connection.local.port()), out),
            Self::ServerProtocol => out.extend_from_slice(protocol(exchange.version).as_bytes()),
            Self::Status => {
                let known = exchange.response.map(|response| response.status);
                status(known.or(exchange.findings.error_status).unwrap_or(0), out);
            }
            Self::TcpInfo(fact) => match exchange.socket.and_then(TcpInfo::of) {
                Some(info) => number(u64::from(fact.of(&info)), out),
                None => return Presence::Missing,
            },
            Self::TimeIso8601 => date::write_iso8601(exchange.moment.now(), out),
            Self::TimeLocal => date::write_log(exchange.moment.now(), out),
            Self::UidGot => return uid(exchange, userid::got(exchange), out),
            Self::UidSet => return uid(exchange, userid::set(exchange), out),
            Self::UpstreamAddr => return upstream_addr(exchange, out),
            Self::UpstreamCacheEtag => return text(cached(exchange).and_then(Cached::etag), out),
            Self::UpstreamCacheLastModified => {
                let date = cached(exchange).and_then(Cached::modified);
                return text(date.as_ref().map(String::as_bytes), out);
            }
            Self::SliceRange => {
                let range = super::slice::range(exchange);
                return text(range.as_deref().map(str::as_bytes), out);
            }
            Self::UpstreamCacheStatus => {
                let outcome = cached(exchange).map(|cached| cached.outcome.as_str().as_bytes());
                return text(outcome, out);
            }
            Self::UpstreamBytesReceived => {
                return per_attempt(exchange, out, |attempt, out| number(attempt.traffic.1, out));
            }
            Self::UpstreamBytesSent => {
                return per_attempt(exchange, out, |attempt, out| number(attempt.traffic.0, out));
            }
            Self::UpstreamConnectTime => {
                return per_attempt(exchange, out, |attempt, out| time_or_dash(attempt.connected, out));
            }
            Self::UpstreamHeaderTime => {
                return per_attempt(exchange, out, |attempt, out| time_or_dash(attempt.answered, out));
            }
            Self::UpstreamCookie(name) => {
                let headers = exchange.response.and_then(|response| response.upstream_headers);
                return text(headers.and_then(|headers| set_cookie(headers, name)), out);
            }
            Self::UpstreamHeader(field) => {
                match exchange.response.and_then(|response| response.upstream_headers) {
                    Some(headers) => return field.write(headers, Underscores::Taken, out),
                    None => return Presence::Missing,
                }
            }
            Self::UpstreamResponseLength => {
                return per_attempt(exchange, out, |attempt, out| number(attempt.length, out));
            }
            Self::UpstreamResponseTime => {
                return per_attempt(exchange, out, |attempt, out| time_or_dash(attempt.elapsed, out));
            }
            Self::UpstreamStatus => {
                return per_attempt(exchange, out, |attempt, out| match attempt.status {
                    Some(code) => status(code, out),
                    None => out.push(b'-'),
                });
            }
            Self::UpstreamTrailer(field) => {
                match exchange.response.and_then(|response| response.upstream_trailers) {
                    Some(trailers) => return field.write(trailers, Underscores::Taken, out),
                    None => return Presence::Missing,
                }
            }
            Self::Uri => out.extend_from_slice(exchange.target.path()),
        }
        Presence::Present
    }
}

static X_FORWARDED_FOR: Field = Field::exact(HeaderName::from_static("x-forwarded-for"));

fn cached<'a>(exchange: &Exchange<'a>) -> Option<&'a Cached> {
    exchange.findings.cached.as_deref()
}

fn text(value: Option<&[u8]>, out: &mut Vec<u8>) -> Presence {
    match value {
        Some(value) => {
            out.extend_from_slice(value);
            Presence::Present
        }
        None => Presence::Missing,
    }
}

/// Writes how many times smaller an answer has become, with two decimals.
fn gzip_ratio(exchange: &Exchange<'_>, out: &mut Vec<u8>) -> Presence {
    let packed = exchange.response.and_then(|response| response.packed);
    let Some((plain, packed @ 1..)) = packed else { return Presence::Missing };
    let hundredths = (plain * 100 + packed / 2) / packed;
    number(hundredths / 100, out);
    out.push(b'.');
    out.push(b'0' + (hundredths / 10 % 10) as u8);
    out.push(b'0' + (hundredths % 10) as u8);
    Presence::Present
}

fn limit_status(status: Option<LimitStatus>, out: &mut Vec<u8>) -> Presence {
    text(status.map(|status| status.as_str().as_bytes()), out)
}

fn since_epoch(now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// Returns the value of the first argument of that name; names have no case, values are as sent.
fn argument<'a>(args: Option<&'a str>, name: &str) -> Option<&'a [u8]> {
    args?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.eq_ignore_ascii_case(name).then_some(value.as_bytes())
    })
}

/// Returns the value of the first cookie of that name.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(http::header::COOKIE).iter();
    lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = memchr::memchr(b'=', pair)?;
        let (key, value) = pair.split_at(equals);
        key.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii_start())
    })
}

/// Returns the value that the server gives to the first cookie of that name.
fn set_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get_all(http::header::SET_COOKIE).iter().find_map(|line| {
        let pair = line.as_bytes().split(|&byte| byte == b';').next()?;
        let equals = memchr::memchr(b'=', pair)?;
        let (key, value) = pair.split_at(equals);
        key.trim_ascii().eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
    })
}

/// Returns the port that the request names, in its line or in `Host`.
fn request_port(exchange: &Exchange<'_>) -> Option<u16> {
    let host = exchange.headers.get(http::header::HOST)?;
    Host::parse(host.as_bytes()).ok()?.port()
}

/// Writes the user name of `Authorization: Basic`.
fn remote_user(headers: &HeaderMap, out: &mut Vec<u8>) -> Presence {
    let Some(credentials) = Credentials::of(headers) else { return Presence::Missing };
    text(Some(credentials.name()).filter(|name| !name.is_empty()), out)
}

fn document_root(exchange: &Exchange<'_>, out: &mut Vec<u8>) {
    let (Root::Root(root) | Root::Alias { directory: root, .. }) = &exchange.settings.files.root;
    write_without_itself(root, exchange, out);
}

fn request_filename(exchange: &Exchange<'_>, out: &mut Vec<u8>) {
    document_root(exchange, out);
    let path = exchange.target.path();
    match exchange.settings.files.root {
        Root::Root(_) => out.extend_from_slice(path),
        Root::Alias { replaces, .. } => {
            let whole = exchange.findings.below_alias.unwrap_or(path.len());
            let replaced = replaces.unwrap_or(whole);
            out.extend_from_slice(path.get(replaced..).unwrap_or_default());
        }
    }
}

/// Writes a root; a root that names itself would never end, so that those variables are empty in it.
fn write_without_itself(root: &Value, exchange: &Exchange<'_>, out: &mut Vec<u8>) {
    for part in &root.parts {
        match part {
            Part::Literal(text) => out.extend_from_slice(text),
            Part::Variable(Variable::DocumentRoot | Variable::RequestFilename) => {}
            Part::Variable(variable) => {
                variable.write(exchange, out);
            }
        }
    }
}

/// Counts the bytes of the request; where its head was no text, as commonly written.
fn request_length(exchange: &Exchange<'_>) -> u64 {
    if !exchange.head.is_empty() {
        return exchange.head.len() as u64 + exchange.received;
    }
    let line = exchange.method.as_str().len() + exchange.request_uri.len() + "  HTTP/1.1\r\n".len();
    let fields: usize =
        exchange.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    (line + fields + 2) as u64 + exchange.received
}

/// Returns the first line of a head.
pub(crate) fn request_line(head: &[u8]) -> &[u8] {
    let line = memchr::memchr(b'\n', head).map_or(head, |end| &head[..end]);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Returns how many bytes per second the answer may have; 0 sets no limit.
fn limit_rate(exchange: &Exchange<'_>) -> u64 {
    if let Some(rate) = exchange.findings.limit_rate {
        return rate;
    }
    let Some(value) = &exchange.settings.limit_rate else { return 0 };
    let mut text = Vec::new();
    // One that names itself would never end.
    if value.variables().any(|variable| *variable == Variable::LimitRate) {
        return 0;
    }
    let text = std::str::from_utf8(value.bytes(exchange, &mut text)).ok();
    text.and_then(crate::conf::parse_size).unwrap_or(0)
}

/// Writes the document root without symbolic links in it; nothing if it is not there.
fn realpath_root(exchange: &Exchange<'_>, out: &mut Vec<u8>) -> Presence {
    let mut root = Vec::new();
    document_root(exchange, &mut root);
    let real = std::fs::canonicalize(std::ffi::OsStr::from_bytes(&root)).ok();
    text(real.as_ref().map(|path| path.as_os_str().as_bytes()), out)
}

/// Writes a cookie's name and its four numbers, if there is one.
fn uid(exchange: &Exchange<'_>, uid: Option<userid::Uid>, out: &mut Vec<u8>) -> Presence {
    let Some(uid) = uid else { return Presence::Missing };
    userid::show(&exchange.settings.userid.name, &uid, out);
    Presence::Present
}

/// Writes 16 random bytes in hexadecimal, the same as long as the request lasts.
fn request_id(exchange: &Exchange<'_>, out: &mut Vec<u8>) -> Presence {
    let id = exchange.findings.id.get_or_init(|| {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
    });
    let Some(id) = id else { return Presence::Missing };
    for byte in id {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    Presence::Present
}

fn upstream_addr(exchange: &Exchange<'_>, out: &mut Vec<u8>) -> Presence {
    let name = exchange.proxy.map_or(&b""[..], |proxy| proxy.host.as_bytes());
    per_attempt(exchange, out, |attempt, out| match attempt.server {
        // Writing to a Vec cannot fail.
        Some(server) => _ = write!(out, "{}", unix::shown(server)),
        None => out.extend_from_slice(name),
    })
}

/// Writes something for each server that was tried, joined as nginx does.
fn per_attempt(
    exchange: &Exchange<'_>,
    out: &mut Vec<u8>,
    write: impl Fn(&super::Attempt, &mut Vec<u8>),
) -> Presence {
    for (place, attempt) in exchange.attempts.iter().enumerate() {
        if place > 0 {
            // What came after an internal redirect was not asked in place of another.
            out.extend_from_slice(if attempt.apart { b" : " } else { b", " });
        }
        write(attempt, out);
    }
    if exchange.attempts.is_empty() { Presence::Missing } else { Presence::Present }
}
