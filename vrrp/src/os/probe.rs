//! Who else has a virtual address: a master asks its neighbours, and hears answers that are not its own.
//!
//! Two masters that do not hear each other's advertisements are still found that way, and so is a host
//! that was given the address, or a real server that has it and answers for it. Questions are ARP probes
//! (RFC 5227, section 2.1.1) and the solicitations of duplicate address detection (RFC 4862, section
//! 5.4.2): both name no address of the asker, so that no neighbour learns anything from them.
//!
//! Sockets for answers are open for a second after a question only: what else arrives costs nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::notice::Claim;
use super::wire::{JUMP_IF_EQUAL, LOAD_BYTE, LOAD_HALF, RETURN};
use super::{frame, sys};
use crate::router::Moment;

/// What a master asks, and who answered.
#[derive(Debug)]
pub(super) struct Inquiry {
    /// Answers before the first question are those of who was master before.
    first: Moment,
    next: Moment,
    /// The address that the next round begins with.
    place: usize,
    claims: Vec<Claimed>,
}

#[derive(Debug)]
struct Claimed {
    claim: Claim,
    /// Questions for its address since it was heard.
    unanswered: u32,
}

impl Inquiry {
    /// That of one who has become master now.
    pub(super) fn new(now: Moment) -> Inquiry {
        Inquiry { first: now + FIRST, next: now + FIRST, place: 0, claims: Vec::new() }
    }

    /// When it asks next.
    pub(super) fn deadline(&self) -> Moment {
        self.next
    }

    /// Which of so many addresses are to be asked for now: all in turn, if they are too many for once.
    pub(super) fn round(&mut self, now: Moment, addresses: usize) -> Vec<usize> {
        if now < self.next {
            return Vec::new();
        }
        self.next = now + if self.claims.is_empty() { AGAIN } else { AGAIN_CONTESTED };
        let from = self.place.checked_rem(addresses).unwrap_or(0);
        let count = addresses.min(ROUND);
        self.place = from + count;
        (from..from + count).map(|place| place % addresses).collect()
    }

    /// Notes that these addresses of those that are held have been asked for. Returns who has not
    /// answered any more.
    pub(super) fn asked(&mut self, asked: &[IpAddr], held: &[IpAddr]) -> Vec<Claim> {
        for claimed in &mut self.claims {
            let address = claimed.claim.address;
            // For one that is not held any more nobody is asked.
            if asked.contains(&address) || !held.contains(&address) {
                claimed.unanswered += 1;
            }
        }
        let gone = self.claims.extract_if(.., |claimed| claimed.unanswered > UNANSWERED);
        gone.map(|claimed| claimed.claim).collect()
    }

    /// Notes who answers; whether that is news. Who answers for many addresses is so for the first.
    pub(super) fn answered(&mut self, claim: &Claim, now: Moment) -> News {
        if now < self.first {
            return News::Known;
        }
        if let Some(known) = self.claims.iter_mut().find(|known| known.claim.mac == claim.mac) {
            known.unanswered = 0;
            return News::Known;
        }
        if self.claims.len() >= CLAIMS {
            return News::Known;
        }
        self.claims.push(Claimed { claim: claim.clone(), unanswered: 0 });
        self.next = self.next.min(now + AGAIN_CONTESTED);
        News::Claimed
    }
}

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Known,
    Claimed,
}

/// Says that a MAC address has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The interface that it came in on.
    pub(super) link: u32,
    pub(super) address: IpAddr,
    pub(super) mac: [u8; 6],
}

/// The sockets that hear answers, as long as there may be some.
#[derive(Debug, Default)]
pub(super) struct Ears {
    open: Vec<Ear>,
}

#[derive(Debug)]
struct Ear {
    family: Family,
    socket: Socket,
    until: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Ears {
    /// Listens for answers about an address, for a while.
    pub(super) fn prick(&mut self, address: IpAddr, now: Moment) -> io::Result<()> {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let until = now + LISTENS;
        match self.open.iter_mut().find(|ear| ear.family == family) {
            Some(ear) => ear.until = until,
            None => self.open.push(Ear { family, socket: family.open()?, until }),
        }
        Ok(())
    }

    /// When one is to be closed.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.open.iter().map(|ear| ear.until).min()
    }

    /// Closes those that there will be nothing to hear with any more.
    pub(super) fn close_due(&mut self, now: Moment) {
        self.open.retain(|ear| ear.until > now);
    }

    /// What becomes readable when there are answers.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.iter().map(|ear| ear.socket.as_fd())
    }

    /// Answers that have arrived, some at a time.
    pub(super) fn answers(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut bytes = [0; 256];
        for ear in &self.open {
            for _ in 0..AT_ONCE {
                // What is wrong with an interface is told by the kernel elsewhere.
                let Ok((length, link)) = sys::receive_frame(&ear.socket, &mut bytes) else { break };
                let said = said(&bytes[..length]);
                answers.extend(said.map(|(address, mac)| Answer { link, address, mac }));
            }
        }
        answers
    }
}

impl Family {
    fn open(self) -> io::Result<Socket> {
        let (kind, filter) = match self {
            Family::V4 => (
                frame::ARP,
                vec![
                    SockFilter::new(LOAD_HALF, 0, 0, 20),
                    SockFilter::new(JUMP_IF_EQUAL, 0, 1, frame::ARP_REPLY.into()),
                    SockFilter::new(RETURN, 0, 0, u32::MAX),
                    SockFilter::new(RETURN, 0, 0, 0),
                ],
            ),
            Family::V6 => (
                frame::IPV6,
                vec![
                    SockFilter::new(LOAD_BYTE, 0, 0, 20),
                    SockFilter::new(JUMP_IF_EQUAL, 0, 3, frame::ICMPV6.into()),
                    SockFilter::new(LOAD_BYTE, 0, 0, 54),
                    SockFilter::new(JUMP_IF_EQUAL, 0, 1, frame::NEIGHBOUR_ADVERTISEMENT.into()),
                    SockFilter::new(RETURN, 0, 0, u32::MAX),
                    SockFilter::new(RETURN, 0, 0, 0),
                ],
            ),
        };
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(kind.to_be()))))?;
        // What arrived before is looked at as closely as all else.
        socket.attach_filter(&filter)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// The frame that asks who has an address.
pub(super) fn question(mac: [u8; 6], address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => frame::arp_request(mac, Ipv4Addr::UNSPECIFIED, [0; 6], address),
        IpAddr::V6(address) => {
            let mut message = vec![frame::NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            message.extend(address.octets());
            let [.., high, low] = address.segments();
            let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low);
            frame::icmpv6(mac, Ipv6Addr::UNSPECIFIED, solicited, message)
        }
    }
}

/// Which address is where, if a frame says so.
fn said(bytes: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    let from: [u8; 6] = bytes.get(6..12)?.try_into().ok()?;
    let (kind, packet) = bytes.get(12..)?.split_first_chunk()?;
    match u16::from_be_bytes(*kind) {
        frame::ARP => {
            let (start, rest) = packet.split_first_chunk()?;
            let (operation, rest) = rest.split_first_chunk()?;
            let (mac, rest) = rest.split_first_chunk()?;
            let address = rest.first_chunk::<4>()?;
            let is_reply =
                *start == frame::ETHERNET_IPV4 && u16::from_be_bytes(*operation) == frame::ARP_REPLY;
            is_reply.then(|| (IpAddr::from(*address), *mac))
        }
        frame::IPV6 => {
            let (header, message) = packet.split_first_chunk::<40>()?;
            let (start, rest) = message.split_first_chunk::<8>()?;
            let (address, mut options) = rest.split_first_chunk::<16>()?;
            if header[6..8] != [frame::ICMPV6, 255] || start[0] != frame::NEIGHBOUR_ADVERTISEMENT {
                return None;
            }
            let mut mac = from;
            while let &[kind, eights, ..] = options {
                // One of no length would never end (RFC 4861, section 4.6).
                let eights = Some(eights).filter(|eights| *eights > 0)?;
                let (option, rest) = options.split_at_checked(usize::from(eights) * 8)?;
                if kind == frame::TARGET_LINK_LAYER_ADDRESS {
                    mac = *option[2..].first_chunk()?;
                }
                options = rest;
            }
            Some((IpAddr::from(*address), mac))
        }
        _ => None,
    }
}

/// From becoming master to the first question: by then who was master before has given them away.
const FIRST: Duration = Duration::from_secs(1);
/// From one question to the next, and where another one has answered.
const AGAIN: Duration = Duration::from_secs(10);
const AGAIN_CONTESTED: Duration = Duration::from_secs(3);
/// For how long answers are heard.
const LISTENS: Duration = Duration::from_secs(1);
/// Addresses that are asked for at a time; of more, each is asked for less often.
const ROUND: usize = 32;
/// Questions that one who answered before may leave unanswered.
const UNANSWERED: u32 = 2;
/// Others that are known at most; who makes answers up is heard of no more.
const CLAIMS: usize = 16;
/// Frames that are read before timers are looked at.
const AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn vip(host: u8) -> IpAddr {
        IpAddr::from([10, 8, 0, host])
    }

    fn claim(host: u8) -> Claim {
        Claim { address: vip(host), mac: OTHER, interface: "eth0".to_owned() }
    }

    fn at(second: u64) -> Moment {
        Duration::from_secs(second)
    }

    #[test]
    fn question_is_an_arp_probe() {
        let wanted = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0,
            0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 8, 0, 100,
        ];
        assert_eq!(question(MAC, vip(100)), wanted);
    }

    #[test]
    fn ipv6_question_goes_from_nowhere_to_the_solicited_group() {
        let frame = question(MAC, "fd00::12:3456".parse().expect("an address"));
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(frame[22..38], [0; 16]);
        assert_eq!(frame[38..54], [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 0x56]);
    }

    #[test]
    fn answer_says_who_has_the_address() {
        let mut reply = question(OTHER, vip(100));
        reply[21] = 2;
        reply[28..32].copy_from_slice(&[10, 8, 0, 100]);
        assert_eq!(said(&reply), Some((vip(100), OTHER)));
        assert_eq!(said(&question(OTHER, vip(100))), None, "that is a question");

        let address: Ipv6Addr = "fd00::100".parse().expect("an address");
        let mut message = vec![frame::NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0];
        message.extend(address.octets());
        message.extend([frame::TARGET_LINK_LAYER_ADDRESS, 1]);
        message.extend(OTHER);
        let advertisement = frame::icmpv6(MAC, address, "ff02::1".parse().expect("a group"), message);
        assert_eq!(said(&advertisement), Some((address.into(), OTHER)));
        for whole in [&reply, &advertisement] {
            for length in 0..whole.len() {
                // Whatever it comes to, and without an option the frame's own sender is the one.
                let cut = said(&whole[..length]);
                assert!(cut.is_none_or(|(said, _)| said == vip(100) || said == address));
            }
        }
    }

    #[test]
    fn another_one_is_told_of_once_until_it_has_left_questions_unanswered() {
        let mut inquiry = Inquiry::new(at(0));
        assert_eq!(inquiry.answered(&claim(1), at(0)), News::Known, "it was master before");
        assert_eq!(inquiry.round(at(1), 1), [0]);
        assert_eq!(inquiry.answered(&claim(1), at(1)), News::Claimed);
        assert_eq!(inquiry.answered(&claim(2), at(1)), News::Known, "the same one, for another address");
        assert_eq!(inquiry.deadline(), at(4), "one more reason to ask");
        let (asked, held) = ([vip(1)], [vip(1)]);
        assert_eq!([(); 2].map(|()| inquiry.asked(&asked, &held).len()), [0, 0]);
        assert_eq!(inquiry.answered(&claim(1), at(7)), News::Known);
        assert_eq!([(); 3].map(|()| inquiry.asked(&asked, &held).len()), [0, 0, 1]);
        assert_eq!(inquiry.answered(&claim(1), at(30)), News::Claimed, "it is back");
        assert_eq!([(); 3].map(|()| inquiry.asked(&[], &[]).len()), [0, 0, 1], "the address was given up");
    }

    #[test]
    fn all_addresses_are_asked_for_in_turn() {
        let mut inquiry = Inquiry::new(at(0));
        assert_eq!(inquiry.round(at(0), 40), [0; 0]);
        assert_eq!(inquiry.round(at(1), 40), (0..32).collect::<Vec<_>>());
        assert_eq!(inquiry.round(at(10), 40), [0; 0]);
        assert_eq!(inquiry.round(at(11), 40), (32..40).chain(0..24).collect::<Vec<_>>());
        assert_eq!(inquiry.round(at(21), 0), [0; 0], "it holds none any more");
        assert_eq!(inquiry.round(at(31), 1), [0]);
    }
}
