//! Ports that nobody has.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::claim::Claim;

/// A port of this host's that nobody has, of neither protocol: below those that the system gives to sockets of
/// the tests beside this one, which could take it before it is used.
///
/// No process of tests that is running gives it to anybody else, even while nobody is bound to it.
pub fn free_port(host: IpAddr) -> SocketAddr {
    static BLOCKS: LazyLock<Mutex<Blocks>> = LazyLock::new(|| Mutex::new(Blocks::of(std::process::id())));
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner).free_port(host)
}

/// Blocks of ports that belong to one process until it ends, however it does.
struct Blocks {
    /// The block that is asked for first.
    first: usize,
    held: Vec<Claim>,
    left: Range<u16>,
}

impl Blocks {
    /// Processes begin at different places, so that a port rests before it is used again.
    fn of(process: u32) -> Blocks {
        Blocks { first: process as usize * 7, held: Vec::new(), left: 0..0 }
    }

    fn free_port(&mut self, host: IpAddr) -> SocketAddr {
        loop {
            let address = SocketAddr::from((host, self.next()));
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                return address;
            }
        }
    }

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
        let first = self.first + self.held.len();
        for block in (first..first + count).map(|block| block % count) {
            if let Some(claim) = Claim::on(&format!("lab ports {block}")) {
                self.held.push(claim);
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
    use std::os::unix::process::parent_id;
    use std::process::Command;

    use super::*;

    #[test]
    fn processes_are_given_different_ports_whether_they_use_them_or_not() {
        let ports = |blocks: &mut Blocks| -> HashSet<u16> {
            (0..100).map(|_| blocks.free_port(Ipv4Addr::LOCALHOST.into()).port()).collect()
        };
        if let Some(file) = std::env::var_os(BESIDE) {
            // From where its parent began, so that they must meet.
            let there = ports(&mut Blocks::of(parent_id()));
            let there: Vec<String> = there.iter().map(u16::to_string).collect();
            return std::fs::write(file, there.join(" ")).expect("a file");
        }
        let mut blocks = Blocks::of(std::process::id());
        let here = ports(&mut blocks);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ports");
        let mut beside = Command::new(std::env::current_exe().expect("this one"));
        beside.args([
            "ports::tests::processes_are_given_different_ports_whether_they_use_them_or_not",
            "--exact",
        ]);
        let output = beside.env(BESIDE, &file).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let there = std::fs::read_to_string(&file).expect("its ports");
        let there: HashSet<u16> =
            there.split_whitespace().map(|port| port.parse().expect("a port")).collect();
        assert_eq!((here.len(), there.len()), (100, 100));
        assert!(here.is_disjoint(&there), "both have some of {here:?}");
    }

    const BESIDE: &str = "LAB_PORTS_BESIDE";
}
