//! Mail to operators, as `smtp_alert` asks for it: keepalived's subjects, so that what sorts them goes on
//! sorting, and in the text the reason too.
//!
//! Letters go out one after the other, each within its time, and a bounded number of them waits: a mail
//! server that is down delays nothing but mail. What it does not take is logged and not tried again.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lvs_core::{Cause, Time};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::keepalived::model::Mailing;
use crate::proxy::cause;
use crate::smtp::Dialogue;
use crate::worker::Workers;

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    /// Without the name of this director, which is put before it.
    pub(crate) subject: String,
    /// One line or several.
    pub(crate) text: String,
}

/// Where letters are given in.
#[derive(Clone)]
pub(crate) struct Office {
    letters: mpsc::Sender<(Letter, Mailing)>,
}

impl Office {
    /// Opens one, which works on these threads until it is dropped.
    pub(crate) fn open(workers: &Workers) -> Office {
        let (letters, mut given) = mpsc::channel::<(Letter, Mailing)>(WAITING_MAX);
        workers.run(0, move || async move {
            while let Some((letter, mailing)) = given.recv().await {
                match deliver(&letter, &mailing).await {
                    Ok(()) => info!("mail was sent: {}", letter.subject),
                    Err(why) => warn!("mail cannot be sent: {}: {why}", letter.subject),
                }
            }
        });
        Office { letters }
    }

    /// Sends a letter to whom the configuration names, if anybody.
    pub(crate) fn post(&self, letter: Letter, mailing: &Mailing) {
        if !mailing.goes_anywhere() {
            return;
        }
        if let Err(error) = self.letters.try_send((letter, mailing.clone())) {
            let (letter, _) = error.into_inner();
            warn!("mail is left out, since too much is waiting: {}", letter.subject);
        }
    }
}

async fn deliver(letter: &Letter, mailing: &Mailing) -> Result<(), Cause> {
    let Some((host, port)) = &mailing.server else { return Ok(()) };
    let own = host_name();
    let helo = mailing.helo.as_deref().unwrap_or(&own);
    let from = mailing.from.clone().unwrap_or_else(|| format!("l4-proxy@{own}"));
    let patience = mailing.timeout;
    let connected = in_time(patience, async {
        TcpStream::connect((host.as_str(), *port)).await.map_err(|error| cause(&error))
    });
    let at = |why: Cause| Cause::from(format!("{host} port {port}: {why}"));
    let stream = connected.await.map_err(at)?;
    let converse = async {
        let mut dialogue = in_time(patience, Dialogue::begin(stream)).await?;
        in_time(patience, dialogue.say(&format!("HELO {}", line(helo)), "250")).await?;
        in_time(patience, dialogue.say(&format!("MAIL FROM:<{}>", mailbox(&from)), "250")).await?;
        for to in &mailing.to {
            in_time(patience, dialogue.say(&format!("RCPT TO:<{}>", mailbox(to)), "25")).await?;
        }
        in_time(patience, dialogue.say("DATA", "354")).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = write(letter, mailing, &from, &own, Time::from_epoch(now));
        in_time(patience, dialogue.send(&text, "250")).await?;
        // It has the letter, whatever it says now.
        let _ = in_time(patience, dialogue.say("QUIT", "221")).await;
        Ok(())
    };
    converse.await.map_err(at)
}

async fn in_time<T>(patience: Duration, what: impl Future<Output = Result<T, Cause>>) -> Result<T, Cause> {
    timeout(patience, what).await.unwrap_or_else(|_| Err(cause(&std::io::ErrorKind::TimedOut.into())))
}

/// The letter as it goes over the wire.
fn write(letter: &Letter, mailing: &Mailing, from: &str, own: &str, now: Time) -> String {
    let name = mailing.name.as_deref().unwrap_or(own);
    let to: Vec<String> = mailing.to.iter().map(|to| line(to)).collect();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "Date: {}\r\nFrom: {}\r\nSubject: [{}] {}\r\nX-Mailer: l4-proxy\r\nTo: {}\r\n\r\n",
        date(now),
        line(from),
        line(name),
        line(&letter.subject),
        to.join(", ")
    );
    for said in letter.text.lines() {
        // A line that is a dot would end the letter.
        let dot = if said.starts_with('.') { "." } else { "" };
        let _ = write!(text, "{dot}{}\r\n", line(said));
    }
    text + ".\r\n"
}

/// What stays of a text on one line of printable characters: it could forge a header.
fn line(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

/// The address alone, of what may have a name before it.
fn mailbox(written: &str) -> String {
    let inner = written.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(inner, _)| inner);
    let address = inner.unwrap_or(written).trim();
    address.chars().filter(|character| !character.is_control() && !"<> ".contains(*character)).collect()
}

/// `Mon, 23 Nov 2026 03:07:57 +0000`
fn date(now: Time) -> String {
    let (year, month, day) = now.date();
    let seconds = now.since_epoch().as_secs();
    // The first day of the epoch was a Thursday.
    let weekday = DAYS[(seconds / 86_400 % 7) as usize];
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let month = MONTHS[month as usize - 1];
    format!("{weekday}, {day} {month} {year} {hour:02}:{minute:02}:{second:02} +0000")
}

/// What this machine is called.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Letters that wait for earlier ones.
const WAITING_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letter_has_keepalived_s_headers_and_can_forge_none() {
        let mailing = Mailing {
            to: vec!["ops@example.org".to_owned(), "Two <two@example.org>".to_owned()],
            name: Some("lb1".to_owned()),
            ..Mailing::default()
        };
        let letter = Letter {
            subject: "Virtualserver [192.0.2.1]:tcp:80 - DOWN\r\nBcc: all".to_owned(),
            text: "one\n.\n..two".to_owned(),
        };
        let now = Time::from_epoch(Duration::from_secs(1_795_403_277));
        assert_eq!(
            write(&letter, &mailing, "lb@example.org", "host", now),
            "Date: Mon, 23 Nov 2026 03:07:57 +0000\r\nFrom: lb@example.org\r\n\
             Subject: [lb1] Virtualserver [192.0.2.1]:tcp:80 - DOWNBcc: all\r\nX-Mailer: l4-proxy\r\n\
             To: ops@example.org, Two <two@example.org>\r\n\r\none\r\n..\r\n...two\r\n.\r\n"
        );
    }

    #[test]
    fn envelope_has_the_address_alone() {
        assert_eq!(mailbox("Two <two@example.org>"), "two@example.org");
        assert_eq!(mailbox(" a@b>\r\nRCPT TO:c@d"), "a@bRCPTTO:c@d");
    }
}
