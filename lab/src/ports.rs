//! Ports that nobody has.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port of this host's that nobody has, of neither protocol: below those that the system gives to sockets of
/// the tests beside this one, which could take it before it is used.
pub fn free_port(host: IpAddr) -> SocketAddr {
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other processes of these tests begin elsewhere.
    let offset = std::process::id() as usize * 97;
    loop {
        let place = (offset + usize::from(NEXT.fetch_add(1, Ordering::Relaxed))) % PORTS.len();
        let address = SocketAddr::from((host, PORTS.start + place as u16));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
