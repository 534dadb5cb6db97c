//! Carries bytes between a client and a real server until both have ended.
//!
//! An idle connection costs no buffer and no pipe. Bytes that are there are read into one scratch
//! buffer per thread and written on at once; only what the other side does not take is kept, and
//! nothing more is read until it has gone, so a slow reader holds back its sender and never grows
//! memory. A direction whose reads fill the scratch buffer is *bulk*: it is promoted to splice(2)
//! through a pipe of a per-thread pool, and demoted when its reads become small. Where bulk comes
//! fast it is let gather for a moment, so that a wake-up moves many packets and not one.
//!
//! The end of a stream is passed on as such after the last byte; a reset becomes a reset, since a
//! plain end would pass a truncated stream off as a whole one.

mod direction;
mod gathering;
mod pipe;
mod tokio_splice_engine;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use self::direction::Direction;
pub use self::pipe::Pipe;
use crate::{listen, sys};

/// How bytes are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Copies small messages, splices bulk.
    #[default]
    Auto,
    /// Copies everything: for kernels and pipe limits that make splicing useless.
    Copy,
    /// Splices everything through pooled pipes.
    Pooled,
    /// The crate tokio-splice, which keeps two pipes per connection for its life.
    TokioSplice,
}

/// How long a connection may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// With both directions open.
    pub idle: Duration,
    /// After one side has ended its direction.
    pub half_closed: Duration,
}

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The real server.
    Server,
}

/// Why a relay ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// Both sides ended their direction; every byte was delivered.
    Closed,
    /// One side reset the connection or could not be reached any more; the other was reset.
    Failed(Side, io::Error),
    /// Nothing moved for too long; both were reset.
    TimedOut,
    /// The server drained until its deadline, or was deleted with its connections; both were reset.
    CutOff,
    /// The virtual address may be another director's by now; both were reset.
    Elsewhere,
}

/// What others may see of a relay while it runs: bytes, activity, phase.
///
/// Written by the relay only; a late read shows a moment ago.
#[derive(Debug, Default)]
pub struct Progress {
    to_server: AtomicU64,
    to_client: AtomicU64,
    /// Milliseconds of the coarse monotonic clock.
    active_at: AtomicU64,
    ended: AtomicU8,
}

const CLIENT_ENDED: u8 = 1;
const SERVER_ENDED: u8 = 2;

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed => f.write_str("closed"),
            End::Failed(Side::Client, error) => write!(f, "client failed: {error}"),
            End::Failed(Side::Server, error) => write!(f, "server failed: {error}"),
            End::TimedOut => f.write_str("timed out"),
            End::CutOff => f.write_str("cut off: its server is gone or has drained long enough"),
            End::Elsewhere => f.write_str("cut off: the address may be another director's"),
        }
    }
}

/// The future that relays; yields why it ended.
#[pin_project::pin_project]
struct Relay<'a, T> {
    client: &'a mut TcpStream,
    server: &'a mut TcpStream,
    to_server: Direction,
    to_client: Direction,
    timeouts: &'a Timeouts,
    tally: &'a T,
    #[pin]
    timer: Sleep,
    /// Both sockets are probed by the kernel.
    probed: bool,
}

/// Takes in what a relay moves, as it moves.
pub trait Tally {
    /// These many more bytes went to the server.
    fn to_server(&self, bytes: u64);
    /// These many more bytes went to the client.
    fn to_client(&self, bytes: u64);
    /// One side has ended its direction.
    fn half_closed(&self);
    /// What others may see of it.
    fn progress(&self) -> &Progress;
    /// Whether it wants to [look](Tally::look) now and then.
    fn looks(&self) -> bool {
        false
    }
    /// Takes in what the socket tells: once a minute at least, where it [wants to](Tally::looks).
    fn look(&self, _client: &TcpStream) {}
    /// Whether its virtual address may still be served here. Asked before anything is moved.
    fn may_go_on(&self) -> bool {
        true
    }
    /// Whether somebody wants a look now. Asked whenever the relay is polled; who asks wakes it.
    fn is_asked(&self) -> bool {
        false
    }
    /// Why it may go on no longer, if it may not. Asked whenever the relay is polled; who has a task's relay
    /// ended wakes it.
    fn cut_off(&self, _cx: &mut Context<'_>) -> Option<End> {
        None
    }
}

/// Relays between `client` and `server` until both have ended, one fails, or a timeout passes.
///
/// Unless it ends with [`End::Closed`], both sockets are set to reset when they are dropped. With it, the direction
/// that ended last is not shut down, and its last bytes may wait in the socket for the end that comes with the drop:
/// whoever calls drops both at once.
pub fn relay<'a, T: Tally>(
    client: &'a mut TcpStream,
    server: &'a mut TcpStream,
    engine: Engine,
    timeouts: &'a Timeouts,
    tally: &'a T,
) -> impl Future<Output = End> + use<'a, T> {
    start(client, server, engine, timeouts, tally, Direction::new(engine))
}

/// The same with a `server` that nothing has been sent to. Its `TCP_NODELAY` is seen to.
pub(crate) fn relay_to_fresh<'a, T: Tally>(
    client: &'a mut TcpStream,
    server: &'a mut TcpStream,
    engine: Engine,
    timeouts: &'a Timeouts,
    tally: &'a T,
) -> impl Future<Output = End> + use<'a, T> {
    if engine == Engine::TokioSplice {
        // A socket that refuses is broken, and says so at the next write.
        let _ = server.set_nodelay(true);
    }
    start(client, server, engine, timeouts, tally, Direction::to_fresh(engine))
}

fn start<'a, T: Tally>(
    client: &'a mut TcpStream,
    server: &'a mut TcpStream,
    engine: Engine,
    timeouts: &'a Timeouts,
    tally: &'a T,
    to_server: Direction,
) -> impl Future<Output = End> + use<'a, T> {
    tally.progress().touch();
    match engine {
        Engine::TokioSplice => {
            Work::TokioSplice(Box::pin(tokio_splice_engine::relay(client, server, *timeouts, tally)))
        }
        Engine::Auto | Engine::Copy | Engine::Pooled => {
            let timer = sleep(timeouts.idle.min(PROBED_AFTER));
            let to_client = Direction::new(engine);
            Work::Own(Relay { client, server, to_server, to_client, timeouts, tally, timer, probed: false })
        }
    }
}

/// An engine at work. It is what an idle connection holds, so it has no copy of what it was called with.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
#[pin_project::pin_project(project = Engaged)]
enum Work<'a, T, S> {
    Own(#[pin] Relay<'a, T>),
    TokioSplice(Pin<Box<S>>),
}

impl<T: Tally, S: Future<Output = End>> Future for Work<'_, T, S> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        match self.project() {
            Engaged::Own(relay) => relay.poll(cx),
            Engaged::TokioSplice(relay) => relay.as_mut().poll(cx),
        }
    }
}

/// Makes the socket send a reset instead of an end when it is dropped.
pub fn reset_on_drop(stream: &TcpStream) {
    // A socket that refuses the option is already reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Has the reader of a socket woken only when so many bytes are there (`SO_RCVLOWAT`), or its end.
pub fn set_receive_low_water(stream: &TcpStream, bytes: usize) {
    // A socket that refuses the option is broken, and says so at the next read.
    let _ = sys::set_receive_low_water(stream, bytes);
}

impl<T: Tally> Future for Relay<'_, T> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let mut this = self.project();
        let tally = *this.tally;
        if let Some(end) = tally.cut_off(cx) {
            return Poll::Ready(abort(this.client, this.server, end));
        }
        if tally.is_asked() {
            tally.look(this.client);
        }
        let progress = tally.progress();
        let was_open = !this.to_server.ended && !this.to_client.ended;

        let mut moved = false;
        this.to_server.last = this.to_client.done;
        let to_server = this.to_server.poll(cx, this.client, this.server, tally, |bytes| {
            moved = true;
            progress.add(&progress.to_server, bytes);
            tally.to_server(bytes);
        });
        if let Poll::Ready(Err(fault)) = to_server {
            return Poll::Ready(abort(this.client, this.server, fault.between(Side::Client, Side::Server)));
        }
        // The direction that ends last need not say so: both sockets are about to be closed.
        this.to_client.last = this.to_server.done;
        let to_client = this.to_client.poll(cx, this.server, this.client, tally, |bytes| {
            moved = true;
            progress.add(&progress.to_client, bytes);
            tally.to_client(bytes);
        });
        if let Poll::Ready(Err(fault)) = to_client {
            return Poll::Ready(abort(this.client, this.server, fault.between(Side::Server, Side::Client)));
        }
        if this.to_server.done && this.to_client.done {
            return Poll::Ready(End::Closed);
        }

        if moved {
            progress.touch();
        }
        let open = !this.to_server.ended && !this.to_client.ended;
        let limit = if open { this.timeouts.idle } else { this.timeouts.half_closed };
        if was_open && !open {
            let ended = if this.to_server.ended { CLIENT_ENDED } else { SERVER_ENDED };
            progress.ended.store(ended, Ordering::Relaxed);
            tally.half_closed();
            this.timer.as_mut().reset(Instant::now() + limit);
        }
        // The timer is not touched when bytes move. When it fires it looks at when they last did,
        // and sleeps for the rest.
        loop {
            ready!(this.timer.as_mut().poll(cx));
            tally.look(this.client);
            let silent = progress.silent_for();
            if silent >= limit {
                return Poll::Ready(abort(this.client, this.server, End::TimedOut));
            }
            // A peer that is gone without a word is found by the kernel's probes. They are asked for
            // here and not for each new connection, most of which end before they would be sent.
            let mut rest = limit - silent;
            if !*this.probed {
                if silent >= PROBED_AFTER {
                    probe(this.client);
                    probe(this.server);
                    *this.probed = true;
                } else {
                    rest = rest.min(PROBED_AFTER - silent);
                }
            }
            if tally.looks() {
                rest = rest.min(LOOKED_AT_AFTER);
            }
            this.timer.as_mut().reset(Instant::now() + rest.max(COARSE));
        }
    }
}

fn probe(stream: &TcpStream) {
    // A socket that refuses is broken, and says so at the next read.
    let _ = SockRef::from(stream).set_tcp_keepalive(&listen::keepalive());
}

fn abort(client: &TcpStream, server: &TcpStream, end: End) -> End {
    reset_on_drop(client);
    reset_on_drop(server);
    end
}

impl Progress {
    /// Bytes that went to the server so far.
    pub fn bytes_to_server(&self) -> u64 {
        self.to_server.load(Ordering::Relaxed)
    }

    /// Bytes that went to the client so far.
    pub fn bytes_to_client(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }

    /// How long nothing has moved.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(coarse_millis().saturating_sub(self.active_at.load(Ordering::Relaxed)))
    }

    /// The side that ended its direction first, if one has.
    pub fn ended_first(&self) -> Option<Side> {
        match self.ended.load(Ordering::Relaxed) {
            CLIENT_ENDED => Some(Side::Client),
            SERVER_ENDED => Some(Side::Server),
            _ => None,
        }
    }

    /// Notes that these many more bytes went to the server just now.
    pub(crate) fn moved_to_server(&self, bytes: u64) {
        self.add(&self.to_server, bytes);
        self.touch();
    }

    /// Notes that these many more bytes went to the client just now.
    pub(crate) fn moved_to_client(&self, bytes: u64) {
        self.add(&self.to_client, bytes);
        self.touch();
    }

    fn touch(&self) {
        self.active_at.store(coarse_millis(), Ordering::Relaxed);
    }

    /// Only the relay writes, so no read-modify-write is needed.
    fn add(&self, count: &AtomicU64, bytes: u64) {
        count.store(count.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }
}

/// The kernel's tick clock: a few nanoseconds to read, right to a few milliseconds.
pub(crate) fn coarse_millis() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// How long a connection is silent before its peers are probed.
const PROBED_AFTER: Duration = Duration::from_secs(60);

/// How often who wants to look at a socket does.
const LOOKED_AT_AFTER: Duration = Duration::from_secs(60);

/// Resolution of the coarse clock, with room to spare.
const COARSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;
    use crate::socket;

    #[derive(Default)]
    struct Silent(Progress);

    impl Tally for Silent {
        fn to_server(&self, _: u64) {}
        fn to_client(&self, _: u64) {}
        fn half_closed(&self) {}
        fn progress(&self) -> &Progress {
            &self.0
        }
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let there = TcpStream::connect(listener.local_addr().expect("bound"));
        let (there, here) = tokio::join!(there, listener.accept());
        (there.expect("connected"), here.expect("accepted").0)
    }

    #[test]
    fn both_peers_are_probed_once_a_connection_has_been_silent_for_a_minute_and_not_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let timeouts = Timeouts { idle: PROBED_AFTER * 10, half_closed: PROBED_AFTER };
            let second = Duration::from_secs(1);
            for (silent, is_probed) in [(PROBED_AFTER - second, false), (PROBED_AFTER, true)] {
                let ((_client, mut here), (_server, mut there)) = (pair().await, pair().await);
                let tally = Silent::default();
                let since = coarse_millis().saturating_sub(silent.as_millis() as u64);
                tally.0.active_at.store(since, Ordering::Relaxed);
                let relay = Relay {
                    client: &mut here,
                    server: &mut there,
                    to_server: Direction::new(Engine::Auto),
                    to_client: Direction::new(Engine::Auto),
                    timeouts: &timeouts,
                    tally: &tally,
                    timer: sleep(Duration::ZERO),
                    probed: false,
                };
                timeout(second / 10, relay).await.expect_err("nothing ends it");
                for socket in [&here, &there].map(SockRef::from) {
                    assert_eq!(socket.keepalive().expect("open"), is_probed, "{silent:?}");
                    if is_probed {
                        let rhythm = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval());
                        let rhythm = (rhythm.0.expect("open"), rhythm.1.expect("open"));
                        assert_eq!(rhythm, (second * 60, second * 12));
                        assert_eq!(socket.tcp_keepalive_retries().expect("open"), 5);
                    }
                }
            }
        });
    }

    #[tokio::test]
    async fn end_that_is_there_with_a_short_answer_goes_out_with_it() {
        let timeouts = Timeouts { idle: PROBED_AFTER, half_closed: PROBED_AFTER };
        let ((mut client, mut here), (mut server, mut there)) = (pair().await, pair().await);
        let mut answer = Vec::new();
        let received = |client: &TcpStream| sys::segments(client).expect("a connection").0;
        let before = received(&client);
        server.write_all(b"good-bye").await.expect("room");
        server.shutdown().await.expect("connected");
        while !poll_fn(|cx| Poll::Ready(socket::is_ended(&there, cx))).await {
            yield_now().await;
        }
        let client = async {
            client.read_to_end(&mut answer).await.expect("an end");
            let segments = received(&client) - before;
            client.shutdown().await.expect("connected");
            segments
        };
        let tally = Silent::default();
        let relay = relay_to_fresh(&mut here, &mut there, Engine::Auto, &timeouts, &tally);
        let (end, segments) = tokio::join!(relay, client);
        assert!(matches!(end, End::Closed), "{end}");
        assert_eq!((&*answer, segments), (&b"good-bye"[..], 1));
    }

    #[tokio::test]
    async fn nothing_waits_for_the_confirmation_of_what_went_before() {
        let timeouts = Timeouts { idle: PROBED_AFTER, half_closed: PROBED_AFTER };
        for (messages, undelayed) in [(&[512][..], false), (&[1, 1], true), (&[513], true)] {
            let ((mut client, mut here), (mut server, mut there)) = (pair().await, pair().await);
            assert!(!there.nodelay().expect("an option"), "it would tell nothing");
            let tally = Silent::default();
            let exchange = async {
                for &bytes in messages {
                    client.write_all(&vec![0; bytes]).await.expect("room");
                    server.read_exact(&mut vec![0; bytes]).await.expect("what was sent");
                }
            };
            tokio::select! {
                end = relay_to_fresh(&mut here, &mut there, Engine::Auto, &timeouts, &tally) => panic!("{end}"),
                () = exchange => {}
            }
            assert_eq!(there.nodelay().expect("an option"), undelayed, "{messages:?}");
        }
    }
}
