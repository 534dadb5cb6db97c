//! The side that hears: takes in what each of the others says, in the order in which it was said, asks
//! again for what is missing, and for everything where that is not to be had. Pure.
//!
//! An old recording cannot be played to it: before it believes a speaker, it asks with a nonce, and only
//! whoever has the key and is there now can answer with that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lvs_core::TemplateStats;

use super::message::{Content, Message, Speaker};

/// What is to be done about a message, or because time has passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Take these over.
    Learn(Vec<TemplateStats>),
    /// Send this to everybody.
    Send(Content),
    /// Everything that this speaker had has been heard.
    Completed(Speaker),
}

/// What one director hears from the others.
#[derive(Debug)]
pub(super) struct Hearer {
    sources: Vec<Source>,
    /// The question that is open, and when it was put.
    nonce: u64,
    asked: Option<Instant>,
    /// Numbers the requests for repetition.
    serial: u64,
    /// Whom the next question is for.
    stranger: Option<Speaker>,
}

/// One other director.
#[derive(Debug)]
struct Source {
    speaker: Speaker,
    /// The number that is to be heard next.
    next: u64,
    /// The number up to which there is something to be heard.
    known: u64,
    /// Changes that came before their turn.
    early: BTreeMap<u64, Vec<TemplateStats>>,
    /// When the missing ones were asked for, and how often.
    asked: Option<(Instant, u32)>,
    /// It has told everything.
    completed: bool,
    heard: Instant,
}

impl Hearer {
    pub(super) fn new() -> Hearer {
        Hearer { sources: Vec::new(), nonce: 0, asked: None, serial: 0, stranger: Some(Speaker::ANY) }
    }

    /// How many others are heard, and how many of them completely.
    pub(super) fn heard(&self) -> (usize, usize) {
        (self.sources.len(), self.sources.iter().filter(|source| source.completed).count())
    }

    pub(super) fn hear(&mut self, message: Message, now: Instant) -> Vec<Action> {
        let Message { speaker, content } = message;
        if let Content::Welcome { next, nonce } = content {
            if nonce == self.nonce && self.asked.is_some() {
                self.admit(speaker, next, now);
            }
            return Vec::new();
        }
        let mut actions = Vec::new();
        let Some(source) = self.sources.iter_mut().find(|source| source.speaker == speaker) else {
            if let Content::Beat { .. } | Content::Changes { .. } = content {
                self.stranger.get_or_insert(speaker);
            }
            return actions;
        };
        source.heard = now;
        match content {
            Content::Changes { number, templates } if number >= source.next => {
                source.known = source.known.max(number + 1);
                if number == source.next || source.early.len() < EARLY_MAX {
                    source.early.insert(number, templates);
                }
            }
            Content::Beat { next, oldest } => {
                source.known = source.known.max(next);
                // What is missing is not kept any more.
                if oldest > source.next {
                    self.forget(speaker);
                    return actions;
                }
            }
            _ => return actions,
        }
        while let Some(templates) = source.early.remove(&source.next) {
            source.next += 1;
            source.asked = None;
            if !templates.is_empty() {
                actions.push(Action::Learn(templates));
            } else if !std::mem::replace(&mut source.completed, true) {
                actions.push(Action::Completed(speaker));
            }
        }
        actions.extend(self.ask_again(now));
        actions
    }

    /// Asks for what is missing, and who is there. Call it often; `nonce` is a number that nobody can
    /// foretell.
    pub(super) fn look(&mut self, now: Instant, nonce: impl FnOnce() -> u64) -> Vec<Action> {
        self.sources.retain(|source| now.duration_since(source.heard) < SILENCE_MAX);
        let mut actions = self.ask_again(now);
        let early = self.asked.is_some_and(|asked| now.duration_since(asked) < JOIN_PAUSE);
        if !early && let Some(of) = self.stranger.take() {
            (self.nonce, self.asked) = (nonce(), Some(now));
            actions.push(Action::Send(Content::Join { nonce: self.nonce, of }));
        }
        actions
    }

    fn admit(&mut self, speaker: Speaker, next: u64, now: Instant) {
        if self.sources.iter().any(|source| source.speaker == speaker) {
            return;
        }
        if self.sources.len() == SOURCES_MAX
            && let Some(oldest) = self.sources.iter().map(|source| source.heard).min()
        {
            self.sources.retain(|source| source.heard != oldest);
        }
        self.sources.push(Source {
            speaker,
            next,
            known: next,
            early: BTreeMap::new(),
            asked: None,
            completed: false,
            heard: now,
        });
    }

    fn forget(&mut self, speaker: Speaker) {
        self.sources.retain(|source| source.speaker != speaker);
        self.stranger = Some(speaker);
    }

    fn ask_again(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut lost = Vec::new();
        for source in self.sources.iter_mut().filter(|source| source.next < source.known) {
            let times = match source.asked {
                Some((asked, _)) if now.duration_since(asked) < REPEAT_PAUSE => continue,
                Some((_, REPEATS_MAX)) => {
                    lost.push(source.speaker);
                    continue;
                }
                Some((_, times)) => times,
                None => 0,
            };
            source.asked = Some((now, times + 1));
            self.serial += 1;
            let to = source.early.keys().next().copied().unwrap_or(source.known);
            let (serial, of, from) = (self.serial, source.speaker, source.next);
            actions.push(Action::Send(Content::Missing { serial, of, from, to }));
        }
        lost.into_iter().for_each(|speaker| self.forget(speaker));
        actions
    }
}

/// Messages that are kept until those before them have come.
const EARLY_MAX: usize = 4096;

/// Others that are heard.
const SOURCES_MAX: usize = 16;

/// A speaker that is silent for so long is gone; beats come every second.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// From one question who is there to the next.
const JOIN_PAUSE: Duration = Duration::from_millis(500);

/// From one question for the same thing to the next.
const REPEAT_PAUSE: Duration = Duration::from_millis(50);

/// Questions for the same thing; then everything is asked for.
const REPEATS_MAX: u32 = 20;

#[cfg(test)]
mod tests {
    use lvs_core::ServiceKey;

    use super::*;
    use crate::sync::message::RECORD;
    use crate::sync::teller::Teller;

    const TELLER: Speaker = Speaker(7);

    fn template(number: u64) -> TemplateStats {
        let address = |text: &str| text.parse().expect("an address");
        let service = ServiceKey::tcp(address("192.0.2.1:80"));
        let client = std::net::Ipv4Addr::from(number as u32).into();
        TemplateStats::told(service, client, address("10.0.0.1:80"), Duration::from_secs(60), false)
    }

    /// A network between a teller and a hearer that loses, doubles and swaps messages by dice.
    struct Play {
        teller: Teller,
        hearer: Hearer,
        now: Instant,
        dice: u64,
        /// Of 100 messages so many are lost.
        loss: u64,
        learned: Vec<u64>,
        completed: bool,
        /// The state of the teller's table: everything that was ever told.
        table: u64,
    }

    impl Play {
        fn new(loss: u64) -> Play {
            Play {
                teller: Teller::new(TELLER),
                hearer: Hearer::new(),
                now: Instant::now(),
                dice: loss + 1,
                loss,
                learned: Vec::new(),
                completed: false,
                table: 0,
            }
        }

        fn roll(&mut self, sides: u64) -> u64 {
            self.dice =
                self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.dice >> 33) % sides
        }

        fn carry(&mut self, contents: Vec<Content>) {
            for content in contents {
                let times = if self.roll(100) < self.loss { 0 } else { 1 + self.roll(2) };
                for _ in 0..times {
                    let message = Message { speaker: TELLER, content: content.clone() };
                    let actions = self.hearer.hear(message, self.now);
                    self.obey(actions);
                }
            }
        }

        fn obey(&mut self, actions: Vec<Action>) {
            for action in actions {
                match action {
                    Action::Learn(templates) => {
                        let clients = templates.iter().map(|template| match template.client {
                            std::net::IpAddr::V4(v4) => u64::from(u32::from(v4)),
                            std::net::IpAddr::V6(_) => unreachable!("all are IPv4"),
                        });
                        self.learned.extend(clients);
                    }
                    Action::Completed(speaker) => self.completed |= speaker == TELLER,
                    Action::Send(content) if self.roll(100) >= self.loss => {
                        let answers = match content {
                            Content::Join { nonce, of } => {
                                self.teller.welcome(nonce, of).into_iter().collect()
                            }
                            missing => self.teller.repeat(Speaker(8), &missing),
                        };
                        self.carry(answers);
                    }
                    Action::Send(_) => {}
                }
            }
        }

        /// One round: this much time, these new templates, a beat.
        fn round(&mut self, fresh: u64) {
            self.now += Duration::from_millis(100);
            let mut told: Vec<TemplateStats> = (self.table..self.table + fresh).map(template).collect();
            self.table += fresh;
            if self.teller.begins_everything(self.now) {
                told = (0..self.table).map(template).collect();
            }
            let mut contents = self.teller.tell(&told, 3 * RECORD);
            contents.extend(self.teller.complete());
            contents.push(self.teller.beat());
            self.carry(contents);
            let nonce = self.roll(u64::MAX);
            let actions = self.hearer.look(self.now, || nonce);
            self.obey(actions);
        }

        fn knows_all(&self) -> bool {
            let known: std::collections::HashSet<u64> = self.learned.iter().copied().collect();
            known.len() as u64 == self.table
        }
    }

    #[test]
    fn newcomer_hears_everything_and_then_every_change_in_order_whatever_is_lost() {
        for loss in [0, 10, 40] {
            let mut play = Play::new(loss);
            (0..10).for_each(|_| drop(play.teller.tell(&[template(0)], 3 * RECORD)));
            play.table = 500;
            (0..200).for_each(|_| play.round(1));
            (0..400).for_each(|_| play.round(0));
            assert!(play.completed && play.knows_all(), "loss of {loss} %");
            let last: Vec<u64> = play.learned.iter().rev().take(20).rev().copied().collect();
            assert!(last.is_sorted(), "loss of {loss} %: {last:?}");
        }
    }

    #[test]
    fn one_that_missed_more_than_is_kept_hears_everything_again() {
        let mut play = Play::new(0);
        (0..20).for_each(|_| play.round(1));
        assert!(play.knows_all());
        for number in 20..9000 {
            drop(play.teller.tell(&[template(number)], RECORD));
        }
        play.table = 9000;
        (0..40).for_each(|_| play.round(0));
        assert!(play.knows_all());
    }

    #[test]
    fn recording_is_not_believed() {
        let mut play = Play::new(0);
        let mut recorded = play.teller.tell(&[template(1)], 3 * RECORD);
        recorded.extend(play.teller.welcome(4711, Speaker::ANY));
        recorded.extend(play.teller.tell(&[template(2)], 3 * RECORD));
        let mut hearer = Hearer::new();
        hearer.look(play.now, || 815);
        for content in recorded {
            let actions = hearer.hear(Message { speaker: TELLER, content }, play.now);
            assert_eq!(actions, []);
        }
        assert_eq!(hearer.heard(), (0, 0));
    }

    #[test]
    fn request_that_is_played_again_brings_nothing() {
        let mut teller = Teller::new(TELLER);
        teller.tell(&[template(1), template(2)], RECORD);
        let missing = Content::Missing { serial: 1, of: TELLER, from: 1, to: 3 };
        assert_eq!(teller.repeat(Speaker(8), &missing).len(), 3);
        assert_eq!(teller.repeat(Speaker(8), &missing).len(), 0);
        let wild = Content::Missing { serial: 2, of: TELLER, from: 0, to: u64::MAX };
        assert_eq!(teller.repeat(Speaker(8), &wild).len(), 3);
    }
}
