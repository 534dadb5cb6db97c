//! A third party with a say in who is master: what is asked of it and when, and how long its word counts.
//!
//! Two routers that do not hear each other are both right to think the other one gone. An arbiter that
//! both have to ask breaks the tie, and it has to be believed only while its word is known to hold: its
//! consent is a lease, and **the holder's belief ends before the lease does**. A lease is counted from the
//! moment it was asked for, not from the answer, and is taken to end [`MARGIN`] early; so whoever gets it
//! next gets it after the last holder has let go, even if no message reached that one. The margin covers
//! the slowest part of letting go, which is not this program: if it is stopped or killed, the kernel takes
//! the addresses away, by whole seconds and up to one second late.
//!
//! [`Arbiter`] is pure, like the routers: events and the time go in, and what is to be asked comes out.
//! Whoever does the asking is a [`Witness`]: a lease in etcd, or a gateway that answers.

// The part that speaks with somebody needs sockets, and a clock to give up by.
#[cfg(feature = "etcd")]
mod base64;
#[cfg(feature = "etcd")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod etcd;
#[cfg(feature = "etcd")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
mod http;

use std::fmt;
use std::time::Duration;

use crate::router::{self, Moment};

/// What an arbiter's consent is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long the arbiter keeps others out after it was asked.
    pub ttl: Duration,
    /// What a master does when the arbiter cannot be asked.
    pub on_loss: OnLoss,
}

/// What a master does when its arbiter cannot be asked, and the consent it had runs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// It gives the addresses away. They are as available as the arbiter is, and never in two places.
    #[default]
    Yield,
    /// It keeps them, and nobody takes them over. They outlive the arbiter; but if only this side of a
    /// partition cannot reach it, the other side gets its consent, and both have the addresses.
    Keep,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A router wants the consent, and to keep it.
    Ask,
    /// It does not want it any more.
    Release,
    /// The deadline has come.
    Timer,
    /// What was asked is answered, or nobody answered.
    Answered {
        /// When it was asked.
        asked: Moment,
        /// The answer.
        answer: Answer,
    },
}

/// What an arbiter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It consents.
    Yes,
    /// Another one has its consent: this one.
    Held(String),
    /// What was to be prolonged has ended.
    Gone,
    /// Nothing came back; why.
    Silence(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for the consent.
    Acquire,
    /// Ask for it to be prolonged.
    Renew,
    /// Give it back.
    Revoke,
    /// Tell the router.
    Tell(router::Event),
    /// Tell whoever wants to know.
    Note(Note),
}

/// What an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// It is asked from now on.
    Asked,
    /// The arbiter does not answer.
    Lost(String),
    /// It does not answer, and the addresses are kept nevertheless.
    Kept,
    /// It answers again.
    Found,
    /// It has given its consent to somebody else.
    Held(String),
}

/// Somebody who is asked; each question is answered within a time.
pub trait Witness: Send {
    /// Asks for the consent.
    fn acquire(&mut self, patience: Duration) -> Answer;
    /// Asks for it to be prolonged.
    fn renew(&mut self, patience: Duration) -> Answer;
    /// Gives it back, if that can be done in this time; it ends by itself otherwise.
    fn revoke(&mut self, patience: Duration);
    /// Whom it asks, in an operator's words; of several, the one that answered last.
    fn whom(&self) -> String;

    /// By what one in another process of this host knows what this one holds, or was just asking for.
    fn bequest(&self) -> String {
        String::new()
    }

    /// Takes what another one held by this for its own; from there on the other one has it no more, as
    /// soon as the arbiter was asked.
    fn inherit(&mut self, bequest: &str) {
        let _ = bequest;
    }

    /// Takes what it has passed on for its own again, whether or not the heir has asked for it.
    fn recover(&mut self) {}
}

/// How an arbiter stands to who asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody wants its consent.
    Idle,
    /// It has not answered yet.
    Asked,
    /// It has consented, until then.
    Held(Moment),
    /// It does not answer, and the addresses are kept nevertheless, until it is asked again then.
    Kept(Moment),
    /// Another one has its consent.
    Refused {
        /// Who.
        by: String,
    },
    /// It does not answer, and what it said before counts no more.
    Lost,
}

/// One arbiter, as one router or group of routers sees it.
#[derive(Clone, Debug)]
pub struct Arbiter {
    terms: Terms,
    wanted: bool,
    /// A question is under way.
    asking: bool,
    /// When the next question is due.
    due: Moment,
    /// Until when the consent is known to hold.
    until: Option<Moment>,
    /// What was told last: the end of the consent, known to hold or kept beyond that.
    told: Option<Moment>,
    is_kept: bool,
    /// Why the last question brought no answer.
    silence: Option<String>,
    holder: Option<String>,
}

impl Terms {
    /// Until when a consent counts that was asked for at this moment.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use vrrp::arbiter::{OnLoss, Terms};
    /// let terms = Terms { ttl: Duration::from_secs(5), on_loss: OnLoss::Yield };
    /// assert!(terms.until(Duration::ZERO) + Duration::from_secs(1) < terms.ttl);
    /// ```
    pub fn until(&self, asked: Moment) -> Moment {
        asked + self.counted()
    }

    /// How long one question may take: before the consent ends there is time for another two.
    pub fn patience(&self) -> Duration {
        self.counted() / 4
    }

    fn counted(&self) -> Duration {
        // Clocks of two hosts may differ in pace, by a thousandth where both are slewed hard.
        self.ttl.saturating_sub(self.ttl / 1000 + MARGIN)
    }

    /// From a question to the next one that prolongs what it got.
    fn renewed_after(&self) -> Duration {
        self.counted() / 3
    }
}

impl Arbiter {
    /// One that nobody has asked yet.
    pub fn new(terms: Terms) -> Arbiter {
        Arbiter {
            terms,
            wanted: false,
            asking: false,
            due: Moment::ZERO,
            until: None,
            told: None,
            is_kept: false,
            silence: None,
            holder: None,
        }
    }

    /// Goes on with a consent that another process of this host had, until this moment. It is asked at once
    /// for one of its own.
    pub fn resume(&mut self, until: Moment, now: Moment) {
        self.wanted = true;
        self.told = Some(until);
        self.ask_anew(now);
    }

    /// Takes nothing for granted any more of what was asked: another process may have had the consent
    /// meanwhile. What was told holds until it ends.
    pub fn ask_anew(&mut self, now: Moment) {
        self.asking = false;
        self.until = None;
        self.due = now;
    }

    /// When [`Event::Timer`] is due.
    pub fn deadline(&self) -> Option<Moment> {
        (self.wanted && !self.asking).then_some(self.due)
    }

    /// How it stands.
    pub fn standing(&self, now: Moment) -> Standing {
        match (self.told.filter(|told| *told > now), &self.holder) {
            _ if !self.wanted => Standing::Idle,
            (Some(until), _) if self.is_kept => Standing::Kept(until),
            (Some(until), _) => Standing::Held(until),
            _ if self.silence.is_some() => Standing::Lost,
            (None, Some(by)) => Standing::Refused { by: by.clone() },
            (None, None) => Standing::Asked,
        }
    }

    /// Why the last question brought no answer, if it brought none.
    pub fn silence(&self) -> Option<&str> {
        self.silence.as_deref()
    }

    /// Takes in what happened; returns what is to be done, in that order.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Ask if !self.wanted => {
                self.wanted = true;
                self.due = now;
                actions.push(Action::Note(Note::Asked));
            }
            Event::Ask => {
                // A router that asks again may have missed the answer.
                let told = self.told.filter(|told| *told > now);
                actions.extend(told.map(|until| Action::Tell(router::Event::Granted { until })));
            }
            Event::Release => {
                if std::mem::take(&mut self.wanted) && !self.asking {
                    actions.push(Action::Revoke);
                }
                self.forget();
            }
            Event::Timer => {}
            Event::Answered { asked, answer } => {
                self.asking = false;
                if self.wanted {
                    self.hear(answer, asked, now, &mut actions);
                } else {
                    // Whatever came of the question, nobody wants it now.
                    actions.push(Action::Revoke);
                }
            }
        }
        if self.wanted && !self.asking && self.due <= now {
            self.asking = true;
            let holds = self.until.is_some_and(|until| until > now);
            actions.push(if holds { Action::Renew } else { Action::Acquire });
        }
        actions
    }

    fn hear(&mut self, answer: Answer, asked: Moment, now: Moment, actions: &mut Vec<Action>) {
        if !matches!(answer, Answer::Silence(_)) && self.silence.take().is_some() {
            actions.push(Action::Note(Note::Found));
        }
        self.due = now + AGAIN;
        match answer {
            Answer::Yes => {
                let until = self.terms.until(asked);
                self.until = Some(until);
                self.due = asked + self.terms.renewed_after();
                self.holder = None;
                self.is_kept = false;
                self.grant(until, now, actions);
            }
            Answer::Held(by) => {
                if self.holder.as_ref() != Some(&by) {
                    actions.push(Action::Note(Note::Held(by.clone())));
                }
                self.forget();
                self.holder = Some(by);
                actions.push(Action::Tell(router::Event::Refused));
            }
            Answer::Gone => {
                // It may be somebody else's by now. One who keeps the addresses without a consent
                // asks for a new one first.
                self.until = None;
                self.due = now;
                if self.terms.on_loss == OnLoss::Yield {
                    self.forget();
                    actions.push(Action::Tell(router::Event::Refused));
                }
            }
            Answer::Silence(why) => {
                if self.silence.replace(why.clone()).is_none() {
                    actions.push(Action::Note(Note::Lost(why)));
                }
                self.keep(now, actions);
            }
        }
    }

    /// A master that is to outlive its arbiter goes on, from one question to the next.
    fn keep(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(told) = self.told.filter(|_| self.terms.on_loss == OnLoss::Keep) else { return };
        // What is known to hold is not stretched before it has to be.
        if told > now + self.terms.counted() / 2 {
            return;
        }
        if !std::mem::replace(&mut self.is_kept, true) {
            actions.push(Action::Note(Note::Kept));
        }
        self.grant(now + self.terms.counted(), now, actions);
    }

    fn grant(&mut self, until: Moment, now: Moment, actions: &mut Vec<Action>) {
        if until > now {
            self.told = Some(until);
            actions.push(Action::Tell(router::Event::Granted { until }));
        }
    }

    fn forget(&mut self) {
        self.until = None;
        self.told = None;
        self.is_kept = false;
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Asked => f.write_str("asks for the arbiter's consent"),
            Note::Lost(why) => write!(f, "the arbiter cannot be asked: {why}"),
            Note::Kept => f.write_str(
                "the arbiter cannot be asked, and the addresses are kept: another one may have them too",
            ),
            Note::Found => f.write_str("the arbiter answers again"),
            Note::Held(by) => write!(f, "{by} has the arbiter's consent"),
        }
    }
}

/// How much earlier a holder lets go than the arbiter lets somebody else in: a second for the kernel,
/// which takes an address away that much late, and a quarter for everything else.
pub const MARGIN: Duration = Duration::from_millis(1250);

/// From a question that brought nothing to the next.
const AGAIN: Duration = Duration::from_millis(250);
