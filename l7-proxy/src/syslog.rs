//! Lines on their way to a syslog server: a datagram each, in the format of BSD (RFC 3164) that nginx
//! writes.
//!
//! Nobody waits for a log: what the system does not take at once is lost. Datagrams are addressed one by
//! one, so that a server that was started anew gets the next line.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::date;
use crate::hostname::hostname;
use crate::model::{Hostname, LogLevel, Syslog};
use crate::unix;

/// Sends lines to one server.
pub(crate) struct Sender {
    way: Way,
    /// The number of the facility, where the severity is to be added.
    priority: u8,
    severity: LogLevel,
    /// What stands between the time and the line.
    mark: String,
}

enum Way {
    Network(UdpSocket, SocketAddr),
    Unix(UnixDatagram, PathBuf),
}

impl Sender {
    /// Makes a socket; the server need not be there yet.
    ///
    /// # Errors
    /// The system has no socket.
    pub(crate) fn open(syslog: &Syslog) -> io::Result<Sender> {
        let way = match unix::path(syslog.server) {
            Some(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Way::Unix(socket, path)
            }
            None => {
                let any = match syslog.server {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                Way::Network(socket, syslog.server)
            }
        };
        let host = match syslog.hostname {
            Hostname::Told => format!("{} ", hostname()),
            Hostname::LeftOut => String::new(),
        };
        let mark = format!(" {host}{}: ", syslog.tag);
        Ok(Sender { way, priority: syslog.facility.number() * 8, severity: syslog.severity, mark })
    }

    /// Sends a line of an access log.
    ///
    /// # Errors
    /// It is lost.
    pub(crate) fn send(&self, line: &[u8]) -> io::Result<()> {
        self.send_as(self.severity, line)
    }

    /// Sends a line of this severity.
    ///
    /// # Errors
    /// It is lost.
    pub(crate) fn send_as(&self, severity: LogLevel, line: &[u8]) -> io::Result<()> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut datagram = Vec::with_capacity(line.len() + 64);
        self.write(severity, SystemTime::now(), &mut datagram);
        let room = DATAGRAM_MAX.saturating_sub(datagram.len());
        datagram.extend_from_slice(&line[..line.len().min(room)]);
        match &self.way {
            Way::Network(socket, server) => socket.send_to(&datagram, server),
            Way::Unix(socket, path) => socket.send_to(&datagram, path),
        }
        .map(drop)
    }

    /// Writes what stands before a line.
    fn write(&self, severity: LogLevel, time: SystemTime, out: &mut Vec<u8>) {
        let severity = match severity {
            LogLevel::Emerg => 0,
            LogLevel::Alert => 1,
            LogLevel::Crit => 2,
            LogLevel::Error => 3,
            LogLevel::Warn => 4,
            LogLevel::Notice => 5,
            LogLevel::Info => 6,
            LogLevel::Debug => 7,
        };
        out.extend_from_slice(format!("<{}>", self.priority + severity).as_bytes());
        date::write_syslog(time, out);
        out.extend_from_slice(self.mark.as_bytes());
    }
}

/// What is longer does not fit into a datagram of UDP, and is cut.
const DATAGRAM_MAX: usize = 65_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Facility;

    #[test]
    fn line_is_marked_as_nginx_marks_it() {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 514));
        let syslog = Syslog {
            facility: Facility::named("local3").unwrap(),
            tag: "my_tag".to_owned(),
            hostname: Hostname::LeftOut,
            ..Syslog::new(server)
        };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_366_245);
        let written = |syslog: &Syslog, severity| {
            let mut out = Vec::new();
            Sender::open(syslog).unwrap().write(severity, time, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&syslog, LogLevel::Warn), "<156>Jan  2 15:04:05 my_tag: ");
        let told = written(&Syslog::new(server), LogLevel::Emerg);
        assert!(told.starts_with("<184>Jan  2 15:04:05 ") && told.ends_with(" nginx: "), "{told}");
        assert_eq!(told.split(' ').filter(|word| !word.is_empty()).count(), 5, "{told}");
    }
}
