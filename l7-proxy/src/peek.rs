//! Looking at what has come on a socket, which stays there for whoever goes on with it.

use std::io;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Waits until more has come than the `before` bytes that were seen, and looks at all of it; 0 is that no more
/// will come.
///
/// The socket is not empty while one waits here, so to be told of what comes it has to be said that it were.
/// Whoever reads after this has the right answer again: more has come, or the end.
pub(crate) async fn more(socket: &TcpStream, seen: &mut [u8], before: usize) -> io::Result<usize> {
    loop {
        let is_over = socket.ready(Interest::READABLE).await?.is_read_closed();
        let looked = socket.try_io(Interest::READABLE, || {
            let (count, _) = rustix::net::recv(socket, &mut *seen, RecvFlags::PEEK)?;
            if count == before && !is_over { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        });
        match looked {
            Ok(count) => return Ok(if count == before { 0 } else { count }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
