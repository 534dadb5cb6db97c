//! A stand-in for Tomcat: answers every request with a page that tells its number and the request
//! headers it saw.
//!
//! Threads and blocking sockets: the point of the example lies elsewhere.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A running origin. Dropping it is its sudden death: the port closes, and so does every
/// connection, in the middle of whatever it was doing.
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    number: usize,
    dead: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Origin {
    pub(crate) fn start(address: SocketAddr, number: usize) -> io::Result<Origin> {
        let listener = TcpListener::bind(address)?;
        let shared = Arc::new(Shared { number, dead: AtomicBool::new(false), connections: Mutex::default() });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name(format!("origin-{number}")).spawn(move || accepting.accept(&listener))?;
        Ok(Origin { address, shared })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.dead.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then closes the port.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for connection in self.shared.connections().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Shared>, listener: &TcpListener) {
        for connection in listener.incoming() {
            if self.dead.load(Ordering::SeqCst) {
                return;
            }
            let Ok(connection) = connection else { continue };
            let Ok(to_kill) = connection.try_clone() else { continue };
            {
                let mut connections = self.connections();
                connections.retain(|connection| connection.peer_addr().is_ok());
                if connections.len() >= CONNECTIONS_MAX {
                    continue;
                }
                connections.push(to_kill);
            }
            let shared = Arc::clone(self);
            // If there is no thread to be had, the connection closes and the proxy goes elsewhere.
            let _ = thread::Builder::new().spawn(move || shared.serve(connection));
        }
    }

    /// Answers requests until the connection ends; whatever is wrong with it ends it.
    fn serve(&self, connection: TcpStream) {
        let _ = connection.set_read_timeout(Some(IDLE));
        let _ = connection.set_nodelay(true);
        let mut requests = BufReader::new(&connection);
        while let Some(headers) = read_head(&mut requests) {
            if (&connection).write_all(self.page(&headers).as_bytes()).is_err() {
                return;
            }
        }
        let _ = connection.shutdown(Shutdown::Both);
    }

    fn page(&self, headers: &[String]) -> String {
        let seen = ["host", "x-real-ip", "x-forwarded-for"].map(|wanted| {
            let is_wanted = |line: &&String| line.to_ascii_lowercase().starts_with(&format!("{wanted}:"));
            headers.iter().find(is_wanted).cloned().unwrap_or_else(|| format!("{wanted}: (none)"))
        });
        let body = format!(
            "<html><body><h1>Dynamic page {}</h1>\n<pre>\n{}\n</pre></body></html>\n",
            self.number,
            seen.join("\n")
        );
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }
}

/// The lines of a request head; `None` when the connection has ended.
fn read_head(requests: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line).ok()? == 0 || lines.len() > LINES_MAX {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Some(lines);
        }
        lines.push(line.to_owned());
    }
}

const CONNECTIONS_MAX: usize = 256;

const LINES_MAX: usize = 200;

const IDLE: Duration = Duration::from_secs(60);
