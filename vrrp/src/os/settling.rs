//! When it counts that an interface went down or came up: at once, or after it has stayed so for a while
//! (`interface_up_down_delays`). One that comes back before that has not been away.

use std::collections::BTreeMap;

use super::settings::LinkDelay;
use crate::router::Moment;

/// What the kernel says of interfaces, by their index, and what counts of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Settling {
    delays: Vec<LinkDelay>,
    links: BTreeMap<u32, Standing>,
}

/// How an interface stands.
#[derive(Clone, Copy, Debug)]
struct Standing {
    counts_as_up: bool,
    /// It has been up: the first time counts at once.
    was_up: bool,
    /// When the other state counts.
    turns: Option<Moment>,
}

impl Settling {
    /// Has these delays hold from the next change on.
    pub(super) fn wait_for(&mut self, delays: &[LinkDelay]) {
        self.delays = delays.to_vec();
    }

    /// Takes in whether an interface is up; returns what counts.
    pub(super) fn judge(&mut self, link: u32, name: &str, up: bool, now: Moment) -> bool {
        let first = Standing { counts_as_up: up, was_up: up, turns: None };
        let standing = self.links.entry(link).or_insert(first);
        if up == standing.counts_as_up {
            standing.turns = None;
            return up;
        }
        let delay = self.delays.iter().find(|delay| delay.interface == name);
        let wait = delay.map(|delay| if up { delay.up } else { delay.down }).unwrap_or_default();
        let due = *standing.turns.get_or_insert(now + wait);
        if due <= now || !standing.was_up {
            *standing = Standing { counts_as_up: up, was_up: standing.was_up || up, turns: None };
        }
        standing.counts_as_up
    }

    /// Forgets the interfaces that are gone: they go at once.
    pub(super) fn retain(&mut self, is_there: impl Fn(u32) -> bool) {
        self.links.retain(|link, _| is_there(*link));
    }

    /// When a change counts that did not yet.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.links.values().filter_map(|standing| standing.turns).min()
    }

    /// The interfaces whose change counts by now, and as what.
    pub(super) fn settle(&mut self, now: Moment) -> Vec<(u32, bool)> {
        let due = |standing: &Standing| standing.turns.is_some_and(|turns| turns <= now);
        let turn = |(link, standing): (&u32, &mut Standing)| {
            let up = !standing.counts_as_up;
            *standing = Standing { counts_as_up: up, was_up: true, turns: None };
            (*link, up)
        };
        self.links.iter_mut().filter(|(_, standing)| due(standing)).map(turn).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settling() -> Settling {
        let mut settling = Settling::default();
        settling.wait_for(&[LinkDelay { interface: "eth0".to_owned(), down: SECOND * 2, up: SECOND }]);
        settling
    }

    #[test]
    fn what_comes_back_in_time_was_never_away() {
        let mut settling = settling();
        assert!(settling.judge(1, "eth0", true, SECOND));
        assert!(settling.judge(1, "eth0", false, SECOND * 2));
        // That it is said again does not begin the wait anew.
        assert!(settling.judge(1, "eth0", false, SECOND * 3));
        assert_eq!(settling.deadline(), Some(SECOND * 4));
        assert!(settling.judge(1, "eth0", true, SECOND * 3));
        assert_eq!((settling.deadline(), settling.settle(SECOND * 9)), (None, Vec::new()));
    }

    #[test]
    fn what_stays_away_is_away_after_its_delay_and_back_after_the_other() {
        let mut settling = settling();
        settling.judge(1, "eth0", true, SECOND);
        settling.judge(1, "eth0", false, SECOND);
        assert_eq!(settling.settle(SECOND * 2), []);
        assert_eq!(settling.settle(SECOND * 3), [(1, false)]);
        assert!(!settling.judge(1, "eth0", true, SECOND * 4));
        assert_eq!(settling.settle(SECOND * 5), [(1, true)]);
    }

    #[test]
    fn others_and_those_that_have_never_been_up_turn_at_once() {
        let mut settling = settling();
        settling.judge(2, "eth1", true, SECOND);
        assert!(!settling.judge(2, "eth1", false, SECOND));
        settling.judge(1, "eth0", false, SECOND);
        assert!(settling.judge(1, "eth0", true, SECOND));
        settling.judge(1, "eth0", false, SECOND);
        settling.retain(|link| link != 1);
        assert!(!settling.judge(1, "eth0", false, SECOND));
    }
}
