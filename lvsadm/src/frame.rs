//! What goes over the control socket: one request, one response, and the end.
//!
//! Both begin with `LVSA` and a version. Numbers are 32 bits, most significant byte first.
//!
//! | request | |
//! |---|---|
//! | words | length, then the name of the program and its words, each with a zero byte behind |
//! | input | length, then what `-R` reads; empty for other commands |
//!
//! | response | |
//! |---|---|
//! | exit code | one byte |
//! | output | length and text of standard output, length and text of standard error |
//!
//! Every length has a bound, and so has the time that a side waits for the other.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::message::Output;

/// One command line for a director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The name that the program was called by.
    pub(crate) program: String,
    /// The words after it.
    pub(crate) args: Vec<String>,
    /// What `-R` reads.
    pub(crate) stdin: String,
}

/// A stream that fails once its time is over, however slowly the other side trickles.
struct Timed<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl Request {
    /// Sends the request within `time`.
    pub(crate) fn write(&self, stream: &UnixStream, time: Duration) -> io::Result<()> {
        let mut words = Vec::new();
        for word in [&self.program].into_iter().chain(&self.args) {
            if word.contains('\0') {
                return Err(invalid("a zero byte in a word"));
            }
            words.extend_from_slice(word.as_bytes());
            words.push(0);
        }
        let mut frame = header();
        push(&mut frame, &words, WORDS_MAX, "the command line is too long")?;
        push(&mut frame, self.stdin.as_bytes(), INPUT_MAX, "the input is too long")?;
        Timed::new(stream, time).write_all(&frame)
    }

    /// Receives a request within `time`.
    pub(crate) fn read(stream: &UnixStream, time: Duration) -> io::Result<Request> {
        let mut timed = Timed::new(stream, time);
        timed.header()?;
        let words = timed.text(WORDS_MAX, "the command line is too long")?;
        let stdin = timed.text(INPUT_MAX, "the input is too long")?;
        let words = words.strip_suffix('\0').ok_or_else(|| invalid("a word without its end"))?;
        let mut words = words.split('\0').map(str::to_owned);
        let program = words.next().unwrap_or_default();
        Ok(Request { program, args: words.collect(), stdin })
    }
}

impl Output {
    /// Sends the response within `time`.
    pub(crate) fn write(&self, stream: &UnixStream, time: Duration) -> io::Result<()> {
        let mut frame = header();
        frame.push(self.code);
        push(&mut frame, self.stdout.as_bytes(), OUTPUT_MAX, "the output is too long")?;
        push(&mut frame, self.stderr.as_bytes(), OUTPUT_MAX, "the output is too long")?;
        Timed::new(stream, time).write_all(&frame)
    }

    /// Receives a response within `time`.
    pub(crate) fn read(stream: &UnixStream, time: Duration) -> io::Result<Output> {
        let mut timed = Timed::new(stream, time);
        timed.header()?;
        let mut code = [0];
        timed.read_exact(&mut code)?;
        let stdout = timed.text(OUTPUT_MAX, "the output is too long")?;
        let stderr = timed.text(OUTPUT_MAX, "the output is too long")?;
        Ok(Output { stdout, stderr, code: code[0] })
    }
}

fn header() -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.push(VERSION);
    header
}

fn push(frame: &mut Vec<u8>, part: &[u8], max: usize, too_long: &'static str) -> io::Result<()> {
    let length = u32::try_from(part.len()).ok().filter(|_| part.len() <= max);
    frame.extend_from_slice(&length.ok_or_else(|| invalid(too_long))?.to_be_bytes());
    frame.extend_from_slice(part);
    Ok(())
}

impl<'a> Timed<'a> {
    fn new(stream: &'a UnixStream, time: Duration) -> Timed<'a> {
        Timed { stream, until: Instant::now() + time }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }

    fn header(&mut self) -> io::Result<()> {
        let mut header = [0; MAGIC.len() + 1];
        self.read_exact(&mut header)?;
        match header.strip_prefix(MAGIC) {
            Some([VERSION]) => Ok(()),
            Some(other) => {
                let other = other.first().copied().unwrap_or_default();
                let text = format!(
                    "the other side speaks version {other} of the control protocol, and this side \
                     version {VERSION}; lvsadm and director of one release go together"
                );
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
            None => Err(invalid("the other side does not speak as lvsadm does")),
        }
    }

    /// A length and as many bytes. What is no UTF-8 is replaced: it cannot be meant, and the
    /// answer will show it.
    fn text(&mut self, max: usize, too_long: &'static str) -> io::Result<String> {
        let mut length = [0; 4];
        self.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > max {
            return Err(invalid(too_long));
        }
        // Memory follows what arrives, not what was announced.
        let mut bytes = Vec::new();
        self.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        (&mut &*self.stream).read(buffer).map_err(name_timeout)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        (&mut &*self.stream).write(buffer).map_err(name_timeout)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket whose time is over says that it would block.
fn name_timeout(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The only word of a request by who takes the director's place. Descriptors cannot go into a response,
/// so what follows is between the two directors.
pub(crate) const HAND_OVER: &str = "--hand-over";

/// The only word of a request to start the director's program anew, in its own place. It is not carried out in
/// turn with others: the new process asks to be handed over to meanwhile.
pub(crate) const UPGRADE: &str = "--upgrade";

const MAGIC: &[u8; 4] = b"LVSA";
const VERSION: u8 = 1;
const WORDS_MAX: usize = 64 << 10;
pub(crate) const INPUT_MAX: usize = 16 << 20;
/// Room for a few million connections.
const OUTPUT_MAX: usize = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn request(args: &[&str]) -> Request {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Request { program: "lvsadm".to_owned(), args, stdin: "-C\n".to_owned() }
    }

    #[test]
    fn request_arrives_as_it_was_sent() {
        for args in [&[][..], &["-L", "-n"], &["-A", "", "ü"]] {
            let (here, there) = UnixStream::pair().unwrap();
            request(args).write(&here, SECOND).unwrap();
            assert_eq!(Request::read(&there, SECOND).unwrap(), request(args));
        }
    }

    #[test]
    fn response_arrives_as_it_was_sent() {
        let (here, there) = UnixStream::pair().unwrap();
        let output = Output { stdout: "TCP\n".repeat(1000), stderr: "no\n".to_owned(), code: 255 };
        output.write(&here, SECOND).unwrap();
        assert_eq!(Output::read(&there, SECOND).unwrap(), output);
    }

    #[track_caller]
    fn check_garbage(bytes: &[u8], expected: io::ErrorKind) {
        let (here, there) = UnixStream::pair().unwrap();
        (&here).write_all(bytes).unwrap();
        drop(here);
        assert_eq!(Request::read(&there, SECOND).unwrap_err().kind(), expected);
    }

    #[test]
    fn garbage_is_an_error() {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        check_garbage(b"", UnexpectedEof);
        check_garbage(b"GET / HTTP/1.1\r\n", InvalidData);
        check_garbage(b"LVSA\x02", InvalidData);
        check_garbage(b"LVSA\x01\xff\xff\xff\xff", InvalidData);
        check_garbage(b"LVSA\x01\0\0\0\x09lvsadm\0", UnexpectedEof);
        check_garbage(b"LVSA\x01\0\0\0\x06lvsadm\0\0\0\0", InvalidData);
        check_garbage(b"LVSA\x01\0\0\0\x07lvsadm\0\x7f\0\0\0", InvalidData);
    }

    #[test]
    fn silence_ends_with_the_time() {
        let (_here, there) = UnixStream::pair().unwrap();
        let error = Request::read(&there, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn request_that_is_too_long_is_not_sent() {
        let (here, _there) = UnixStream::pair().unwrap();
        let long = "x".repeat(WORDS_MAX);
        assert!(request(&[&long]).write(&here, SECOND).is_err());
    }
}
