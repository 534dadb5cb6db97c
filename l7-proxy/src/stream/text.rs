//! Texts with variables in them, as `stream {}` knows them.
//!
//! The variables of a connection are others than those of a request, so they are a kind of their
//! own: what can be written in `http {}` and has no meaning here is an unknown variable.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use l4_proxy::proxy_protocol::Addresses;

use crate::date;
use crate::hostname::hostname;
use crate::model::{Escape, Transport};
use crate::tls::TlsVariable;
use crate::unix;
use crate::variable::{ValueError, escape_log, split_variable};

use super::facts::{Attempt, Facts};

/// A text with variables in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Box<[u8]>),
    Variable(Variable),
}

/// Something that is known about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Variable {
    /// `$binary_remote_addr`
    BinaryRemoteAddr,
    /// `$bytes_received`: from the client.
    BytesReceived,
    /// `$bytes_sent`: to the client.
    BytesSent,
    /// `$1` to `$9`
    Capture(u8),
    /// A named group.
    NamedCapture(Box<str>),
    /// `$connection`
    Connection,
    /// A variable that the configuration defines (`map`, `geo`, `split_clients`, `set`), by its number.
    Defined(usize),
    /// `$hostname`
    Hostname,
    /// `$limit_conn_status`: `PASSED`, `REJECTED` or `REJECTED_DRY_RUN`.
    LimitConnStatus,
    /// `$msec`
    Msec,
    /// `$nginx_version`
    NginxVersion,
    /// `$pid`
    Pid,
    /// `$protocol`: `TCP` or `UDP`.
    Protocol,
    /// `$proxy_protocol_addr`, `_port`, `_server_addr`, `_server_port`
    ProxyProtocol(ProxyProtocol),
    /// `$realip_remote_addr`
    RealipRemoteAddr,
    /// `$realip_remote_port`
    RealipRemotePort,
    /// `$remote_addr`
    RemoteAddr,
    /// `$remote_port`
    RemotePort,
    /// `$server_addr`
    ServerAddr,
    /// `$server_port`
    ServerPort,
    /// `$session_time`
    SessionTime,
    /// `$ssl_preread_alpn_protocols`
    PrereadAlpn,
    /// `$ssl_preread_protocol`
    PrereadProtocol,
    /// `$ssl_preread_server_name`
    PrereadServerName,
    /// `$status`
    Status,
    /// `$time_iso8601`
    TimeIso8601,
    /// `$time_local`
    TimeLocal,
    /// `$ssl_…`
    Tls(TlsVariable),
    /// `$upstream_addr`
    UpstreamAddr,
    /// `$upstream_bytes_received`
    UpstreamBytesReceived,
    /// `$upstream_bytes_sent`
    UpstreamBytesSent,
    /// `$upstream_connect_time`
    UpstreamConnectTime,
    /// `$upstream_first_byte_time`
    UpstreamFirstByteTime,
    /// `$upstream_session_time`
    UpstreamSessionTime,
}

/// A part of a PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// The client's address.
    Addr,
    /// The client's port.
    Port,
    /// The address that the client connected to.
    ServerAddr,
    /// The port that the client connected to.
    ServerPort,
}

/// The names that a `stream {}` defines itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    defined: Vec<Box<str>>,
    groups: Vec<Box<str>>,
}

impl Names {
    /// Makes a variable that the configuration defines known; returns its number.
    pub fn define(&mut self, name: &str) -> usize {
        let name = name.to_ascii_lowercase();
        self.number(&name).unwrap_or_else(|| {
            self.defined.push(name.into());
            self.defined.len() - 1
        })
    }

    /// Returns the number of a variable that the configuration defines.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.defined.iter().position(|known| known.eq_ignore_ascii_case(name))
    }

    /// Makes a named group known.
    pub fn insert_group(&mut self, name: &str) {
        self.groups.push(name.into());
    }
}

impl Text {
    /// Returns a text without variables.
    pub fn literal(text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        let parts = if text.is_empty() { Box::default() } else { Box::from([Part::Literal(text.into())]) };
        Self { parts }
    }

    /// Compiles `text`, in which `$name` and `${name}` stand for variables.
    ///
    /// # Errors
    /// For a variable that nobody defines, and for a `$` without a name.
    pub fn parse(text: &str, names: &Names) -> Result<Self, ValueError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                parts.push(Part::Literal(before.as_bytes().into()));
            }
            let (name, next) = split_variable(after)?;
            parts.push(Part::Variable(Variable::find(name, names)?));
            rest = next;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.as_bytes().into()));
        }
        Ok(Self { parts: parts.into() })
    }

    /// Returns the text if there is no variable in it.
    pub fn as_literal(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns the text for a connection.
    pub fn bytes(&self, facts: &Facts) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Variable(variable) => out.extend(variable.value(facts).unwrap_or_default()),
            }
        }
        out
    }

    /// Returns the variables of the text in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Literal(_) => None,
        })
    }

    /// Appends the text to `out` as a log line wants it.
    pub fn write_log(&self, facts: &Facts, escape: Escape, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Variable(variable) => escape_log(variable.value(facts).as_deref(), escape, out),
            }
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.parts).finish()
    }
}

impl Variable {
    fn find(written: &str, names: &Names) -> Result<Self, ValueError> {
        if names.groups.iter().any(|known| &**known == written) {
            return Ok(Self::NamedCapture(written.into()));
        }
        let name = written.to_ascii_lowercase();
        if let Some(number) = names.number(&name) {
            return Ok(Self::Defined(number));
        }
        Self::named(&name).ok_or_else(|| ValueError::Unknown(written.to_owned()))
    }

    /// Returns the variable that is called `name`, in lower case, in every configuration.
    pub fn named(name: &str) -> Option<Self> {
        if let &[digit @ b'1'..=b'9'] = name.as_bytes() {
            return Some(Self::Capture(digit - b'0'));
        }
        Some(match name {
            "binary_remote_addr" => Self::BinaryRemoteAddr,
            "bytes_received" => Self::BytesReceived,
            "bytes_sent" => Self::BytesSent,
            "connection" => Self::Connection,
            "hostname" => Self::Hostname,
            "limit_conn_status" => Self::LimitConnStatus,
            "msec" => Self::Msec,
            "nginx_version" => Self::NginxVersion,
            "pid" => Self::Pid,
            "protocol" => Self::Protocol,
            "proxy_protocol_addr" => Self::ProxyProtocol(ProxyProtocol::Addr),
            "proxy_protocol_port" => Self::ProxyProtocol(ProxyProtocol::Port),
            "proxy_protocol_server_addr" => Self::ProxyProtocol(ProxyProtocol::ServerAddr),
            "proxy_protocol_server_port" => Self::ProxyProtocol(ProxyProtocol::ServerPort),
            "realip_remote_addr" => Self::RealipRemoteAddr,
            "realip_remote_port" => Self::RealipRemotePort,
            "remote_addr" => Self::RemoteAddr,
            "remote_port" => Self::RemotePort,
            "server_addr" => Self::ServerAddr,
            "server_port" => Self::ServerPort,
            "session_time" => Self::SessionTime,
            "ssl_preread_alpn_protocols" => Self::PrereadAlpn,
            "ssl_preread_protocol" => Self::PrereadProtocol,
            "ssl_preread_server_name" => Self::PrereadServerName,
            "status" => Self::Status,
            "time_iso8601" => Self::TimeIso8601,
            "time_local" => Self::TimeLocal,
            "upstream_addr" => Self::UpstreamAddr,
            "upstream_bytes_received" => Self::UpstreamBytesReceived,
            "upstream_bytes_sent" => Self::UpstreamBytesSent,
            "upstream_connect_time" => Self::UpstreamConnectTime,
            "upstream_first_byte_time" => Self::UpstreamFirstByteTime,
            "upstream_session_time" => Self::UpstreamSessionTime,
            _ => return name.strip_prefix("ssl_").and_then(TlsVariable::named).map(Self::Tls),
        })
    }

    /// Returns the variable's value; `None` if it has none, which a log shows as `-`.
    fn value(&self, facts: &Facts) -> Option<Vec<u8>> {
        let text = |text: String| Some(text.into_bytes());
        let address = |ip: IpAddr| text(ip.to_canonical().to_string());
        let end = |addr: SocketAddr| match unix::is_unix(addr.ip()) {
            true => text(unix::shown(addr).to_string()),
            false => address(addr.ip()),
        };
        let port = |addr: SocketAddr| match unix::is_unix(addr.ip()) {
            true => text(String::new()),
            false => text(addr.port().to_string()),
        };
        let preread = facts.preread.as_ref();
        match self {
            Self::BinaryRemoteAddr => Some(match facts.remote.ip().to_canonical() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            }),
            Self::BytesReceived => text(facts.received.to_string()),
            Self::BytesSent => text(facts.sent.to_string()),
            Self::Capture(group) => facts.captures.group(*group).map(|text| text.to_vec()),
            Self::NamedCapture(name) => facts.captures.named(name).map(|text| text.to_vec()),
            Self::Connection => text(facts.serial.to_string()),
            Self::Defined(number) => facts.defined(*number),
            Self::Hostname => text(hostname().to_owned()),
            Self::LimitConnStatus => facts.limit.map(|status| status.as_str().into()),
            Self::Msec => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                text(seconds(now.unwrap_or_default()))
            }
            Self::NginxVersion => text(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Pid => text(std::process::id().to_string()),
            Self::Protocol => Some(match facts.transport {
                Transport::Tcp => b"TCP".to_vec(),
                Transport::Udp => b"UDP".to_vec(),
            }),
            Self::ProxyProtocol(part) => {
                let Addresses::Tcp(client, server) = facts.proxied.as_ref()?.addresses else { return None };
                match part {
                    ProxyProtocol::Addr => address(client.ip()),
                    ProxyProtocol::Port => text(client.port().to_string()),
                    ProxyProtocol::ServerAddr => address(server.ip()),
                    ProxyProtocol::ServerPort => text(server.port().to_string()),
                }
            }
            Self::RealipRemoteAddr => end(facts.peer),
            Self::RealipRemotePort => port(facts.peer),
            Self::RemoteAddr => end(facts.remote),
            Self::RemotePort => port(facts.remote),
            Self::ServerAddr => end(facts.local),
            Self::ServerPort => port(facts.local),
            Self::SessionTime => text(seconds(facts.began.elapsed())),
            Self::PrereadAlpn => preread.map(|hello| hello.alpn.join(&b","[..])),
            Self::PrereadProtocol => {
                preread.map(|hello| hello.protocol().unwrap_or_default().as_bytes().to_vec())
            }
            Self::PrereadServerName => preread.map(|hello| hello.server_name.clone().into_bytes()),
            Self::Status => text(format!("{:03}", facts.status)),
            Self::TimeIso8601 => Some(written(date::write_iso8601)),
            Self::TimeLocal => Some(written(date::write_log)),
            Self::Tls(variable) => variable.value(facts.tls.as_ref()),
            Self::UpstreamAddr => facts.per_attempt(|attempt| attempt.server.clone()),
            Self::UpstreamBytesReceived => facts.per_attempt(|attempt| attempt.received.to_string()),
            Self::UpstreamBytesSent => facts.per_attempt(|attempt| attempt.sent.to_string()),
            Self::UpstreamConnectTime => facts.per_attempt(|attempt| time(attempt.connect)),
            Self::UpstreamFirstByteTime => facts.per_attempt(|attempt| time(attempt.first_byte)),
            Self::UpstreamSessionTime => facts.per_attempt(|attempt: &Attempt| time(attempt.session)),
        }
    }
}

fn written(write: fn(std::time::SystemTime, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(std::time::SystemTime::now(), &mut out);
    out
}

fn time(time: Option<std::time::Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), seconds)
}

fn seconds(time: std::time::Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}
