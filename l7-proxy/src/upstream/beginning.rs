//! The beginning of an answer: its head, and what came with it.
//!
//! It is read into memory that all connections of a worker share. Most of what comes behind a head is
//! little, and is copied out; a large piece stays where it is and takes the memory along, which comes
//! back when the client has it.

use std::cell::RefCell;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::answer::AskError;
use super::head::{self, Asked, Fields, Head, Parsed};
use super::link::Link;

/// The beginning of an answer while it is received.
pub(super) struct Beginning {
    /// A head that came in pieces, as far as it was received.
    received: Vec<u8>,
    /// Interim answers so far.
    interim: u32,
    /// The largest head that is read.
    head_max: usize,
}

impl Beginning {
    pub(super) fn new(head_max: usize) -> Beginning {
        Beginning { received: Vec::new(), interim: 0, head_max }
    }

    /// Reads a head; returns what was received behind it, too.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link,
        asked: Asked,
        fields: &mut Option<Fields<'_>>,
    ) -> Poll<Result<(Head, Bytes), AskError>> {
        let mut memory = Memory::take();
        loop {
            let count = match ready!(link.poll_read(cx, &mut memory.bytes)) {
                Ok(0) => return Poll::Ready(Err(AskError::Broken(None))),
                Ok(count) => count,
                Err(error) => return Poll::Ready(Err(AskError::Broken(Some(error)))),
            };
            if self.received.is_empty() {
                if let Some((head, len)) = self.read(&memory.bytes[..count], asked, fields)? {
                    return Poll::Ready(Ok((head, memory.piece(len, count))));
                }
            } else {
                let mut received = std::mem::take(&mut self.received);
                received.extend_from_slice(&memory.bytes[..count]);
                if let Some((head, len)) = self.read(&received, asked, fields)? {
                    return Poll::Ready(Ok((head, Bytes::copy_from_slice(&received[len..]))));
                }
            }
        }
    }

    /// Reads a head from what was received, and returns where the body begins; keeps what is not a whole
    /// one.
    fn read(
        &mut self,
        bytes: &[u8],
        asked: Asked,
        fields: &mut Option<Fields<'_>>,
    ) -> Result<Option<(Head, usize)>, AskError> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let parsed = head::parse(rest, asked, fields).map_err(AskError::Invalid)?;
            let len = match parsed {
                Parsed::Final(_, len) | Parsed::Interim(len) => len,
                Parsed::Partial => rest.len(),
            };
            if len > self.head_max {
                return Err(AskError::Invalid("upstream sent too big header".into()));
            }
            match parsed {
                Parsed::Final(head, len) => return Ok(Some((head, at + len))),
                Parsed::Interim(len) => {
                    self.interim += 1;
                    if self.interim > INTERIM_MAX {
                        return Err(AskError::Invalid("upstream sent too many interim answers".into()));
                    }
                    at += len;
                    if at == bytes.len() {
                        return Ok(None);
                    }
                }
                Parsed::Partial => {
                    self.received.extend_from_slice(rest);
                    return Ok(None);
                }
            }
        }
    }
}

/// What beginnings are read into.
struct Memory {
    bytes: Box<[u8]>,
}

impl Memory {
    fn take() -> Memory {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Memory { bytes: spare.unwrap_or_else(|| vec![0; BEGINNING].into()) }
    }

    /// Returns a piece of it, which is a copy unless it is large.
    fn piece(self, start: usize, end: usize) -> Bytes {
        if end - start >= LARGE {
            Bytes::from_owner(Lent { memory: self, start, end })
        } else {
            Bytes::copy_from_slice(&self.bytes[start..end])
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // At the end of a thread nobody needs it.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(bytes);
            }
        });
    }
}

/// A piece that has not been copied.
struct Lent {
    memory: Memory,
    start: usize,
    end: usize,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory.bytes[self.start..self.end]
    }
}

thread_local! {
    /// A read that has to wait needs no memory, and one that does not is over before the next begins; there
    /// is more than one only where clients take their time.
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// The most that is read with a head: all of most answers, and not much of one that had better be moved
/// without a copy.
const BEGINNING: usize = 24 * 1024;

/// What is worth more than a copy: less of it would hold on to more memory than it fills.
const LARGE: usize = 8 * 1024;

/// As much memory as is kept for the next answers.
const SPARE_MAX: usize = 16;

/// The most interim answers before the one that counts.
const INTERIM_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Memory {
        let mut memory = Memory::take();
        for (at, byte) in memory.bytes.iter_mut().enumerate() {
            *byte = (at % 251) as u8;
        }
        memory
    }

    #[test]
    fn large_piece_stays_where_it_is_and_gives_its_memory_back() {
        let memory = filled();
        let place = memory.bytes.as_ptr().addr();
        let piece = memory.piece(100, 100 + LARGE);
        assert_eq!(piece.as_ptr().addr(), place + 100);
        assert!((0..LARGE).all(|at| piece[at] == ((at + 100) % 251) as u8));
        // What is read meanwhile is read elsewhere.
        assert_ne!(filled().bytes.as_ptr().addr(), place);
        drop(piece);
        assert_eq!(Memory::take().bytes.as_ptr().addr(), place);
    }

    #[test]
    fn small_piece_holds_on_to_nothing() {
        let memory = filled();
        let place = memory.bytes.as_ptr().addr();
        let piece = memory.piece(10, 10 + LARGE - 1);
        assert_eq!(Memory::take().bytes.as_ptr().addr(), place);
        assert_eq!(piece[..3], [10, 11, 12]);
    }

    #[test]
    fn as_much_memory_as_is_of_use_is_kept() {
        let pieces: Vec<_> = (0..SPARE_MAX + 3).map(|_| filled().piece(0, LARGE)).collect();
        drop(pieces);
        assert_eq!(SPARE.with_borrow(Vec::len), SPARE_MAX);
    }
}
