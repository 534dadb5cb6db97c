//! Templates kept the same on several directors, so that a persistent client keeps its real server when
//! another director takes over (what IPVS's synchronisation daemons do; a proxy's connections cannot
//! move, its templates can).
//!
//! The director that is active *tells* what changes in its table, the others *hear* it. Messages are
//! signed with a key that all share ([`message`]), numbered, and repeated when they got lost
//! ([`teller`], [`hearer`]); whoever joins is told everything. The data path pays nothing for it: the
//! table notes what changes ([`Director::changed_templates`]), and one task looks there twenty times a
//! second.

mod hearer;
mod message;
mod teller;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use lvs_core::Director;
use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use self::hearer::{Action, Hearer};
use self::message::{Content, Key, Message, Refused, Speaker};
use self::teller::Teller;
use crate::clock;
use crate::keepalived::model::SyncDaemon;

/// Who takes part, and how it goes.
#[derive(Debug)]
pub(crate) struct Synchronisation {
    daemon: SyncDaemon,
    progress: Mutex<Progress>,
}

/// How it goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// What this director does now.
    pub(crate) role: Role,
    /// Other directors that are heard, and how many of them have told everything.
    pub(crate) others: (usize, usize),
    /// Messages with changes that were told.
    pub(crate) told: u64,
    /// Templates that were learned.
    pub(crate) learned: u64,
    /// Messages that were refused.
    pub(crate) refused: u64,
    /// Why it does not work, if so.
    pub(crate) problem: Option<String>,
}

/// What a director does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// It tells.
    Active,
    /// It hears.
    Standby,
    /// Both: several addresses, several directors.
    #[default]
    Both,
}

impl Role {
    pub(crate) fn tells(self) -> bool {
        self != Role::Standby
    }

    pub(crate) fn hears(self) -> bool {
        self != Role::Active
    }
}

impl Synchronisation {
    pub(crate) fn new(daemon: SyncDaemon) -> Synchronisation {
        Synchronisation { daemon, progress: Mutex::default() }
    }

    pub(crate) fn daemon(&self) -> &SyncDaemon {
        &self.daemon
    }

    pub(crate) fn progress(&self) -> Progress {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes part until the director is gone or the other end of `role` is dropped.
    pub(crate) async fn run(self: Arc<Self>, director: Weak<Director>, mut role: watch::Receiver<Role>) {
        let mut complained = false;
        let socket = loop {
            match open(&self.daemon) {
                Ok(socket) => break socket,
                Err(error) => {
                    let problem = format!("cannot open the socket on {}: {error}", self.daemon.interface);
                    if !std::mem::replace(&mut complained, true) {
                        warn!("templates are not synchronised: {problem}");
                    }
                    self.lock().problem = Some(problem);
                }
            }
            tokio::select! {
                () = sleep(REOPEN_PAUSE) => {}
                changed = role.changed() => if changed.is_err() { return },
            }
        };
        self.lock().problem = None;
        info!(interface = %self.daemon.interface, port = self.daemon.port, "templates are synchronised");
        let Some(speaker) = random() else {
            warn!("templates are not synchronised: the system has no random numbers");
            return;
        };
        let teller = Teller::new(Speaker(speaker | 1));
        let mut party = Party {
            shared: &self,
            socket,
            key: Key::new(&self.daemon.key),
            speaker: Speaker(speaker | 1),
            teller,
            hearer: Hearer::new(),
            role: *role.borrow(),
            complained: None,
        };
        party.run(&director, &mut role).await;
        if let Some(director) = director.upgrade() {
            director.unfollow_templates();
        }
    }
}

/// One director at work.
struct Party<'a> {
    shared: &'a Synchronisation,
    socket: UdpSocket,
    key: Key,
    speaker: Speaker,
    teller: Teller,
    hearer: Hearer,
    role: Role,
    /// When a message was last complained of.
    complained: Option<Instant>,
}

impl Party<'_> {
    async fn run(&mut self, director: &Weak<Director>, role: &mut watch::Receiver<Role>) {
        let mut buffer = vec![0; MESSAGE_MAX];
        let (mut next_look, mut next_beat) = (Instant::now(), Instant::now());
        loop {
            let before = std::mem::replace(&mut self.role, *role.borrow_and_update());
            if before.tells()
                && !self.role.tells()
                && let Some(director) = director.upgrade()
            {
                // The last clients before another director took over.
                self.tell_rest(&director).await;
            }
            self.shared.lock().role = self.role;
            let actions = tokio::select! {
                changed = role.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    Vec::new()
                }
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => self.receive(&buffer[..length], from).await,
                    // A peer that is away (ECONNREFUSED) is none of our business; anything else passes too.
                    Err(_) => Vec::new(),
                },
                () = tokio::time::sleep_until(next_look.into()) => {
                    let Some(director) = director.upgrade() else { return };
                    let (told, more) = self.tell(&director).await;
                    let now = Instant::now();
                    // The last of what was told could be lost without anybody knowing.
                    if self.role.tells() && (told || now >= next_beat) {
                        self.send(self.teller.beat()).await;
                        next_beat = now + BEAT;
                    }
                    next_look = now + if more { BUSY_PAUSE } else { LOOK };
                    match self.role.hears() {
                        true => self.hearer.look(now, || random().unwrap_or_default()),
                        false => Vec::new(),
                    }
                }
            };
            self.obey(actions, director).await;
        }
    }

    /// Tells what is left to be told, and nothing more.
    async fn tell_rest(&mut self, director: &Director) {
        for _ in 0..REST_MAX {
            if !self.tell_changes(director).await.1 {
                break;
            }
        }
        self.send(self.teller.beat()).await;
        director.unfollow_templates();
    }

    /// Tells what has changed; says whether there was something, and whether there is more.
    async fn tell(&mut self, director: &Director) -> (bool, bool) {
        if !self.role.tells() {
            return (false, false);
        }
        if self.teller.begins_everything(Instant::now()) {
            director.change_all_templates();
        }
        self.tell_changes(director).await
    }

    async fn tell_changes(&mut self, director: &Director) -> (bool, bool) {
        let (changed, more) = director.changed_templates(clock::now(), AT_ONCE);
        let mut contents = self.teller.tell(&changed, message::room(self.shared.daemon.size));
        if !more {
            contents.extend(self.teller.complete());
        }
        let told = !contents.is_empty();
        for content in contents {
            self.send(content).await;
        }
        self.shared.lock().told = self.teller.count();
        (told, more)
    }

    async fn receive(&mut self, bytes: &[u8], from: SocketAddr) -> Vec<Action> {
        let SyncDaemon { id, peers, .. } = &self.shared.daemon;
        if !peers.is_empty() && !peers.contains(&from.ip().to_canonical()) {
            self.refuse(from, "it is not among lvs_sync_peers");
            return Vec::new();
        }
        let message = match Message::open(bytes, *id, &self.key) {
            Ok(message) if message.speaker == self.speaker => return Vec::new(),
            Ok(message) => message,
            // Several groups may share a network.
            Err(Refused::OtherGroup) => return Vec::new(),
            Err(refused) => {
                self.refuse(from, &refused.to_string());
                return Vec::new();
            }
        };
        match &message.content {
            Content::Join { nonce, of } if self.role.tells() => {
                if let Some(welcome) = self.teller.welcome(*nonce, *of) {
                    self.send(welcome).await;
                }
            }
            // Also of one that has just given the addresses away.
            content @ Content::Missing { .. } => {
                for content in self.teller.repeat(message.speaker, content) {
                    self.send(content).await;
                }
            }
            _ if self.role.hears() => return self.hearer.hear(message, Instant::now()),
            _ => {}
        }
        Vec::new()
    }

    fn refuse(&mut self, from: SocketAddr, why: &str) {
        self.shared.lock().refused += 1;
        let now = Instant::now();
        if self.complained.is_none_or(|last| now.duration_since(last) > COMPLAINT_PAUSE) {
            self.complained = Some(now);
            warn!("a message about templates from {from} was refused: {why}");
        }
    }

    async fn obey(&mut self, actions: Vec<Action>, director: &Weak<Director>) {
        for action in actions {
            match action {
                Action::Send(content) => self.send(content).await,
                Action::Learn(templates) => {
                    let Some(director) = director.upgrade() else { return };
                    let learned = director.learn_templates(&templates, clock::now());
                    self.shared.lock().learned += learned.restored as u64;
                }
                Action::Completed(_) => info!("all templates of another director are known here"),
            }
        }
        self.shared.lock().others = self.hearer.heard();
    }

    async fn send(&self, content: Content) {
        let SyncDaemon { id, peers, group, port, .. } = &self.shared.daemon;
        let bytes = Message { speaker: self.speaker, content }.seal(*id, &self.key);
        let group = peers.is_empty().then_some(group);
        for peer in peers.iter().chain(group) {
            // What is lost is asked for again; a beat tells that it is.
            let _ = self.socket.send_to(&bytes, (*peer, *port)).await;
        }
    }
}

fn open(daemon: &SyncDaemon) -> io::Result<UdpSocket> {
    let SyncDaemon { interface, port, ttl, group, peers, .. } = daemon;
    let v6 = peers.first().unwrap_or(group).is_ipv6();
    let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let any = SocketAddr::new(any, *port);
    let socket = Socket::new(Domain::for_address(any), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    if v6 {
        socket.set_only_v6(true)?;
    }
    // Multicast goes out and comes in there, too.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SockAddr::from(any))?;
    if peers.is_empty() {
        let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
        match group {
            IpAddr::V4(group) => {
                socket.join_multicast_v4_n(group, &InterfaceIndexOrAddress::Index(index))?;
                socket.set_multicast_ttl_v4((*ttl).into())?;
                socket.set_multicast_loop_v4(false)?;
            }
            IpAddr::V6(group) => {
                socket.join_multicast_v6(group, index)?;
                socket.set_multicast_if_v6(index)?;
                socket.set_multicast_hops_v6((*ttl).into())?;
                socket.set_multicast_loop_v6(false)?;
            }
        }
    }
    UdpSocket::from_std(socket.into())
}

/// A number that nobody can foretell.
fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// How often changes are looked for: how old a standby's knowledge may be.
const LOOK: Duration = Duration::from_millis(50);

/// How long the last changes take to be told.
pub(crate) const REST: Duration = Duration::from_millis(100);

/// Between parts of a large table, for the others to keep up.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Templates that are told in one go.
const AT_ONCE: usize = 1000;

/// Parts of the table that are told at the end: a crowd of the last moment, not everything.
const REST_MAX: usize = 16;

const BEAT: Duration = Duration::from_secs(1);

const REOPEN_PAUSE: Duration = Duration::from_secs(2);

const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// Longest message that is read, whatever the others' `maxlen` is.
const MESSAGE_MAX: usize = 65_536;

const RECEIVE_BUFFER: usize = 4 << 20;
