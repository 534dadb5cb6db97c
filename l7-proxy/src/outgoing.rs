//! What is being written to a peer of HTTP/1.1, answers to clients and requests to servers alike: a head,
//! then pieces of a body, as one write takes them.

use bytes::{Buf, Bytes};

/// Bytes on their way, in this order: `ours`, `data`, `tail`.
pub(crate) struct Outgoing {
    /// The head, the sizes of chunks, and pieces of the body that are too small to be worth a
    /// place of their own.
    ours: Vec<u8>,
    /// How many of these bytes are out.
    written: usize,
    /// A large piece of the body.
    data: Bytes,
    /// What follows the data of a chunk.
    tail: &'static [u8],
}

/// Whether a piece of a body is followed by another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Inner,
    Last,
}

impl Outgoing {
    /// Begins with these bytes.
    pub(crate) fn new(ours: Vec<u8>) -> Outgoing {
        Outgoing { ours, written: 0, data: Bytes::new(), tail: b"" }
    }

    /// Returns the memory of the head, for the next one.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ours)
    }

    /// Where to write what stands before the next piece.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.ours
    }

    /// Whether the next piece of the body can be taken in.
    pub(crate) fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty()
    }

    /// Whether the next piece goes out with what waits, without another write for it.
    pub(crate) fn gathers(&self) -> bool {
        self.has_room() && self.ours.len() < GATHERED
    }

    /// Whether nothing of ours waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.has_room()
    }

    /// What is to be written; one at least is not empty, or there is nothing.
    pub(crate) fn pieces(&self) -> Option<[&[u8]; 3]> {
        let pieces = [&self.ours[self.written..], &*self.data, self.tail];
        pieces.iter().any(|piece| !piece.is_empty()).then_some(pieces)
    }

    /// Notes that so many bytes are out.
    pub(crate) fn advance(&mut self, count: usize) {
        let ours = count.min(self.ours.len() - self.written);
        self.written += ours;
        let data = (count - ours).min(self.data.len());
        self.data.advance(data);
        self.tail = &self.tail[count - ours - data..];
        if self.written == self.ours.len() {
            self.ours.clear();
            self.written = 0;
        }
    }

    /// Takes in a piece of a body that stands by itself.
    pub(crate) fn put(&mut self, data: Bytes) {
        self.put_with(data, b"");
    }

    /// Takes in a piece of a body in chunks (RFC 9112, section 7.1); an empty one is no chunk.
    pub(crate) fn put_chunk(&mut self, data: Bytes, piece: Piece) {
        let tail = match (piece, data.is_empty()) {
            (Piece::Inner, true) => b"",
            (Piece::Inner, false) => &LAST_CHUNK[..2],
            (Piece::Last, false) => LAST_CHUNK,
            (Piece::Last, true) => &LAST_CHUNK[2..],
        };
        if !data.is_empty() {
            write_size(data.len(), &mut self.ours);
        }
        self.put_with(data, tail);
    }

    fn put_with(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= SMALL {
            self.ours.extend_from_slice(&data);
            self.ours.extend_from_slice(tail);
        } else {
            (self.data, self.tail) = (data, tail);
        }
    }
}

fn write_size(size: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    out.extend((0..digits).rev().map(|place| DIGITS[size >> (4 * place) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// The end of a chunk's data, and the chunk that ends a body.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// Up to this size copying costs less than a list of pieces.
const SMALL: usize = 4096;

/// As much as this is worth a write, whatever comes behind it.
const GATHERED: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// All of it, in writes that take so many bytes each.
    fn written(outgoing: &mut Outgoing, at_a_time: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(pieces) = outgoing.pieces() {
            let some: Vec<u8> = pieces.concat().into_iter().take(at_a_time).collect();
            outgoing.advance(some.len());
            out.extend(some);
        }
        out
    }

    #[test]
    fn chunks_are_framed_the_same_however_large_they_are_and_however_they_are_written() {
        for size in [1, 15, 16, 255, SMALL, SMALL + 1, 70_000] {
            for at_a_time in [1, 7, 4097, usize::MAX] {
                let mut outgoing = Outgoing::new(b"head".to_vec());
                outgoing.put_chunk(vec![b'x'; size].into(), Piece::Inner);
                let mut out = written(&mut outgoing, at_a_time);
                outgoing.put_chunk(Bytes::new(), Piece::Inner);
                outgoing.put_chunk(vec![b'y'; size].into(), Piece::Last);
                out.extend(written(&mut outgoing, at_a_time));
                let (x, y) = ("x".repeat(size), "y".repeat(size));
                let whole = format!("head{size:x}\r\n{x}\r\n{size:x}\r\n{y}\r\n0\r\n\r\n");
                assert!(out == whole.as_bytes(), "{size}, {at_a_time} at a time");
            }
        }
    }

    #[test]
    fn body_in_chunks_may_end_without_data() {
        let mut outgoing = Outgoing::new(Vec::new());
        outgoing.put_chunk(Bytes::new(), Piece::Last);
        assert_eq!(written(&mut outgoing, 2), b"0\r\n\r\n");
    }
}
