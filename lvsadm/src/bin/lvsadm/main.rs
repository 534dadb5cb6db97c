//! `lvsadm`: ipvsadm's command line for a director in userspace.

#[cfg(feature = "top")]
mod top;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use lvsadm::Output;
use lvsadm::client::Remote;

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = words.next().unwrap_or_default();
    let program = Path::new(&called).file_name().map_or("lvsadm".into(), |name| name.to_string_lossy());
    let output = run(&program, words.collect(), std::env::var("LVSADM_SOCKET").ok());
    // Who closed the other end does not want to read more, and an error could not be told either.
    let _ = io::stdout().lock().write_all(output.stdout.as_bytes());
    let _ = io::stderr().lock().write_all(output.stderr.as_bytes());
    ExitCode::from(output.code)
}

fn run(program: &str, mut args: Vec<String>, socket: Option<String>) -> Output {
    let director = match Remote::named(&mut args, socket) {
        Ok(director) => director,
        Err(output) => return output,
    };
    // With more words it is wrong, which the director says as it does of any command.
    #[cfg(feature = "top")]
    if args == ["--top"] {
        return top::run(&director);
    }
    // It may take long, and who sees nothing does not know whether to wait.
    if args == ["--upgrade"] && io::stderr().is_terminal() {
        // An error could not be told either.
        let _ = io::stderr().lock().write_all(UPGRADING.as_bytes());
    }
    director.run(program, args, io::stdin().lock())
}

const UPGRADING: &str =
    "The director starts its program anew; waiting until that serves. Ctrl-C ends the waiting alone.\n";
