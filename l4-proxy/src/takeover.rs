//! One director goes on where another ends: sockets, rules, templates, health and counters pass from
//! process to process over the control socket.
//!
//! 1. The successor asks. The director refuses changes from now on, stops reading datagrams, which wait
//!    in the kernel meanwhile, and sends what it has.
//! 2. The successor takes it in, serves on the same sockets, and says so with one byte.
//! 3. The director stops accepting and drains: its connections end where they are, and answers to
//!    datagrams that it passed on still reach their clients.
//!
//! Sockets are the same in both processes, not bound twice, so there is no moment in which nobody listens
//! and no queue that is lost. If the successor dies before step 3, the director goes on as if nothing
//! had been.
//!
//! What is sent is a text, its length before it, and then the sockets, some with each byte.

use std::fmt::Write as _;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use lvs_core::{
    Condition, Counts, Director, Family, Probe, Protocol, ServerStats, ServiceKey, ServiceStats, Time,
};
use lvsadm::Naming;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::inherit::Inherited;

/// The director whose place is taken, waiting to hear that this is done.
pub struct Predecessor {
    stream: UnixStream,
    estate: Estate,
}

/// What it had.
#[derive(Debug, Default)]
struct Estate {
    rules: String,
    templates: Vec<u8>,
    /// Servers that probes had found down, and why.
    down: Vec<(ServiceKey, SocketAddr, String)>,
    counts: Vec<(ServiceKey, Option<SocketAddr>, Counts)>,
    sockets: usize,
}

impl Predecessor {
    /// Asks the director at a control socket to hand over, and takes in what it has. It goes on serving,
    /// except datagrams, until [`Predecessor::release`]; if this value is dropped before, for good.
    ///
    /// # Errors
    /// Nobody answers there, it refuses, or what it sends makes no sense.
    pub fn ask(control: &Path) -> io::Result<(Predecessor, Inherited)> {
        let stream = lvsadm::client::ask_for_all(control)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut length = [0; 8];
        (&stream).read_exact(&mut length).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("it refuses to hand over"),
            _ => error,
        })?;
        let length = u64::from_be_bytes(length);
        if length > ESTATE_MAX {
            return Err(io::Error::other("it speaks another language"));
        }
        // Memory follows what arrives, not what was announced.
        let mut text = Vec::new();
        (&stream).take(length).read_to_end(&mut text)?;
        let estate = Estate::parse(&text).ok_or_else(|| io::Error::other("it speaks another language"))?;
        let inherited = receive_sockets(&stream, estate.sockets)?;
        Ok((Predecessor { stream, estate }, inherited))
    }

    /// Its rules, with thresholds and timeouts, as [`lvsadm::rules`] reads them.
    pub fn rules(&self) -> &str {
        &self.estate.rules
    }

    /// Puts templates, health and counters where they belong in a director that has a configuration and
    /// does not serve yet. What belongs to no service or server is left out.
    pub(crate) fn bequeath(&self, director: &Director, now: Time) {
        let Estate { templates, down, counts, .. } = &self.estate;
        match director.restore_templates(templates, now) {
            Ok(restored) => tracing::info!(templates = restored.restored, "templates taken over"),
            Err(error) => tracing::warn!(%error, "templates are lost"),
        }
        for (service, server, cause) in down {
            for _ in 0..FALL_MAX {
                if director.probe(service, *server, Probe::Failed(cause.clone().into()), now).is_some() {
                    break;
                }
            }
        }
        for (service, server, counts) in counts {
            // It need not be configured any more.
            let _ = director.add_counts(service, *server, counts);
        }
    }

    /// Lets the other director drain: this one serves.
    ///
    /// # Errors
    /// It is gone, and its connections with it.
    pub fn release(self) -> io::Result<()> {
        (&self.stream).write_all(&[SERVES])
    }
}

/// Sends what a director has, and waits until the successor serves.
pub(crate) fn hand_over(
    stream: &UnixStream,
    director: &Director,
    timeouts: lvsadm::Timeouts,
    sockets: &[OwnedFd],
    now: Time,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let text = Estate::of(director, timeouts, sockets.len(), now).write();
    (&mut &*stream).write_all(&(text.len() as u64).to_be_bytes())?;
    (&mut &*stream).write_all(&text)?;
    send_sockets(stream, sockets)?;
    let mut said = [0];
    (&mut &*stream).read_exact(&mut said)?;
    if said == [SERVES] { Ok(()) } else { Err(io::Error::other("the successor speaks another language")) }
}

fn send_sockets(stream: &UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    for part in sockets.chunks(SOCKETS_AT_ONCE) {
        let borrowed: Vec<BorrowedFd<'_>> = part.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_AT_ONCE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
        // Descriptors travel with bytes; how many there are is in the text.
        sendmsg(stream, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

fn receive_sockets(stream: &UnixStream, count: usize) -> io::Result<Inherited> {
    let mut inherited = Inherited::default();
    while inherited.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received =
            recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let before = inherited.len();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(sockets) = message {
                sockets.into_iter().try_for_each(|socket| inherited.add(socket))?;
            }
        }
        if received.bytes == 0 || inherited.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(inherited)
}

impl Estate {
    fn of(director: &Director, timeouts: lvsadm::Timeouts, sockets: usize, now: Time) -> Estate {
        let rules = lvsadm::rules::save_full(&director.config(), timeouts, Naming::Numeric);
        let mut estate =
            Estate { rules, templates: director.save_templates(now), sockets, ..Estate::default() };
        for service in director.stats() {
            let key = service.config.key.clone();
            estate.counts.push((key.clone(), None, counts_of_departed(&service)));
            for server in &service.servers {
                let address = server.config.address;
                estate.counts.push((key.clone(), Some(address), counts_of(server)));
                if let Condition::Down { cause, .. } = &server.condition {
                    estate.down.push((key.clone(), address, cause.to_string()));
                }
            }
        }
        estate
    }

    fn write(&self) -> Vec<u8> {
        let mut head = format!("{MAGIC}\nsockets {}\n", self.sockets);
        // Writing to a string cannot fail.
        for (service, server, counts) in &self.counts {
            let Some(service) = name(service) else { continue };
            let server = server.map_or("-".to_owned(), |server| server.to_string());
            let Counts { connections, bytes_in, bytes_out, packets_in, packets_out } = counts;
            let _ = writeln!(
                head,
                "counts {service} {server} {connections} {bytes_in} {bytes_out} {packets_in} {packets_out}"
            );
        }
        for (service, server, cause) in &self.down {
            let Some(service) = name(service) else { continue };
            let _ = writeln!(head, "down {service} {server} {}", cause.replace('\n', " "));
        }
        let _ = writeln!(head, "rules {} templates {}", self.rules.len(), self.templates.len());
        [head.as_bytes(), self.rules.as_bytes(), &self.templates].concat()
    }

    fn parse(bytes: &[u8]) -> Option<Estate> {
        let mut estate = Estate::default();
        let (magic, mut rest) = line(bytes)?;
        if magic != MAGIC {
            return None;
        }
        loop {
            let (text, after) = line(rest)?;
            rest = after;
            let words: Vec<&str> = text.split(' ').collect();
            match words[..] {
                ["sockets", count] => {
                    estate.sockets = count.parse().ok().filter(|count| *count <= SOCKETS_MAX)?
                }
                [
                    "counts",
                    protocol,
                    address,
                    server,
                    connections,
                    bytes_in,
                    bytes_out,
                    packets_in,
                    packets_out,
                ] => {
                    let server = if server == "-" { None } else { Some(server.parse().ok()?) };
                    let counts = Counts {
                        connections: connections.parse().ok()?,
                        bytes_in: bytes_in.parse().ok()?,
                        bytes_out: bytes_out.parse().ok()?,
                        packets_in: packets_in.parse().ok()?,
                        packets_out: packets_out.parse().ok()?,
                    };
                    estate.counts.push((key(protocol, address)?, server, counts));
                }
                ["down", protocol, address, server, ..] => {
                    let cause = words[4..].join(" ");
                    estate.down.push((key(protocol, address)?, server.parse().ok()?, cause));
                }
                ["rules", rules, "templates", templates] => {
                    let (rules, templates): (usize, usize) = (rules.parse().ok()?, templates.parse().ok()?);
                    let (text, after) = rest.split_at_checked(rules)?;
                    estate.rules = String::from_utf8(text.to_vec()).ok()?;
                    estate.templates = (after.len() == templates).then(|| after.to_vec())?;
                    return Some(estate);
                }
                // A later version may tell more.
                _ => {}
            }
        }
    }
}

fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn name(service: &ServiceKey) -> Option<String> {
    match service {
        ServiceKey::Address { protocol, address } => Some(format!("{protocol} {address}")),
        ServiceKey::Mark { mark, family: Family::V4 } => Some(format!("FWM {mark}")),
        ServiceKey::Mark { mark, family: Family::V6 } => Some(format!("FWM6 {mark}")),
        ServiceKey::Name(_) => None,
    }
}

fn key(protocol: &str, address: &str) -> Option<ServiceKey> {
    let mark = |family| Some(ServiceKey::Mark { mark: address.parse().ok()?, family });
    match protocol {
        "FWM" => return mark(Family::V4),
        "FWM6" => return mark(Family::V6),
        _ => {}
    }
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = protocols.into_iter().find(|known| known.to_string() == protocol)?;
    Some(ServiceKey::Address { protocol, address: address.parse().ok()? })
}

fn counts_of(server: &ServerStats) -> Counts {
    Counts {
        connections: server.connections,
        bytes_in: server.bytes_in,
        bytes_out: server.bytes_out,
        packets_in: server.packets_in,
        packets_out: server.packets_out,
    }
}

/// What the service counts and none of its servers.
fn counts_of_departed(service: &ServiceStats) -> Counts {
    let rest = |total: u64, of: fn(&ServerStats) -> u64| {
        service.servers.iter().map(of).fold(total, u64::wrapping_sub)
    };
    Counts {
        connections: rest(service.connections, |server| server.connections),
        bytes_in: rest(service.bytes_in, |server| server.bytes_in),
        bytes_out: rest(service.bytes_out, |server| server.bytes_out),
        packets_in: rest(service.packets_in, |server| server.packets_in),
        packets_out: rest(service.packets_out, |server| server.packets_out),
    }
}

const MAGIC: &str = "l4-proxy hands over 1";

/// What the successor says when it serves.
const SERVES: u8 = b'!';

/// How long one side waits for the other. The successor binds and starts threads meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

const ESTATE_MAX: u64 = 1 << 30;

const SOCKETS_MAX: usize = 1 << 20;

/// The kernel takes 253 with one message.
const SOCKETS_AT_ONCE: usize = 64;

/// More failed probes in a row than any policy asks for.
const FALL_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn estate() -> Estate {
        let web = ServiceKey::tcp("192.0.2.1:80".parse().expect("an address"));
        let server = "[2001:db8::1]:8080".parse().expect("an address");
        let counts = Counts { connections: 1, bytes_in: 2, bytes_out: 3, packets_in: 4, packets_out: 5 };
        Estate {
            rules: "-A -t 192.0.2.1:80 -s rr\n".to_owned(),
            templates: vec![0, 10, 255],
            down: vec![(web.clone(), server, "connect refused".to_owned())],
            counts: vec![(web.clone(), Some(server), counts), (web, None, Counts::default())],
            sockets: 3,
        }
    }

    #[test]
    fn estate_arrives_as_it_was_sent() {
        let there = Estate::parse(&estate().write()).expect("its own language");
        assert_eq!(format!("{there:?}"), format!("{:?}", estate()));
    }

    #[test]
    fn estate_that_is_cut_off_or_changed_is_refused_or_read_but_never_a_panic() {
        let whole = estate().write();
        for end in 0..whole.len() {
            assert!(Estate::parse(&whole[..end]).is_none(), "cut at {end}");
        }
        let mut dice = 1_u64;
        for _ in 0..20_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut bytes = whole.clone();
            let place = (dice >> 33) as usize % bytes.len();
            bytes[place] = (dice >> 20) as u8;
            let _ = Estate::parse(&bytes);
        }
    }
}
