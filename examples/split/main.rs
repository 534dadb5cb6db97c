//! The whole split on loopback: `cargo run --release`.
//!
//! One process plays every part: a director (LVS) on a virtual address, two HTTP proxies (nginx)
//! with a static page each, two origins (Tomcat) with a dynamic page each. The configuration files
//! beside this one are those that the binaries `l4-proxy` and `l7-proxy` take.

mod origin;
mod site;
mod story;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};
use mimalloc::MiMalloc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
use warm_alloc::Warm;

use crate::site::{COUNT, FIRST, Ports, Site, say};

#[allow(unsafe_code)]
// SAFETY: it is the only one, and the global allocator.
#[global_allocator]
static ALLOCATOR: Warm<MiMalloc> = unsafe { Warm::new(MiMalloc) };

struct Options {
    ports: Ports,
    check: bool,
}

fn main() -> ExitCode {
    let outcome = options().and_then(|options| match options {
        None => {
            say(HELP.trim_end());
            Ok(())
        }
        Some(options) => run(&options),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "split: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let filter: Targets = log_filter().parse().map_err(|error| format!("RUST_LOG: {error}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
    let mut site = Site::start(options.ports)?;
    if options.check {
        story::play(&mut site)?;
        say("passed");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(show(site)).map_err(|error| error.to_string())
}

/// Shows the director's table until Ctrl-C, then drains.
async fn show(site: Site) -> io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let terminal = io::stdout().is_terminal();
    let introduction = introduction(site.ports());
    if !terminal {
        say(&introduction);
    }
    let control = site.control();
    let mut printed = String::new();
    loop {
        let table = lvsadm::run(&["-Ln".to_owned()], "", &*control).stdout;
        if terminal {
            // Home, the text with each line cleared behind it, and nothing below.
            let screen = format!("{introduction}\n{table}").replace('\n', "\x1b[K\n");
            let _ = write!(io::stdout().lock(), "\x1b[H{screen}\x1b[J");
            let _ = io::stdout().flush();
        } else if table != printed {
            say(&table);
            printed = table;
        }
        let pause = if terminal { REDRAW } else { REPRINT };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    drop(control);
    say("draining");
    tokio::select! {
        () = site.drain() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn introduction(ports: Ports) -> String {
    let (web, sticky) = (ports.web(), ports.sticky());
    format!(
        "\
client -> director {web} -> nginx1, nginx2 -> static page, or .jsp -> origin 1, origin 2

  curl http://{web}/                a static page; each connection goes to the next proxy
  curl http://{web}/index.jsp       a dynamic page, and the headers that its origin saw
  curl http://{sticky}/                this client stays with one proxy for a minute

Ctrl-C ends. The director's table, as ipvsadm -Ln shows it:
"
    )
}

fn options() -> Result<Option<Options>, String> {
    let mut options = Options { ports: Ports::from(FIRST), check: false };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Long("check") => options.check = true,
            Arg::Long("port") => {
                let first = parser.value().map_err(|error| error.to_string())?.parse::<u16>();
                let first = first.ok().filter(|first| (1..=u16::MAX - COUNT).contains(first));
                options.ports = Ports::from(first.ok_or("--port wants a number from 1 to 65529")?);
            }
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            unknown => return Err(format!("{}\n{}", unknown.unexpected(), HELP.trim_end())),
        }
    }
    Ok(Some(options))
}

/// The proxies' own lines would tear the table apart, so they are shown only if asked for.
fn log_filter() -> String {
    std::env::var("RUST_LOG").unwrap_or_else(|_| "off".to_owned())
}

const REDRAW: Duration = Duration::from_millis(500);

const REPRINT: Duration = Duration::from_secs(5);

const HELP: &str = "\
split: the whole split on loopback

  --port FIRST    use FIRST and the five ports after it (default: 8080)
  --check         play the whole story and say whether it went as it should
";
