//! One question to a server, and its answer as far as a check looks at it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsStream;

use super::{Asked, Checked};
use crate::error_log::Errno;
use crate::stream::Side;
use crate::tls::ClientTarget;
use crate::unix;
use crate::upstream::{Chunks, Piece};

/// A connection that serves for several checks.
pub(super) struct Kept {
    stream: Side,
    until: Instant,
}

/// How much of a body is read: nginx looks at no more either.
const BODY_MAX: usize = 256 * 1024;

/// The longest head of an answer.
const HEAD_MAX: usize = 32 * 1024;

/// Fields of an answer.
const FIELDS_MAX: usize = 128;

/// Asks a server once, on the connection that is kept or on a new one.
///
/// # Errors
/// In words, why it did not pass.
pub(super) async fn ask(
    checked: &Checked,
    asked: &Asked,
    server: SocketAddr,
    kept: &mut Option<Kept>,
) -> Result<(), String> {
    if let Some(Kept { stream, until }) = kept.take().filter(|kept| kept.until > Instant::now()) {
        // A kept connection that fails says nothing about its server.
        if let Ok(answer) = question(checked, asked, stream).await {
            return judge(asked, server, answer, until, kept);
        }
    }
    let stream = reach(checked, checked.target(server), None).await?;
    let answer = question(checked, asked, stream).await?;
    judge(asked, server, answer, Instant::now() + asked.keepalive_time, kept)
}

fn judge(
    asked: &Asked,
    server: SocketAddr,
    answer: Answer,
    until: Instant,
    kept: &mut Option<Kept>,
) -> Result<(), String> {
    let expected = &asked.expected;
    expected.judge_head(answer.status, &answer.fields).map_err(|mismatch| mismatch.to_string())?;
    if let Some(surroundings) = &asked.surroundings {
        let judged = surroundings.judge(expected, server, answer.status, &answer.fields);
        judged.map_err(|mismatch| mismatch.to_string())?;
    }
    expected.judge_body(&answer.body).map_err(|mismatch| mismatch.to_string())?;
    *kept = answer.stream.map(|stream| Kept { stream, until });
    Ok(())
}

/// Connects to a server, to speak one of these protocols where TLS is spoken.
///
/// # Errors
/// In words, why there is no connection.
pub(super) async fn reach(
    checked: &Checked,
    target: SocketAddr,
    alpn: Option<Vec<Vec<u8>>>,
) -> Result<Side, String> {
    let connected = timeout(checked.connect_timeout, connect(checked, target, alpn)).await;
    connected.map_err(|_| "connect timed out".to_owned())?.map_err(|error| words(&error))
}

async fn connect(checked: &Checked, target: SocketAddr, alpn: Option<Vec<Vec<u8>>>) -> io::Result<Side> {
    let stream = match unix::path(target) {
        Some(path) => unix::connect(path).await?,
        None => {
            let stream = TcpStream::connect(target).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    match &checked.tls {
        None => Ok(Side::Plain(stream)),
        Some((client, name)) => {
            let target = ClientTarget { name, address: target.ip(), alpn };
            let stream = client.connect(stream, target).await?;
            Ok(Side::Tls(Box::new(TlsStream::Client(stream))))
        }
    }
}

struct Answer {
    status: u16,
    fields: HeaderMap,
    body: Bytes,
    /// The connection, where it can serve once more.
    stream: Option<Side>,
}

async fn question(checked: &Checked, asked: &Asked, mut stream: Side) -> Result<Answer, String> {
    let patience = checked.read_timeout;
    let sent = timeout(patience, stream.write_all(&asked.request)).await;
    sent.map_err(|_| "send timed out".to_owned())?.map_err(|error| words(&error))?;
    let mut received = BytesMut::new();
    let head = loop {
        if let Some(head) = Head::read(&received)? {
            break head;
        }
        if received.len() > HEAD_MAX {
            return Err("the head of the answer is too long".to_owned());
        }
        if read(&mut stream, &mut received, patience).await? == 0 {
            return Err("the connection was closed before an answer".to_owned());
        }
    };
    let is_wanted = asked.expected.body.is_some() || !asked.keepalive_time.is_zero();
    let _ = received.split_to(head.length);
    let mut body = Body { framing: head.framing, data: BytesMut::new(), left: received };
    let mut whole = body.take()?;
    while is_wanted && !whole && body.data.len() < BODY_MAX {
        if read(&mut stream, &mut body.left, patience).await? == 0 {
            break;
        }
        whole = body.take()?;
    }
    let stays = whole && head.persists && !asked.keepalive_time.is_zero();
    let Head { status, fields, .. } = head;
    Ok(Answer { status, fields, body: body.data.freeze(), stream: Some(stream).filter(|_| stays) })
}

async fn read(stream: &mut Side, into: &mut BytesMut, patience: Duration) -> Result<usize, String> {
    match timeout(patience, stream.read_buf(into)).await {
        Ok(Ok(count)) => Ok(count),
        // Servers that close TLS without a word are many.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        Ok(Err(error)) => Err(words(&error)),
        Err(_) => Err("the answer timed out".to_owned()),
    }
}

pub(super) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect refused".to_owned(),
        _ => Errno(error).to_string(),
    }
}

struct Head {
    status: u16,
    fields: HeaderMap,
    length: usize,
    framing: Framing,
    persists: bool,
}

enum Framing {
    Length(usize),
    Chunks(Chunks),
    ToTheEnd,
}

impl Head {
    /// Reads the head of an answer, once it is there as a whole; interim answers are passed over.
    fn read(received: &[u8]) -> Result<Option<Head>, String> {
        let mut skipped = 0;
        loop {
            let mut room = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut response = httparse::Response::new(&mut room);
            let malformed = |_| "the answer is no HTTP".to_owned();
            let parsed = response.parse(&received[skipped..]).map_err(malformed)?;
            let httparse::Status::Complete(length) = parsed else { return Ok(None) };
            skipped += length;
            let status = response.code.unwrap_or(0);
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let mut fields = HeaderMap::new();
            for field in response.headers.iter() {
                let name = HeaderName::from_bytes(field.name.as_bytes());
                if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
                    fields.append(name, value);
                }
            }
            let says = |name: &str, word: &str| {
                let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
                values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(word))
            };
            let length = fields.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
            let framing = match length {
                _ if matches!(status, 204 | 304) => Framing::Length(0),
                _ if says("transfer-encoding", "chunked") => Framing::Chunks(Chunks::of_answer()),
                Some(length) => Framing::Length(length),
                None => Framing::ToTheEnd,
            };
            let persists = response.version == Some(1) && !says("connection", "close");
            return Ok(Some(Head { status, fields, length: skipped, framing, persists }));
        }
    }
}

/// A body that is being received.
struct Body {
    framing: Framing,
    data: BytesMut,
    /// What was received and not looked at yet.
    left: BytesMut,
}

impl Body {
    /// Takes in what was received; says whether the body is whole.
    fn take(&mut self) -> Result<bool, String> {
        let mut left = self.left.split().freeze();
        match &mut self.framing {
            Framing::ToTheEnd => {
                self.data.extend_from_slice(&left);
                Ok(false)
            }
            Framing::Length(length) => {
                self.data.extend_from_slice(&left);
                Ok(self.data.len() >= *length)
            }
            Framing::Chunks(chunks) => loop {
                match chunks
                    .next(&mut left)
                    .map_err(|_| "the chunks of the answer are malformed".to_owned())?
                {
                    Piece::Data(data) => self.data.extend_from_slice(&data),
                    Piece::Short => return Ok(false),
                    Piece::End(_) => return Ok(true),
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, expected: (u16, &str, bool)) {
        let head = Head::read(answer.as_bytes()).unwrap().expect("a head");
        let left = BytesMut::from(&answer.as_bytes()[head.length..]);
        let mut body = Body { framing: head.framing, data: BytesMut::new(), left };
        let whole = body.take().unwrap();
        assert_eq!((head.status, std::str::from_utf8(&body.data).unwrap(), whole), expected, "{answer}");
    }

    #[test]
    fn body_ends_where_its_framing_says() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", (200, "ok", true));
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", (200, "ok", false));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", (200, "ok", true));
        check("HTTP/1.0 503 No\r\n\r\nbusy", (503, "busy", false));
        check("HTTP/1.1 204 No\r\n\r\n", (204, "", true));
    }

    #[test]
    fn interim_answer_is_not_the_answer() {
        check("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (200, "", true));
        assert!(Head::read(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap().is_none());
    }
}
