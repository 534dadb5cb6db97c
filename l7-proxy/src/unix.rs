//! Unix sockets, among the addresses of the network.
//!
//! From the core to the logs every end of a connection is a `SocketAddr`. A Unix socket's path gets
//! one for the life of the process, of a prefix that is discarded wherever it comes (100::/64, RFC
//! 6666), so that no host can be meant by it; [`shown`] leads back. What is moved is the same for
//! both kinds of socket, and so is the type: a descriptor is one.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The paths that have an address, in the order in which they were first named.
static PATHS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Who connects to a Unix socket, and has no address at all.
pub(crate) const NOBODY: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0)), 0);

/// All of these addresses.
pub(crate) const NETWORK: &str = "100::/96";

/// Returns the address that stands for a path.
pub(crate) fn address(path: impl Into<PathBuf>) -> SocketAddr {
    let path = path.into();
    let mut paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = paths.iter().position(|known| *known == path).unwrap_or_else(|| {
        paths.push(path);
        paths.len() - 1
    });
    // Ones are counted from one: none is nobody.
    let number = u32::try_from(place).map_or(u32::MAX, |place| place.saturating_add(1));
    let [high, low] = [(number >> 16) as u16, number as u16];
    SocketAddr::new(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, high, low).into(), PORT)
}

/// The same for a path that a request names; `None` if there are too many, since each is kept.
pub(crate) fn address_for_request(path: &str) -> Option<SocketAddr> {
    let paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known = paths.len() < PATHS_MAX || paths.iter().any(|known| known.as_os_str() == path);
    drop(paths);
    is_known.then(|| address(path))
}

/// So many paths may have an address before requests can add no more.
const PATHS_MAX: usize = 1024;

/// The paths that have an address, in the order of those.
pub(crate) fn paths() -> Vec<PathBuf> {
    PATHS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// There is none; where one has to be, this is what is left out of URLs.
const PORT: u16 = 80;

/// Returns the path that an address stands for.
pub(crate) fn path(addr: SocketAddr) -> Option<PathBuf> {
    let IpAddr::V6(ip) = addr.ip() else { return None };
    let [0x100, 0, 0, 0, 0, 0, high, low] = ip.segments() else { return None };
    let place = (u32::from(high) << 16 | u32::from(low)).checked_sub(1)?;
    let paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
    paths.get(usize::try_from(place).ok()?).cloned()
}

/// Whether an address stands for a Unix socket.
pub(crate) fn is_unix(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.segments()[..6] == [0x100, 0, 0, 0, 0, 0])
}

/// Writes an address as nginx does: `unix:/path`, or that of the network.
pub(crate) fn shown(addr: SocketAddr) -> Shown {
    Shown(addr)
}

/// See [`shown`].
pub(crate) struct Shown(SocketAddr);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match path(self.0) {
            Some(path) => write!(f, "unix:{}", path.display()),
            None if self.0 == NOBODY => f.write_str("unix:"),
            None => self.0.fmt(f),
        }
    }
}

/// Writes an address as nginx does in a URL, where a path needs an end: `unix:/path:`.
pub(crate) fn in_url(addr: SocketAddr) -> impl fmt::Display {
    let end = if is_unix(addr.ip()) { ":" } else { "" };
    fmt::from_fn(move |f| write!(f, "{}{end}", shown(addr)))
}

/// Connects to the socket of a path.
pub(crate) async fn connect(path: PathBuf) -> io::Result<TcpStream> {
    disguise(UnixStream::connect(path).await?)
}

fn disguise(stream: UnixStream) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::from(OwnedFd::from(stream.into_std()?));
    TcpStream::from_std(stream)
}

/// Opens a socket at a path, which everybody may connect to, as with nginx.
pub(crate) fn listen(path: PathBuf) -> io::Result<std::net::TcpListener> {
    let listener = match StdListener::bind(&path) {
        // One that nobody listens at any more was left behind by a process that was killed.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(&path) => {
            std::fs::remove_file(&path)?;
            StdListener::bind(&path)?
        }
        bound => bound?,
    };
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    Ok(disguised(listener))
}

/// Returns a listening socket of a path as one among those of the network.
pub(crate) fn disguised(listener: StdListener) -> std::net::TcpListener {
    OwnedFd::from(listener).into()
}

fn is_left_behind(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket && StdStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Takes the path away of a socket that is closed.
pub(crate) fn forget(addr: SocketAddr) {
    if let Some(path) = path(addr) {
        // It may have been taken away already.
        let _ = std::fs::remove_file(path);
    }
}

/// Takes a path away at which nobody listens any more.
pub(crate) fn forget_left_behind(addr: SocketAddr) {
    if path(addr).is_some_and(|path| is_left_behind(&path)) {
        forget(addr);
    }
}

/// Accepts connections of either kind.
pub(crate) enum Acceptor {
    /// From the network.
    Tcp(TcpListener),
    /// At a path, which this address stands for.
    Unix(UnixListener, SocketAddr),
}

/// A connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// The address that it came to, where the system does not tell.
    pub(crate) local: Option<SocketAddr>,
}

impl Acceptor {
    /// Watches a listening socket, which may be one at a path.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub(crate) fn new(listener: std::net::TcpListener, addr: SocketAddr) -> io::Result<Self> {
        if path(addr).is_none() {
            return TcpListener::from_std(listener).map(Self::Tcp);
        }
        let listener = StdListener::from(OwnedFd::from(listener));
        Ok(Self::Unix(UnixListener::from_std(listener)?, addr))
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// As `accept` of either kind.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        std::future::poll_fn(|context| self.poll_accept(context)).await
    }

    /// Takes a connection that is there.
    pub(crate) fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match self {
            Self::Tcp(listener) => {
                listener.poll_accept(context).map_ok(|(stream, peer)| Accepted { stream, peer, local: None })
            }
            Self::Unix(listener, addr) => listener.poll_accept(context).map(|accepted| {
                let stream = disguise(accepted?.0)?;
                Ok(Accepted { stream, peer: NOBODY, local: Some(*addr) })
            }),
        }
    }

    /// Takes what is in the queue, and listens no more.
    pub(crate) fn queued(self) -> Box<dyn Iterator<Item = Accepted>> {
        match self {
            Self::Tcp(listener) => {
                let of = |(stream, peer)| Accepted { stream, peer, local: None };
                Box::new(l4_proxy::listen::queued(listener).map(of))
            }
            Self::Unix(listener, addr) => {
                let listener = listener.into_std();
                let accepted = std::iter::from_fn(move || {
                    let (stream, _) = listener.as_ref().ok()?.accept().ok()?;
                    stream.set_nonblocking(true).ok()?;
                    let stream = TcpStream::from_std(OwnedFd::from(stream).into()).ok()?;
                    Some(Accepted { stream, peer: NOBODY, local: Some(addr) })
                });
                // No more than a queue can hold: another process may have the same listener, to which
                // clients come on.
                Box::new(accepted.take(l4_proxy::listen::BACKLOG as usize))
            }
        }
    }

    /// The address that all connections come to, unless each comes to its own.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().filter(|local| !local.ip().is_unspecified()),
            Self::Unix(_, addr) => Some(*addr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_address_lead_to_each_other() {
        let (one, other) = (address("/run/one"), address("/run/other"));
        assert_eq!(address("/run/one"), one);
        assert_ne!(one, other);
        assert_eq!(path(other).as_deref(), Some(Path::new("/run/other")));
        assert_eq!(shown(one).to_string(), "unix:/run/one");
        assert_eq!(shown(NOBODY).to_string(), "unix:");
        for addr in ["127.0.0.1:80", "[100::ffff:ffff]:80", "[100:0:0:1::1]:80"] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!((path(addr), shown(addr).to_string()), (None, addr.to_string()));
        }
    }

    #[test]
    fn socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = listen(path.clone()).unwrap();
        assert_eq!(listen(path.clone()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = listen(path.clone());
        assert!(second.is_ok());
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(listen(file.clone()).is_err());
        assert!(file.exists());
    }
}
