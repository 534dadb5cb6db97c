//! What servers do to requests.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Stage;
use crate::peer::{Origin, Visit};

/// Starts a server that does it.
pub(super) type Play = fn(&Arc<Stage>) -> Origin;

/// A server that goes by a script.
fn scripted(
    stage: &Arc<Stage>,
    script: impl Fn(&mut Visit, &Stage) -> io::Result<()> + Send + Sync + 'static,
) -> Origin {
    let stage = Arc::clone(stage);
    Origin::start(move |visit| script(visit, &stage))
}

/// A server that reads a request, sends this, and then does something.
fn sends(
    stage: &Arc<Stage>,
    text: &'static str,
    then: impl Fn(&mut Visit) -> io::Result<()> + Send + Sync + 'static,
) -> Origin {
    scripted(stage, move |visit, stage| {
        visit.request()?;
        visit.write(text)?;
        stage.arrive();
        then(visit)
    })
}

fn reset(visit: &mut Visit) -> io::Result<()> {
    visit.reset();
    Ok(())
}

fn close(_: &mut Visit) -> io::Result<()> {
    Ok(())
}

/// Waits until the proxy has closed the connection.
fn stall(visit: &mut Visit) -> io::Result<()> {
    visit.peer.rest().map(drop)
}

pub(super) fn refuses(_: &Arc<Stage>) -> Origin {
    Origin::nobody()
}

pub(super) fn hangs_in_its_handshake(_: &Arc<Stage>) -> Origin {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    // A full queue drops what comes: the handshake never ends.
    rustix::net::listen(&listener, 0).unwrap();
    let addr = listener.local_addr().unwrap();
    let queued = std::iter::repeat_with(|| TcpStream::connect_timeout(&addr, Duration::from_millis(100)));
    let queued: Vec<_> = queued.take(3).map_while(Result::ok).collect();
    Origin::silent(addr, (listener, queued))
}

pub(super) fn closes(stage: &Arc<Stage>) -> Origin {
    sends(stage, "", close)
}

pub(super) fn resets_before_its_head(stage: &Arc<Stage>) -> Origin {
    sends(stage, "", reset)
}

pub(super) fn resets_within_its_head(stage: &Arc<Stage>) -> Origin {
    sends(stage, "HTTP/1.1 200 OK\r\nContent-", reset)
}

pub(super) fn stalls_before_its_head(stage: &Arc<Stage>) -> Origin {
    sends(stage, "", stall)
}

pub(super) fn stalls_within_its_head(stage: &Arc<Stage>) -> Origin {
    sends(stage, "HTTP/1.1 200 OK\r\nContent-", stall)
}

pub(super) fn sends_garbage(stage: &Arc<Stage>) -> Origin {
    sends(stage, "", |visit| visit.write("garbage\r\n\r\n"))
}

pub(super) fn resets_within_a_length(stage: &Arc<Stage>) -> Origin {
    sends(stage, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin", reset)
}

pub(super) fn closes_within_a_length(stage: &Arc<Stage>) -> Origin {
    sends(stage, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin", close)
}

pub(super) fn resets_within_chunks(stage: &Arc<Stage>) -> Origin {
    sends(stage, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n", reset)
}

pub(super) fn closes_within_chunks(stage: &Arc<Stage>) -> Origin {
    sends(stage, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n", close)
}

pub(super) fn resets_within_the_rest(stage: &Arc<Stage>) -> Origin {
    sends(stage, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbegin", reset)
}

pub(super) fn closes_after_the_rest(stage: &Arc<Stage>) -> Origin {
    sends(stage, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbegin", close)
}

pub(super) fn stalls_within_its_body(stage: &Arc<Stage>) -> Origin {
    sends(stage, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin", stall)
}

pub(super) fn answers_early(stage: &Arc<Stage>) -> Origin {
    sends(stage, "", |visit| {
        visit.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nearly")?;
        stall(visit)
    })
}

pub(super) fn answers(stage: &Arc<Stage>) -> Origin {
    sends(stage, "", |visit| visit.reply("", "hello"))
}

/// Answers one request on a connection, closes it under the second, and answers that on another.
pub(super) fn closes_a_kept_connection(stage: &Arc<Stage>) -> Origin {
    scripted(stage, |visit, stage| {
        let is_first = visit.request()?.contains("X-Turn: first");
        visit.reply("", if is_first { "first" } else { "again" })?;
        if is_first {
            visit.request()?;
            stage.arrive();
        }
        Ok(())
    })
}

pub(super) fn waits_for_the_end(stage: &Arc<Stage>) -> Origin {
    sends(stage, "", stall)
}

/// Reads what comes of a body, and never answers.
pub(super) fn takes_a_body(stage: &Arc<Stage>) -> Origin {
    scripted(stage, |visit, _| {
        visit.request()?;
        stall(visit)
    })
}

/// Sends until the proxy takes no more, which the client decides.
pub(super) fn sends_without_end(stage: &Arc<Stage>) -> Origin {
    scripted(stage, |visit, _| send_without_end(visit))
}

/// The same, and tells the client.
pub(super) fn sends_until_it_is_cut_off(stage: &Arc<Stage>) -> Origin {
    scripted(stage, |visit, stage| {
        let end = send_without_end(visit);
        stage.is_cut_off.store(true, Ordering::SeqCst);
        end
    })
}

fn send_without_end(visit: &mut Visit) -> io::Result<()> {
    visit.request()?;
    visit.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    loop {
        match visit.write([b'x'; 64 * 1024]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok(()) => {}
        }
    }
}
