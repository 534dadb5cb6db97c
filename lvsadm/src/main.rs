//! `lvsadm`: ipvsadm's command line for a director in userspace.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = words.next().unwrap_or_default();
    let program = Path::new(&called).file_name().map_or("lvsadm".into(), |name| name.to_string_lossy());
    let socket = std::env::var("LVSADM_SOCKET").ok();
    let output = lvsadm::client::run(&program, words.collect(), socket, io::stdin().lock());
    // Who closed the other end does not want to read more, and an error could not be told either.
    let _ = io::stdout().lock().write_all(output.stdout.as_bytes());
    let _ = io::stderr().lock().write_all(output.stderr.as_bytes());
    ExitCode::from(output.code)
}
