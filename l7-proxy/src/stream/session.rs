//! One connection of the TCP side, from accept to its line in the log.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use l4_proxy::listen;
use l4_proxy::proxy_protocol::Addresses;
use l4_proxy::relay::{self, Engine, Progress, Tally, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsStream;
use tracing::{debug, error, info, warn};

use super::choice::Chosen;
use super::copy::{Count, End, Terms, copy};
use super::facts::Facts;
use super::pass::PASSING;
use super::preread::{self, Preread};
use super::side::Side;
use super::upstream::{self, HALF_CLOSED_MAX, Reached, rate};
use super::visit::Visit;
use super::{Door, Server};
use crate::error_log::{self, Errno};
use crate::model::{PemText, StreamContent, StreamTarget, StreamTimed, Transport};
use crate::peek;
use crate::proxied;
use crate::server::Proxy;
use crate::tls;
use crate::unix::{Accepted, Acceptor};

/// Accepts connections until `shutdown` is done; then also those that the kernel had accepted by
/// then. Connections go on in tasks of their own, which stay on this thread.
pub(crate) async fn serve(
    worker: Proxy,
    door: Arc<Door>,
    listener: Acceptor,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    loop {
        if !door.common.connections.has_room() {
            tokio::select! {
                () = &mut shutdown => break,
                () = sleep(PAUSE) => continue,
            }
        }
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok(accepted) => spawn(&worker, &door, accepted),
            Err(error) if listen::is_of_one_connection(&error) => {}
            Err(error) => {
                warn!("accept4() failed ({})", Errno(&error));
                sleep(PAUSE).await;
            }
        }
    }
    // Closing the listener would reset what is in its queue.
    for accepted in listener.queued() {
        spawn(&worker, &door, accepted);
    }
}

fn spawn(worker: &Proxy, door: &Arc<Door>, accepted: Accepted) {
    let (worker, door) = (worker.clone(), Arc::clone(door));
    let place = door.common.connections.place();
    tokio::task::spawn_local(async move {
        handle(&worker, &door, accepted).await;
        drop(place);
    });
}

/// Serves one connection to its end.
async fn handle(worker: &Proxy, door: &Arc<Door>, accepted: Accepted) {
    let Accepted { stream: client, peer, local } = accepted;
    let Some(local) = local.or_else(|| client.local_addr().ok()) else { return };
    serve_visit(Visit::new(worker, door, peer, local), client.into()).await;
}

/// Serves a connection that came to this address, or was handed over to it.
pub(super) async fn serve_visit(mut visit: Visit, client: Side) {
    let places = visit.error_log();
    match error_log::told(places, visit.run(client)).await {
        Ok(Handled::Here(status)) | Err(status) => visit.facts.status = status,
        Ok(Handled::Passed) => return,
    }
    visit.log();
}

/// What has become of a connection.
enum Handled {
    /// It came to its end, with this status.
    Here(u16),
    /// Somebody else goes on with it.
    Passed,
}

impl Visit {
    /// Leads a connection through the phases.
    ///
    /// # Errors
    /// The status that it comes to on the way.
    async fn run(&mut self, client: Side) -> Result<Handled, u16> {
        let mut client = self.open(client).await?;
        let mut early = Vec::new();
        if self.server.model.settings.preread {
            self.preread(&mut client, &mut early).await?;
        }
        self.assign();
        let server = Arc::clone(&self.server);
        Ok(match &server.model.content {
            StreamContent::Return(text) => {
                Handled::Here(self.answer(&mut client, &text.bytes(&self.facts)).await)
            }
            StreamContent::Proxy(target) => Handled::Here(self.relay(client, &server, target, early).await),
            // What was read of TLS does not go back.
            StreamContent::Pass(_) if !early.is_empty() => {
                let (serial, client) = (self.facts.serial, self.facts.client());
                error!("*{serial} cannot pass buffered data {PASSING}, {client}");
                return Err(500);
            }
            StreamContent::Pass(target) => {
                self.pass(client, target)?;
                Handled::Passed
            }
        })
    }

    /// Looks who the client is, and does what it and the address have to do before anything of use is said.
    async fn open(&mut self, client: Side) -> Result<Side, u16> {
        let mut client = match client {
            Side::Plain(client) => client,
            // Who handed it over has done so already.
            Side::Tls(_) if self.door.entrance.proxy_protocol || self.door.entrance.ssl => {
                let (serial, client) = (self.facts.serial, self.facts.client());
                error!("*{serial} cannot pass TLS to where it begins {PASSING}, {client}");
                return Err(500);
            }
            client @ Side::Tls(_) => {
                self.admit()?;
                let _ = client.socket().set_nodelay(self.server.model.settings.tcp_nodelay);
                return Ok(client);
            }
        };
        if self.door.entrance.proxy_protocol {
            self.read_header(&mut client).await?;
        }
        self.admit()?;
        // A socket that refuses the option is closed already.
        let _ = client.set_nodelay(self.server.model.settings.tcp_nodelay);
        if self.door.entrance.ssl { self.shake_hands(client).await } else { Ok(Side::Plain(client)) }
    }

    /// Reads whom the connection is for, if its sender may say so.
    async fn read_header(&mut self, client: &mut TcpStream) -> Result<(), u16> {
        let settings = &self.server.model.settings;
        let read = proxied::read(client, settings.proxy_protocol_timeout).await;
        let header = read.map_err(|error| {
            let (serial, client) = (self.facts.serial, self.facts.client());
            error!("*{serial} {error} while reading PROXY protocol, {client}");
            400_u16
        })?;
        let trusted = settings.real_ip_from.iter().any(|network| network.contains(self.facts.peer.ip()));
        if let Addresses::Tcp(client, _) = header.addresses
            && trusted
        {
            self.facts.remote = client;
        }
        self.facts.proxied = Some(Rc::new(header));
        Ok(())
    }

    /// Changes to the server that has the name which the client asks for.
    fn choose(&mut self, name: &str) {
        let place = self.door.entrance.names.find(name, &mut self.facts.captures);
        self.server = Arc::clone(&self.door.entrance.servers[place]);
        error_log::go_on_with(self.error_log());
    }

    async fn shake_hands(&mut self, client: TcpStream) -> Result<Side, u16> {
        let default = Arc::clone(&self.server.terminator);
        let chooser = Chooser { door: &self.door, facts: &mut self.facts };
        let accepted = tls::accept(client, &default, chooser).await;
        let tls::Accepted { stream, handshake } = accepted.map_err(|error| {
            info!(
                "*{} SSL_do_handshake() failed ({}), {}",
                self.facts.serial,
                Errno(&error),
                self.facts.client()
            );
            500_u16
        })?;
        let name = handshake.server_name.clone();
        self.choose(&name);
        let admitted = self.server.terminator.admits(&handshake.verified);
        self.facts.tls = Some(handshake);
        if !admitted {
            info!("*{} client SSL certificate verify error, {}", self.facts.serial, self.facts.client());
            return Err(500);
        }
        Ok(Side::Tls(Box::new(TlsStream::Server(stream))))
    }

    /// Looks at the client's first message. What was read stays in `early`, or in the socket where the connection
    /// may be handed over.
    async fn preread(&mut self, client: &mut Side, early: &mut Vec<u8>) -> Result<(), u16> {
        let settings = &self.server.model.settings;
        let size = settings.preread_size;
        // Which server it comes to is decided by what it says.
        let stays = self.door.entrance.servers.iter().any(|server| server.passes());
        let look = async {
            loop {
                match preread::read(early) {
                    Preread::Hello(hello) => return Ok(Some(hello)),
                    Preread::NotTls => return Ok(None),
                    Preread::More if early.len() >= size => return Err(400_u16),
                    Preread::More => {}
                }
                let read = match &mut *client {
                    Side::Plain(socket) if stays => look_again(socket, early, size).await,
                    client => {
                        early.reserve(size - early.len());
                        client.take((size - early.len()) as u64).read_buf(early).await
                    }
                };
                match read {
                    Ok(0) => return Err(200),
                    Ok(_) => {}
                    Err(_) => return Err(400),
                }
            }
        };
        let found = timeout(settings.preread_timeout, look).await.unwrap_or(Err(200));
        if found == Err(400) && early.len() >= size {
            let (serial, client) = (self.facts.serial, self.facts.client());
            error!("*{serial} preread buffer full while prereading client data, {client}");
        }
        self.facts.received = early.len() as u64;
        if stays && matches!(client, Side::Plain(_)) {
            early.clear();
            self.facts.received = 0;
        }
        if let Some(hello) = found? {
            let name = hello.server_name.clone();
            self.facts.preread = Some(hello);
            if !name.is_empty() && !self.door.entrance.ssl {
                self.choose(&name);
            }
        }
        Ok(())
    }

    async fn answer(&mut self, client: &mut Side, text: &[u8]) -> u16 {
        let written = timeout(self.server.model.settings.timeout, async {
            client.write_all(text).await?;
            client.flush().await?;
            client.shutdown().await
        });
        match written.await {
            Ok(Ok(())) => {
                self.facts.sent = text.len() as u64;
                // What the client sent and nobody reads would turn the end into a reset.
                linger(client).await;
                200
            }
            Ok(Err(_)) | Err(_) => 200,
        }
    }

    async fn relay(&mut self, client: Side, server: &Server, target: &StreamTarget, early: Vec<u8>) -> u16 {
        let common = &self.door.common;
        let reached = upstream::reach(&self.worker, common, server, target, &mut self.facts).await;
        let Reached { side, choice, chosen, began } = match reached {
            Ok(reached) => reached,
            Err(status) => return status,
        };
        let settings = &server.model.settings;
        let half_closed = match settings.half_close {
            true => settings.timeout,
            false => settings.timeout.min(HALF_CLOSED_MAX),
        };
        let terms = Terms {
            upload: rate(&settings.upload_rate, &self.facts),
            download: rate(&settings.download_rate, &self.facts),
            idle: settings.timeout,
            half_closed,
        };
        let account = Account { progress: Progress::default(), chosen, began, first: Cell::new(None) };
        let (mut client, mut side) = (client, side);
        let early_size = early.len() as u64;
        let sent_early = if early.is_empty() { Ok(()) } else { send(&mut side, &early).await };
        drop(early);
        let (to_server, to_client) = match (&mut client, &mut side) {
            _ if sent_early.is_err() => (0, 0),
            (Side::Plain(client), Side::Plain(side)) if terms.upload == 0 && terms.download == 0 => {
                let timeouts = Timeouts { idle: terms.idle, half_closed: terms.half_closed };
                let end = relay::relay(client, side, Engine::Auto, &timeouts, &account).await;
                debug!("*{} {end}", self.facts.serial);
                (account.progress.bytes_to_server(), account.progress.bytes_to_client())
            }
            _ => {
                let (up, down) = (Count::default(), Count::default());
                match copy(&mut client, &mut side, terms, &up, &down).await {
                    End::Closed => {}
                    End::TimedOut => info!("*{} upstream timed out", self.facts.serial),
                    End::Failed(error) => {
                        debug!("*{} {}", self.facts.serial, Errno(&error));
                        relay::reset_on_drop(client.socket());
                        relay::reset_on_drop(side.socket());
                    }
                }
                account.first.set(down.first.get());
                (up.bytes.get(), down.bytes.get())
            }
        };
        for (part, latency) in
            [(StreamTimed::FirstByte, account.first.get()), (StreamTimed::LastByte, Some(began.elapsed()))]
        {
            if let Some(latency) = latency {
                choice.report_done(&self.door.common, &account.chosen, Transport::Tcp, part, latency);
            }
        }
        let from_client = early_size.max(self.facts.received) + to_server;
        self.facts.received = from_client;
        self.facts.sent = to_client;
        if let Some(attempt) = self.facts.attempts.last_mut() {
            attempt.sent += from_client;
            attempt.received = to_client;
            attempt.first_byte = account.first.get();
            attempt.session = Some(began.elapsed());
        }
        200
    }
}

/// Looks at what has come on a socket, and leaves it there; waits until that is more than `seen` has.
/// 0 is that no more will come.
async fn look_again(socket: &TcpStream, seen: &mut Vec<u8>, size: usize) -> io::Result<usize> {
    let before = seen.len();
    seen.resize(size, 0);
    let looked = peek::more(socket, seen, before).await;
    seen.truncate(looked.as_ref().map_or(before, |&count| count.max(before)));
    looked
}

/// Finds the server that has a name, and writes its texts.
struct Chooser<'a> {
    door: &'a Door,
    facts: &'a mut Facts,
}

impl tls::Chooser for Chooser<'_> {
    fn choose(&mut self, name: &str) -> Arc<tls::Terminator> {
        let place = self.door.entrance.names.find(name, &mut self.facts.captures);
        Arc::clone(&self.door.entrance.servers[place].terminator)
    }

    fn tell(&mut self, text: &PemText, begun: &tls::Handshake) -> Vec<u8> {
        self.facts.tls = Some(begun.clone());
        text.stream(self.facts)
    }
}

async fn send(side: &mut Side, bytes: &[u8]) -> io::Result<()> {
    side.write_all(bytes).await?;
    side.flush().await
}

/// Reads away what a client still sends, for a moment, until it ends as well.
async fn linger(client: &mut Side) {
    let mut buffer = [0; 512];
    let read = async { while client.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(LINGERING, read).await;
}

/// Takes in what the relay moves.
struct Account {
    progress: Progress,
    chosen: Chosen,
    began: Instant,
    /// How long after the begin the server's first byte came.
    first: Cell<Option<Duration>>,
}

impl Tally for Account {
    fn to_server(&self, bytes: u64) {
        if let Some(lease) = &self.chosen.lease {
            lease.count_to_server(bytes);
        }
    }

    fn to_client(&self, bytes: u64) {
        if self.first.get().is_none() && bytes > 0 {
            self.first.set(Some(self.began.elapsed()));
        }
        if let Some(lease) = &self.chosen.lease {
            lease.count_to_client(bytes);
        }
    }

    fn half_closed(&self) {
        if let Some(lease) = &self.chosen.lease {
            lease.closing();
        }
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}

/// How long accepting pauses when there is no room.
const PAUSE: Duration = Duration::from_millis(50);

/// How long what a client sends after its answer is read away.
const LINGERING: Duration = Duration::from_secs(5);
