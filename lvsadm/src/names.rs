//! Names of hosts and services, from the files that hold them.
//!
//! From name to number, hosts go through the system's resolver. From number to name there is no
//! such call in the standard library, so hosts are looked up in `/etc/hosts` only: one that is not
//! there stays a number, where ipvsadm would ask the DNS.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use lvs_core::Protocol;

/// What addresses and ports are written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// Numbers (`-n`).
    Numeric,
    /// Names, where `/etc/hosts` and `/etc/services` know one.
    #[default]
    Named,
}

/// The names that this machine knows, read when first asked for.
#[derive(Default)]
pub(crate) struct Names {
    tables: OnceCell<Tables>,
}

#[derive(Default)]
struct Tables {
    hosts: HashMap<IpAddr, String>,
    /// The first name that the file gives a port.
    services: HashMap<(u16, &'static str), String>,
    /// All names and aliases.
    ports: HashMap<(String, &'static str), u16>,
}

impl Names {
    /// Names from the text of `/etc/hosts` and of `/etc/services`.
    #[cfg(test)]
    pub(crate) fn from_text(hosts: &str, services: &str) -> Names {
        Names { tables: OnceCell::from(Tables::read(hosts, services)) }
    }

    /// Port of a service, by name or alias.
    pub(crate) fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        self.tables().ports.get(&(service.to_owned(), lower_case(protocol))).copied()
    }

    /// Name of the service at a port.
    pub(crate) fn service(&self, port: u16, protocol: Protocol) -> Option<&str> {
        self.tables().services.get(&(port, lower_case(protocol))).map(String::as_str)
    }

    /// Name of a host.
    ///
    /// IPv6 hosts have none: ipvsadm writes theirs in brackets, and cannot read that back.
    pub(crate) fn host(&self, address: IpAddr) -> Option<&str> {
        if address.is_ipv6() {
            return None;
        }
        self.tables().hosts.get(&address).map(String::as_str)
    }

    /// Address of a host, IPv4 before IPv6.
    ///
    /// What ends in a number is an address or nothing: the resolver would take `1.2.3` for
    /// `1.2.0.3` and `010.0.0.1` for `8.0.0.1`.
    pub(crate) fn address(&self, host: &str) -> Option<IpAddr> {
        let last_label = host.trim_end_matches('.').rsplit('.').next()?;
        let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        if !is_name || is_number(last_label) {
            return None;
        }
        let found: Vec<SocketAddr> = (host, 0).to_socket_addrs().ok()?.collect();
        found.iter().find(|address| address.is_ipv4()).or(found.first()).map(SocketAddr::ip)
    }

    fn tables(&self) -> &Tables {
        // A file that cannot be read knows no names, which is not worth failing a listing for.
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        self.tables.get_or_init(|| Tables::read(&read("/etc/hosts"), &read("/etc/services")))
    }
}

impl Tables {
    fn read(hosts: &str, services: &str) -> Tables {
        let mut tables = Tables::default();
        for line in hosts.lines() {
            let mut words = words(line);
            let address = words.next().and_then(|word| word.parse().ok());
            if let (Some(address), Some(name)) = (address, words.next()) {
                tables.hosts.entry(address).or_insert_with(|| name.to_owned());
            }
        }
        for line in services.lines() {
            let mut words = words(line);
            let (Some(name), Some(at)) = (words.next(), words.next()) else { continue };
            let Some((port, protocol)) = at.split_once('/') else { continue };
            let known = ["tcp", "udp", "sctp"].into_iter().find(|known| *known == protocol);
            let (Ok(port), Some(protocol)) = (port.parse(), known) else { continue };
            tables.services.entry((port, protocol)).or_insert_with(|| name.to_owned());
            for name in [name].into_iter().chain(words) {
                tables.ports.entry((name.to_owned(), protocol)).or_insert(port);
            }
        }
        tables
    }
}

/// Whether the resolver would read this label as a number: decimal, octal, hexadecimal or empty.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or(label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        None => label.bytes().all(|digit| digit.is_ascii_digit()),
    }
}

/// The words of a line, up to a comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('#').next().unwrap_or_default().split_whitespace()
}

fn lower_case(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost loopback # this machine\n\n10.0.0.1\tweb1.example web1\n::1 localhost6\n\
                         not-an-address x\n10.0.0.1 second\n10.0.0.2\n";
    const SERVICES: &str = "# comment\nhttp 80/tcp www # web\nhttp-alt 8080/tcp webcache\ndomain 53/tcp\n\
                            domain 53/udp\nbroken\nodd 1/dccp\nlate x/tcp\n";

    #[test]
    fn port_is_named_by_the_first_name_and_found_by_any() {
        let names = Names::from_text(HOSTS, SERVICES);
        assert_eq!(names.service(80, Protocol::Tcp), Some("http"));
        assert_eq!(names.service(80, Protocol::Udp), None);
        assert_eq!(names.port("www", Protocol::Tcp), Some(80));
        assert_eq!(names.port("domain", Protocol::Udp), Some(53));
        assert_eq!(names.port("http", Protocol::Udp), None);
        assert_eq!(names.port("HTTP", Protocol::Tcp), None);
    }

    #[test]
    fn host_is_named_by_the_first_name_and_only_if_ipv4() {
        let names = Names::from_text(HOSTS, SERVICES);
        assert_eq!(names.host(IpAddr::from([10, 0, 0, 1])), Some("web1.example"));
        assert_eq!(names.host(IpAddr::from([10, 0, 0, 2])), None);
        assert_eq!(names.host(IpAddr::from(std::net::Ipv6Addr::LOCALHOST)), None);
    }

    #[test]
    fn number_is_never_taken_for_a_host_name() {
        let names = Names::default();
        for word in ["1234", "1.2.3", "010.0.0.1", "0x7f000001", "127.1.", "", ".", "a b", "[x]", "x.1"] {
            assert_eq!(names.address(word), None, "{word}");
        }
        assert_eq!(names.address("localhost"), Some(IpAddr::from([127, 0, 0, 1])));
    }
}
