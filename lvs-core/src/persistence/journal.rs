//! Which templates have changed since a standby was told.
//!
//! A shard notes the networks of changed templates under the lock that the change holds anyway, and
//! nothing at all while nobody follows. When more has changed than a shard notes, all of it counts as
//! changed: so the notes are bounded, and telling a new standby everything is the same work.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Entries, Network, SHARDS, Saved, Template, Templates};
use crate::server::Live;
use crate::time::Time;

/// The notes of one shard.
#[derive(Default)]
pub(super) struct Journal {
    changed: Vec<Network>,
    /// Everything counts as changed; then nothing is noted.
    everything: bool,
}

impl Journal {
    pub(super) fn note(&mut self, network: Network) {
        if self.everything {
            return;
        }
        if self.changed.len() == NOTED_MAX {
            self.note_everything();
        } else {
            self.changed.push(network);
        }
    }

    fn note_everything(&mut self) {
        (self.changed, self.everything) = (Vec::new(), true);
    }

    fn is_empty(&self) -> bool {
        self.changed.is_empty() && !self.everything
    }
}

impl Templates {
    pub(super) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    /// Takes notes from now on; who follows is told everything first.
    pub(crate) fn follow(&self) {
        if !self.followed.swap(true, Ordering::Relaxed) {
            self.tell_everything();
        }
    }

    /// Takes no more notes.
    pub(crate) fn unfollow(&self) {
        if self.followed.swap(false, Ordering::Relaxed) {
            for shard in self.shards.get().into_iter().flatten() {
                shard.lock().journal = Journal::default();
            }
        }
    }

    /// Everything counts as changed.
    pub(crate) fn tell_everything(&self) {
        for shard in self.shards.get().into_iter().flatten() {
            shard.lock().journal.note_everything();
        }
    }

    /// Calls `visit` with what has changed and holds, part by part, until it has been called about
    /// `enough` times. Says whether there is more.
    pub(crate) fn take_changes(&self, now: Time, enough: usize, mut visit: impl FnMut(Saved, &Live)) -> bool {
        let Some(shards) = self.shards.get() else { return false };
        let mut visited = 0;
        for _ in 0..SHARDS {
            if visited >= enough {
                return true;
            }
            let place = self.told.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let mut entries = shards[place].lock();
            if entries.journal.is_empty() {
                continue;
            }
            let Entries { table, journal, sessions } = &mut *entries;
            let Journal { mut changed, everything } = std::mem::take(journal);
            let mut tell = |network, template: &Template| {
                if template.holds(now) {
                    visit(template.saved(sessions.whose(network), now), &template.live);
                    visited += 1;
                }
            };
            if everything {
                table.iter().for_each(|(network, template)| tell(network, template));
                continue;
            }
            changed.sort_unstable();
            changed.dedup();
            for network in changed {
                table.get(network).into_iter().for_each(|template| tell(network, template));
            }
        }
        false
    }
}

/// Whether a template whose end moves is worth telling of: a few times while it holds, not with each
/// connection. So a standby lets a client go at most a quarter of the timeout early.
pub(super) fn is_news(before: Time, after: Time, timeout: Duration) -> bool {
    let quarter = u64::try_from(timeout.as_nanos() / 4).unwrap_or(u64::MAX).max(1);
    before.as_nanos() / quarter != after.as_nanos() / quarter
}

/// Changes that a shard notes one by one: some kilobytes.
const NOTED_MAX: usize = 512;
