//! Whether a server can be used, and why not.
//!
//! Two sources are kept apart, since they answer different questions. *Probes* (active checks)
//! take a server down after `fall` failures in a row and bring it back after `rise` successes.
//! *Events* of real traffic (passive) eject it for a while; afterwards it is on probation, where
//! one more failure ejects it again. nginx counts the same way (`max_fails`, `fail_timeout`).
//!
//! The machine is pure: an outcome and a moment go in, a [`Transition`] comes out.

mod record;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

pub use self::record::{Finding, HealthRecord};
use crate::time::Time;

/// What makes the servers of a service unavailable and available again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct HealthPolicy {
    /// Probes in a row that must pass before a server that is down is up; at least 1.
    pub rise: u32,
    /// Probes in a row that must fail before a server is down; at least 1.
    pub fall: u32,
    /// Ejection after failures seen in traffic, unless a server has its own rule.
    pub passive: Option<Passive>,
    /// What happens when failures in traffic have ejected every server.
    pub all_ejected: AllEjected,
    /// At most this many of a hundred servers with a weight are ejected at once, and the last one
    /// that can be used never is: when most fail, the reason is seldom theirs. 100 lifts both
    /// limits, and so does a rule of a server's own, which is followed to the letter, as nginx's.
    pub ejected_percent_max: u8,
    /// Each ejection in a row lasts twice as long as the one before, up to this; a server that
    /// passes probation starts anew. Rules of a server's own stay at their own time.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub ejection_max: Duration,
    /// When fewer than this many of a hundred servers with a weight can be used, health is ignored
    /// and all of them are chosen from: the few would only go down under the load. Administration
    /// is never ignored. 0 never panics.
    pub panic_percent: u8,
    /// How long a server that comes back warms up. Its share of the choices, and of the connections
    /// that the busiest other server has for its weight, grows from a tenth to the whole. 0 gives it
    /// all at once.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub slow_start: Duration,
    /// Which servers warm up.
    pub slow_start_for: SlowStart,
}

/// Which servers warm up, where the policy has a time for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum SlowStart {
    /// Those that were down or ejected.
    #[default]
    Recovered,
    /// Those too that are added to a service that serves already.
    RecoveredAndAdded,
}

/// Whether failures may eject a server now, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ejection {
    /// Too many are out already.
    Forbidden,
    /// Doubled from time to time up to this.
    UpTo(Duration),
}

/// When failures in traffic eject a server, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Passive {
    /// Failures within `window` that eject; 0 never ejects.
    pub fails: u32,
    /// A pause between failures longer than this starts the count anew.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub window: Duration,
    /// How long the server is left alone.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::seconds"))]
    pub eject: Duration,
}

/// What happens when failures in traffic have ejected every server of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum AllEjected {
    /// All of them are tried: a wrong suspicion costs less than a certain refusal.
    #[default]
    TryAll,
    /// Clients are refused until the first ejection ends.
    Refuse,
}

/// What became of a connection or request, as [`Director::report`](crate::Director::report) takes
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The server did its part.
    Succeeded,
    /// The server did its part, and took so long: what `least_time` and `ewma` go by.
    Responded {
        /// From the request, or the attempt to connect, to the first byte of the answer.
        latency: Duration,
    },
    /// No connection to the server came about.
    ConnectFailed(Cause),
    /// The server failed after it had been connected to.
    Failed(Cause),
}

/// Outcome of an active check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The server answered as it should.
    Passed,
    /// It did not.
    Failed(Cause),
    /// It did not, and weight 0 is what keeps it out for that, as keepalived's `inhibit_on_failure` has it:
    /// whoever tells this gives it that weight, and its persistent clients stay.
    Inhibited(Cause),
}

/// What went wrong, in the operator's words: `connect refused`, `HTTP 503`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause(Cow<'static, str>);

/// A server's step from one condition to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What the server is now.
    pub condition: Condition,
}

/// Whether health allows a server to be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// It can be chosen.
    Up,
    /// Probes failed.
    Down {
        /// When it went down.
        since: Time,
        /// Failed probes in a row at that moment; 1 if one has seen something else since.
        failures: u32,
        /// What the last of them saw, or the one that saw something else.
        cause: Cause,
    },
    /// Probes failed, and weight 0 keeps it out for that.
    Inhibited {
        /// When it went down.
        since: Time,
        /// What the last of the probes saw.
        cause: Cause,
    },
    /// Traffic failed; it is left alone for a while.
    Ejected {
        /// When it was ejected.
        since: Time,
        /// When it is tried again.
        until: Time,
        /// Failures counted.
        failures: u32,
        /// What the last of them saw.
        cause: Cause,
    },
}

/// What health remembers of one server.
#[derive(Debug, Default)]
pub(crate) struct Health {
    down: Option<Verdict>,
    /// Weight 0 keeps it out while it is down.
    inhibited: bool,
    /// Probes in a row whose outcome contradicts the present state.
    against: u32,
    ejected: Option<(Verdict, Time)>,
    /// Ejections in a row: none of them was followed by a probation that was passed.
    ejections: u32,
    /// Failures in traffic within the window; kept after an ejection as the probation.
    failures: u32,
    last_failure: Time,
}

#[derive(Clone, Debug)]
struct Verdict {
    since: Time,
    failures: u32,
    cause: Cause,
}

impl Health {
    /// Takes in a probe; says if the server went up or down by it.
    pub(crate) fn probe(&mut self, probe: Probe, policy: &HealthPolicy, now: Time) -> Option<Transition> {
        let (found, inhibited) = match probe {
            Probe::Passed => (None, false),
            Probe::Failed(cause) => (Some(cause), false),
            Probe::Inhibited(cause) => (Some(cause), true),
        };
        match (found, self.down.is_some()) {
            (None, true) => {
                self.against += 1;
                if self.against < policy.rise.max(1) {
                    return None;
                }
                self.against = 0;
                self.down = None;
                self.inhibited = false;
                // A server that answers probes again owes nothing to failures from before.
                self.failures = 0;
                self.ejections = 0;
                self.ejected = None;
            }
            (Some(cause), false) => {
                self.against += 1;
                if self.against < policy.fall.max(1) {
                    return None;
                }
                self.down = Some(Verdict { since: now, failures: self.against, cause });
                self.inhibited = inhibited;
                self.against = 0;
            }
            (None, false) => {
                self.against = 0;
                return None;
            }
            (Some(cause), true) => {
                self.against = 0;
                // What is to be repaired is what is wrong now, not what was when it went down.
                if let Some(verdict) = self.down.as_mut().filter(|verdict| verdict.cause != cause) {
                    *verdict = Verdict { since: verdict.since, failures: 1, cause };
                }
                if self.inhibited == inhibited {
                    return None;
                }
                self.inhibited = inhibited;
            }
        }
        Some(Transition { condition: self.condition() })
    }

    /// Takes in a failure in traffic; says if the server was ejected by it.
    pub(crate) fn failed(
        &mut self,
        cause: Cause,
        passive: &Passive,
        ejection: Ejection,
        now: Time,
    ) -> Option<Transition> {
        if passive.fails == 0 {
            return None;
        }
        // A count that has ejected stands until a success: the server is on probation.
        if self.failures < passive.fails && now.since(self.last_failure) > passive.window {
            self.failures = 0;
        }
        self.last_failure = now;
        self.failures = self.failures.saturating_add(1);
        if self.failures < passive.fails {
            return None;
        }
        let since = self.ejected.as_ref().map(|(verdict, _)| verdict.since);
        let verdict = Verdict { since: since.unwrap_or(now), failures: self.failures, cause };
        let longest = match ejection {
            Ejection::UpTo(longest) => longest.max(passive.eject),
            Ejection::Forbidden if since.is_none() => return None,
            Ejection::Forbidden => passive.eject,
        };
        if since.is_none() {
            self.ejections = self.ejections.saturating_add(1);
        }
        let doubled = 1u32.checked_shl(self.ejections.saturating_sub(1)).unwrap_or(u32::MAX);
        self.ejected = Some((verdict, now + passive.eject.saturating_mul(doubled).min(longest)));
        since.is_none().then(|| Transition { condition: self.condition() })
    }

    /// Takes in a success in traffic. It clears failures only once the window has passed, so that
    /// a server which fails every other request is still found out.
    pub(crate) fn succeeded(&mut self, passive: &Passive, now: Time) {
        if now > self.pardon(passive) {
            self.failures = 0;
            self.ejections = 0;
        }
    }

    /// The moment after which a success clears failures; never if there are none to clear.
    pub(crate) fn pardon(&self, passive: &Passive) -> Time {
        if self.failures == 0 || self.ejected.is_some() {
            return Time::NEVER;
        }
        self.last_failure + passive.window
    }

    /// Ends an ejection whose time is over.
    pub(crate) fn lapse(&mut self, now: Time) -> Option<Transition> {
        let (_, until) = self.ejected.as_ref()?;
        if *until > now {
            return None;
        }
        self.ejected = None;
        Some(Transition { condition: self.condition() })
    }

    /// Whether probes alone keep it out.
    pub(crate) fn is_down(&self) -> bool {
        self.down.is_some() && !self.inhibited
    }

    /// Whether it is down and weight 0 keeps it out for that.
    pub(crate) fn is_inhibited(&self) -> bool {
        self.down.is_some() && self.inhibited
    }

    /// Whether a probe says something else than the last that counted.
    pub(crate) fn is_contradicted_by(&self, probe: &Probe) -> bool {
        match probe {
            Probe::Passed => self.down.is_some(),
            Probe::Failed(_) => !self.is_down(),
            Probe::Inhibited(_) => !self.is_inhibited(),
        }
    }

    pub(crate) fn ejected_until(&self) -> Option<Time> {
        self.ejected.as_ref().map(|(_, until)| *until)
    }

    pub(crate) fn condition(&self) -> Condition {
        if let Some(Verdict { since, failures, cause }) = self.down.clone() {
            return match self.inhibited {
                true => Condition::Inhibited { since, cause },
                false => Condition::Down { since, failures, cause },
            };
        }
        match self.ejected.clone() {
            Some((Verdict { since, failures, cause }, until)) => {
                Condition::Ejected { since, until, failures, cause }
            }
            None => Condition::Up,
        }
    }
}

impl Default for HealthPolicy {
    /// Up and down at the first contradicting probe; three failures in traffic within 10 s eject
    /// for 10 s, then 20 s and so on to 5 min, but never more than half of the servers; all are
    /// tried when all are ejected; no panic; no slow start.
    fn default() -> HealthPolicy {
        HealthPolicy {
            rise: 1,
            fall: 1,
            passive: Some(Passive::default()),
            all_ejected: AllEjected::TryAll,
            ejected_percent_max: 50,
            ejection_max: Duration::from_secs(300),
            panic_percent: 0,
            slow_start: Duration::ZERO,
            slow_start_for: SlowStart::Recovered,
        }
    }
}

impl Default for Passive {
    fn default() -> Passive {
        Passive { fails: 3, window: Duration::from_secs(10), eject: Duration::from_secs(10) }
    }
}

impl From<&'static str> for Cause {
    fn from(words: &'static str) -> Cause {
        Cause(Cow::Borrowed(words))
    }
}

impl From<String> for Cause {
    fn from(words: String) -> Cause {
        Cause(Cow::Owned(words))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As in `down since 2038-01-19 03:14:07Z: 3 × connect refused`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Up => return f.write_str("up"),
            Condition::Down { since, .. } | Condition::Inhibited { since, .. } => {
                write!(f, "down since {since}")?;
            }
            Condition::Ejected { since, until, .. } => write!(f, "ejected from {since} until {until}")?,
        }
        self.reason().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

impl Condition {
    /// What keeps the server out and how often it was seen, as in `3 × connect refused`; nothing if it is up.
    pub fn reason(&self) -> Option<impl fmt::Display> {
        let (failures, cause) = match self {
            Condition::Up => return None,
            Condition::Down { failures, cause, .. } | Condition::Ejected { failures, cause, .. } => {
                (*failures, cause)
            }
            Condition::Inhibited { cause, .. } => (1, cause),
        };
        Some(fmt::from_fn(move |f| match failures {
            1 => write!(f, "{cause}"),
            _ => write!(f, "{failures} × {cause}"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = "connect refused";
    const ALONE: Ejection = Ejection::UpTo(Duration::ZERO);

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    fn failed() -> Probe {
        Probe::Failed(REFUSED.into())
    }

    #[test]
    fn one_failed_probe_of_three_does_not_take_a_server_down() {
        let policy = HealthPolicy { fall: 3, rise: 2, ..HealthPolicy::default() };
        let mut health = Health::default();
        assert_eq!(health.probe(failed(), &policy, at(1)), None);
        assert_eq!(health.probe(failed(), &policy, at(2)), None);
        assert_eq!(health.probe(Probe::Passed, &policy, at(3)), None);
        assert_eq!(health.probe(failed(), &policy, at(4)), None);
        assert_eq!(health.probe(failed(), &policy, at(5)), None);
        let down = health.probe(failed(), &policy, at(43_384)).expect("third failure in a row");
        assert_eq!(down.condition.to_string(), "down since 1970-01-01 12:03:04Z: 3 × connect refused");
        assert_eq!(health.probe(Probe::Passed, &policy, at(43_385)), None);
        let up = health.probe(Probe::Passed, &policy, at(43_386)).expect("second success in a row");
        assert_eq!(up.condition, Condition::Up);
    }

    #[test]
    fn server_that_is_down_is_so_for_what_the_last_probe_saw_and_since_the_first() {
        let policy = HealthPolicy { fall: 2, ..HealthPolicy::default() };
        let mut health = Health::default();
        for (moment, cause, words) in [
            (1, REFUSED, "up"),
            (2, REFUSED, "down since 1970-01-01 00:00:02Z: 2 × connect refused"),
            (3, REFUSED, "down since 1970-01-01 00:00:02Z: 2 × connect refused"),
            (4, "HTTP 503", "down since 1970-01-01 00:00:02Z: HTTP 503"),
        ] {
            health.probe(Probe::Failed(cause.into()), &policy, at(moment));
            assert_eq!(health.condition().to_string(), words, "at {moment}");
        }
    }

    #[test]
    fn server_that_fails_on_probation_is_ejected_at_once() {
        let passive = Passive { fails: 2, ..Passive::default() };
        let mut health = Health::default();
        assert_eq!(health.failed(REFUSED.into(), &passive, ALONE, at(1)), None);
        assert!(health.failed(REFUSED.into(), &passive, ALONE, at(2)).is_some());
        assert_eq!(health.lapse(at(11)), None);
        assert!(health.lapse(at(12)).is_some());
        assert!(health.failed(REFUSED.into(), &passive, ALONE, at(40)).is_some());
    }

    #[test]
    fn failure_of_an_ejected_server_puts_off_the_end_and_not_the_beginning() {
        let passive = Passive { fails: 1, ..Passive::default() };
        let mut health = Health::default();
        assert!(health.failed(REFUSED.into(), &passive, ALONE, at(1)).is_some());
        assert_eq!(health.failed(REFUSED.into(), &passive, ALONE, at(5)), None);
        let words = "ejected from 1970-01-01 00:00:01Z until 1970-01-01 00:00:15Z: 2 × connect refused";
        assert_eq!(health.condition().to_string(), words);
    }

    #[test]
    fn server_that_passes_probation_starts_with_a_clean_sheet() {
        let passive = Passive { fails: 2, ..Passive::default() };
        let mut health = Health::default();
        health.failed(REFUSED.into(), &passive, ALONE, at(1));
        health.failed(REFUSED.into(), &passive, ALONE, at(2));
        health.lapse(at(13));
        health.succeeded(&passive, at(13));
        assert_eq!(health.failed(REFUSED.into(), &passive, ALONE, at(14)), None);
    }

    #[test]
    fn late_success_of_an_ejected_server_does_not_spare_it_the_probation() {
        let passive = Passive { fails: 2, eject: Duration::from_secs(60), ..Passive::default() };
        let mut health = Health::default();
        health.failed(REFUSED.into(), &passive, ALONE, at(1));
        health.failed(REFUSED.into(), &passive, ALONE, at(1));
        health.succeeded(&passive, at(30));
        health.lapse(at(61));
        assert!(health.failed(REFUSED.into(), &passive, ALONE, at(62)).is_some());
    }

    #[test]
    fn success_between_two_failures_hides_neither() {
        let passive = Passive { fails: 2, ..Passive::default() };
        let mut health = Health::default();
        health.failed(REFUSED.into(), &passive, ALONE, at(1));
        health.succeeded(&passive, at(2));
        assert!(health.failed(REFUSED.into(), &passive, ALONE, at(3)).is_some());
    }

    #[test]
    fn ejections_in_a_row_double_until_probation_is_passed() {
        let passive = Passive { fails: 1, ..Passive::default() };
        let ejection = Ejection::UpTo(Duration::from_secs(60));
        let mut health = Health::default();
        let mut now = at(0);
        for seconds in [10, 20, 40, 60, 60] {
            health.failed(REFUSED.into(), &passive, ejection, now).expect("an ejection");
            assert_eq!(health.ejected_until(), Some(now + Duration::from_secs(seconds)));
            now = now + Duration::from_secs(seconds);
            health.lapse(now).expect("an end");
        }
        health.succeeded(&passive, now + Duration::from_secs(11));
        health.failed(REFUSED.into(), &passive, ejection, now).expect("an ejection");
        assert_eq!(health.ejected_until(), Some(now + Duration::from_secs(10)));
    }

    #[test]
    fn server_that_may_not_be_ejected_is_at_the_first_failure_after_it_may() {
        let passive = Passive { fails: 2, ..Passive::default() };
        let mut health = Health::default();
        for second in 1..5 {
            assert_eq!(health.failed(REFUSED.into(), &passive, Ejection::Forbidden, at(second)), None);
        }
        assert!(health.failed(REFUSED.into(), &passive, ALONE, at(5)).is_some());
    }
}
