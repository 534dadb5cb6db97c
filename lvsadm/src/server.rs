//! The control socket, on the director's side.
//!
//! One thread accepts, and each client has a thread for its one command. When all places are
//! taken, clients wait in the kernel's queue.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::command::Prepared;
use crate::control::Control;
use crate::frame::{HAND_OVER, Request, UPGRADE};
use crate::message::Output;

/// A control socket that is bound, and removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode, by which the socket is known from a successor's at the same path.
    file: (u64, u64),
}

/// A control socket that is answered until this is dropped. Commands that run then come to their
/// end.
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    /// The listening socket once more, to end the wait for clients.
    waker: UnixStream,
    listener: Arc<Listener>,
}

struct Shared {
    control: Arc<dyn Control>,
    /// Written once, by the drop of the server.
    stopped: AtomicBool,
    /// Clients that are being answered.
    clients: Mutex<usize>,
    client_left: Condvar,
    turns: Turns,
}

/// What is done by one client after the other.
#[derive(Default)]
struct Turns {
    /// Held while a command runs: a restore reads the configuration and then replaces it.
    command: Mutex<()>,
    /// Held while the director hands over, which may wait for a successor; commands do not wait for that. Those
    /// that would change something are refused by the director meanwhile.
    hand_over: Mutex<()>,
}

/// A client's place, free again when it is dropped.
struct Place(Arc<Shared>);

/// Binds a control socket that only its owner can use.
///
/// A socket that nobody answers, left behind by a director that died, is replaced.
///
/// # Errors
/// A director answers there already, something else has the path, or the system refuses.
pub fn bind(path: impl AsRef<Path>) -> io::Result<Listener> {
    let path = path.as_ref();
    make_sure_it_is_free(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    bind_over(path)
}

/// Binds a control socket in the place of the one of a director that hands over.
///
/// # Errors
/// As for [`bind`], but that a director answers there is none.
pub fn bind_over(path: impl AsRef<Path>) -> io::Result<Listener> {
    let path = path.as_ref();
    let place = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    // Under its own name it appears with its mode set, so that nobody else gets in before.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let socket = UnixListener::bind(&fresh).map_err(place)?;
    let published = fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::symlink_metadata(&fresh))
        .and_then(|file| fs::rename(&fresh, path).map(|()| file));
    match published {
        Ok(file) => Ok(Listener { socket, path: path.to_owned(), file: (file.dev(), file.ino()) }),
        Err(error) => {
            // The error is told; a leftover would only be in the way of nothing.
            let _ = fs::remove_file(&fresh);
            Err(place(error))
        }
    }
}

fn make_sure_it_is_free(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another director answers there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Answers the control socket, on threads of its own, until the result is dropped.
///
/// # Errors
/// The system has no thread or no file descriptor left.
pub fn serve(listener: Listener, control: Arc<dyn Control>) -> io::Result<Server> {
    let waker = UnixStream::from(OwnedFd::from(listener.socket.try_clone()?));
    let listener = Arc::new(listener);
    let shared = Arc::new(Shared {
        control,
        stopped: AtomicBool::new(false),
        clients: Mutex::new(0),
        client_left: Condvar::new(),
        turns: Turns::default(),
    });
    let acceptor = thread::Builder::new().name("control".to_owned()).spawn({
        let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
        move || accept(&listener.socket, &shared)
    })?;
    Ok(Server { shared, acceptor: Some(acceptor), waker, listener })
}

fn accept(socket: &UnixListener, shared: &Arc<Shared>) {
    while let Some(place) = Place::wait(shared) {
        match socket.accept() {
            Ok((stream, _)) => {
                // Without a thread to answer it, the client sees the connection close.
                let _ = thread::Builder::new()
                    .name("control client".to_owned())
                    .spawn(move || answer_in_turn(&stream, &*place.0.control, &place.0.turns));
            }
            Err(_) if shared.stopped.load(Ordering::Relaxed) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// Answers the one request of a client, on a connection that the caller has accepted.
pub fn answer(stream: &UnixStream, control: &dyn Control) {
    answer_in_turn(stream, control, &Turns::default());
}

/// One client after the other has its command carried out.
fn answer_in_turn(stream: &UnixStream, control: &dyn Control, turns: &Turns) {
    let output = match Request::read(stream, REQUEST_TIME) {
        Ok(request) if request.args == [HAND_OVER] => {
            let _turn = lock(&turns.hand_over);
            // The successor sees the connection end; what went wrong is the director's to tell.
            let _ = control.hand_over(stream);
            return;
        }
        Ok(request) if request.args == [UPGRADE] => {
            control.upgrade(&mut |served| give(stream, &upgraded(served)));
            return;
        }
        Ok(request) => {
            let command = Prepared::new(&request.program, &request.args, &request.stdin);
            let _turn = lock(&turns.command);
            command.execute(control)
        }
        Err(error) => {
            let stderr = format!("The director did not understand the request: {error}\n");
            Output { stderr, code: 255, ..Output::default() }
        }
    };
    give(stream, &output);
}

fn upgraded(served: Result<u32, String>) -> Output {
    match served {
        Ok(process) => Output { stdout: format!("process {process} serves now\n"), ..Output::default() },
        Err(why) => Output { stderr: format!("{why}\n"), code: 255, ..Output::default() },
    }
}

/// A client that does not wait for its answer gets none.
fn give(stream: &UnixStream, output: &Output) {
    if let Err(error) = output.write(stream, RESPONSE_TIME)
        && error.kind() == io::ErrorKind::InvalidData
    {
        let stderr = format!("The director cannot answer: {error}\n");
        let _ = Output { stderr, code: 255, ..Output::default() }.write(stream, RESPONSE_TIME);
    }
}

impl Listener {
    /// Where it is bound.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Server {
    /// Where it is answered.
    pub fn path(&self) -> &Path {
        self.listener.path()
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Place {
    /// Waits until a client may come; `None` if none will be answered any more.
    fn wait(shared: &Arc<Shared>) -> Option<Place> {
        let mut clients = lock(&shared.clients);
        while *clients >= CLIENTS_MAX && !shared.stopped.load(Ordering::Relaxed) {
            clients = shared.client_left.wait(clients).unwrap_or_else(PoisonError::into_inner);
        }
        if shared.stopped.load(Ordering::Relaxed) {
            return None;
        }
        *clients += 1;
        Some(Place(Arc::clone(shared)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *lock(&self.0.clients) -= 1;
        self.0.client_left.notify_one();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        {
            // Under the lock, so that the acceptor does not miss it between its look and its wait.
            let _clients = lock(&self.shared.clients);
            self.shared.stopped.store(true, Ordering::Relaxed);
            self.shared.client_left.notify_all();
        }
        let woken = self.waker.shutdown(std::net::Shutdown::Both);
        if let (Ok(()), Some(acceptor)) = (woken, self.acceptor.take()) {
            // It cannot have panicked, and what it would tell is of no use any more.
            let _ = acceptor.join();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let is_ours = |file: fs::Metadata| (file.dev(), file.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // What cannot be removed is stale, and the next director replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What the locks guard is a number or nothing, and cannot be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const CLIENTS_MAX: usize = 16;
const REQUEST_TIME: Duration = Duration::from_secs(10);
const RESPONSE_TIME: Duration = Duration::from_secs(60);
/// How long not to try again when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
