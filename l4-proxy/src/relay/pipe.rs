//! Pipes for splicing, pooled per thread.
//!
//! A pipe belongs to a direction only while bytes are in it, so hundreds of connections share a
//! few. Only empty pipes go back. The kernel gives a user without privileges 64 MiB of pipes and
//! tiny ones after that (`pipe-user-pages-soft`); the size that came out is checked, and a tiny
//! pipe is not used.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// A pipe of a useful size.
pub(super) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    /// An empty pipe, from the pool or new; `None` if the system has none of a useful size.
    pub(super) fn take() -> Option<Pipe> {
        POOL.with_borrow_mut(Vec::pop).or_else(Pipe::new)
    }

    fn new() -> Option<Pipe> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let sized = SIZES.iter().any(|size| fcntl_setpipe_size(&writer, *size).is_ok_and(|got| got >= *size));
        sized.then_some(Pipe { reader, writer })
    }

    /// Puts the pipe, which must be empty, back into the pool.
    pub(super) fn give_back(self) {
        POOL.with_borrow_mut(|pool| {
            if pool.len() < POOLED_MAX {
                pool.push(self);
            }
        });
    }

    /// Moves bytes from a socket into the pipe; 0 at the end of the stream.
    pub(super) fn fill_from(&mut self, source: impl AsFd) -> io::Result<usize> {
        Ok(splice(source, None, &self.writer, None, usize::MAX >> 1, SpliceFlags::NONBLOCK)?)
    }

    /// Moves at most `bytes` from the pipe into a socket.
    pub(super) fn drain_into(&mut self, sink: impl AsFd, bytes: usize) -> io::Result<usize> {
        Ok(splice(&self.reader, None, sink, None, bytes, SpliceFlags::NONBLOCK)?)
    }
}

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// Sizes to ask for, best first.
const SIZES: [usize; 3] = [1 << 20, 256 * 1024, 64 * 1024];

/// Empty pipes that a thread keeps.
const POOLED_MAX: usize = 32;
