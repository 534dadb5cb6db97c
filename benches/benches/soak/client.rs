//! Clients: they open, say something, idle and close, each in its own way, and believe nothing that
//! comes back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use crate::server::Server;

/// What all clients share.
pub(crate) struct Load {
    pub(crate) tcp: SocketAddr,
    pub(crate) udp: SocketAddr,
    /// How long a connection lives, on average.
    pub(crate) life: Duration,
    pub(crate) stop: AtomicBool,
    /// Two for each time a server has died, and one while it is dying: it cuts off who was connected then.
    pub(crate) deaths: [AtomicU64; 3],
    pub(crate) began: Instant,
    pub(crate) connections: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) datagrams: AtomicU64,
    pub(crate) datagrams_lost: AtomicU64,
    pub(crate) cut_by_deaths: AtomicU64,
    /// Must stay 0.
    pub(crate) cut: AtomicU64,
    /// Must stay 0.
    pub(crate) wrong: AtomicU64,
}

/// Numbers that come again with the same seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll(256) as u8).collect()
    }
}

impl Load {
    pub(crate) fn new(tcp: SocketAddr, udp: SocketAddr, life: Duration) -> Arc<Load> {
        let zero = || AtomicU64::new(0);
        Arc::new(Load {
            tcp,
            udp,
            life,
            stop: AtomicBool::new(false),
            deaths: [zero(), zero(), zero()],
            began: Instant::now(),
            connections: zero(),
            bytes: zero(),
            datagrams: zero(),
            datagrams_lost: zero(),
            cut_by_deaths: zero(),
            cut: zero(),
            wrong: zero(),
        })
    }

    /// Kills a server, so that whom it cuts off knows why. Its connections are reset one by one, the first
    /// long before the process is gone.
    pub(crate) fn kill(&self, server: &mut Server) {
        let deaths = &self.deaths[usize::from(server.number)];
        deaths.fetch_add(1, Ordering::SeqCst);
        server.die();
        deaths.fetch_add(1, Ordering::SeqCst);
    }

    /// What the servers' deaths come to at this moment.
    fn deaths(&self) -> [u64; 3] {
        std::array::from_fn(|server| self.deaths[server].load(Ordering::SeqCst))
    }

    /// Whether a connection that began then, and led to this server or to who knows which, was cut off by a
    /// server's death.
    fn was_a_death(&self, before: [u64; 3], server: Option<u8>) -> bool {
        let now = self.deaths();
        let died = |server: usize| now[server] > before[server] || !now[server].is_multiple_of(2);
        server.map_or((0..3).any(died), |server| died(usize::from(server) % 3))
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps, but not much beyond the end.
    async fn idle(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.stopped() && Instant::now() < until {
            sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(250))).await;
        }
    }

    /// A client that opens one connection after the other.
    pub(crate) async fn connect_again_and_again(self: Arc<Load>, number: u64) {
        let mut dice = Dice::new(number + 1);
        // Not all at once.
        self.idle(self.life.mul_f64(dice.roll(1000) as f64 / 2000.0)).await;
        while !self.stopped() {
            let (before, mut server) = (self.deaths(), None);
            match self.one_connection(number, &mut dice, &mut server).await {
                Ok(()) => {}
                Err(error) => {
                    let by_death = self.was_a_death(before, server);
                    if !by_death {
                        complain(&error);
                    }
                    let count = if by_death { &self.cut_by_deaths } else { &self.cut };
                    count.fetch_add(1, Ordering::Relaxed);
                    self.idle(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn one_connection(&self, number: u64, dice: &mut Dice, server: &mut Option<u8>) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        // Twenty addresses, so that there are ports enough.
        let source = Ipv4Addr::new(127, 0, 1, (number % 20 + 1) as u8);
        socket.bind((source, 0).into())?;
        let mut stream = within(socket.connect(self.tcp)).await?;
        stream.set_nodelay(true)?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        *server = Some(within(stream.read_u8()).await?);
        let until = Instant::now() + self.life.mul_f64(0.5 + dice.roll(1000) as f64 / 1000.0);
        while !self.stopped() && Instant::now() < until {
            let size = if dice.roll(20) == 0 { 200_000 } else { 1 + dice.roll(2000) as usize };
            self.exchange(&mut stream, dice.bytes(size)).await?;
            self.idle(self.life.mul_f64(dice.roll(1000) as f64 / 2000.0)).await;
        }
        match dice.roll(4) {
            // The server is to see the end of what was said, and its own end is to come back.
            0 => {
                stream.shutdown().await?;
                if within(stream.read(&mut [0])).await? != 0 {
                    self.wrong.fetch_add(1, Ordering::Relaxed);
                }
            }
            1 => SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
            // Gone in the middle of an answer.
            2 => stream.write_all(&dice.bytes(50_000)).await?,
            _ => {}
        }
        Ok(())
    }

    async fn exchange(&self, stream: &mut TcpStream, said: Vec<u8>) -> io::Result<()> {
        let mut heard = vec![0; said.len()];
        let (mut reader, mut writer) = stream.split();
        within(async { tokio::try_join!(writer.write_all(&said), reader.read_exact(&mut heard)) }).await?;
        if said != heard {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
        self.bytes.fetch_add(said.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// A client that sends datagrams from ever new ports.
    pub(crate) async fn ask_again_and_again(self: Arc<Load>, number: u64) {
        let mut dice = Dice::new(number + 1_000_001);
        while !self.stopped() {
            // What goes wrong here is a datagram lost.
            if !matches!(self.ask(&mut dice).await, Ok(true)) {
                self.datagrams_lost.fetch_add(1, Ordering::Relaxed);
            }
            self.idle(Duration::from_millis(50)).await;
        }
    }

    /// Says whether an answer came.
    async fn ask(&self, dice: &mut Dice) -> io::Result<bool> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(self.udp).await?;
        let size = dice.roll(1400) as usize;
        let said = dice.bytes(size);
        socket.send(&said).await?;
        self.datagrams.fetch_add(1, Ordering::Relaxed);
        let mut heard = vec![0; 2048];
        let Ok(received) = timeout(Duration::from_secs(1), socket.recv(&mut heard)).await else {
            return Ok(false);
        };
        if heard[..received?] != said {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
        Ok(true)
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

#[expect(clippy::print_stderr, reason = "a benchmark talks to a terminal")]
fn complain(error: &io::Error) {
    eprintln!("  a connection was cut for no reason: {error}");
}

const PATIENCE: Duration = Duration::from_secs(30);
