//! Ports that nobody has.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::sync::{Mutex, PoisonError};

/// A port of this host's that nobody has, of neither protocol: below those that the system gives to sockets of
/// the tests beside this one, which could take it before it is used.
///
/// No process of tests that is running gives it to anybody else, even while nobody is bound to it.
pub fn free_port(host: IpAddr) -> SocketAddr {
    static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks { held: Vec::new(), left: 0..0 });
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let address = SocketAddr::from((host, blocks.next()));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Blocks of ports that belong to one process until it ends, however it does.
struct Blocks {
    /// A socket whose name says that a block is taken: the kernel gives a name once, and takes it back.
    held: Vec<UnixDatagram>,
    left: Range<u16>,
}

impl Blocks {
    fn next(&mut self) -> u16 {
        loop {
            match self.left.next() {
                Some(port) => return port,
                None => self.take(),
            }
        }
    }

    fn take(&mut self) {
        let count = PORTS.len() / BLOCK;
        // Processes begin at different places, so that a port rests before it is used again.
        let first = std::process::id() as usize * 7 + self.held.len();
        for block in (first..first + count).map(|block| block % count) {
            let name = UnixAddress::from_abstract_name(format!("lab ports {block}")).expect("a short name");
            if let Ok(socket) = UnixDatagram::bind_addr(&name) {
                self.held.push(socket);
                let start = PORTS.start + (block * BLOCK) as u16;
                self.left = start..start + BLOCK as u16;
                return;
            }
        }
        panic!("tests have all ports from {} to {}", PORTS.start, PORTS.end);
    }
}

const PORTS: Range<u16> = 20_000..32_000;

/// Few enough that many processes find some, and many enough that a process needs few descriptors for them.
const BLOCK: usize = 30;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;
    use std::process::Command;

    use super::*;

    #[test]
    fn processes_are_given_different_ports_whether_they_use_them_or_not() {
        let ports =
            || -> HashSet<u16> { (0..100).map(|_| free_port(Ipv4Addr::LOCALHOST.into()).port()).collect() };
        let here = ports();
        if let Some(file) = std::env::var_os(BESIDE) {
            let ports: Vec<String> = here.iter().map(u16::to_string).collect();
            return std::fs::write(file, ports.join(" ")).expect("a file");
        }
        let program = std::env::current_exe().expect("this one");
        let name = "ports::tests::processes_are_given_different_ports_whether_they_use_them_or_not";
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ports");
        // Wherever they begin, as many ports as there are make some of them meet.
        for _ in 0..20 {
            let mut beside = Command::new(&program);
            let output = beside.args([name, "--exact"]).env(BESIDE, &file).output().expect("it runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            let there = std::fs::read_to_string(&file).expect("its ports");
            let there: HashSet<u16> =
                there.split_whitespace().map(|port| port.parse().expect("a port")).collect();
            assert_eq!((here.len(), there.len()), (100, 100));
            assert!(here.is_disjoint(&there), "both have some of {here:?}");
        }
    }

    const BESIDE: &str = "LAB_PORTS_BESIDE";
}
