//! `HTTP_GET` and `SSL_GET`: a request is answered with the right status, body or both.
//!
//! The client here is as small as keepalived's: one GET, and the answer is read to its end, which
//! is the end of the connection, of the announced length, or of the last chunk.

use std::time::Duration;

use lvs_core::Cause;
use md5::{Digest, Md5};
use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::{CONNECT_TIMED_OUT, Report, Thoroughness, by, origin, tls};
use crate::keepalived::model::{Method, Origin, Protocol, Url};
use crate::proxy::cause;

pub(super) async fn check(
    origin: &Origin,
    method: &Method,
    thoroughness: Thoroughness,
    patience: Duration,
) -> Report {
    let urls = match thoroughness {
        Thoroughness::Step(step) if !method.fast_recovery => &method.urls[step % method.urls.len()..][..1],
        _ => &method.urls[..],
    };
    for url in urls {
        if let Err(cause) = fetch(origin, method, url, Instant::now() + patience).await {
            return Report::Failed(Cause::from(format!("GET {}: {cause}", url.path)));
        }
    }
    Report::Passed
}

async fn fetch(origin: &Origin, method: &Method, url: &Url, until: Instant) -> Result<(), Cause> {
    let stream = by(until, CONNECT_TIMED_OUT, origin::connect(origin)).await?;
    let request = request(origin, method, url);
    let answer = if method.tls {
        let name = method.sni.as_ref().and_then(|name| name.as_deref().or(url.host.as_deref()));
        let handshake = tls::handshake(stream, name, origin.target.ip());
        let stream = by(until, "no TLS handshake in time", handshake).await?;
        by(until, NO_ANSWER, ask(stream, &request)).await?
    } else {
        by(until, NO_ANSWER, ask(stream, &request)).await?
    };
    judge(&answer, url)
}

fn request(origin: &Origin, method: &Method, url: &Url) -> Vec<u8> {
    let (version, connection) = match method.protocol {
        Protocol::Http10 => ("1.0", ""),
        Protocol::Http10Close => ("1.0", "Connection: close\r\n"),
        Protocol::Http10KeepAlive => ("1.0", "Connection: keep-alive\r\n"),
        Protocol::Http11 => ("1.1", "Connection: close\r\n"),
        Protocol::Http11KeepAlive => ("1.1", "Connection: keep-alive\r\n"),
    };
    let port = origin.target.port();
    let usual = if method.tls { 443 } else { 80 };
    let host = match &url.host {
        Some(host) => host.clone(),
        None if port == usual => host_of(origin),
        None => format!("{}:{port}", host_of(origin)),
    };
    let path = &url.path;
    format!("GET {path} HTTP/{version}\r\nUser-Agent: l4-proxy\r\n{connection}Host: {host}\r\n\r\n")
        .into_bytes()
}

fn host_of(origin: &Origin) -> String {
    match origin.target.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// An answer as far as a check looks at it.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Result<Answer, Cause> {
    stream.write_all(request).await.map_err(|error| cause(&error))?;
    let mut received = Vec::new();
    let mut head = None;
    loop {
        if head.is_none() {
            head = Head::find(&received)?;
        }
        let have = head.as_ref().map_or(0, |head| received.len() - head.length);
        let complete = head.as_ref().is_some_and(|head| match head.framing {
            Framing::Length(length) => have >= length,
            Framing::Chunks => unchunk(&received[head.length..]).is_some(),
            Framing::ToTheEnd => false,
        });
        if complete {
            break;
        }
        if received.len() > ANSWER_MAX {
            return Err(Cause::from("the answer is longer than 16 MiB"));
        }
        match stream.read_buf(&mut received).await {
            Ok(0) => break,
            Ok(_) => {}
            // Servers that close TLS without a word are many; what came before has been verified.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(cause(&error)),
        }
    }
    let head = head.ok_or_else(|| Cause::from("the answer is no HTTP"))?;
    let body = received.split_off(head.length);
    let body = match head.framing {
        Framing::Length(length) if body.len() < length => {
            return Err(Cause::from(format!("the body ended after {} of {length} bytes", body.len())));
        }
        Framing::Length(length) => body[..length].to_vec(),
        Framing::Chunks => unchunk(&body).ok_or_else(|| Cause::from("the body ended within its chunks"))?,
        Framing::ToTheEnd => body,
    };
    Ok(Answer { status: head.status, body })
}

struct Head {
    status: u16,
    /// Of the head, with the empty line.
    length: usize,
    framing: Framing,
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunks,
    ToTheEnd,
}

impl Head {
    /// The head of an answer, once it is there as a whole.
    fn find(received: &[u8]) -> Result<Option<Head>, Cause> {
        let begin = received.len().min(HTTP.len());
        if received[..begin] != HTTP[..begin] {
            return Err(Cause::from("the answer is no HTTP"));
        }
        let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return if received.len() > HEAD_MAX {
                Err(Cause::from("the answer has no end of its head"))
            } else {
                Ok(None)
            };
        };
        let text = String::from_utf8_lossy(&received[..end]);
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| Cause::from("the answer has no status"))?;
        let mut framing = Framing::ToTheEnd;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("transfer-encoding")
                && value.to_ascii_lowercase().ends_with("chunked")
            {
                framing = Framing::Chunks;
            } else if name.eq_ignore_ascii_case("content-length") && !matches!(framing, Framing::Chunks) {
                framing = value.parse().map_or(Framing::ToTheEnd, Framing::Length);
            }
        }
        if matches!(status, 204 | 304) {
            framing = Framing::Length(0);
        }
        Ok(Some(Head { status, length: end + 4, framing }))
    }
}

/// The bytes within chunks, once the last of them is there.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|bytes| bytes == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        let length = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length.checked_add(2)?..)?;
    }
}

fn judge(answer: &Answer, url: &Url) -> Result<(), Cause> {
    let status = answer.status;
    if !url.status.0.iter().any(|(first, last)| (*first..=*last).contains(&status)) {
        return Err(Cause::from(format!("HTTP {status}")));
    }
    if let Some(digest) = url.digest {
        let found: [u8; 16] = Md5::digest(&answer.body).into();
        if found != digest {
            let hex: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(Cause::from(format!("the body has the digest {hex}")));
        }
    }
    if let Some(wanted) = &url.regex {
        let pattern = Regex::new(&wanted.pattern).map_err(|error| Cause::from(error.to_string()))?;
        let (first, last) = wanted.offsets;
        let found = first <= answer.body.len()
            && pattern.find_at(&answer.body, first).is_some_and(|found| found.start() <= last);
        match (found, wanted.inverted) {
            (false, false) => return Err(Cause::from("the body does not match the pattern")),
            (true, true) => return Err(Cause::from("the body matches the pattern it must not match")),
            (true, false) | (false, true) => {}
        }
    }
    Ok(())
}

const NO_ANSWER: &str = "no whole answer in time";

const HTTP: &[u8] = b"HTTP/1.";

const HEAD_MAX: usize = 64 * 1024;

/// More than anybody compares by its digest.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_once_the_last_is_there() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n"), Some(b"abcde".to_vec()));
        for cut in 0..19 {
            assert_eq!(unchunk(&b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n"[..cut]), None, "{cut}");
        }
        assert_eq!(unchunk(b"ffffffffffffffff\r\nabc"), None);
    }
}
