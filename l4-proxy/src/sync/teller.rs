//! The side that tells: numbers what it says, keeps the last of it to say again, and tells everything
//! to whoever joins. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lvs_core::TemplateStats;

use super::message::{self, Content, Speaker};

/// What one director tells the others.
#[derive(Debug)]
pub(super) struct Teller {
    speaker: Speaker,
    /// Changes by number, the last of them; the first has the number `oldest`.
    told: VecDeque<Vec<TemplateStats>>,
    oldest: u64,
    /// When everything was last begun.
    began_everything: Option<Instant>,
    /// Somebody is to be told everything.
    wanted: bool,
    /// Everything is under way.
    completing: bool,
    /// Serial numbers of those who asked again, the last asker last.
    askers: VecDeque<(Speaker, u64)>,
}

impl Teller {
    pub(super) fn new(speaker: Speaker) -> Teller {
        Teller {
            speaker,
            told: VecDeque::new(),
            oldest: 1,
            began_everything: None,
            wanted: false,
            completing: false,
            askers: VecDeque::new(),
        }
    }

    fn next(&self) -> u64 {
        self.oldest + self.told.len() as u64
    }

    /// What was told so far, in messages.
    pub(super) fn count(&self) -> u64 {
        self.next() - 1
    }

    pub(super) fn beat(&self) -> Content {
        Content::Beat { next: self.next(), oldest: self.oldest }
    }

    /// Somebody asks whether this one is there, and will hear everything if so.
    pub(super) fn welcome(&mut self, nonce: u64, of: Speaker) -> Option<Content> {
        if of != self.speaker && of != Speaker::ANY {
            return None;
        }
        self.wanted = true;
        Some(Content::Welcome { next: self.next(), nonce })
    }

    /// Whether everything is to be told from here on. A crowd that joins is told once a while, so that
    /// nobody can keep us busy with old words.
    pub(super) fn begins_everything(&mut self, now: Instant) -> bool {
        let early = self.began_everything.is_some_and(|began| now.duration_since(began) < EVERYTHING_PAUSE);
        if !self.wanted || early {
            return false;
        }
        (self.wanted, self.completing, self.began_everything) = (false, true, Some(now));
        true
    }

    /// Tells these, and keeps them. A message has `room` bytes for them.
    pub(super) fn tell(&mut self, templates: &[TemplateStats], room: usize) -> Vec<Content> {
        let (mut contents, mut rest) = (Vec::new(), templates);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(message::fitting(rest, room));
            contents.push(self.keep(part.to_vec()));
            rest = after;
        }
        contents
    }

    fn keep(&mut self, templates: Vec<TemplateStats>) -> Content {
        let number = self.next();
        self.told.push_back(templates.clone());
        if self.told.len() > KEPT {
            self.told.pop_front();
            self.oldest += 1;
        }
        Content::Changes { number, templates }
    }

    /// There is nothing more to tell now: everything, if it was under way, has been told.
    pub(super) fn complete(&mut self) -> Option<Content> {
        // Whoever was welcomed since it began waits for the next time.
        let complete = self.completing && !self.wanted;
        self.completing &= !complete;
        complete.then(|| self.keep(Vec::new()))
    }

    /// What somebody missed, as far as it is kept; the beat behind it says what is not.
    pub(super) fn repeat(&mut self, asker: Speaker, content: &Content) -> Vec<Content> {
        let Content::Missing { serial, of, from, to } = *content else { return Vec::new() };
        if of != self.speaker || !self.is_fresh(asker, serial) {
            return Vec::new();
        }
        let numbers = from.max(self.oldest)..to.min(self.next()).min(from.saturating_add(REPEATED_MAX));
        let place = |number: u64| self.told.get((number - self.oldest) as usize).cloned();
        let changes = numbers
            .filter_map(|number| place(number).map(|templates| Content::Changes { number, templates }));
        changes.chain([self.beat()]).collect()
    }

    /// Whether it was not heard before.
    fn is_fresh(&mut self, asker: Speaker, serial: u64) -> bool {
        let known = self.askers.iter().position(|(known, _)| *known == asker);
        let last = known.and_then(|place| self.askers.remove(place)).map_or(0, |(_, last)| last);
        if self.askers.len() == ASKERS_MAX {
            self.askers.pop_front();
        }
        self.askers.push_back((asker, last.max(serial)));
        serial > last
    }
}

/// Messages that are kept: 6 MB of templates.
const KEPT: usize = 4096;

/// Messages that one request brings back.
const REPEATED_MAX: u64 = 64;

/// From one time that everything is told to the next.
const EVERYTHING_PAUSE: Duration = Duration::from_secs(1);

const ASKERS_MAX: usize = 64;
