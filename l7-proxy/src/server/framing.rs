//! Watches the framing of requests below the parser, for what the parser hides.
//!
//! hyper takes a request with both `Content-Length` and `Transfer-Encoding` for a chunked one and
//! drops the length, and of several equal lengths it shows one. Both are legal readings, and both
//! are how requests are smuggled past a reader that takes the other one. So the bytes are followed
//! here, too: only as far as to know where heads begin and which of these two fields they have.
//!
//! It refuses, and decides nothing else: a request that it does not refuse is read as hyper reads
//! it. Heads cost one search per line; bodies are skipped.

/// Follows the requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    state: State,
    /// Heads that were complete in the bytes seen.
    seen: u64,
    /// Heads that were asked about.
    asked: u64,
    /// The first head with a fault; nothing after it is followed.
    fault: Option<(u64, Fault)>,
    lengths: u8,
    encodings: u8,
    length: u64,
    name: [u8; LONGEST_NAME],
    name_len: u8,
}

/// Why a request must not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has both a length and a transfer encoding.
    LengthAndEncoding,
    /// It has more than one length.
    SeveralLengths,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before a request line, where empty lines are skipped.
    #[default]
    Start,
    /// In a line whose content does not matter.
    Line,
    /// At the beginning of a line of a head.
    LineStart,
    /// In the name of a field that may matter.
    Name,
    /// In the value of a `Content-Length`.
    Length,
    Body(u64),
    ChunkSize(u64, Digits),
    ChunkData(u64),
    TrailerStart,
    Trailer,
    /// Past a fault, or past HTTP.
    Stopped,
}

/// Whether a chunk's size is still being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digits {
    Going,
    Over,
}

const LONGEST_NAME: usize = "transfer-encoding".len();

impl Framing {
    /// Follows the next bytes of the connection.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(&byte) = bytes.first() {
            match self.state {
                State::Stopped => return,
                State::Start => match byte {
                    b'\r' | b'\n' => bytes = &bytes[1..],
                    _ => self.state = State::Line,
                },
                State::Line => match memchr::memchr(b'\n', bytes) {
                    None => return,
                    Some(end) => {
                        bytes = &bytes[end + 1..];
                        self.state = State::LineStart;
                    }
                },
                State::LineStart => match byte {
                    b'\r' => bytes = &bytes[1..],
                    b'\n' => {
                        bytes = &bytes[1..];
                        self.end_head();
                    }
                    b'c' | b'C' | b't' | b'T' => {
                        self.name_len = 0;
                        self.state = State::Name;
                    }
                    _ => self.state = State::Line,
                },
                State::Name => {
                    let name_len = usize::from(self.name_len);
                    if byte == b':' {
                        self.state = self.end_name();
                    } else if byte == b'\n' || name_len == LONGEST_NAME {
                        self.state = State::Line;
                        continue;
                    } else {
                        self.name[name_len] = byte.to_ascii_lowercase();
                        self.name_len += 1;
                    }
                    bytes = &bytes[1..];
                }
                State::Length => {
                    match byte {
                        b'0'..=b'9' => {
                            self.length =
                                self.length.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
                        }
                        b'\n' => self.state = State::LineStart,
                        _ => {}
                    }
                    bytes = &bytes[1..];
                }
                State::Body(left) => {
                    let left = skip(&mut bytes, left);
                    self.state = if left == 0 { State::Start } else { State::Body(left) };
                }
                State::ChunkSize(size, digits) => {
                    self.state = match (char::from(byte).to_digit(16), digits) {
                        (Some(digit), Digits::Going) => {
                            State::ChunkSize(size.saturating_mul(16).saturating_add(digit.into()), digits)
                        }
                        _ if byte == b'\n' && size == 0 => State::TrailerStart,
                        // The end of line after the data belongs to it.
                        _ if byte == b'\n' => State::ChunkData(size.saturating_add(2)),
                        _ => State::ChunkSize(size, Digits::Over),
                    };
                    bytes = &bytes[1..];
                }
                State::ChunkData(left) => {
                    let left = skip(&mut bytes, left);
                    self.state = match left {
                        0 => State::ChunkSize(0, Digits::Going),
                        left => State::ChunkData(left),
                    };
                }
                State::TrailerStart => {
                    match byte {
                        b'\r' => {}
                        b'\n' => self.state = State::Start,
                        _ => self.state = State::Trailer,
                    }
                    bytes = &bytes[1..];
                }
                State::Trailer => match memchr::memchr(b'\n', bytes) {
                    None => return,
                    Some(end) => {
                        bytes = &bytes[end + 1..];
                        self.state = State::TrailerStart;
                    }
                },
            }
        }
    }

    /// Says what is wrong with the next request, in the order in which they came.
    pub(crate) fn next_request(&mut self) -> Result<(), Fault> {
        self.asked += 1;
        match self.fault {
            Some((head, fault)) if head == self.asked => Err(fault),
            _ => Ok(()),
        }
    }

    /// Follows no more: what comes is another protocol.
    pub(crate) fn stop(&mut self) {
        self.state = State::Stopped;
    }

    fn end_name(&mut self) -> State {
        match &self.name[..usize::from(self.name_len)] {
            b"content-length" => {
                self.lengths = self.lengths.saturating_add(1);
                self.length = 0;
                State::Length
            }
            b"transfer-encoding" => {
                self.encodings = self.encodings.saturating_add(1);
                State::Line
            }
            _ => State::Line,
        }
    }

    fn end_head(&mut self) {
        self.seen += 1;
        let fault = match (self.lengths, self.encodings) {
            (0, _) | (1, 0) => None,
            (_, 0) => Some(Fault::SeveralLengths),
            _ => Some(Fault::LengthAndEncoding),
        };
        self.state = match (fault, self.encodings, self.length) {
            (Some(_), ..) => State::Stopped,
            (None, 0, 0) => State::Start,
            (None, 0, length) => State::Body(length),
            _ => State::ChunkSize(0, Digits::Going),
        };
        self.fault = fault.map(|fault| (self.seen, fault));
        (self.lengths, self.encodings, self.length) = (0, 0, 0);
    }
}

impl Fault {
    /// The fault in nginx's words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Fault::LengthAndEncoding => {
                "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time"
            }
            Fault::SeveralLengths => "client sent duplicate header line: \"Content-Length\"",
        }
    }
}

/// Skips up to `left` bytes; returns how many are left to skip.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let now = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    *bytes = &bytes[now..];
    left - now as u64
}

#[cfg(test)]
mod tests {
    use super::{Fault, Framing};

    /// Feeds `text` in pieces of every size and asks about each request in turn.
    #[track_caller]
    fn check(text: &str, expected: &[Result<(), Fault>]) {
        for size in 1..=text.len() {
            let mut framing = Framing::default();
            text.as_bytes().chunks(size).for_each(|piece| framing.feed(piece));
            let answers: Vec<_> = expected.iter().map(|_| framing.next_request()).collect();
            assert_eq!(answers, expected, "{text:?} in pieces of {size}");
        }
    }

    const BOTH: Result<(), Fault> = Err(Fault::LengthAndEncoding);

    #[test]
    fn length_and_encoding_are_found_in_either_order_and_any_case() {
        check("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", &[BOTH]);
        check("POST / HTTP/1.1\r\ntransfer-ENCODING:chunked\r\ncontent-LENGTH:0\r\n\r\n", &[BOTH]);
        check("POST / HTTP/1.1\nHost: a\nContent-Length:5\nTransfer-Encoding: x\n\n", &[BOTH]);
    }

    #[test]
    fn length_that_is_said_twice_is_found() {
        let twice = "POST / HTTP/1.1\r\nContent-Length: 5\r\nX: y\r\nContent-Length: 5\r\n\r\nhello";
        check(twice, &[Err(Fault::SeveralLengths)]);
    }

    #[test]
    fn only_heads_are_looked_at() {
        let both = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{both}", both.len()), &[Ok(())]);
        let chunk = format!("{:x};ext=\"1\"\r\n{both}\r\n0\r\nContent-Length: 3\r\n\r\n", both.len());
        check(&format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"), &[Ok(())]);
        check(
            "GET /Content-Length: HTTP/1.1\r\nContent-Lengths: 1\r\nTransfer-Encodin: x\r\n\r\n",
            &[Ok(())],
        );
    }

    #[test]
    fn pipelined_requests_are_told_apart() {
        let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let second = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\r\n";
        let third =
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n00\r\nT: 1\r\n\r\n";
        let bad = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n";
        check(&format!("{first}{second}{third}{bad}{first}"), &[Ok(()), Ok(()), Ok(()), BOTH]);
    }
}
