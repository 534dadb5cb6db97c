//! The live view: services and servers as they work, once a second.
//!
//! What is shown is the document of `lvsadm -L --json`, so the view knows no more than any script
//! does. What it does with keys and documents is in `model`, what it looks like in `view`; here is
//! only what waits.

mod model;
mod view;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use lvsadm::Output;
use lvsadm::client::Remote;
use lvsadm::document::Services;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use self::model::{Next, Top};

/// Shows the view until a key ends it.
pub(crate) fn run(director: &Remote) -> Output {
    if !io::stdout().is_terminal() {
        return failed("the live view needs a terminal", 2);
    }
    // Who gives no document now is told of as by any command, not on a screen that goes away.
    let first = match fetch(director) {
        Ok(document) => document,
        Err(output) => return output,
    };
    let mut top = Top::new(director.to_string());
    top.take(Ok(first));
    let shown = ratatui::try_init().and_then(|mut terminal| show(&mut terminal, &mut top, director));
    let restored = ratatui::try_restore();
    match shown.and(restored) {
        Ok(()) => Output::default(),
        Err(error) => failed(&format!("the terminal failed: {error}"), 255),
    }
}

fn show(terminal: &mut ratatui::DefaultTerminal, top: &mut Top, director: &Remote) -> io::Result<()> {
    let mut due = Instant::now() + INTERVAL;
    loop {
        terminal.draw(|frame| view::draw(frame, &mut *top))?;
        if event::poll(due.saturating_duration_since(Instant::now()))? {
            if let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
                && top.press(key) == Next::Quit
            {
                return Ok(());
            }
        } else {
            if !top.is_paused() {
                top.take(fetch(director).map_err(|output| output.stderr));
            }
            due = Instant::now() + INTERVAL;
        }
    }
}

fn fetch(director: &Remote) -> Result<Services, Output> {
    let output = director.ask(&["-L", "--json"], PATIENCE);
    if output.code != 0 {
        return Err(output);
    }
    serde_json::from_str(&output.stdout)
        .map_err(|error| failed(&format!("the director's answer is not understood: {error}"), 255))
}

fn failed(text: &str, code: u8) -> Output {
    Output { stderr: format!("{text}\n"), code, ..Output::default() }
}

const INTERVAL: Duration = Duration::from_secs(1);

/// How long an answer may take. Keys wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);
