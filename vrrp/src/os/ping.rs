//! A gateway as the arbiter: who cannot reach it is cut off, and gives way.
//!
//! It keeps an isolated host from being master, and no more: a gateway answers everybody. Where two
//! routers reach it and not each other, both have its consent.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::clock;
use crate::arbiter::{Answer, Witness};
use crate::router::Moment;

/// A client of a gateway: asks it for an echo.
#[derive(Debug)]
pub struct Ping {
    gateway: IpAddr,
    interface: Option<String>,
    /// Opened when it is needed, and anew after a failure: the way there may not be there yet.
    socket: Option<Socket>,
    serial: u16,
}

impl Ping {
    /// One that asks out of an interface, or out of whichever leads there.
    pub fn new(gateway: IpAddr, interface: Option<String>) -> Ping {
        Ping { gateway, interface, socket: None, serial: 0 }
    }

    fn ask(&mut self, patience: Duration) -> Answer {
        let deadline = clock::now() + patience;
        let mut why = format!("{} does not answer", self.gateway);
        for attempt in 1..=ATTEMPTS {
            let until = deadline - patience * (ATTEMPTS - attempt) / ATTEMPTS;
            match self.echo(until) {
                Ok(()) => return Answer::Yes,
                Err(error) if is_patience(&error) => {}
                Err(error) => {
                    why = format!("{}: {error}", self.gateway);
                    self.socket = None;
                    // Who is told at once that there is no way asks again when there may be one.
                    std::thread::park_timeout(until.saturating_sub(clock::now()));
                }
            }
        }
        Answer::Silence(why)
    }

    fn echo(&mut self, until: Moment) -> io::Result<()> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.open()?,
        };
        self.serial = self.serial.wrapping_add(1);
        let asked = question(self.gateway, self.serial);
        socket.send(&asked)?;
        let mut buffer = [0; 1500];
        loop {
            let left = until.saturating_sub(clock::now());
            if left.is_zero() {
                self.socket = Some(socket);
                return Err(io::ErrorKind::TimedOut.into());
            }
            socket.set_read_timeout(Some(left))?;
            match socket.read(&mut buffer) {
                Ok(length) if answers(self.gateway, &asked, &buffer[..length]) => break,
                Ok(_) => {}
                Err(error) if is_patience(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.socket = Some(socket);
        Ok(())
    }

    fn open(&self) -> io::Result<Socket> {
        let (domain, protocol) = match self.gateway {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        if let Some(interface) = &self.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        // So that only what it sends is heard.
        socket.connect(&SocketAddr::new(self.gateway, 0).into())?;
        Ok(socket)
    }
}

impl Witness for Ping {
    fn acquire(&mut self, patience: Duration) -> Answer {
        self.ask(patience)
    }

    fn renew(&mut self, patience: Duration) -> Answer {
        self.ask(patience)
    }

    fn whom(&self) -> String {
        format!("gateway {}", self.gateway)
    }

    fn revoke(&mut self, _: Duration) {}
}

/// An echo request (RFC 792, RFC 4443), known by the process and its number.
fn question(gateway: IpAddr, serial: u16) -> [u8; 8] {
    let kind = if gateway.is_ipv4() { 8 } else { 128 };
    let [process, serial] = [std::process::id() as u16, serial].map(u16::to_be_bytes);
    let mut message = [kind, 0, 0, 0, process[0], process[1], serial[0], serial[1]];
    if gateway.is_ipv4() {
        // In IPv6 the kernel adds it.
        let sum: u32 = message.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// Whether what was received is the answer to what was asked; IPv4 comes with its header.
fn answers(gateway: IpAddr, asked: &[u8; 8], received: &[u8]) -> bool {
    let (kind, header) = match gateway {
        IpAddr::V4(_) => (0, received.first().map_or(0, |first| usize::from(first & 15) * 4)),
        IpAddr::V6(_) => (129, 0),
    };
    let message = received.get(header..).unwrap_or_default();
    message.first() == Some(&kind) && message.get(4..8) == Some(&asked[4..])
}

fn is_patience(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Echoes that one question asks for.
const ATTEMPTS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_known_by_process_and_number() {
        let gateway = IpAddr::from([10, 0, 0, 1]);
        let asked = question(gateway, 7);
        let mut answer = [&[0x45; 20][..], &asked].concat();
        assert!(!answers(gateway, &asked, &answer), "that is the question");
        answer[20] = 0;
        assert!(answers(gateway, &asked, &answer));
        answer[27] ^= 1;
        assert!(!answers(gateway, &asked, &answer));
        for length in 0..28 {
            assert!(!answers(gateway, &asked, &answer[..length]));
        }
    }

    #[test]
    fn question_adds_up() {
        let asked = question(IpAddr::from([10, 0, 0, 1]), 0xabcd);
        let sum: u32 = asked.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        assert_eq!((sum >> 16) + (sum & 0xffff), 0xffff);
    }
}
