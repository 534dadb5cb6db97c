//! From accept to the relay: who the client is, which server it is given to, and, for services that ask
//! for it, the server's first byte.
//!
//! All of it is one future that its caller boxes. It is short, and what it needs (timers, buffers,
//! headers, servers tried in vain) is several times what a connection needs from then on, however long
//! that one idles.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use lvs_core::{Event, Flow, Lease, Protocol, Refusal};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::connect::{self, Failure, cause};
use super::first::{self, First};
use super::identify::{self, Unidentified};
use super::legs::Legs;
use super::{Account, Connection, Ended, Outcome, Place, Proxy, Shared};
use crate::clock;
use crate::connections::{Call, Open};
use crate::proxy_protocol::{Addresses, Header};
use crate::relay::{End, Progress, Side, Tally, reset_on_drop};
use crate::settings::Settings;

/// Finds a server for a client and connects to it. If nothing comes of it the client is reset.
pub(super) async fn open(
    proxy: Proxy,
    client: TcpStream,
    peer: SocketAddr,
    virtual_address: SocketAddr,
    place: Option<Place>,
) -> Result<Connection, Outcome> {
    let settings = proxy.settings();
    let began = Instant::now();
    let mut passage = Passage {
        proxy,
        settings,
        client,
        peer,
        virtual_address,
        header: None,
        failed: Vec::new(),
        sent: 0,
        began,
        place,
    };
    match passage.find().await {
        Ok((server, account)) => Ok(passage.arrive(server, account)),
        Err(ended) => Err(passage.turn_away(ended)),
    }
}

/// One connection on its way to a server.
struct Passage {
    proxy: Proxy,
    settings: Arc<Settings>,
    client: TcpStream,
    /// The client's address: the peer's, or what the PROXY header says.
    peer: SocketAddr,
    virtual_address: SocketAddr,
    /// What the peer said of the client, to be passed on.
    header: Option<Header>,
    /// Servers that were tried in vain.
    failed: Vec<SocketAddr>,
    /// Bytes of the client's that went to a server which then came to nothing.
    sent: u64,
    began: Instant,
    place: Option<Place>,
}

/// What became of the wait for a server's first byte.
enum Begun {
    /// The relay takes over.
    Yes,
    /// The server was lost before it; another may be tried.
    Never,
    /// There is nothing more to be done.
    Ended(End),
}

impl Passage {
    /// Identifies the client, and connects to a server, or to another if one is lost while it still may be.
    async fn find(&mut self) -> Result<(TcpStream, Account), Ended> {
        self.must_be_here()?;
        self.identify().await.map_err(Ended::Unidentified)?;
        let mut held = Vec::new();
        loop {
            let (lease, mut server) = self.connect().await?;
            let open = Open {
                protocol: Protocol::Tcp,
                client: self.peer,
                virtual_address: self.virtual_address,
                server: lease.target(&self.flow()),
                progress: Progress::default(),
                call: Call::default(),
            };
            let entry = self.proxy.shared.connections.enter(open);
            let packets = self.settings.count_packets.then(Box::default);
            if packets.is_some() {
                entry.open.call.will_count();
            }
            let account = Account { lease, entry, packets };
            let begun = match self.settings.redispatch {
                0 => Begun::Yes,
                _ => self.begin(&mut server, &mut held, &account).await,
            };
            match begun {
                Begun::Yes => return Ok((server, account)),
                Begun::Never => self.failed.push(account.lease.server()),
                Begun::Ended(end) => {
                    reset_on_drop(&server);
                    self.sent = account.progress().bytes_to_server();
                    return Err(Ended::Relayed(account.entry.open.server, end));
                }
            }
        }
    }

    /// Makes sure that the virtual address is not another director's by now. What takes time, and a process
    /// that is stopped meanwhile, may outlast an arbiter's consent.
    fn must_be_here(&self) -> Result<(), Ended> {
        let here = self.proxy.shared.connections.may_serve(self.virtual_address.ip());
        if here { Ok(()) } else { Err(Ended::Elsewhere) }
    }

    /// Reads the PROXY header, from a peer that has to send one.
    async fn identify(&mut self) -> Result<(), Unidentified> {
        let expects = self.settings.accept_proxy.as_ref().filter(|accept| accept.expects(self.peer.ip()));
        let Some(accept) = expects else { return Ok(()) };
        // Boxed, as its buffer is for those who are expected to send one.
        let header = Box::pin(identify::read_header(&mut self.client, accept.deadline)).await?;
        if let Addresses::Tcp(source, _) = header.addresses {
            self.peer = source;
        }
        self.header = Some(header);
        Ok(())
    }

    /// Chooses a server and connects to it, or to another one if that fails.
    async fn connect(&mut self) -> Result<(Lease, TcpStream), Ended> {
        let flow = self.flow();
        // If the last server tried failed for want of a port, that is what the client is told.
        let mut without_port = None;
        loop {
            self.must_be_here()?;
            let Passage { proxy, settings, peer, virtual_address, failed, .. } = self;
            let Shared { director, service, turn, .. } = &*proxy.shared;
            if failed.len() >= settings.attempts.max(1) {
                return Err(without_port.map_or(Ended::Refused(Refusal::AllTried), Ended::Starved));
            }
            let lease = match director.schedule_except(service, &flow, failed, clock::now()) {
                Ok(lease) => lease,
                Err(refusal) => return Err(without_port.map_or(Ended::Refused(refusal), Ended::Starved)),
            };
            let server = lease.server();
            without_port = None;
            match connect::connect(lease.target(&flow), peer.ip(), settings, turn).await {
                Ok(mut stream) => {
                    let introduced =
                        introduce(&mut stream, self.header.as_ref(), (*peer, *virtual_address), settings);
                    if let Err(error) = introduced.await {
                        debug!(%service, %server, %error, "cannot send the PROXY header");
                    } else {
                        director.report(&lease, Event::Succeeded, clock::now());
                        return Ok((lease, stream));
                    }
                }
                Err(Failure::Server(error)) => {
                    debug!(%service, %server, %error, "cannot connect");
                    let event = Event::ConnectFailed(cause(&error));
                    if let Some(transition) = director.report(&lease, event, clock::now()) {
                        warn!(%service, %server, "server is {}", transition.condition);
                    }
                }
                // The server has nothing to do with it.
                Err(Failure::NoPort(error)) => {
                    warn!(%service, %server, %error, "no source address has a free port to this server");
                    without_port = Some(error);
                }
                Err(Failure::Host(error)) => {
                    warn!(%service, %server, %error, "cannot open a connection to any server");
                    return Err(Ended::Starved(error));
                }
            }
            failed.push(server);
        }
    }

    /// Waits for the server's first word.
    async fn begin(&mut self, server: &mut TcpStream, held: &mut Vec<u8>, account: &Account) -> Begun {
        let Passage { client, settings, .. } = self;
        let _ = server.set_nodelay(true);
        // Boxed likewise.
        let first = Box::pin(first::until_first_byte(client, server, held, settings.redispatch, account));
        match account.unless_cut_off(timeout(settings.timeouts.idle, first)).await {
            Err(end) => Begun::Ended(end),
            Ok(Err(_)) => Begun::Ended(End::TimedOut),
            Ok(Ok(First::Begun)) => Begun::Yes,
            Ok(Ok(First::ClientGone(error))) => Begun::Ended(End::Failed(Side::Client, error)),
            Ok(Ok(First::ServerGone(error))) => {
                // Nothing is reported: what makes one server close may be the client, and then it
                // would take them all out.
                let server = account.lease.server();
                debug!(service = %self.proxy.service(), %server, %error, "closed before its first byte");
                Begun::Never
            }
        }
    }

    fn flow(&self) -> Flow {
        Flow::new(self.peer).to(self.virtual_address)
    }

    fn arrive(self, server: TcpStream, account: Account) -> Connection {
        let Passage { proxy, settings, client, failed, began, place, .. } = self;
        let legs = Legs::new(client, server, failed.len());
        Connection { account, legs, proxy, settings, began, place }
    }

    fn turn_away(self, ended: Ended) -> Outcome {
        let Passage { proxy, client, peer, failed, sent, began, place, .. } = self;
        reset_on_drop(&client);
        drop(client);
        let (lasted, failed) = (began.elapsed(), failed.len());
        let outcome = Outcome { to_server: sent, to_client: 0, lasted, failed, ended };
        proxy.log(peer, &outcome);
        drop(place);
        outcome
    }
}

/// Sends the PROXY header, if the service's servers want one: what the peer said of the client, or what is
/// known of it here.
async fn introduce(
    server: &mut TcpStream,
    said: Option<&Header>,
    (client, virtual_address): (SocketAddr, SocketAddr),
    settings: &Settings,
) -> io::Result<()> {
    let Some(version) = settings.send_proxy else { return Ok(()) };
    let bytes = match said {
        Some(header) => header.encode(version),
        None => Header::tcp(client, virtual_address).encode(version),
    };
    // What follows it must not wait for its confirmation.
    server.set_nodelay(true)?;
    // A connection that has just been made takes it at once.
    timeout(settings.connect, server.write_all(&bytes)).await?
}
