//! Directors that have handed over and still carry connections, as the one that serves now knows them.
//!
//! The control connection that a director handed over on stays open. Its successor asks there which
//! connections are left, for `lvsadm -L -c`, and how many they are and what they have moved, every second, so
//! that schedulers, thresholds, drains and counters go on as if they were its own. It says until when addresses may
//! be served that need an arbiter's consent: the consent is the successor's now, and the connections are still
//! the other one's. Whoever takes over next is handed these ways too, so that nobody depends on one in between.
//!
//! A director that hears nothing serves such addresses until the consent ends that it was told of last. One that
//! ends says what it has counted last without being asked.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use lvs_core::Director;
use lvsadm::Connection;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};
use tracing::warn;

use super::carried::Carried;
use super::read_text;
use super::remains::{CONNECTIONS, CONSENTS, COUNTS, FAREWELL, TEMPLATES, read_connection};
use super::tally::Tally;
use crate::clock;
use crate::consents::Consents;

/// The ways to those that are left. A clone is the same.
#[derive(Clone)]
pub(crate) struct Elders {
    /// Where what they carry is counted.
    director: Arc<Director>,
    links: Arc<Mutex<Vec<Arc<Link>>>>,
    /// Held while they are told something.
    telling: Arc<Mutex<()>>,
}

struct Link {
    stream: UnixStream,
    /// Whether it answers what it has counted.
    tells: bool,
    /// Whether nobody else asks it any more.
    is_ours: AtomicBool,
    /// Held while an answer is awaited.
    talk: Mutex<Talk>,
}

/// What was said by one of them, and what not yet.
#[derive(Default)]
struct Talk {
    carried: Carried,
    /// Questions without an answer, the oldest first; answers come in their order.
    unanswered: VecDeque<u8>,
}

/// A director that is known from now on.
pub(super) struct Elder {
    pub(super) stream: UnixStream,
    /// Whether it answers what it has counted.
    pub(super) tells: bool,
    /// What it carried when it was heard of.
    pub(super) carried: Carried,
}

impl Elders {
    /// None yet.
    pub(crate) fn new(director: &Arc<Director>) -> Elders {
        Elders { director: Arc::clone(director), links: Arc::default(), telling: Arc::default() }
    }

    /// Knows the director whose place is taken, and those before it. Their number is watched from now on, on a
    /// thread that ends with the last of them.
    pub(super) fn know(&self, predecessor: Elder, older: Vec<Elder>) {
        // One that takes nothing more is not waited for.
        let link = |Elder { stream, tells, carried }: Elder, is_ours| {
            stream.set_read_timeout(Some(ANSWERS)).ok()?;
            stream.set_write_timeout(Some(TAKES)).ok()?;
            let talk = Mutex::new(Talk { carried, ..Talk::default() });
            Some(Arc::new(Link { stream, tells, is_ours: AtomicBool::new(is_ours), talk }))
        };
        let Some(first) = link(predecessor, true) else { return };
        let mut links = vec![Arc::clone(&first)];
        links.extend(older.into_iter().filter_map(|elder| link(elder, false)));
        lock(&self.links).extend(links.iter().cloned());
        let elders = self.clone();
        let watch = move || {
            // Once it answers it asks nobody else any more.
            elders.connections_of(&first);
            links.drain(..).for_each(|link| link.is_ours.store(true, Ordering::Release));
            if first.tells {
                // Of clients that have come since it has told them all.
                elders.ask(&first, TEMPLATES);
            }
            while !lock(&elders.links).is_empty() {
                elders.count();
                thread::sleep(ROUND);
            }
        };
        if let Err(error) = thread::Builder::new().name("elders".to_owned()).spawn(watch) {
            warn!(%error, "what the director before this one counts from now on is lost");
        }
    }

    /// Ways to them once more, for a successor, and whether they answer what they have counted.
    pub(crate) fn streams(&self) -> io::Result<Vec<(OwnedFd, bool)>> {
        let links = lock(&self.links);
        links.iter().map(|link| Ok((link.stream.try_clone()?.into(), link.tells))).collect()
    }

    /// They are a successor's: nobody asks them from here when this returns.
    pub(crate) fn forget(&self) {
        // One that is asked at this moment looks whether it is known.
        let links = std::mem::take(&mut *lock(&self.links));
        for link in links {
            *lock(&link.talk) = Talk::default();
        }
    }

    /// The connections that they carry.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        let links = lock(&self.links).clone();
        links.iter().flat_map(|link| self.connections_of(link)).collect()
    }

    fn connections_of(&self, link: &Arc<Link>) -> Vec<Connection> {
        let text = self.ask(link, CONNECTIONS).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().filter_map(read_connection).collect()
    }

    /// Counts what they have counted by now, and how many connections they carry.
    pub(crate) fn count(&self) {
        let links = lock(&self.links).clone();
        for link in &links {
            if link.tells {
                self.ask(link, COUNTS);
            } else if has_ended(&link.stream) {
                self.lose(link, &mut lock(&link.talk));
            }
        }
    }

    /// Asks one, and returns the answer; none if it is not there any more, not to be asked yet, or late. What it
    /// counts, and the templates that it has, are taken up as soon as it says them.
    fn ask(&self, link: &Arc<Link>, question: u8) -> Option<Vec<u8>> {
        let mut talk = lock(&link.talk);
        let known = lock(&self.links).iter().any(|known| Arc::ptr_eq(known, link));
        if !known || !link.is_ours.load(Ordering::Acquire) {
            return None;
        }
        // One that has ended takes no question, and what it has said last is there.
        let _ = (&link.stream).write_all(&[question]);
        talk.unanswered.push_back(question);
        while let Some(question) = talk.unanswered.front().copied() {
            if !is_heard(&link.stream) {
                if talk.unanswered.len() > UNANSWERED_MAX {
                    self.lose(link, &mut talk);
                }
                return None;
            }
            let Ok(text) = read_text(&link.stream) else {
                self.lose(link, &mut talk);
                return None;
            };
            if let Some(last) = text.strip_prefix(FAREWELL) {
                Tally::of_lines(&String::from_utf8_lossy(last)).count(&self.director);
                self.lose(link, &mut talk);
                return None;
            }
            talk.unanswered.pop_front();
            match question {
                COUNTS => {
                    let tally = Tally::of_lines(&String::from_utf8_lossy(&text));
                    tally.count(&self.director);
                    talk.carried.become_as(&self.director, &tally.open);
                }
                TEMPLATES => {
                    if let Err(error) = self.director.restore_templates(&text, clock::now()) {
                        warn!(%error, "templates are lost");
                    }
                }
                _ => {}
            }
            if talk.unanswered.is_empty() {
                return Some(text);
            }
        }
        None
    }

    /// Tells them until when they may serve what addresses.
    pub(crate) fn tell(&self, consents: &Consents) {
        let links = lock(&self.links).clone();
        if links.is_empty() {
            return;
        }
        // What was read earlier may not arrive later: it might say that an address is still to be served.
        let _telling = lock(&self.telling);
        let text = consents.tell();
        // In one piece, since questions are written to the same socket. One that has ended is missed when it
        // is asked.
        let message = [&[CONSENTS][..], &(text.len() as u64).to_be_bytes(), text.as_bytes()].concat();
        for link in links {
            if let Err(error) = (&link.stream).write_all(&message)
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                self.lose(&link, &mut lock(&link.talk));
            }
        }
    }

    fn lose(&self, lost: &Arc<Link>, talk: &mut Talk) {
        lock(&self.links).retain(|link| !Arc::ptr_eq(link, lost));
        *talk = Talk::default();
    }
}

/// Whether the other side says something, or is gone, before it would be too late.
fn is_heard(stream: &UnixStream) -> bool {
    let mut watched = [PollFd::new(stream, PollFlags::IN)];
    let patience = Timespec { tv_sec: ANSWERS.as_secs() as i64, tv_nsec: ANSWERS.subsec_nanos().into() };
    poll(&mut watched, Some(&patience)).is_ok_and(|heard| heard > 0)
}

/// Whether the other side is gone, and has left nothing to read.
fn has_ended(stream: &UnixStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    recv(stream, &mut [0; 1][..], flags).is_ok_and(|(_, length)| length == 0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long one that is asked may take: it lists what it has.
const ANSWERS: Duration = Duration::from_secs(2);

/// How many questions one may leave without an answer.
const UNANSWERED_MAX: usize = 8;

/// How long one may take nothing.
const TAKES: Duration = Duration::from_millis(100);

/// How often they are asked what they count.
const ROUND: Duration = Duration::from_secs(1);
