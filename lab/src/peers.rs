//! Programs that tests play with, which may not be there.

use std::path::PathBuf;

/// Says that a test needs something that is not here; where everything must be, that is a failure.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn skip(missing: &str) {
    eprintln!("skipped: {missing} is not here");
    assert!(std::env::var_os("REQUIRE_PEERS").is_none(), "{missing} is missing");
}

/// Whether a program can be found.
pub fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&paths).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.iter().any(|folder| folder.join(program).is_file())
}
