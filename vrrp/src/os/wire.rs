//! The sockets of one virtual router: what it sends, and what arrives for it and is worth a look.
//!
//! In IPv4 the IP header is written here, so that its identification is known to the authentication
//! header; in IPv6 the kernel writes it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockFilter, Socket, Type};

use super::settings::{Authentication, Dialect, Instance, Reach};
use super::sys;
use crate::ah::{self, Envelope, Forged, PROTOCOL_AH};
use crate::packet::{Advert, Coverage, Malformed, PROTOCOL, Received, TOS, TTL};
use crate::router::Moment;

/// The sockets of one virtual router.
pub(super) struct Wire {
    receiver: Socket,
    /// On the interface that it sends out of, and where that is down, on that which it hears on.
    senders: Vec<(Socket, u32)>,
    own: IpAddr,
    /// Indexes of the interfaces that it hears on and sends out of; zero is any.
    link: u32,
    out: u32,
    destinations: Vec<IpAddr>,
    group: Option<IpAddr>,
    ttl: u8,
    coverage: Coverage,
    key: Option<Vec<u8>>,
    /// Identification of the next IP header, and number of the next authentication header.
    serial: u32,
    /// Whose authentication header came last, its number and when: an older one is a repetition. One
    /// who has been silent for as long as a dead master may begin anew.
    last: Option<(Ipv4Addr, u32, Moment)>,
    silence: Duration,
}

/// What arrived.
pub(super) enum Incoming {
    /// An advertisement that can be read, and how far it has come.
    Advert { from: IpAddr, ttl: u8, received: Received },
    /// One that says what it should not, or cannot prove who sent it.
    Bad { from: IpAddr, ttl: u8, why: Bad },
    /// Nothing more.
    Nothing,
}

/// Why a datagram is no advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    Malformed(Malformed),
    Forged(Forged),
}

impl Wire {
    /// Sockets that hear on an interface and send out of it, or out of another one, from one of its
    /// addresses.
    pub(super) fn open(
        instance: &Instance,
        link: Option<u32>,
        out: Option<u32>,
        own: IpAddr,
        serial: u32,
    ) -> io::Result<Wire> {
        let key = match &instance.dialect {
            Dialect::V2(Authentication::Header(key)) => Some(key.clone()),
            _ => None,
        };
        let protocol = if key.is_some() { PROTOCOL_AH } else { PROTOCOL };
        let domain = if own.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let (link, out) = (link.unwrap_or(0), out.unwrap_or(0));
        let open = |link| -> io::Result<Socket> {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
            socket.set_nonblocking(true)?;
            match own {
                IpAddr::V4(_) => socket.bind_device_by_index_v4(NonZeroU32::new(link))?,
                IpAddr::V6(_) => socket.bind_device_by_index_v6(NonZeroU32::new(link))?,
            }
            Ok(socket)
        };
        let group = match instance.reach {
            Reach::Group(_) => instance.destinations().first().copied(),
            Reach::Peers { .. } => None,
        };
        let mut senders = vec![(open(out)?, out)];
        if out != link {
            senders.push((open(link)?, link));
        }
        let wire = Wire {
            receiver: open(link)?,
            senders,
            own,
            link,
            out,
            destinations: instance.destinations(),
            group,
            ttl: instance.ttl(),
            coverage: match instance.dialect {
                Dialect::V3(coverage) => coverage,
                Dialect::V2(_) => Coverage::default(),
            },
            key,
            serial,
            last: None,
            silence: instance.interval * u32::from(instance.down_adverts),
        };
        wire.prepare_receiver(instance.vrid)?;
        for (sender, link) in &wire.senders {
            wire.prepare_sender(sender, *link)?;
        }
        Ok(wire)
    }

    fn prepare_receiver(&self, vrid: u8) -> io::Result<()> {
        // Before it is bound, so that nothing passes it.
        self.receiver.attach_filter(&self.filter(vrid))?;
        self.receiver.bind(&address(self.group.unwrap_or(self.own), self.link))?;
        match self.group {
            Some(IpAddr::V4(group)) => {
                self.receiver.set_multicast_all_v4(false)?;
                self.receiver.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(self.link))?;
            }
            Some(IpAddr::V6(group)) => self.receiver.join_multicast_v6(&group, self.link)?,
            None => {}
        }
        if self.own.is_ipv6() {
            self.receiver.set_recv_hoplimit_v6(true)?;
        }
        Ok(())
    }

    fn prepare_sender(&self, sender: &Socket, link: u32) -> io::Result<()> {
        // It hears nothing: every datagram would wait in it for ever.
        sender.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        sockopt::set_socket_send_buffer_size(sender, SEND_BUFFER)?;
        match self.own {
            IpAddr::V4(_) => {
                sender.set_header_included_v4(true)?;
                sender.set_multicast_loop_v4(false)?;
            }
            IpAddr::V6(_) => {
                // The address is not that of an interface which only lends its MAC address.
                sender.set_freebind_v6(true)?;
                sender.bind(&address(self.own, link))?;
                sender.set_multicast_loop_v6(false)?;
                sender.set_multicast_hops_v6(TTL.into())?;
                sender.set_unicast_hops_v6(self.ttl.into())?;
                sender.set_tclass_v6(TOS.into())?;
                if link != 0 {
                    sender.set_multicast_if_v6(link)?;
                }
            }
        }
        Ok(())
    }

    /// Lets through what speaks of this virtual router, so that a busy network of many of them wakes
    /// only the one that is meant.
    fn filter(&self, vrid: u8) -> Vec<SockFilter> {
        let before = if self.key.is_some() { ah::LENGTH as u32 } else { 0 };
        let place = before + 1;
        let mut filter = if self.own.is_ipv4() {
            vec![SockFilter::new(LOAD_HEADER_LENGTH, 0, 0, 0), SockFilter::new(LOAD_BYTE_BEHIND, 0, 0, place)]
        } else {
            vec![SockFilter::new(LOAD_BYTE, 0, 0, place)]
        };
        filter.extend([
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, vrid.into()),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
            SockFilter::new(RETURN, 0, 0, 0),
        ]);
        filter
    }

    /// Whether it is the way to hear on an interface and to send out of one, from an address.
    pub(super) fn is_on(&self, link: Option<u32>, out: Option<u32>, own: IpAddr) -> bool {
        (self.link, self.out, self.own) == (link.unwrap_or(0), out.unwrap_or(0), own)
    }

    /// Where it speaks from.
    pub(super) fn own(&self) -> IpAddr {
        self.own
    }

    /// Where the next sockets of the same virtual router go on counting.
    pub(super) fn serial(&self) -> u32 {
        self.serial
    }

    /// Whether it speaks to a group, where nobody is heard from behind a router.
    pub(super) fn is_multicast(&self) -> bool {
        self.group.is_some()
    }

    /// Sends an advertisement to all it is meant for; the last failure counts.
    pub(super) fn send(&mut self, advert: &Advert) -> io::Result<()> {
        let mut result = Ok(());
        for destination in self.destinations.clone() {
            if let Err(error) = self.send_to(advert, destination) {
                result = Err(error);
            }
        }
        result
    }

    fn send_to(&mut self, advert: &Advert, destination: IpAddr) -> io::Result<()> {
        let message = advert.encode(self.own, destination, self.coverage);
        let bytes = match (self.own, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.in_v4(source, destination, &message),
            _ => message,
        };
        let mut result = Ok(());
        for (sender, link) in &self.senders {
            match sender.send_to(&bytes, &address(destination, *link)) {
                Ok(_) => return Ok(()),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn in_v4(&mut self, source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
        self.serial = self.serial.wrapping_add(1);
        // With zero, the kernel would choose one of its own.
        let identification = (self.serial % u32::from(u16::MAX)) as u16 + 1;
        let envelope = Envelope { source, destination, identification };
        let (protocol, payload) = match &self.key {
            Some(key) => (PROTOCOL_AH, ah::seal(key, envelope, self.serial, message)),
            None => (PROTOCOL, message.to_vec()),
        };
        // The kernel fills in the checksum.
        let length = (IP_HEADER + payload.len()) as u16;
        let mut bytes = vec![0x45, TOS];
        bytes.extend(length.to_be_bytes());
        bytes.extend(identification.to_be_bytes());
        bytes.extend([0, 0, self.ttl, protocol, 0, 0]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes.extend(payload);
        bytes
    }

    /// Takes the next datagram off the socket.
    pub(super) fn receive(&mut self, now: Moment) -> io::Result<Incoming> {
        let (mut bytes, mut control) = ([0; DATAGRAM], [0; CONTROL]);
        let arrival = match sys::receive(&self.receiver, &mut bytes, &mut control) {
            Ok(arrival) => arrival,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(Incoming::Nothing);
            }
            Err(error) => return Err(error),
        };
        let datagram = &bytes[..arrival.length];
        Ok(match arrival.from {
            IpAddr::V4(_) => self.read_v4(datagram, now),
            IpAddr::V6(from) => {
                let ttl = hop_limit(&control[..arrival.control]).unwrap_or(0);
                self.read_v6(from, ttl, datagram)
            }
        })
    }

    fn read_v4(&mut self, datagram: &[u8], now: Moment) -> Incoming {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let have = datagram.len();
        let bad = |from, ttl, why| Incoming::Bad { from, ttl, why };
        let Some((header, _)) = datagram.split_first_chunk::<IP_HEADER>() else {
            return bad(unspecified, 0, Bad::Malformed(Malformed::Short { have, want: IP_HEADER }));
        };
        let address = |place: usize| {
            Ipv4Addr::from([header[place], header[place + 1], header[place + 2], header[place + 3]])
        };
        let (source, destination, ttl) = (address(12), address(16), header[8]);
        let (from, to) = (IpAddr::V4(source), IpAddr::V4(destination));
        let Some(mut payload) = datagram.get(usize::from(header[0] & 0xf) * 4..) else {
            return bad(from, ttl, Bad::Malformed(Malformed::Short { have, want: IP_HEADER }));
        };
        if let Some(key) = &self.key {
            let identification = u16::from_be_bytes([header[4], header[5]]);
            let envelope = Envelope { source, destination, identification };
            let recent = self.last.filter(|(who, _, when)| *who == source && now < *when + self.silence);
            match ah::open(key, envelope, recent.map(|(_, number, _)| number), payload) {
                Ok((number, message)) => {
                    self.last = Some((source, number, now));
                    payload = message;
                }
                Err(why) => return bad(from, ttl, Bad::Forged(why)),
            }
        }
        read(payload, from, to, ttl)
    }

    fn read_v6(&self, from: Ipv6Addr, ttl: u8, datagram: &[u8]) -> Incoming {
        read(datagram, from.into(), self.group.unwrap_or(self.own), ttl)
    }
}

fn read(payload: &[u8], from: IpAddr, to: IpAddr, ttl: u8) -> Incoming {
    match Advert::parse(payload, from, to) {
        Ok(received) => Incoming::Advert { from, ttl, received },
        Err(why) => Incoming::Bad { from, ttl, why: Bad::Malformed(why) },
    }
}

/// An address, which means another host on every interface if it is a link's.
fn address(address: IpAddr, link: u32) -> SockAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(address, 0).into(),
        IpAddr::V6(v6) => {
            let scope = if v6.is_unicast_link_local() || v6.is_multicast() { link } else { 0 };
            SocketAddrV6::new(v6, 0, 0, scope).into()
        }
    }
}

/// The hop limit among control messages: each is its length, level and type, and what it says.
fn hop_limit(mut control: &[u8]) -> Option<u8> {
    const WORD: usize = size_of::<usize>();
    loop {
        let length = usize::from_ne_bytes(*control.first_chunk::<WORD>()?);
        let number = |from: usize| -> Option<i32> {
            Some(i32::from_ne_bytes(*control.get(from..)?.first_chunk::<4>()?))
        };
        if (number(WORD)?, number(WORD + 4)?) == (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) {
            return u8::try_from(number(WORD + 8)?).ok();
        }
        control = control.get(length.max(1).next_multiple_of(WORD)..)?;
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bad::Malformed(why) => why.fmt(f),
            Bad::Forged(why) => why.fmt(f),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

/// Instructions of a socket filter.
pub(super) const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
pub(super) const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE_BEHIND: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
const LOAD_HEADER_LENGTH: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
pub(super) const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const IP_HEADER: usize = 20;
/// An advertisement of 255 IPv6 addresses has 4088 bytes.
const DATAGRAM: usize = 8192;
const CONTROL: usize = 64;
const SEND_BUFFER: usize = 64 * 1024;
