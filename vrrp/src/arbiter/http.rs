//! As much of an HTTP client as etcd's gateway needs: one request, one whole answer, one connection.
//!
//! A connection that is kept would be faster and could be dead without anybody knowing; what is asked
//! here is asked a few times a second at most, and must not wait for a dead one.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) struct Server {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

/// An answer: its status, and its body.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Server {
    /// Reads `http://HOST:PORT` or `https://HOST:PORT`, an IPv6 address in brackets.
    pub(super) fn new(url: &str, tls: &Arc<ClientConfig>) -> Option<Server> {
        let (rest, tls) = match url.strip_prefix("http://") {
            Some(rest) => (rest, None),
            None => (url.strip_prefix("https://")?, Some(Arc::clone(tls))),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':').filter(|_| !authority.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, DEFAULT_PORT),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let good = !bare.is_empty() && !bare.contains(['/', '@', '?', '#', ' ']);
        good.then(|| Server { host: bare.to_owned(), port, tls })
    }

    /// Posts a document, with what shows who asks, and reads the answer, all before the deadline.
    pub(super) fn post(
        &self,
        path: &str,
        body: &str,
        token: Option<&str>,
        deadline: Instant,
    ) -> io::Result<Reply> {
        let stream = self.connect(deadline)?;
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let token = token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             {token}Connection: close\r\n\r\n{body}",
            self.port,
            body.len()
        );
        let timed = Timed { stream, deadline };
        let Some(tls) = &self.tls else { return exchange(timed, &request) };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        exchange(StreamOwned::new(session, timed), &request)
    }

    fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Reply> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(reply) = whole(&bytes)? {
            return Ok(reply);
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if bytes.len() > ANSWER_MAX => return Err(io::Error::other("the answer is too long")),
            length => bytes.extend(&buffer[..length]),
        }
    }
}

/// The answer, once all of it is there.
fn whole(bytes: &[u8]) -> io::Result<Option<Reply>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let status = head.code.unwrap_or_default();
    let field = |name: &str| {
        let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let rest = &bytes[length..];
    let body = if field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        unchunked(rest)?
    } else {
        let length: Option<usize> = field("content-length").and_then(|length| length.trim().parse().ok());
        let length = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
        rest.get(..length).map(<[u8]>::to_vec)
    };
    Ok(body.map(|body| Reply { status, body }))
}

/// The chunks together, once the last one is there; what may follow it says nothing.
fn unchunked(mut bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let bad = |_| io::Error::other("a chunk without a length");
        let httparse::Status::Complete((start, length)) = httparse::parse_chunk_size(bytes).map_err(bad)?
        else {
            return Ok(None);
        };
        let Ok(length) = usize::try_from(length) else { return Err(io::ErrorKind::InvalidData.into()) };
        if length == 0 {
            return Ok(Some(body));
        }
        let end = start.saturating_add(length);
        let Some(chunk) = bytes.get(start..end) else { return Ok(None) };
        body.extend(chunk);
        let Some(next) = bytes.get(end..).and_then(|rest| rest.strip_prefix(b"\r\n")) else {
            return Ok(None);
        };
        bytes = next;
    }
}

/// A connection that has time until a moment, however often it is read and written.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// What is left of a time, if anything is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// etcd's port for clients.
const DEFAULT_PORT: u16 = 2379;

/// What is asked for here is answered in a few hundred bytes.
const ANSWER_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Option<(String, u16)> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = builder.expect("versions").with_root_certificates(rustls::RootCertStore::empty());
        Server::new(url, &Arc::new(tls.with_no_client_auth())).map(|server| (server.host, server.port))
    }

    #[test]
    fn urls_name_a_host_and_a_port_and_nothing_else() {
        for (url, host, port) in [
            ("http://10.0.0.1:2380", "10.0.0.1", 2380),
            ("https://etcd.example/", "etcd.example", 2379),
            ("http://[fd00::1]:1", "fd00::1", 1),
            ("http://[fd00::1]", "fd00::1", 2379),
        ] {
            assert_eq!(server(url), Some((host.to_owned(), port)), "{url}");
        }
        for url in ["10.0.0.1:2379", "http://", "http://a:b", "http://a/b", "ftp://a", "http://u@a"] {
            assert_eq!(server(url), None, "{url}");
        }
    }

    #[test]
    fn answer_is_whole_when_its_last_byte_is_there() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n",
        ] {
            let bytes = answer.as_bytes();
            for cut in 0..bytes.len() {
                assert!(whole(&bytes[..cut]).is_ok_and(|reply| reply.is_none()), "{cut} of {answer}");
            }
            let reply = whole(bytes).ok().flatten().expect("whole");
            assert_eq!((reply.status, reply.body), (200, b"hello".to_vec()));
        }
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "no length");
        assert!(whole(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n").is_err());
    }
}
