//! Peers of the proxy under test: raw clients, scripted origins, and the proxy itself.
//!
//! Everything is blocking and bounded by a timeout, so that a wrong proxy fails a test and does
//! not hang it. Ports are chosen by the kernel.

use std::any::Any;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use l7_proxy::daemon::{Daemon, Options};
use l7_proxy::model::Config;
use lvs_core::ServiceKey;
use rustix::net::{AddressFamily, SocketType};

use crate::support::load_in;

/// Longer than anything in a test takes, on a busy machine as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy with a folder of its own.
pub(crate) struct Proxy {
    pub(crate) daemon: Daemon,
    pub(crate) folder: tempfile::TempDir,
}

/// Reads `text` as an nginx.conf in `folder`. Port 1 stands for one that the kernel chooses, which
/// a file cannot ask for.
pub(crate) fn configuration(folder: &Path, text: &str) -> Config {
    let mut config = load_in(folder, text).unwrap_or_else(|error| panic!("{error}\n{text}")).config;
    let http = config.http.iter_mut().flat_map(|http| &mut http.servers);
    let stream = config.stream.iter_mut().flat_map(|stream| &mut stream.servers);
    let http = http.flat_map(|server| &mut server.listen).map(|listen| &mut listen.addr);
    let stream = stream.flat_map(|server| &mut server.listen).map(|listen| &mut listen.addr);
    http.chain(stream).filter(|addr| addr.port() == 1).for_each(|addr| addr.set_port(0));
    config
}

/// A whole configuration around the content of `http {}`.
pub(crate) fn http(content: &str) -> String {
    format!("events {{}} http {{ access_log off; {content} }}")
}

/// A whole configuration around the content of one server.
pub(crate) fn server(content: &str) -> String {
    http(&format!("server {{ listen 127.0.0.1:1; root html; {content} }}"))
}

/// A whole configuration with one location that forwards everything to `servers`.
pub(crate) fn forwarding(servers: &[&Origin], location: &str) -> String {
    let servers: String = servers.iter().map(|origin| format!("server {};", origin.addr)).collect();
    http(&format!(
        "upstream app {{ {servers} }}
         server {{ listen 127.0.0.1:1; location / {{ proxy_pass http://app; {location} }} }}"
    ))
}

impl Proxy {
    /// Starts one worker.
    pub(crate) fn start(text: &str) -> Proxy {
        Proxy::start_workers(text, 1)
    }

    pub(crate) fn start_workers(text: &str, workers: usize) -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("html")).unwrap();
        let config = configuration(folder.path(), text);
        let options = Options { workers: NonZeroUsize::new(workers), ..Options::default() };
        Proxy { daemon: Daemon::start(config, options).unwrap(), folder }
    }

    /// Puts a file under the folder.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// What stands in a file under the folder; nothing if there is none yet.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// The lines of a file under the folder, once there are so many.
    #[track_caller]
    pub(crate) fn lines(&self, name: &str, count: usize) -> Vec<String> {
        eventually(&format!("{name} has {count} lines"), || self.log(name).lines().count() >= count);
        self.log(name).lines().map(str::to_owned).collect()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.daemon.addresses()[0]
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// Asks for `path` on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.client().get(path)
    }

    /// Requests that the upstream `app` works on.
    pub(crate) fn active(&self) -> u32 {
        let stats = self.daemon.director().stats();
        let app = stats.iter().find(|service| service.config.key == ServiceKey::name("app")).unwrap();
        app.servers.iter().map(|server| server.load.active).sum()
    }

    pub(crate) fn reload(&self, text: &str) {
        self.daemon.reload(configuration(self.folder.path(), text)).unwrap();
    }

    /// Ends it gracefully; says whether it was done in time.
    pub(crate) fn shut_down(&self, deadline: Duration) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(self.daemon.shutdown(deadline))
    }
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A client that says exactly what it is told.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// What was received and not yet asked for.
    received: Vec<u8>,
}

/// A response, its body unchunked.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The whole head.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// The value of the first field of that name.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).unwrap();
        Client::from(stream)
    }

    pub(crate) fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    /// The same where the connection may be over before all is sent.
    pub(crate) fn try_send(&mut self, text: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(text.as_ref());
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: example.org\r\n\r\n"));
        self.response()
    }

    /// Reads the response to a request other than `HEAD`.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response().unwrap()
    }

    /// Reads the response to `HEAD`, and makes sure that no body follows.
    #[track_caller]
    pub(crate) fn response_to_head(&mut self) -> Response {
        let head = self.head().unwrap();
        let status = head[9..12].parse().unwrap();
        self.send("GET /behind-head HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(self.head().unwrap().starts_with("HTTP/1.1 "), "a body follows");
        Response { status, head, body: Vec::new() }
    }

    /// Reads a response; an error if it is cut short.
    pub(crate) fn try_response(&mut self) -> io::Result<Response> {
        let head = self.head()?;
        let status = head[9..12].parse().unwrap();
        let body = match (field(&head, "Transfer-Encoding"), field(&head, "Content-Length")) {
            _ if matches!(status, 100..200 | 204 | 304) => Vec::new(),
            (Some("chunked"), None) => self.chunks()?,
            (None, Some(length)) => self.exactly(length.parse().unwrap())?,
            (None, None) => self.rest()?,
            framing => panic!("framed in two ways: {framing:?}\n{head}"),
        };
        Ok(Response { status, head, body })
    }

    /// Reads up to the empty line that ends a head.
    pub(crate) fn head(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.received.split_off(end + 4);
                let head = std::mem::replace(&mut self.received, rest);
                return Ok(String::from_utf8(head).unwrap());
            }
            self.more()?;
        }
    }

    pub(crate) fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < count {
            self.more()?;
        }
        let rest = self.received.split_off(count);
        Ok(std::mem::replace(&mut self.received, rest))
    }

    pub(crate) fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            assert_eq!(self.line()?, "");
        }
    }

    /// Reads one chunk.
    pub(crate) fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let size = usize::from_str_radix(&self.line()?, 16).unwrap();
        let chunk = self.exactly(size)?;
        assert_eq!(self.line()?, "");
        Ok(chunk)
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|window| window == b"\r\n") {
                let rest = self.received.split_off(end + 2);
                let mut line = std::mem::replace(&mut self.received, rest);
                line.truncate(end);
                return Ok(String::from_utf8(line).unwrap());
            }
            self.more()?;
        }
    }

    /// Reads to the end of the connection.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.more() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.received));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads to the end of the connection, however it ends.
    #[track_caller]
    pub(crate) fn leave(mut self) -> Left {
        loop {
            if let Err(error) = self.more() {
                assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "the connection goes on");
                let is_clean = error.kind() == io::ErrorKind::UnexpectedEof;
                return Left { bytes: self.received, is_clean };
            }
        }
    }

    /// Makes the connection end by a reset.
    pub(crate) fn reset_on_drop(&self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether the other side closes the connection, without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.received.is_empty()
            && self.more().is_err_and(|error| {
                matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
            })
    }

    /// Ends our direction, unless the other side was faster.
    pub(crate) fn finish(&self) {
        match self.stream.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => panic!("{error}"),
            _ => {}
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

/// What was left on a connection, and how it ended.
pub(crate) struct Left {
    pub(crate) bytes: Vec<u8>,
    /// Whether it was no reset.
    pub(crate) is_clean: bool,
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // A Unix socket delays nothing, and knows of no such option.
        let _ = stream.set_nodelay(true);
        Client { stream, received: Vec::new() }
    }
}

/// An origin that does with each connection as its script says.
pub(crate) struct Origin {
    pub(crate) addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    gone: Arc<AtomicBool>,
    /// What makes it what it is, if it is no script.
    _held: Option<Box<dyn Any + Send>>,
}

/// What an origin's script is given: one connection and the list of heads it has read.
pub(crate) struct Visit {
    /// The connection, from the origin's side.
    pub(crate) peer: Client,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    /// Runs `script` for each connection, in a thread of its own; an error ends that connection.
    pub(crate) fn start(script: impl Fn(&mut Visit) -> io::Result<()> + Send + Sync + 'static) -> Origin {
        Origin::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(crate) fn on(
        listener: TcpListener,
        script: impl Fn(&mut Visit) -> io::Result<()> + Send + Sync + 'static,
    ) -> Origin {
        let addr = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let gone = Arc::new(AtomicBool::new(false));
        let script = Arc::new(script);
        let origin = Origin { addr, connections, requests, gone, _held: None };
        let (connections, requests) = (Arc::clone(&origin.connections), Arc::clone(&origin.requests));
        let gone = Arc::clone(&origin.gone);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if gone.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                connections.fetch_add(1, Ordering::SeqCst);
                let mut visit = Visit { peer: Client::from(stream), requests: Arc::clone(&requests) };
                let script = Arc::clone(&script);
                std::thread::spawn(move || _ = script(&mut visit));
            }
        });
        origin
    }

    /// Answers every request with `name` and a space and the path, and keeps connections.
    pub(crate) fn named(name: &'static str) -> Origin {
        Origin::start(move |visit| {
            loop {
                let head = visit.request()?;
                let path = head.split(' ').nth(1).unwrap();
                visit.reply("", &format!("{name} {path}"))?;
            }
        })
    }

    /// An address at which nobody listens.
    pub(crate) fn nobody() -> Origin {
        // Bound and not listened on: a port that is given back may be somebody else's at once, or the proxy's
        // own, which would connect to itself.
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let held = TcpListener::from(socket);
        Origin::silent(held.local_addr().unwrap(), held)
    }

    /// An address where something is held that says nothing.
    pub(crate) fn silent(addr: SocketAddr, held: impl Any + Send) -> Origin {
        let (connections, requests, gone) = Default::default();
        Origin { addr, connections, requests, gone, _held: Some(Box::new(held)) }
    }

    /// Connections that were opened.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Heads that were read, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The head that was read last.
    pub(crate) fn last_request(&self) -> String {
        self.requests().pop().unwrap()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, if there is one.
        if self._held.is_none() {
            let _ = TcpStream::connect(self.addr);
        }
    }
}

impl Visit {
    /// Reads the head of a request.
    pub(crate) fn request(&mut self) -> io::Result<String> {
        let head = self.peer.head()?;
        self.requests.lock().unwrap().push(head.clone());
        Ok(head)
    }

    /// Adds a line of its own to what was read.
    pub(crate) fn note(&self, what: &str) {
        self.requests.lock().unwrap().push(what.to_owned());
    }

    /// Reads the body that a head announces.
    pub(crate) fn body(&mut self, head: &str) -> io::Result<Vec<u8>> {
        match (field(head, "Transfer-Encoding"), field(head, "Content-Length")) {
            (Some("chunked"), None) => self.peer.chunks(),
            (None, Some(length)) => self.peer.exactly(length.parse().unwrap()),
            (None, None) => Ok(Vec::new()),
            framing => panic!("framed in two ways: {framing:?}\n{head}"),
        }
    }

    /// Sends a response of status 200 with these fields, each ended by a line end.
    pub(crate) fn reply(&mut self, fields: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        self.write(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n{body}"))
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.peer.stream.write_all(bytes.as_ref())
    }

    /// Makes the connection end by a reset.
    pub(crate) fn reset(&self) {
        self.peer.reset_on_drop();
    }
}
