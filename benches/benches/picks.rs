//! Schedules and drops so many times for one algorithm and nothing else: what callgrind counts.
//!
//! `picks ALGORITHM SERVERS CALLS`; `instructions.sh` runs it for the table of `INSTRUCTIONS.md`.

use benches::Case;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let algorithm = arguments.next().and_then(|name| name.parse().ok()).unwrap_or_default();
    let servers = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(10);
    let calls = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    Case::schedule(algorithm, servers).run(calls);
}
