//! The control socket, on the side of whoever administers: all that the program `lvsadm` does.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::DEFAULT_SOCKET;
use crate::arguments::{self, Input};
use crate::command::{self, RESTORE};
use crate::frame::{HAND_OVER, INPUT_MAX, Request};
use crate::message::Output;

/// A director, known by its control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    socket: String,
}

/// Has the director carry out a command line, and returns what to print and to exit with.
///
/// `program` is the name that the program was called by, without a path: `ipvsadm`, `ipvsadm-save`
/// and `ipvsadm-restore` behave as those. The socket is named by leading words `--control PATH`,
/// or else by `socket` unless it is empty, or else it is [`DEFAULT_SOCKET`]. `input` is read if the command needs it.
pub fn run(program: &str, mut args: Vec<String>, socket: Option<String>, input: impl Read) -> Output {
    match Remote::named(&mut args, socket) {
        Ok(director) => director.run(program, args, input),
        Err(output) => output,
    }
}

impl Remote {
    /// The director that leading words `--control PATH` name, which are taken off; or else `socket`,
    /// unless it is empty; or else that at [`DEFAULT_SOCKET`].
    ///
    /// # Errors
    /// What to print and to exit with: the path is missing.
    pub fn named(args: &mut Vec<String>, socket: Option<String>) -> Result<Remote, Output> {
        let named = take_control(args)?.or(socket.filter(|path| !path.is_empty()));
        Ok(Remote { socket: named.unwrap_or_else(|| DEFAULT_SOCKET.to_owned()) })
    }

    /// Has it carry out a command line, as [`run`] does.
    pub fn run(&self, program: &str, args: Vec<String>, input: impl Read) -> Output {
        let stream = match UnixStream::connect(Path::new(&self.socket)) {
            Ok(stream) => stream,
            Err(error) => {
                return command::without_director(program, &args)
                    .unwrap_or_else(|| unreachable(&self.socket, &error));
            }
        };
        let wanted = if program == RESTORE { Input::Stdin } else { arguments::input(&args) };
        let stdin = match wanted {
            Input::Nothing => Ok(String::new()),
            Input::Stdin => read(input),
            Input::File(file) => match File::open(&file).and_then(read) {
                Ok(text) => Ok(text),
                Err(error) => {
                    let stderr = format!("{file}: {}\n", reason(&error));
                    return Output { stderr, code: 2, ..Output::default() };
                }
            },
        };
        let answer = stdin.and_then(|stdin| {
            let request = Request { program: program.to_owned(), args, stdin };
            ask(&stream, &request, RESPONSE_TIME)
        });
        answer.unwrap_or_else(|error| self.silent(&error))
    }

    /// Has it carry out a command that reads nothing, and waits for this long at most.
    pub fn ask(&self, args: &[&str], time: Duration) -> Output {
        let stream = match UnixStream::connect(Path::new(&self.socket)) {
            Ok(stream) => stream,
            Err(error) => return unreachable(&self.socket, &error),
        };
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let request = Request { program: "lvsadm".to_owned(), args, stdin: String::new() };
        ask(&stream, &request, time).unwrap_or_else(|error| self.silent(&error))
    }

    fn silent(&self, error: &io::Error) -> Output {
        let stderr = format!("No answer from the director at {}: {}\n", self.socket, reason(error));
        Output { stderr, code: 255, ..Output::default() }
    }
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.socket)
    }
}

fn ask(stream: &UnixStream, request: &Request, time: Duration) -> io::Result<Output> {
    let sent = request.write(stream, REQUEST_TIME.min(time));
    // A director that refuses to listen to the end has said why.
    Output::read(stream, time).map_err(|error| sent.err().unwrap_or(error))
}

/// Asks the director at `socket` to hand over. What it sends follows on the result, which ends where it
/// refuses or fails ([`Control::hand_over`](crate::Control::hand_over)).
///
/// # Errors
/// Nobody answers there.
pub fn ask_for_all(socket: impl AsRef<Path>) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    let args = vec![HAND_OVER.to_owned()];
    Request { program: "l4-proxy".to_owned(), args, stdin: String::new() }.write(&stream, REQUEST_TIME)?;
    Ok(stream)
}

/// Takes leading words that name the socket off the command line.
fn take_control(args: &mut Vec<String>) -> Result<Option<String>, Output> {
    let Some(first) = args.first() else { return Ok(None) };
    if let Some(path) = first.strip_prefix("--control=") {
        let path = path.to_owned();
        args.remove(0);
        return Ok(Some(path));
    }
    if first != "--control" {
        return Ok(None);
    }
    if args.len() < 2 {
        let stderr = "--control: missing argument\n".to_owned();
        return Err(Output { stderr, code: 255, ..Output::default() });
    }
    Ok(args.drain(..2).next_back())
}

fn read(input: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    input.take(INPUT_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// As ipvsadm says it where the kernel has no IPVS.
fn unreachable(socket: &str, error: &io::Error) -> Output {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{socket} is not for this user: be root, or who l4-proxy runs as.")
        }
        _ => format!(
            "No director answers at {socket}: `l4-proxy --control PATH' and `l7-proxy --control PATH' do; name another \
             PATH with --control PATH in front or with LVSADM_SOCKET."
        ),
    };
    let stderr = format!("Can't initialize ipvs: {}\n{hint}\n", reason(error));
    Output { stderr, code: 2, ..Output::default() }
}

/// The error as C programs put it, without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => return "it closed the connection".to_owned(),
        io::ErrorKind::TimedOut => return "it took too long".to_owned(),
        _ => {}
    }
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Long, since the director may have to look up the names of a whole restore.
const RESPONSE_TIME: Duration = Duration::from_secs(300);
