//! The chunked coding, taken apart: of a server's answer, and of a client's request.

mod extension;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

use self::extension::Extension;

/// Takes chunks apart; pieces of data are handed on without a copy.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    state: State,
    /// What is read behind a size.
    behind_size: Extension,
    /// Bytes of sizes' extensions so far.
    extensions: u16,
    /// The trailer section as far as it was received.
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a size, after that many digits.
    Size(u64, u8),
    /// In what follows a size on its line.
    Extension(u64, Extension),
    /// At the line feed after a size.
    SizeEnd(u64),
    Data(u64),
    /// At the carriage return after the data.
    DataEnd,
    /// At the line feed after the data.
    DataEnded,
    Trailers,
    Done,
}

/// What was found in chunks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Data(Bytes),
    /// Everything was taken, and there has to be more.
    Short,
    /// The end, with what fields came after the data.
    End(Option<HeaderMap>),
}

impl Chunks {
    /// Those of a client: what is behind a size is to be well-formed, for whoever has read it before us may
    /// have seen another end of its line.
    pub(crate) fn of_request() -> Chunks {
        Chunks::new(Extension::Blank)
    }

    /// Those of a server, of which some pad their sizes.
    pub(crate) fn of_answer() -> Chunks {
        Chunks::new(Extension::Any)
    }

    fn new(behind_size: Extension) -> Chunks {
        Chunks { state: State::Size(0, 0), behind_size, extensions: 0, trailers: Vec::new() }
    }

    /// Whether `bytes`, as what comes next, are not what chunks look like.
    pub(crate) fn are_spoilt_by(&self, bytes: &Bytes) -> bool {
        let (mut chunks, mut bytes) = (self.clone(), bytes.clone());
        loop {
            match chunks.next(&mut bytes) {
                Ok(Piece::Data(_)) => {}
                Ok(Piece::Short | Piece::End(_)) => return false,
                Err(Malformed) => return true,
            }
        }
    }

    /// Takes the next piece from `bytes`.
    ///
    /// # Errors
    /// It is not what chunks look like.
    pub(crate) fn next(&mut self, bytes: &mut Bytes) -> Result<Piece, Malformed> {
        while let Some(&byte) = bytes.first() {
            self.state = match (self.state, byte) {
                (State::Data(left), _) => {
                    let now = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let left = left - now as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Piece::Data(bytes.split_to(now)));
                }
                (State::Size(size, 1..), b'\r') => State::SizeEnd(size),
                (State::Size(size, 1..), b';' | b' ' | b'\t') => {
                    State::Extension(size, self.behind_size.next(byte).ok_or(Malformed)?)
                }
                (State::Size(SIZE_MAX.., _), _) => return Err(Malformed),
                (State::Size(_, DIGITS_MAX..), _) => return Err(Malformed),
                (State::Size(size, digits), _) => {
                    let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                    State::Size(size << 4 | u64::from(digit), digits + 1)
                }
                (State::Extension(size, extension), b'\r') if extension.may_end() => State::SizeEnd(size),
                (State::Extension(size, extension), _) => {
                    self.extensions += 1;
                    if self.extensions > EXTENSIONS_MAX {
                        return Err(Malformed);
                    }
                    State::Extension(size, extension.next(byte).ok_or(Malformed)?)
                }
                (State::SizeEnd(0), b'\n') => State::Trailers,
                (State::SizeEnd(size), b'\n') => State::Data(size),
                (State::DataEnd, b'\r') => State::DataEnded,
                (State::DataEnded, b'\n') => State::Size(0, 0),
                (State::Trailers, b'\n') if self.trailers.last() != Some(&b'\r') => return Err(Malformed),
                (State::Trailers, _) => {
                    self.trailers.push(byte);
                    if self.trailers.ends_with(b"\r\n\r\n") || self.trailers == b"\r\n" {
                        bytes.advance(1);
                        self.state = State::Done;
                        return self.fields().map(Piece::End);
                    }
                    if self.trailers.len() > TRAILERS_MAX {
                        return Err(Malformed);
                    }
                    State::Trailers
                }
                (State::SizeEnd(_) | State::DataEnd | State::DataEnded, _) => return Err(Malformed),
                (State::Done, _) => return Ok(Piece::End(None)),
            };
            bytes.advance(1);
        }
        if self.state == State::Done { Ok(Piece::End(None)) } else { Ok(Piece::Short) }
    }

    /// Reads the trailer section; `None` if it is empty.
    fn fields(&mut self) -> Result<Option<HeaderMap>, Malformed> {
        let section = std::mem::take(&mut self.trailers);
        if section == b"\r\n" {
            return Ok(None);
        }
        let mut room = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
        let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&section, &mut room) else {
            return Err(Malformed);
        };
        let mut headers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
            headers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| Malformed)?);
        }
        Ok(Some(headers))
    }
}

/// It is not what chunks look like.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A size to which no digit can be added, for it has to fit a signed number: many readers keep it in one.
const SIZE_MAX: u64 = 1 << (63 - 4);

/// As many digits as a size may have, zeros in front included, which say nothing.
const DIGITS_MAX: u8 = 64;

/// The most bytes of extensions in one body: nobody reads them.
const EXTENSIONS_MAX: u16 = 16 * 1024;

/// The largest trailer section.
const TRAILERS_MAX: usize = 16 * 1024;

/// The most fields in one.
const TRAILER_FIELDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `text` apart in pieces of that size; returns the data, the number of trailers, and
    /// what is left over.
    fn read(
        mut chunks: Chunks,
        text: &[u8],
        size: usize,
    ) -> Result<Option<(Vec<u8>, usize, usize)>, Malformed> {
        let mut data = Vec::new();
        let mut given = 0;
        for piece in text.chunks(size) {
            let mut bytes = Bytes::copy_from_slice(piece);
            given += piece.len();
            loop {
                match chunks.next(&mut bytes)? {
                    Piece::Data(piece) => data.extend_from_slice(&piece),
                    Piece::Short => break,
                    Piece::End(trailers) => {
                        let fields = trailers.map_or(0, |trailers| trailers.len());
                        return Ok(Some((data, fields, text.len() - given + bytes.len())));
                    }
                }
            }
        }
        Ok(None)
    }

    type Read<'a> = Result<Option<(&'a str, usize, usize)>, Malformed>;

    #[track_caller]
    fn check_of(chunks: fn() -> Chunks, text: &str, expected: &Read<'_>) {
        let expected = match expected {
            Ok(read) => Ok(read.map(|(data, fields, left)| (data.into(), fields, left))),
            Err(Malformed) => Err(Malformed),
        };
        for size in 1..=text.len() {
            assert_eq!(read(chunks(), text.as_bytes(), size), expected, "{text:?} in pieces of {size}");
        }
    }

    #[track_caller]
    fn check(text: &str, expected: Read<'_>) {
        check_of(Chunks::of_request, text, &expected);
        check_of(Chunks::of_answer, text, &expected);
    }

    #[test]
    fn data_and_trailers_are_told_apart() {
        check("5\r\nhello\r\n0\r\n\r\n", Ok(Some(("hello", 0, 0))));
        check(
            "5;a=\"b\"\r\nhello\r\n06 ;c\r\n world\r\n000\r\nX: 1\r\nY: 2\r\n\r\nHTTP",
            Ok(Some(("hello world", 2, 4))),
        );
        check("A\r\n0\r\n\r\n12345\r\n0\r\n\r\n", Ok(Some(("0\r\n\r\n12345", 0, 0))));
        check("5\r\nhello\r\n0\r\n", Ok(None));
        let zeros = "0".repeat(usize::from(DIGITS_MAX) - 1);
        check(&format!("{zeros}5\r\nhello\r\n{zeros}0\r\n\r\n"), Ok(Some(("hello", 0, 0))));
        check(&format!("0{zeros}5\r\nhello"), Err(Malformed));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for text in [
            "\r\n",
            "x\r\n",
            "+1\r\na",
            "0x1\r\na",
            "1\na\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "5\r\nhello0\r\n\r\n",
            " 1\r\na",
            "10000000000000000\r\n",
            "1;a\nb\r\na\r\n",
            "1\rx",
            "0\r\nX 1\r\n\r\n",
            "-1\r\n",
            "1;\na\r\n",
            "1;a=\"b\n\"\r\n",
            "0\r\n\n",
            "0\r\nX: 1\n\r\n",
            "0\r\nX: 1\r\n\n",
            "0\r\nX: 1\n\n",
        ] {
            check(text, Err(Malformed));
        }
    }

    #[test]
    fn clients_are_to_keep_to_the_grammar_behind_a_size_and_servers_need_not() {
        for behind in
            [" ", "\t", ";", " ;", ";;a", ";a b", ";a=", ";a[=b", ";\0a", ";a=\"b", ";a=\"b\"c", ";a=b "]
        {
            let text = format!("1{behind}\r\nx\r\n0\r\n\r\n");
            check_of(Chunks::of_request, &text, &Err(Malformed));
            check_of(Chunks::of_answer, &text, &Ok(Some(("x", 0, 0))));
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        for chunks in [Chunks::of_request, Chunks::of_answer] {
            let extension = format!("1;{}\r\n", "x".repeat(usize::from(EXTENSIONS_MAX) + 1));
            assert_eq!(read(chunks(), extension.as_bytes(), 1000), Err(Malformed));
            let trailer = format!("0\r\nX: {}\r\n\r\n", "x".repeat(TRAILERS_MAX));
            assert_eq!(read(chunks(), trailer.as_bytes(), 1000), Err(Malformed));
        }
    }
}
