//! Addresses of `listen`, `server` and `proxy_pass`.
//!
//! Names are resolved while the file is read, as nginx does; a name with several addresses stands
//! for all of them.

use crate::unix;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;

/// What is wrong with an address, in nginx's words.
pub(crate) type Reason = &'static str;

/// Returns the addresses of `host:port` or `host`.
///
/// # Errors
/// If there is no port and no default for it, or the host has no address.
pub(super) fn resolve(text: &str, default_port: Option<u16>) -> Result<Vec<SocketAddr>, Reason> {
    if let Some(path) = unix_path(text)? {
        return Ok(vec![unix::address(path)]);
    }
    let (host, port) = split(text)?;
    // A name that is no host is told before the port that is missing.
    let found = lookup(host, port.or(default_port).unwrap_or(0))?;
    if port.or(default_port).is_some() { Ok(found) } else { Err("no port") }
}

/// Returns the addresses of a `listen`: also a lone port, `*` for all of IPv4, and ports from one to
/// another (`8080-8083`).
pub(super) fn listen(text: &str, default_port: Option<u16>) -> Result<Vec<SocketAddr>, Reason> {
    if let Some(path) = unix_path(text)? {
        return Ok(vec![unix::address(path)]);
    }
    let is_of_ports = |byte: u8| byte.is_ascii_digit() || byte == b'-';
    let (host, ports) = match text.starts_with(|first: char| first.is_ascii_digit()) {
        true if text.bytes().all(is_of_ports) => ("*", Some(text)),
        _ => split_off_port(text)?,
    };
    let ports = match ports {
        Some(ports) => range(ports)?,
        None => default_port.map(|port| port..=port).ok_or("no port")?,
    };
    let hosts = match host {
        "*" => vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *ports.start())],
        host => lookup(host, *ports.start())?,
    };
    Ok(hosts.into_iter().flat_map(|addr| ports.clone().map(move |port| (addr.ip(), port).into())).collect())
}

/// Returns the path of `unix:path`.
fn unix_path(text: &str) -> Result<Option<&str>, Reason> {
    match text.strip_prefix("unix:").map(|path| path.trim_end_matches(':')) {
        None => Ok(None),
        Some("") => Err("no path in the unix domain socket"),
        Some(path) if path.len() > UNIX_PATH_MAX => Err("too long path in the unix domain socket"),
        Some(path) => Ok(Some(path)),
    }
}

/// What the system has room for.
const UNIX_PATH_MAX: usize = 107;

/// Splits `host`, `host:port`, `[address]` or `[address]:port`; `unix:path` is a host.
pub(crate) fn split(text: &str) -> Result<(&str, Option<u16>), Reason> {
    if text.starts_with("unix:") {
        return Ok((text, None));
    }
    let (host, text) = split_off_port(text)?;
    Ok((host, text.map(port).transpose()?))
}

/// Splits what stands for a host from what stands for a port.
fn split_off_port(text: &str) -> Result<(&str, Option<&str>), Reason> {
    if text.contains(['/', '?']) {
        return Err("invalid host");
    }
    let (host, rest) = match text.find(']') {
        Some(end) if text.starts_with('[') => text.split_at(end + 1),
        _ if text.starts_with('[') => return Err("invalid host"),
        _ => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = rest.strip_prefix(':');
    if port.is_none() && !rest.is_empty() {
        return Err("invalid host");
    }
    if host.is_empty() { Err("no host") } else { Ok((host, port)) }
}

/// Reads a port, or a first and a last one.
fn range(text: &str) -> Result<RangeInclusive<u16>, Reason> {
    let Some((first, last)) = text.split_once('-') else { return port(text).map(|port| port..=port) };
    let ports = port(first)?..=port(last)?;
    if ports.is_empty() { Err("invalid port range") } else { Ok(ports) }
}

fn port(text: &str) -> Result<u16, Reason> {
    match super::value::parse_number(text) {
        Some(0) | None => Err("invalid port"),
        Some(port) => Ok(port),
    }
}

fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, Reason> {
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let ip: Ipv6Addr = inner.parse().map_err(|_| "invalid IPv6 address")?;
        return Ok(vec![SocketAddr::new(ip.into(), port)]);
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let mut found: Vec<SocketAddr> = Vec::new();
    for addr in (host, port).to_socket_addrs().map_err(|_| "host not found")? {
        if !found.contains(&addr) {
            found.push(addr);
        }
    }
    if found.is_empty() { Err("host not found") } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::{listen, resolve};

    fn shown(found: Result<Vec<std::net::SocketAddr>, &'static str>) -> String {
        match found {
            Ok(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(reason) => reason.to_owned(),
        }
    }

    #[test]
    fn listen_takes_the_forms_of_nginx() {
        for (text, expected) in [
            ("80", "0.0.0.0:80"),
            ("*:80", "0.0.0.0:80"),
            ("*", "0.0.0.0:8000"),
            ("127.0.0.1", "127.0.0.1:8000"),
            ("127.0.0.1:81", "127.0.0.1:81"),
            ("[::]:80", "[::]:80"),
            ("[::1]", "[::1]:8000"),
            ("0", "invalid port"),
            ("65536", "invalid port"),
            ("127.0.0.1:x", "invalid port"),
            ("127.0.0.1:", "invalid port"),
            (":80", "no host"),
            ("", "no host"),
            ("[::1", "invalid host"),
            ("[::1]80", "invalid host"),
            ("[:::]:80", "invalid IPv6 address"),
            ("unix:", "no path in the unix domain socket"),
            ("81-83", "0.0.0.0:81 0.0.0.0:82 0.0.0.0:83"),
            ("127.0.0.1:81-82", "127.0.0.1:81 127.0.0.1:82"),
            ("[::1]:81-81", "[::1]:81"),
            ("*:65535-65535", "0.0.0.0:65535"),
            ("127.0.0.1:82-81", "invalid port range"),
            ("127.0.0.1:0-10", "invalid port"),
            ("127.0.0.1:81-", "invalid port"),
            ("127.0.0.1:81-70000", "invalid port"),
            ("81-82-83", "invalid port"),
            ("-81", "host not found"),
            ("127.0.0.1/8", "invalid host"),
            ("no-such.invalid", "host not found"),
        ] {
            assert_eq!(shown(listen(text, Some(8000))), expected, "{text:?}");
        }
        assert_eq!(shown(listen("127.0.0.1", None)), "no port");
    }

    #[test]
    fn server_may_be_a_name() {
        assert_eq!(shown(resolve("127.0.0.1", Some(80))), "127.0.0.1:80");
        assert_eq!(shown(resolve("[::1]:90", None)), "[::1]:90");
        assert_eq!(shown(resolve("[::1]:90-91", None)), "invalid port");
        assert!(shown(resolve("localhost:90", None)).contains(":90"));
        assert_eq!(shown(resolve("no such name.invalid", Some(80))), "host not found");
    }
}
