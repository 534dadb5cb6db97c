//! A counter that can be set to zero without disturbing those who add to it.

use crate::sync::atomic::{AtomicU64, Ordering};

/// What was counted since it was zeroed last.
#[derive(Default)]
pub(crate) struct Counter {
    value: AtomicU64,
    zero: AtomicU64,
}

impl Counter {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.value.fetch_add(count, Ordering::Relaxed);
    }

    /// The zero is read first: a later one would lie above an earlier value.
    pub(crate) fn get(&self) -> u64 {
        let zero = self.zero.load(Ordering::Acquire);
        self.value.load(Ordering::Relaxed).saturating_sub(zero)
    }

    /// What was ever counted.
    #[inline]
    pub(crate) fn ever(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Sets the counter to zero; returns what it had counted. One at a time.
    pub(crate) fn reset(&self) -> u64 {
        let value = self.value.load(Ordering::Relaxed);
        value.saturating_sub(self.zero.swap(value, Ordering::AcqRel))
    }
}
