//! What a router does about an arbiter that has a say in who is master: it asks, waits for the word, and goes
//! when that has run out.

use super::{Action, Consent, Event, Moment, Reason, Router, State};

impl Router {
    pub(super) fn is_arbitrated(&self) -> bool {
        self.config.consent == Consent::Needed
    }

    /// Becomes master if nobody else has a say in that, and asks otherwise.
    pub(super) fn may_take(&mut self, reason: Reason, now: Moment, actions: &mut Vec<Action>) {
        if self.is_arbitrated() {
            self.ask(reason, now, actions);
        } else {
            self.take(reason, now, actions);
        }
    }

    /// Goes on as master; where that needs a consent, only with one that has not ended meanwhile.
    pub(super) fn resume(&mut self, consent: Option<Moment>, now: Moment, actions: &mut Vec<Action>) {
        if self.is_arbitrated() {
            let Some(until) = consent.filter(|until| *until > now) else { return self.start(now, actions) };
            self.granted_until = until;
        }
        self.take(Reason::Resumed, now, actions);
    }

    /// Asks the arbiter, and again after an interval if no answer has come until then.
    pub(super) fn ask(&mut self, reason: Reason, now: Moment, actions: &mut Vec<Action>) {
        self.asked = Some(reason);
        self.timer = Some(now + self.config.interval);
        actions.push(Action::Ask);
    }

    pub(super) fn stop_asking(&mut self, actions: &mut Vec<Action>) {
        if self.asked.take().is_some() {
            actions.push(Action::Release);
        }
    }

    pub(super) fn grant(&mut self, until: Moment, now: Moment, actions: &mut Vec<Action>) {
        match (self.state, self.asked) {
            _ if until <= now => {}
            (State::Master, _) if self.is_arbitrated() => {
                if until > self.granted_until {
                    self.granted_until = until;
                    actions.push(Action::ProlongAddresses);
                }
            }
            (State::Backup, Some(reason)) => {
                self.granted_until = until;
                self.take(reason, now, actions);
            }
            // An answer that crossed with the end of the question.
            _ => actions.push(Action::Release),
        }
    }

    pub(super) fn refuse(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.consent().is_some() {
            self.give_up(Reason::Refused, now, actions);
        } else if self.asked.is_some() && self.outranking_since.is_some() {
            self.claim(now, actions);
        }
    }

    /// The one who has the arbiter's consent is a master of lower priority, who does not know that
    /// it is to be preempted: it gives way when it hears of this router's priority.
    ///
    /// For some intervals only, and then not for a while: a router that gets others to give way and
    /// then cannot become master itself does that seldom.
    fn claim(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let since = *self.claimed.get_or_insert(now);
        if now < since + self.config.interval * CLAIMED_INTERVALS {
            actions.push(self.send(self.priority()));
        } else if now >= since + self.master_down() * CLAIMED_AGAIN {
            self.claimed = None;
        }
    }

    /// A master whose time is up gives its addresses away before anything else, whatever it was
    /// that woke it.
    pub(super) fn lapse(&mut self, event: &Event, now: Moment, actions: &mut Vec<Action>) {
        let prolongs = matches!(event, Event::Granted { until } if *until > now);
        if !prolongs && self.consent().is_some_and(|until| until <= now) {
            self.give_up(Reason::Lapsed, now, actions);
        }
    }

    /// Gives the addresses away, and only then says so.
    pub(super) fn give_up(&mut self, reason: Reason, now: Moment, actions: &mut Vec<Action>) {
        let farewell = self.send(0);
        self.listen(reason, now, actions);
        actions.push(farewell);
    }
}

/// For how many intervals a backup claims the place of a master of lower priority.
const CLAIMED_INTERVALS: u32 = 3;

/// After how many times of a master's silence it may claim it again.
const CLAIMED_AGAIN: u32 = 8;
