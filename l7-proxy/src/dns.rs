//! Names and their addresses, asked of the name servers that `resolver` lists.
//!
//! The system's resolver waits on a thread, knows no times to live and no `SRV`; so names that may
//! change while the proxy runs are asked for here. It is a stub: the servers listed do the walking.
//! There is no search list, as in nginx. Each question goes out from a port of its own with a number
//! that cannot be guessed; over TCP, if the answer does not fit into a datagram.

mod cache;
mod message;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};
use tracing::warn;

pub(crate) use self::cache::Cache;
use self::message::{Answer, Fault, Kind, Record};
use crate::error_log::Errno;
use crate::model::{Families, Resolver};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<T> {
    pub(crate) found: Vec<T>,
    /// How long that may be gone by.
    pub(crate) valid: Duration,
    pub(crate) extent: Extent,
}

/// Whether what was found is all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    /// Nobody could tell of the rest.
    Part,
}

/// One server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) addr: SocketAddr,
    pub(crate) weight: u16,
    /// Whether others have a better priority.
    pub(crate) is_backup: bool,
}

/// Why a name could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResolveError {
    /// It is no name.
    NoName,
    /// The name servers have said so: the code of their answer.
    Code(u8),
    /// There is nothing of this kind under the name.
    Nothing,
    /// No name server has answered in time.
    TimedOut,
    /// The answer cannot be read.
    Malformed,
    /// As many names are being asked for as there is room for.
    Busy,
}

impl ResolveError {
    /// Whether it is what the name servers know (there is no such name, or nothing of this kind under it), not that
    /// they could not be asked.
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(self, ResolveError::NoName | ResolveError::Code(NO_SUCH_NAME) | ResolveError::Nothing)
    }

    /// What two questions come to that both have led to nothing: one that could not be asked leaves open what there is.
    fn and(self, other: ResolveError) -> ResolveError {
        if self.is_an_answer() { other } else { self }
    }
}

/// Returns the addresses of a name; one that an answer lists twice is there twice.
///
/// # Errors
/// It has none, or nobody knows.
pub(crate) async fn addresses(resolver: &Resolver, name: &str) -> Result<Found<IpAddr>, ResolveError> {
    let wanted = |kind: Kind| async move {
        let asked = match (resolver.families, kind) {
            (Families::V4, Kind::Aaaa) | (Families::V6, Kind::A) => return None,
            _ => ask(resolver, name, kind).await,
        };
        Some(asked)
    };
    let (v4, v6) = tokio::join!(wanted(Kind::A), wanted(Kind::Aaaa));
    let mut found = Found { found: Vec::new(), valid: Duration::MAX, extent: Extent::Whole };
    let mut failure = ResolveError::Nothing;
    for outcome in [v4, v6].into_iter().flatten() {
        match outcome {
            Ok(answer) => {
                found.valid = found.valid.min(answer.ttl);
                found.found.extend(answer.records.iter().filter_map(|record| match record {
                    Record::Address(address) => Some(*address),
                    Record::Service { .. } => None,
                }));
            }
            Err(error) => failure = failure.and(error),
        }
    }
    if found.found.is_empty() {
        return Err(failure);
    }
    found.valid = resolver.valid.unwrap_or(found.valid);
    if !failure.is_an_answer() {
        // Nobody has said what the other family has.
        (found.valid, found.extent) = (found.valid.min(RETRY), Extent::Part);
    }
    Ok(found)
}

/// Returns the servers of a service: `NAME` of `_http._tcp.NAME`, say.
///
/// # Errors
/// There are none, or nobody knows.
pub(crate) async fn services(resolver: &Resolver, name: &str) -> Result<Found<Service>, ResolveError> {
    let answer = ask(resolver, name, Kind::Srv).await?;
    let best = answer.records.iter().filter_map(|record| match record {
        Record::Service { priority, .. } => Some(*priority),
        Record::Address(_) => None,
    });
    let best = best.min().ok_or(ResolveError::Nothing)?;
    let valid = resolver.valid.unwrap_or(answer.ttl);
    let mut found = Found { found: Vec::new(), valid, extent: Extent::Whole };
    let mut failure = ResolveError::Nothing;
    for record in &answer.records {
        let Record::Service { priority, weight, port, target } = record else { continue };
        match addresses(resolver, target).await {
            Ok(addresses) => {
                found.valid = found.valid.min(addresses.valid);
                if addresses.extent == Extent::Part {
                    found.extent = Extent::Part;
                }
                found.found.extend(addresses.found.into_iter().map(|address| Service {
                    addr: SocketAddr::new(address, *port),
                    weight: (*weight).max(1),
                    is_backup: *priority > best,
                }));
            }
            Err(error) => {
                if !error.is_an_answer() {
                    // Its servers are missing for now.
                    (found.valid, found.extent) = (found.valid.min(RETRY), Extent::Part);
                }
                failure = failure.and(error);
            }
        }
    }
    if found.found.is_empty() {
        return Err(failure);
    }
    Ok(found)
}

/// Asks for what is under a name, or under the one that it is another name of.
async fn ask(resolver: &Resolver, name: &str, kind: Kind) -> Result<Answer, ResolveError> {
    let asked = async {
        let mut answer = ask_servers(resolver, name, kind).await?;
        for _ in 0..ALIASES_MAX {
            // Resolvers follow other names themselves; a server that is asked for one may not.
            let alias = match answer.alias.take() {
                Some(alias) if answer.records.is_empty() => alias,
                _ => return Ok(answer),
            };
            let ttl = answer.ttl;
            answer = ask_servers(resolver, &alias, kind).await?;
            answer.ttl = answer.ttl.min(ttl);
        }
        Err(ResolveError::Nothing)
    };
    timeout(resolver.timeout, asked).await.unwrap_or(Err(ResolveError::TimedOut))
}

/// Asks one name server after the other, again and again, until one answers: whoever asks says for how long.
async fn ask_servers(resolver: &Resolver, name: &str, kind: Kind) -> Result<Answer, ResolveError> {
    // The first is another one each time, so that they share the work.
    let first = usize::from(random());
    let mut patience = ATTEMPT;
    for round in 0_u32.. {
        let began = Instant::now();
        let mut complaint = None;
        for turn in 0..resolver.servers.len() {
            let server = resolver.servers[(first + turn) % resolver.servers.len()];
            match timeout(patience, ask_one(server, name, kind)).await {
                Ok(Ok(answer)) => return Ok(answer),
                // That there is no such name is an answer; that a server cannot say is none.
                Ok(Err(Trouble::Said(ResolveError::Code(NO_SUCH_NAME)))) => {
                    return Err(ResolveError::Code(NO_SUCH_NAME));
                }
                Ok(Err(Trouble::NoName)) => return Err(ResolveError::NoName),
                Ok(Err(Trouble::Said(error))) => complaint = Some(error),
                Ok(Err(Trouble::Unreachable(error))) => {
                    warn!("send() failed ({}) while resolving {name}, resolver: {server}", Errno(&error));
                }
                Err(_) => {}
            }
        }
        match complaint {
            Some(complaint) if round > 0 => return Err(complaint),
            Some(_) => {}
            // One that is being started anew refuses what is sent to it, at once.
            None => sleep(patience.saturating_sub(began.elapsed())).await,
        }
        patience = (patience * 2).min(ATTEMPT_MAX);
    }
    Err(ResolveError::TimedOut)
}

/// Why one name server has not answered.
enum Trouble {
    /// The question cannot be written.
    NoName,
    /// It has said that it cannot.
    Said(ResolveError),
    /// It is not there.
    Unreachable(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Unreachable(error)
    }
}

async fn ask_one(server: SocketAddr, name: &str, kind: Kind) -> Result<Answer, Trouble> {
    let id = random();
    let question = message::question(id, name, kind).ok_or(Trouble::NoName)?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut datagram = vec![0; DATAGRAM_MAX];
    loop {
        let length = socket.recv(&mut datagram).await?;
        match message::answer(&datagram[..length], id, name, kind) {
            Err(Fault::Stray) => {}
            Err(Fault::Truncated) => return ask_over_tcp(server, &question, id, name, kind).await,
            other => return other.map_err(|fault| Trouble::Said(fault.into())),
        }
    }
}

async fn ask_over_tcp(
    server: SocketAddr,
    question: &[u8],
    id: u16,
    name: &str,
    kind: Kind,
) -> Result<Answer, Trouble> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    message::answer(&answer, id, name, kind).map_err(|fault| Trouble::Said(fault.into()))
}

/// A number that cannot be guessed. Without any entropy the port is all that protects an answer.
fn random() -> u16 {
    let mut bytes = [0; 2];
    let _ = SystemRandom::new().fill(&mut bytes);
    u16::from_be_bytes(bytes)
}

impl From<Fault> for ResolveError {
    fn from(fault: Fault) -> ResolveError {
        match fault {
            Fault::Code(code) => ResolveError::Code(code),
            Fault::Stray | Fault::Truncated | Fault::Malformed => ResolveError::Malformed,
        }
    }
}

/// In nginx's words, with the codes of answers (RFC 1035, section 4.1.1).
impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::Code(1) | ResolveError::Malformed => f.write_str("1: Format error"),
            ResolveError::Code(2) => f.write_str("2: Server failure"),
            ResolveError::NoName | ResolveError::Nothing | ResolveError::Code(NO_SUCH_NAME) => {
                f.write_str("3: Host not found")
            }
            ResolveError::Code(4) => f.write_str("4: Unimplemented"),
            ResolveError::Code(5) => f.write_str("5: Operation refused"),
            ResolveError::Code(code) => write!(f, "{code}: Unknown error"),
            ResolveError::TimedOut => f.write_str("110: Operation timed out"),
            ResolveError::Busy => f.write_str("too many names are being asked for"),
        }
    }
}

impl std::error::Error for ResolveError {}

/// How long one name server is waited for before another is asked: at first, and at most.
const ATTEMPT: Duration = Duration::from_secs(1);
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// After a failure a name is asked for again so soon.
pub(crate) const RETRY: Duration = Duration::from_secs(5);

/// How many answers that are nothing but another name are followed.
const ALIASES_MAX: usize = 8;

/// Answers over UDP are shorter, without extensions.
const DATAGRAM_MAX: usize = 4096;

const NO_SUCH_NAME: u8 = 3;
