//! `PING_CHECK`: an echo request is answered.
//!
//! Through the kernel's ping sockets, which need no privilege where `ping_group_range` allows it;
//! elsewhere through a raw socket, which does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use lvs_core::Cause;
use socket2::{Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::origin;
use crate::keepalived::model::Origin;
use crate::proxy::cause;

pub(super) async fn check(origin: &Origin) -> Result<(), Cause> {
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    // A ping has no port.
    let target = SocketAddr::new(origin.target.ip(), 0);
    let bind = origin.bind.map(|bind| SocketAddr::new(bind.ip(), 0));
    let (socket, kind) = open(&Origin { target, bind, ..origin.clone() })?;
    socket.connect(&target.into()).map_err(|error| cause(&error))?;
    // A socket for datagrams like any other from here on.
    let socket = UdpSocket::from_std(socket.into()).map_err(|error| cause(&error))?;
    let id = (std::process::id() as u16).to_be_bytes();
    let request = request(target, id, sequence);
    socket.send(&request).await.map_err(|error| cause(&error))?;
    loop {
        let mut packet = [0; 512];
        let length = socket.recv(&mut packet).await.map_err(|error| cause(&error))?;
        let with_ip_head = kind == Type::RAW && target.is_ipv4();
        let message = if with_ip_head { without_ip_head(&packet[..length]) } else { &packet[..length] };
        let reply = if target.is_ipv4() { ECHO_REPLY } else { ECHO_REPLY_V6 };
        match message {
            [code, _, _, _, first, second, third, fourth, ..]
                if *code == reply
                    && [*third, *fourth] == sequence.to_be_bytes()
                    // A ping socket sets and filters the identifier itself.
                    && (kind == Type::DGRAM || [*first, *second] == id) =>
            {
                return Ok(());
            }
            _ => {}
        }
    }
}

fn open(origin: &Origin) -> Result<(Socket, Type), Cause> {
    let protocol = if origin.target.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let opened = origin::socket(origin, Type::DGRAM, protocol).map(|socket| (socket, Type::DGRAM));
    let opened =
        opened.or_else(|_| origin::socket(origin, Type::RAW, protocol).map(|socket| (socket, Type::RAW)));
    opened.map_err(|error| Cause::from(format!("no socket for a ping: {error}")))
}

/// An echo request. The kernel adds the checksum for ping sockets and for IPv6, not for raw IPv4.
fn request(target: SocketAddr, id: [u8; 2], sequence: u16) -> Vec<u8> {
    let code = if target.is_ipv4() { ECHO } else { ECHO_V6 };
    let [high, low] = sequence.to_be_bytes();
    let mut message = vec![code, 0, 0, 0, id[0], id[1], high, low];
    message.extend_from_slice(b"l4-proxy PING_CHECK.");
    let sum =
        message.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    if target.is_ipv4() {
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// What comes after the IP header, whose length is in its first byte.
fn without_ip_head(packet: &[u8]) -> &[u8] {
    let length = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    packet.get(length..).unwrap_or_default()
}

static SEQUENCE: AtomicU16 = AtomicU16::new(0);

const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
