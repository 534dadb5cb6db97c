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

/// A pipe of a useful size, for splicing.
///
/// It is taken to be filled and drained, and given back when it is empty.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    /// An empty pipe, from the pool or new; `None` if the system has none of a useful size.
    pub fn take() -> Option<Pipe> {
        POOL.with_borrow_mut(Vec::pop).or_else(Pipe::new)
    }

    fn new() -> Option<Pipe> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let sized = SIZES.iter().any(|size| fcntl_setpipe_size(&writer, *size).is_ok_and(|got| got >= *size));
        sized.then_some(Pipe { reader, writer })
    }

    /// Puts the pipe, which must be empty, back into the pool.
    pub fn give_back(self) {
        POOL.with_borrow_mut(|pool| {
            if pool.len() < POOLED_MAX {
                pool.push(self);
            }
        });
    }

    /// Moves at most `bytes` from a socket into the pipe; returns how many, 0 at the end of the
    /// stream.
    ///
    /// # Errors
    /// Those of splice(2). "Would block" means the socket as long as the pipe is empty.
    pub fn fill_from(&mut self, source: impl AsFd, bytes: usize) -> io::Result<usize> {
        // Lengths are signed in the kernel.
        let bytes = bytes.min(usize::MAX >> 1);
        Ok(splice(source, None, &self.writer, None, bytes, SpliceFlags::NONBLOCK)?)
    }

    /// Moves at most `bytes` from the pipe into a socket; returns how many.
    ///
    /// # Errors
    /// Those of splice(2).
    pub fn drain_into(&mut self, sink: impl AsFd, bytes: usize) -> io::Result<usize> {
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

#[cfg(test)]
mod tests {
    use rustix::pipe::fcntl_getpipe_size;

    use super::*;

    #[test]
    fn pipe_is_as_large_as_the_user_may_have_and_a_tiny_one_is_none() {
        for (user, pages, size) in
            [(54_001, 0, None), (54_002, 32, Some(64 << 10)), (54_003, 128, Some(256 << 10))]
        {
            let taken = lab::with_pages_of_pipes(user, pages, || {
                Pipe::take().map(|pipe| fcntl_getpipe_size(&pipe.writer).expect("a pipe"))
            });
            let Some(taken) = taken else { return };
            assert_eq!(taken, size, "{pages} pages");
        }
    }
}
