//! Peers that speak HTTP/2: a client and an origin on the h2 crate, and bare frames for what no
//! proper peer would send.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::server::{self, SendResponse};
use h2::{Ping, PingPong, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::peer::PATIENCE;

/// Runs something to its end, on this thread and within the patience of a test.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let timed = async { tokio::time::timeout(PATIENCE, future).await.expect("it is stuck") };
    LocalSet::new().block_on(&runtime, timed)
}

/// Opens a connection; it lasts as long as what is returned, and the streams on it.
pub(crate) async fn connect(addr: SocketAddr) -> SendRequest<Bytes> {
    connect_with_pings(addr).await.0
}

/// The same, and what asks whether the other side has heard all so far.
pub(crate) async fn connect_with_pings(addr: SocketAddr) -> (SendRequest<Bytes>, PingPong) {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let pings = connection.ping_pong().unwrap();
    tokio::task::spawn_local(async move { _ = connection.await });
    (sender, pings)
}

/// Waits until the other side has read what was sent before, or is gone.
pub(crate) async fn until_heard(pings: &mut PingPong) {
    // A ping overtakes what waits to be written, but the next one is written after it.
    for _ in 0..2 {
        let _ = pings.ping(Ping::opaque()).await;
    }
}

/// A request for a path; `POST` if it is to have a body.
pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://example.org{path}"))
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

/// Sends a request with this body and reads the answer.
pub(crate) async fn ask(
    sender: &SendRequest<Bytes>,
    request: Request<()>,
    body: &'static [u8],
) -> Result<Answer, h2::Error> {
    let mut sender = sender.clone().ready().await?;
    let (response, mut stream) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        stream.send_data(Bytes::from_static(body), true)?;
    }
    read(response.await?).await
}

/// Reads an answer to its end.
pub(crate) async fn read(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let (body, trailers) = whole(&mut stream).await?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers })
}

/// Reads a body to its end.
pub(crate) async fn whole(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    Ok((body, stream.trailers().await?))
}

/// Sends all of this, as fast as the other side takes it.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = room.unwrap_or_else(|| Err(h2::Reason::STREAM_CLOSED.into()))?;
        stream.send_data(bytes.split_to(room.min(bytes.len())), false)?;
    }
    Ok(())
}

/// Messages of gRPC: a byte, four bytes of length, and so many of content.
pub(crate) fn message(content: &str) -> Bytes {
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(content.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(content.as_bytes());
    framed.into()
}

/// Reads messages of gRPC from a body.
pub(crate) struct Messages {
    stream: RecvStream,
    received: BytesMut,
}

impl Messages {
    pub(crate) fn of(stream: RecvStream) -> Messages {
        Messages { stream, received: BytesMut::new() }
    }

    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(head) = self.received.get(1..5) {
                let size = 5 + u32::from_be_bytes(head.try_into().unwrap()) as usize;
                if self.received.len() >= size {
                    let message = self.received.split_to(size);
                    return Some(String::from_utf8(message[5..].to_vec()).unwrap());
                }
            }
            let piece = self.stream.data().await?.unwrap();
            self.stream.flow_control().release_capacity(piece.len()).unwrap();
            self.received.extend_from_slice(&piece);
        }
    }

    pub(crate) async fn trailers(&mut self) -> HeaderMap {
        self.stream.trailers().await.unwrap().unwrap_or_default()
    }
}

/// An origin that speaks HTTP/2.
pub(crate) struct Origin {
    pub(crate) addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Request<()>>>>,
    over: Arc<Notify>,
}

/// One request at an origin.
pub(crate) struct Visit {
    pub(crate) request: http::request::Parts,
    pub(crate) body: RecvStream,
    pub(crate) respond: SendResponse<Bytes>,
}

impl Origin {
    /// Runs `script` for each request.
    pub(crate) fn start<T: Future<Output = Option<()>> + 'static>(
        script: impl Fn(Visit) -> T + Send + 'static,
    ) -> Origin {
        Origin::with(server::Builder::new(), script)
    }

    /// The same with limits of its own.
    pub(crate) fn with<T: Future<Output = Option<()>> + 'static>(
        limits: server::Builder,
        script: impl Fn(Visit) -> T + Send + 'static,
    ) -> Origin {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let origin =
            Origin { addr, connections: Arc::default(), requests: Arc::default(), over: Arc::default() };
        let (connections, requests) = (Arc::clone(&origin.connections), Arc::clone(&origin.requests));
        let over = Arc::clone(&origin.over);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let script = Rc::new(script);
            let serve = async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    stream.set_nodelay(true).unwrap();
                    let (limits, script, requests) =
                        (limits.clone(), Rc::clone(&script), Arc::clone(&requests));
                    tokio::task::spawn_local(async move {
                        let mut connection = limits.handshake::<_, Bytes>(stream).await.ok()?;
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            let (head, body) = request.into_parts();
                            requests.lock().unwrap().push(Request::from_parts(head.clone(), ()));
                            tokio::task::spawn_local(script(Visit { request: head, body, respond }));
                        }
                        Some(())
                    });
                }
            };
            let ended = async {
                tokio::select! { () = serve => {}, () = over.notified() => {} }
            };
            LocalSet::new().block_on(&runtime, ended);
        });
        origin
    }

    /// Connections that were opened.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Heads that were received, in order.
    pub(crate) fn requests(&self) -> Vec<Request<()>> {
        self.requests.lock().unwrap().iter().map(clone).collect()
    }
}

fn clone(request: &Request<()>) -> Request<()> {
    let mut copy = Request::builder().method(request.method()).uri(request.uri()).body(()).unwrap();
    *copy.headers_mut() = request.headers().clone();
    copy
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.over.notify_one();
    }
}

impl Visit {
    /// Answers with status 200 and this body.
    pub(crate) fn reply(&mut self, body: impl Into<Bytes>) -> Option<()> {
        let mut stream = self.respond.send_response(Response::new(()), false).ok()?;
        stream.send_data(body.into(), true).ok()
    }

    /// Begins an answer.
    pub(crate) fn begin(&mut self, fields: &[(&'static str, &'static str)]) -> Option<SendStream<Bytes>> {
        self.respond.send_response(head(fields), false).ok()
    }

    /// Answers with a head alone.
    pub(crate) fn end(&mut self, fields: &[(&'static str, &'static str)]) -> Option<()> {
        self.respond.send_response(head(fields), true).ok().map(drop)
    }
}

fn head(fields: &[(&'static str, &'static str)]) -> Response<()> {
    let head = Response::builder();
    fields.iter().fold(head, |head, (name, value)| head.header(*name, *value)).body(()).unwrap()
}

/// A connection on which bare frames are written and read.
pub(crate) struct Frames {
    pub(crate) stream: TcpStream,
}

/// A frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What a client begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Frames {
    /// A client's connection, the preface and empty settings sent.
    pub(crate) fn connect(addr: SocketAddr) -> Frames {
        let mut frames = Frames::of(TcpStream::connect(addr).unwrap());
        frames.stream.write_all(PREFACE).unwrap();
        frames.send(SETTINGS, 0, 0, &[]).unwrap();
        frames
    }

    /// A server's connection, the preface read and empty settings sent.
    pub(crate) fn accept(stream: TcpStream) -> Frames {
        let mut frames = Frames::of(stream);
        frames.stream.read_exact(&mut [0; PREFACE.len()]).unwrap();
        frames.send(SETTINGS, 0, 0, &[]).unwrap();
        frames
    }

    pub(crate) fn of(stream: TcpStream) -> Frames {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Frames { stream }
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frame(kind, flags, stream, payload))
    }

    /// Reads the next frame.
    pub(crate) fn next(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; size as usize];
        self.stream.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads up to a frame of this kind.
    pub(crate) fn next_of(&mut self, kind: u8) -> io::Result<Frame> {
        loop {
            let frame = self.next()?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A block of fields, each written out.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // An integer with seven bits of prefix (RFC 7541, section 5.1).
            block.push(text.len().min(0x7f) as u8);
            let mut rest = text.len().checked_sub(0x7f);
            while let Some(length) = rest {
                rest = (length > 0x7f).then_some(length >> 7);
                block.push((length & 0x7f) as u8 | if rest.is_some() { 0x80 } else { 0 });
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The fields of a request for a path.
pub(crate) fn get(path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":authority", "example.org"), (":path", path)])
}
