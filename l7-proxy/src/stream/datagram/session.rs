//! One session: its server, its counts, and its end.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use l4_proxy::connections::Place;
use l4_proxy::proxy_protocol::{Addresses, Header, Version};
use l4_proxy::udp::is_of_server;
use lvs_core::Cause;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep};
use tracing::{debug, error, warn};

use super::pace::Pace;
use super::{Client, Inlet, Phase};
use crate::error_log::{self, Errno};
use crate::leg::{self, Unconnected, cause};
use crate::model::{StreamSettings, StreamTimed, Transport};
use crate::moment::{COARSE, Moment};
use crate::stream::choice::{Choice, Chosen};
use crate::stream::facts::Facts;
use crate::stream::upstream::{own_address, rate};
use crate::stream::visit::Visit;
use crate::stream::{Door, Server};
use crate::unix;

/// What comes from one client, and what is answered.
pub(super) struct Session {
    inlet: Rc<Inlet>,
    client: Client,
    server: Arc<Server>,
    visit: RefCell<Visit>,
    choice: RefCell<Choice>,
    link: RefCell<Link>,
    /// The first datagram, as long as it may have to be sent to another server.
    first: RefCell<Option<Box<[u8]>>>,
    /// Datagrams from the client, and from servers.
    requests: Cell<u32>,
    responses: Cell<u32>,
    upload: Pace,
    download: Pace,
    /// When something moved last.
    moved: Cell<Moment>,
    /// Whether there may be more answers than those that had their turn.
    tired: Cell<bool>,
    standing: Cell<Standing>,
    /// Tells the task that the link or the standing is another.
    changed: Notify,
    _room: Place,
}

/// What a session has of its client's datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// All that come.
    AtHome,
    /// None any more; it has had as many as it may have.
    Complete,
    /// None any more, and it has no future.
    Leaving,
    /// It is over, and in the log.
    Over,
}

/// A server, as one session has it.
struct Link {
    socket: Rc<UdpSocket>,
    chosen: Chosen,
    began: Instant,
}

/// What became of a client's datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was this session's, whether it has reached the server or not.
    Taken,
    /// The session is over, and was before the datagram came.
    NotMine,
}

impl Session {
    /// Begins a session: a server is chosen, and the first datagram sent.
    ///
    /// # Errors
    /// The status that it comes to before it has begun.
    pub(super) fn begin(
        inlet: &Rc<Inlet>,
        client: Client,
        mut visit: Visit,
        mut choice: Choice,
        bytes: &[u8],
        room: Place,
    ) -> Result<Rc<Session>, (Box<Visit>, u16)> {
        let server = Arc::clone(&visit.server);
        let settings = &server.model.settings;
        let link = match Link::find(&mut choice, &mut visit, settings) {
            Ok(link) => link,
            Err(status) => return Err((Box::new(visit), status)),
        };
        let (upload, download) =
            (rate(&settings.upload_rate, &visit.facts), rate(&settings.download_rate, &visit.facts));
        let first = choice.may_go_on(settings).then(|| bytes.into());
        let began = link.began;
        let session = Rc::new(Session {
            inlet: Rc::clone(inlet),
            client,
            server,
            visit: RefCell::new(visit),
            choice: RefCell::new(choice),
            link: RefCell::new(link),
            first: RefCell::new(first),
            requests: Cell::new(1),
            responses: Cell::new(0),
            upload: Pace::new(upload, began),
            download: Pace::new(download, began),
            moved: Cell::new(Moment::now()),
            tired: Cell::new(false),
            standing: Cell::new(Standing::AtHome),
            changed: Notify::new(),
            _room: room,
        });
        session.send_first(bytes);
        session.settle();
        Ok(session)
    }

    /// Whether its client's datagrams belong to it.
    pub(super) fn is_at_home(&self) -> bool {
        self.standing.get() == Standing::AtHome
    }

    /// Takes a further datagram of the client's.
    pub(super) fn take(&self, bytes: &[u8]) -> Fate {
        let _within = error_log::within(self.server.model.settings.error_log.clone());
        let received = self.visit.borrow().facts.received;
        let now = Instant::now();
        if self.upload.wait(received, now).is_some() {
            return Fate::Taken;
        }
        match self.send(bytes) {
            Ok(()) => {}
            Err(error) if is_of_server(&error) => {
                // The error is of what was sent before; this datagram has not left yet.
                self.fail_over(&error, "send");
                if self.standing.get() == Standing::Over {
                    return Fate::NotMine;
                }
                let _ = self.send(bytes);
            }
            Err(error) => warn!("{}", self.said(&format!("send() failed ({})", Errno(&error)), SENDING)),
        }
        self.upload.moved(bytes.len(), now);
        self.moved.set(Moment::now());
        self.requests.set(self.requests.get().saturating_add(1));
        self.visit.borrow_mut().facts.received += bytes.len() as u64;
        self.settle();
        Fate::Taken
    }

    /// Whether its client had better begin anew, with another server or by another configuration.
    pub(super) fn is_stale(&self, door: &Arc<Door>) -> bool {
        let link = self.link.borrow();
        let is_of = Arc::ptr_eq(&self.visit.borrow().door, door);
        match &link.chosen.lease {
            None => !is_of,
            Some(lease) => {
                lease.is_cut_off()
                    || lease.is_down()
                    || lease.is_overdue(l4_proxy::clock::now())
                    || !is_of && (lease.is_removed() || !door.leads_to(lease.service()))
            }
        }
    }

    /// Gets none of its client's datagrams any more; what is still answered passes.
    pub(super) fn leave(&self) {
        self.move_out(Standing::Leaving);
        self.changed.notify_one();
    }

    /// Waits for answers, and for the end.
    pub(super) async fn run(self: Rc<Self>) {
        let places = self.server.model.settings.error_log.clone();
        error_log::told(places, self.wait()).await;
    }

    async fn wait(&self) {
        let mut watch = pin!(sleep(self.silence_max()));
        while self.standing.get() != Standing::Over {
            let socket = Rc::clone(&self.link.borrow().socket);
            tokio::select! {
                biased;
                () = self.changed.notified() => self.look_at_the_clock(watch.as_mut()),
                () = self.inlet.phase_changed.notified() => self.look_at_the_clock(watch.as_mut()),
                answered = self.answered(&socket) => match answered {
                    Ok(interest) => self.pass_answers(&socket, interest),
                    Err(error) => self.fail_over(&error, "recv"),
                },
                () = watch.as_mut() => self.look_at_the_clock(watch.as_mut()),
            }
        }
    }

    /// Waits until an answer has come and may be passed on, or its host has said that there is nobody;
    /// says which.
    async fn answered(&self, socket: &UdpSocket) -> io::Result<Interest> {
        let passed = self.visit.borrow().facts.attempts.last().map_or(0, |attempt| attempt.received);
        if let Some(wait) = self.download.wait(passed, Instant::now()) {
            // What we hold back ourselves is no silence.
            self.moved.set(Moment::now() + wait);
            sleep(wait).await;
        }
        if self.tired.take() {
            yield_now().await;
        }
        let ready = socket.ready(Interest::READABLE.add(Interest::ERROR)).await?;
        Ok(if ready.is_error() { Interest::ERROR } else { Interest::READABLE })
    }

    /// Passes on what servers have answered, some of it at a time.
    fn pass_answers(&self, socket: &UdpSocket, interest: Interest) {
        ANSWER.with_borrow_mut(|buffer| {
            for _ in 0..ANSWERS_AT_ONCE {
                let receive = || Ok(rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?.0);
                match socket.try_io(interest, receive) {
                    Ok(count) => self.pass_answer(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Err(error) => return self.fail_over(&error, "recv"),
                }
                if self.standing.get() == Standing::Over || self.download.is_limited() {
                    return;
                }
            }
            self.tired.set(true);
        });
    }

    fn pass_answer(&self, bytes: &[u8]) {
        let sent = self.inlet.reply(self.client, bytes);
        if let Err(error) = &sent {
            warn!("{}", self.said(&format!("sendmsg() failed ({})", Errno(error)), ANSWERING));
        }
        self.moved.set(Moment::now());
        self.download.moved(bytes.len(), Instant::now());
        self.responses.set(self.responses.get().saturating_add(1));
        // Whoever has answered is asked further.
        self.first.take();
        {
            let (mut visit, link) = (self.visit.borrow_mut(), self.link.borrow());
            let facts = &mut visit.facts;
            facts.sent += if sent.is_ok() { bytes.len() as u64 } else { 0 };
            if let Some(attempt) = facts.attempts.last_mut() {
                attempt.received += bytes.len() as u64;
                if attempt.first_byte.is_none() {
                    let latency = link.began.elapsed();
                    attempt.first_byte = Some(latency);
                    self.report_done(&visit, &link, StreamTimed::FirstByte, latency);
                }
            }
            if let Some(lease) = &link.chosen.lease {
                lease.count_to_client(bytes.len() as u64);
                lease.count_packets_to_client(1);
            }
        }
        self.settle();
    }

    /// Ends the session if nothing more is expected of it.
    fn settle(&self) {
        let settings = &self.server.model.settings;
        if let Some(most) = settings.requests {
            if self.requests.get() < most.get() {
                return;
            }
            self.move_out(Standing::Complete);
        }
        if settings.responses.is_some() && self.is_answered() {
            debug!("{}", self.said("udp done", ""));
            self.end(200);
        }
    }

    /// Whether as many answers have come as were expected.
    fn is_answered(&self) -> bool {
        let each = self.server.model.settings.responses.unwrap_or(0);
        u64::from(self.responses.get()) >= u64::from(each) * u64::from(self.requests.get())
    }

    fn look_at_the_clock(&self, watch: Pin<&mut Sleep>) {
        let (limit, silent) = (self.silence_max(), Moment::now().since(self.moved.get()));
        if self.standing.get() == Standing::Over {
            return;
        }
        if silent < limit {
            return watch.reset(tokio::time::Instant::now() + (limit - silent).max(COARSE));
        }
        if self.is_answered() {
            debug!("{}", self.said("udp timed out", ""));
            self.end(200);
        } else if self.is_closing() {
            debug!("{}", self.said("disconnected on shutdown", ""));
            self.end(200);
        } else {
            let late = io::Error::from(rustix::io::Errno::TIMEDOUT);
            error!("{}", self.said(&format!("upstream timed out ({})", Errno(&late)), PROXYING));
            self.report_failure("no answer".into());
            self.end(502);
        }
    }

    fn silence_max(&self) -> Duration {
        let timeout = self.server.model.settings.timeout;
        if self.is_closing() { timeout.min(CLOSING_SILENCE) } else { timeout }
    }

    fn is_closing(&self) -> bool {
        self.standing.get() == Standing::Leaving || self.inlet.phase.get() == Phase::Closing
    }

    /// Sends the first datagram to a server, behind the header that it may get.
    fn send_first(&self, bytes: &[u8]) {
        let header = self.server.model.settings.proxy_protocol.map(|version| {
            let visit = self.visit.borrow();
            let (client, local) = (visit.facts.remote, visit.facts.local);
            match version {
                // It knows no word for datagrams, and nginx says the one that it has.
                Version::V1 => Header::tcp(client, local).encode(version),
                Version::V2 => Header { addresses: Addresses::Udp(client, local), tlvs: Default::default() }
                    .encode(version),
            }
        });
        let sent = match header {
            None => self.send(bytes),
            Some(header) => self.send(&[&header, bytes].concat()),
        };
        if let Err(error) = sent {
            warn!("{}", self.said(&format!("send() failed ({})", Errno(&error)), SENDING));
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let link = self.link.borrow();
        // The descriptor is asked, not the runtime, which would want to be told first that there is room.
        rustix::net::send(&*link.socket, bytes, SendFlags::empty())?;
        if let Some(lease) = &link.chosen.lease {
            lease.count_to_server(bytes.len() as u64);
            lease.count_packets_to_server(1);
        }
        if let Some(attempt) = self.visit.borrow_mut().facts.attempts.last_mut() {
            attempt.sent += bytes.len() as u64;
        }
        Ok(())
    }

    /// Goes on with another server, if one may be tried, else ends the session: the client's next
    /// datagram begins another.
    fn fail_over(&self, error: &io::Error, call: &str) {
        error!("{}", self.said(&format!("{call}() failed ({})", Errno(error)), READING));
        let settings = &self.server.model.settings;
        let Some(first) = self.first.take() else {
            self.report_failure(cause(error));
            let answered = self.responses.get() > 0;
            return self.end(if answered { 200 } else { 502 });
        };
        let found = {
            let (mut visit, mut choice) = (self.visit.borrow_mut(), self.choice.borrow_mut());
            let mut link = self.link.borrow_mut();
            note_end(&mut visit.facts, link.began);
            let common = Arc::clone(&visit.door.common);
            let found = match choice.failed(&common, settings, &link.chosen, cause(error), &visit.facts) {
                true => Link::find(&mut choice, &mut visit, settings),
                false => Err(502),
            };
            found.map(|next| *link = next)
        };
        match found {
            Ok(()) => {
                self.send_first(&first);
                if self.choice.borrow().may_go_on(settings) {
                    self.first.replace(Some(first));
                }
                self.moved.set(Moment::now());
                self.changed.notify_one();
            }
            Err(status) => self.end(status),
        }
    }

    fn report_failure(&self, cause: Cause) {
        let (visit, link) = (self.visit.borrow(), self.link.borrow());
        // The line that tells of the failure says enough.
        let _ = self.choice.borrow().report_failure(&visit.door.common, &link.chosen, cause);
    }

    fn report_done(&self, visit: &Visit, link: &Link, part: StreamTimed, latency: Duration) {
        let choice = self.choice.borrow();
        choice.report_done(&visit.door.common, &link.chosen, Transport::Udp, part, latency);
    }

    /// Lets the client's datagrams begin another session.
    fn move_out(&self, standing: Standing) {
        if self.standing.replace(standing) == Standing::AtHome {
            let mut sessions = self.inlet.sessions.borrow_mut();
            // It may not have moved in yet, where another one has lived before.
            if sessions.get(&self.client).is_some_and(|there| std::ptr::eq(&**there, self)) {
                sessions.remove(&self.client);
            }
        }
    }

    /// Writes the session's lines; it is over.
    fn end(&self, status: u16) {
        if self.standing.get() == Standing::Over {
            return;
        }
        self.move_out(Standing::Over);
        {
            let (mut visit, mut link) = (self.visit.borrow_mut(), self.link.borrow_mut());
            note_end(&mut visit.facts, link.began);
            if self.responses.get() > 0 {
                let latency = link.began.elapsed();
                self.report_done(&visit, &link, StreamTimed::LastByte, latency);
            }
            link.chosen.lease = None;
            visit.facts.status = status;
            visit.log();
            visit.leave();
        }
        self.changed.notify_one();
    }

    /// Returns a line for the error log.
    fn said(&self, what: &str, doing: &str) -> String {
        let (visit, link) = (self.visit.borrow(), self.link.borrow());
        let facts = &visit.facts;
        let (sent, received) =
            facts.attempts.last().map_or((0, 0), |attempt| (attempt.sent, attempt.received));
        let bytes = format!(
            "bytes from/to client:{}/{}, bytes from/to upstream:{received}/{sent}",
            facts.received, facts.sent
        );
        match doing {
            "" => {
                let (requests, responses) = (self.requests.get(), self.responses.get());
                format!("*{} {what}, packets from/to client:{requests}/{responses}, {bytes}", facts.serial)
            }
            doing => {
                let upstream = unix::shown(link.chosen.addr);
                let (serial, client) = (facts.serial, facts.client());
                format!("*{serial} {what} while {doing}, {client}, upstream: \"{upstream}\", {bytes}")
            }
        }
    }
}

impl Link {
    /// Chooses servers until there is one that a socket can be connected to.
    fn find(choice: &mut Choice, visit: &mut Visit, settings: &StreamSettings) -> Result<Link, u16> {
        let common = Arc::clone(&visit.door.common);
        loop {
            let chosen = choice.next(&common, &mut visit.facts)?;
            let began = Instant::now();
            match open(settings, &visit.facts, &chosen) {
                Ok(socket) => {
                    if let Some(attempt) = visit.facts.attempts.last_mut() {
                        attempt.connect = Some(began.elapsed());
                    }
                    return Ok(Link { socket: Rc::new(socket), chosen, began });
                }
                Err(error) => {
                    let (serial, traffic) = (visit.facts.serial, visit.facts.traffic());
                    error!("*{serial} {error} while connecting to upstream, {traffic}");
                    note_end(&mut visit.facts, began);
                    if error.is_own() {
                        return Err(500);
                    }
                    if !choice.failed(&common, settings, &chosen, error.cause(), &visit.facts) {
                        return Err(502);
                    }
                }
            }
        }
    }
}

/// A socket that sends to this server and hears of nobody else.
fn open(settings: &StreamSettings, facts: &Facts, chosen: &Chosen) -> Result<UdpSocket, Unconnected> {
    let addr = chosen.addr;
    if let Some(path) = unix::path(addr) {
        return Ok(open_at_path(&path)?);
    }
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    leg::prepare(SockRef::from(&socket), own_address(settings, facts), &settings.socket)?;
    socket.connect(&addr.into())?;
    Ok(UdpSocket::from_std(socket.into())?)
}

/// The same, of a server that listens at a path.
fn open_at_path(path: &Path) -> io::Result<UdpSocket> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    // What is sent and received is the same for both kinds of socket.
    UdpSocket::from_std(socket.into())
}

/// Notes how long the present attempt has lasted.
fn note_end(facts: &mut Facts, began: Instant) {
    if let Some(attempt) = facts.attempts.last_mut() {
        attempt.session = Some(began.elapsed());
    }
}

thread_local! {
    /// Where an answer is between being received and being sent.
    static ANSWER: RefCell<Box<[u8]>> = RefCell::new(vec![0; DATAGRAM_MAX].into());
}

const DATAGRAM_MAX: usize = 64 << 10;

/// Answers of one session that pass before others have their turn.
const ANSWERS_AT_ONCE: usize = 32;

/// How long a session must have been silent to be over when it has no future.
const CLOSING_SILENCE: Duration = Duration::from_secs(3);

/// What was being done, in nginx's words.
const PROXYING: &str = "proxying connection";
const READING: &str = "proxying and reading from upstream";
const SENDING: &str = "proxying and sending to upstream";
const ANSWERING: &str = "proxying and sending to client";
