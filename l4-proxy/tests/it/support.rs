//! Sockets and streams for the tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

pub(crate) use lab::{PATIENCE, eventually, is_installed, skip};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A listener on a free port of loopback, below those that the system gives away: who connects there when
/// nobody listens any more might otherwise be given that very port, and connect to itself.
pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(free_port()).expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Has a listener refuse whoever comes from now on. It keeps its port: one that is given back may be somebody
/// else's at once.
pub(crate) fn refuse(listener: &TcpListener) {
    rustix::net::shutdown(listener, rustix::net::Shutdown::Both).expect("it listens");
}

/// A client connection whose reads and writes end in time.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the proxy accepts");
    patient(&stream);
    stream
}

/// Whether a client of this address is reset without a word. That may be so fast that it learns of
/// it while it still connects.
pub(crate) fn resets_its_client(address: SocketAddr) -> bool {
    let heard = TcpStream::connect_timeout(&address, PATIENCE).and_then(|mut stream| {
        patient(&stream);
        stream.read(&mut [0])
    });
    heard.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

/// Accepts one connection whose reads and writes end in time.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let patience = Timespec::try_from(PATIENCE).expect("a short time");
    let mut waiting = [PollFd::new(listener, PollFlags::IN)];
    assert_eq!(poll(&mut waiting, Some(&patience)), Ok(1), "nobody connects");
    let (stream, _) = listener.accept().expect("the proxy connects");
    patient(&stream);
    stream
}

fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("an open socket");
}

/// Whether the other side has ended or reset this connection, on which it says nothing.
pub(crate) fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("an open socket");
    let heard = stream.peek(&mut [0]);
    !heard.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// A stream of bytes that tells every place from every other, by its seed.
pub(crate) struct Pattern(u64);

impl Pattern {
    pub(crate) fn new(seed: u64) -> Pattern {
        Pattern(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = self.0 as u8;
        }
    }

    /// Writes this many bytes, in writes of uneven size.
    pub(crate) fn write_to(mut self, mut stream: &TcpStream, mut total: usize) -> std::io::Result<()> {
        let mut buffer = vec![0; 70_001];
        let mut size = 1;
        while total > 0 {
            let part = size.min(total);
            self.fill(&mut buffer[..part]);
            stream.write_all(&buffer[..part])?;
            total -= part;
            size = (size * 3 + 1).min(buffer.len());
        }
        Ok(())
    }

    /// Reads this many bytes, all of them right.
    pub(crate) fn read_part(mut self, mut stream: &TcpStream, total: usize) -> std::io::Result<()> {
        let (mut got, mut want) = (vec![0; 65_536], vec![0; 65_536]);
        let mut left = total;
        while left > 0 {
            let part = left.min(got.len());
            stream.read_exact(&mut got[..part])?;
            self.fill(&mut want[..part]);
            assert!(got[..part] == want[..part], "wrong bytes after {}", total - left);
            left -= part;
        }
        Ok(())
    }

    /// Reads to the end of the stream and says how many bytes came, all of them right.
    pub(crate) fn read_from(self, stream: &TcpStream) -> std::io::Result<usize> {
        match self.read_to_the_end(stream) {
            (total, None) => Ok(total),
            (_, Some(error)) => Err(error.into()),
        }
    }

    /// Reads until the stream ends or fails, and says how many bytes came, all of them right, and
    /// how it failed.
    pub(crate) fn read_to_the_end(mut self, mut stream: &TcpStream) -> (usize, Option<std::io::ErrorKind>) {
        let (mut got, mut want) = (vec![0; 65_536], vec![0; 65_536]);
        let mut total = 0;
        loop {
            let read = match stream.read(&mut got) {
                Ok(0) => return (total, None),
                Ok(read) => read,
                Err(error) => return (total, Some(error.kind())),
            };
            self.fill(&mut want[..read]);
            assert!(got[..read] == want[..read], "wrong bytes after {total}");
            total += read;
        }
    }
}

/// A port of loopback that nobody has, of neither protocol.
pub(crate) fn free_port() -> SocketAddr {
    lab::free_port(std::net::Ipv4Addr::LOCALHOST.into())
}

/// Whether nobody listens on this address. A connection to find out would wait in a queue.
pub(crate) fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}
