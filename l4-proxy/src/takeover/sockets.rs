//! Sockets on their way from process to process: some with each byte of a Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Sends sockets; whoever receives them has to know how many they are.
///
/// # Errors
/// The other side is gone, or the system refuses.
pub fn send<'a>(stream: &UnixStream, sockets: impl IntoIterator<Item = &'a OwnedFd>) -> io::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = sockets.into_iter().map(AsFd::as_fd).collect();
    for part in borrowed.chunks(AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(part));
        // Descriptors travel with bytes.
        sendmsg(stream, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives so many sockets, in order. For those that this process has no descriptors for there is nothing.
///
/// # Errors
/// The other side is gone before it has sent them all.
pub fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<Option<OwnedFd>>> {
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let wanted = (count - sockets.len()).min(AT_ONCE);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received =
            recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let came = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        // The kernel leaves out the last ones.
        let came = came.flatten().map(Some).chain(std::iter::repeat_with(|| None));
        sockets.extend(came.take(wanted));
    }
    Ok(sockets)
}

/// Sockets with one byte. The kernel takes 253.
const AT_ONCE: usize = 64;
