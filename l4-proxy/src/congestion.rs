//! Which congestion control a connection is under.
//!
//! The system's choice holds, with one exception: a leg that does not leave the host is not paced.
//! BBR sends by a timer, one interrupt for every 64 KiB, to keep queues in the network short;
//! between two processes of one host there is no such queue, and the timers are more than half of
//! what a bulk transfer costs there.

use std::net::IpAddr;
use std::sync::LazyLock;

use socket2::SockRef;

/// Takes pacing off a socket that is about to listen on `address` or connect to it, if all of its
/// traffic stays on this host.
///
/// It must come before the connection is made: a socket that was paced once stays so.
pub fn unpace_if_local(socket: SockRef<'_>, address: IpAddr) {
    if !address.to_canonical().is_loopback() || !*SYSTEM_PACES {
        return;
    }
    // Without the privilege to choose cubic, what every system allows is left.
    let _ = socket.set_tcp_congestion(b"cubic").or_else(|_| socket.set_tcp_congestion(b"reno"));
}

/// Whether sockets are paced unless told otherwise. Read once: who changes it restarts what is to
/// follow it.
static SYSTEM_PACES: LazyLock<bool> = LazyLock::new(|| {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")
        .is_ok_and(|name| name.starts_with("bbr"))
});

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    /// Says more on a system whose choice is BBR than on another.
    #[test]
    fn only_legs_that_leave_the_host_are_paced() {
        let under = |address: &str| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            unpace_if_local(SockRef::from(&socket), address.parse().unwrap());
            String::from_utf8(socket.tcp_congestion().unwrap()).unwrap()
        };
        let system = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap();
        assert!(under("192.0.2.1").starts_with(system.trim()));
        assert!(!under("127.0.0.1").starts_with("bbr"));
        assert!(!under("::ffff:127.0.0.1").starts_with("bbr"));
    }
}
