//! Reads and writes of stream sockets by bare system calls, and what their errors tell.
//!
//! The C library makes each of its calls a point at which a thread may be cancelled: two atomic operations
//! per call as soon as there is a second thread. Nobody cancels threads here. What the runtime knows of a
//! socket is kept as its own calls keep it: one that moved less than was asked for has found the end of what
//! there is, so the next waits to be woken (epoll(7), edge-triggered).

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use socket2::Socket;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::sys;

/// What the kernel has found out about the way to the other end of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// How long a packet takes there and back, in microseconds.
    pub rtt: u32,
    /// By how much that varies, in microseconds.
    pub rttvar: u32,
    /// How many packets may be on their way.
    pub snd_cwnd: u32,
    /// How many bytes the other end may send without a word of ours.
    pub rcv_space: u32,
}

impl TcpInfo {
    /// Asks the kernel; `None` if the socket is no TCP connection.
    pub fn of(socket: impl AsFd) -> Option<TcpInfo> {
        // Places in words of 32 bits.
        const RTT: usize = 17;
        const RTTVAR: usize = 18;
        const SND_CWND: usize = 20;
        const RCV_SPACE: usize = 24;
        let info = sys::tcp_info::<{ RCV_SPACE + 1 }>(socket)?;
        let [rtt, rttvar, snd_cwnd, rcv_space] = [RTT, RTTVAR, SND_CWND, RCV_SPACE].map(|place| info[place]);
        Some(TcpInfo { rtt, rttvar, snd_cwnd, rcv_space })
    }
}

/// Connects a socket that does not block.
///
/// Whether it worked is what woke it: the kernel is asked for an error only where there may be one.
///
/// # Errors
/// Those of connect(2).
pub async fn connect(socket: Socket, to: SocketAddr) -> io::Result<TcpStream> {
    match socket.connect(&to.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    let ready = stream.ready(Interest::WRITABLE | Interest::ERROR).await?;
    if ready.is_error() || ready.is_write_closed() {
        stream.take_error()?.map_or(Ok(()), Err)?;
    }
    Ok(stream)
}

/// Reads into `buffer`; returns how much, nothing at the end of the stream.
///
/// # Errors
/// Those of recv(2), but for those that are waited out.
pub fn poll_recv(stream: &TcpStream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    let room = buffer.len();
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let moved = attempt(stream, Interest::READABLE, room, || {
            recv(stream, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count)
        });
        if let Some(moved) = moved {
            return Poll::Ready(moved);
        }
    }
}

/// What comes behind bytes that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Nothing that is known of: they leave at once.
    Nothing,
    /// The end of the stream, in this moment: one segment is to carry both. Until the stream is shut down or written
    /// to, the last bytes may stay here (`MSG_MORE`). Closing it sends them only if everything was read that has come.
    End,
}

impl Behind {
    fn flags(self) -> SendFlags {
        match self {
            Behind::Nothing => SendFlags::NOSIGNAL,
            Behind::End => SendFlags::NOSIGNAL | SendFlags::MORE,
        }
    }
}

/// Writes from `bytes`; returns how much.
///
/// # Errors
/// Those of send(2), but for those that are waited out.
pub fn poll_send(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
    behind: Behind,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let moved = attempt(stream, Interest::WRITABLE, bytes.len(), || send(stream, bytes, behind.flags()));
        if let Some(moved) = moved {
            return Poll::Ready(moved);
        }
    }
}

/// Writes from `pieces`, one behind the other; returns how much.
///
/// # Errors
/// Those of sendmsg(2), but for those that are waited out.
pub fn poll_send_pieces(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
    behind: Behind,
) -> Poll<io::Result<usize>> {
    let len = pieces.iter().map(|piece| piece.len()).sum();
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let moved = attempt(stream, Interest::WRITABLE, len, || {
            sendmsg(stream, pieces, &mut SendAncillaryBuffer::default(), behind.flags())
        });
        if let Some(moved) = moved {
            return Poll::Ready(moved);
        }
    }
}

/// Whether the other end is known to have ended its direction: behind what has been read there is nothing more.
pub fn is_ended(stream: &TcpStream, cx: &mut Context<'_>) -> bool {
    let ready = pin!(stream.ready(Interest::READABLE)).poll(cx);
    matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
}

/// Moves bytes once; `None` if the socket turned out not to be ready, or a signal came.
fn attempt(
    stream: &TcpStream,
    interest: Interest,
    most: usize,
    call: impl FnOnce() -> rustix::io::Result<usize>,
) -> Option<io::Result<usize>> {
    let mut part = None;
    let moved = stream.try_io(interest, || match call() {
        Ok(count) if 0 < count && count < most => {
            part = Some(count);
            // What the runtime is told is that the next call would have to wait.
            Err(io::ErrorKind::WouldBlock.into())
        }
        moved => Ok(moved?),
    });
    match (part, moved) {
        (Some(count), _) => Some(Ok(count)),
        (None, Err(error)) if is_transient(&error) => None,
        (None, moved) => Some(moved),
    }
}

/// Whether a system call is to be tried again, now or when the socket is ready.
pub fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether there is no connection because of this host, which says nothing about the server: no port, no
/// descriptor, no memory, no right.
pub fn is_of_host(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::ADDRNOTAVAIL
                | Errno::ADDRINUSE
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::PERM
                | Errno::ACCESS
                | Errno::AFNOSUPPORT
                | Errno::INVAL
        )
    )
}
