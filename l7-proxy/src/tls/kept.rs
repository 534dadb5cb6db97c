//! What was made of certificates that variables name, kept for as long as the directive says
//! (`ssl_certificate_cache`, `proxy_ssl_certificate_cache`).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::model::CertificateCache;

/// Values by the texts that they were asked for by.
pub(super) struct Kept<V> {
    terms: CertificateCache,
    /// Locked for arithmetic and a look-up only.
    entries: Mutex<HashMap<Box<[u8]>, Entry<V>>>,
}

struct Entry<V> {
    value: V,
    made: Instant,
    used: Instant,
}

impl<V: Clone> Kept<V> {
    pub(super) fn new(terms: CertificateCache) -> Kept<V> {
        Kept { terms, entries: Mutex::default() }
    }

    /// Returns the value, if it is neither too old nor was it unused for too long.
    pub(super) fn get(&self, key: &[u8], now: Instant) -> Option<V> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get_mut(key)?;
        let is_valid = now.saturating_duration_since(entry.made) < self.terms.valid
            && now.saturating_duration_since(entry.used) < self.terms.inactive;
        if !is_valid {
            entries.remove(key);
            return None;
        }
        entry.used = now;
        Some(entry.value.clone())
    }

    /// Keeps a value; the one that was unused for longest makes room for it.
    pub(super) fn put(&self, key: &[u8], value: V, now: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.terms.most && !entries.contains_key(key) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                entries.remove(&oldest);
            }
        }
        entries.insert(key.into(), Entry { value, made: now, used: now });
    }
}

impl<V> fmt::Debug for Kept<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("terms", &self.terms).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn kept() -> (Kept<u8>, Instant) {
        let (inactive, valid) = (Duration::from_secs(10), Duration::from_secs(60));
        (Kept::new(CertificateCache { most: 2, inactive, valid }), Instant::now())
    }

    #[test]
    fn value_is_gone_when_it_is_too_old_or_was_not_asked_for() {
        let (kept, start) = kept();
        let at = |seconds| start + Duration::from_secs(seconds);
        kept.put(b"a", 1, start);
        assert_eq!(kept.get(b"a", at(9)), Some(1));
        assert_eq!(kept.get(b"a", at(18)), Some(1));
        assert_eq!(kept.get(b"a", at(28)), None);
        kept.put(b"a", 2, start);
        for second in (0..60).step_by(5) {
            assert_eq!(kept.get(b"a", at(second)), Some(2));
        }
        assert_eq!(kept.get(b"a", at(60)), None);
    }

    #[test]
    fn full_cache_forgets_what_was_unused_for_longest() {
        let (kept, start) = kept();
        kept.put(b"a", 1, start);
        kept.put(b"b", 2, start + Duration::from_secs(1));
        assert_eq!(kept.get(b"a", start + Duration::from_secs(2)), Some(1));
        kept.put(b"c", 3, start + Duration::from_secs(3));
        let now = start + Duration::from_secs(4);
        assert_eq!((kept.get(b"a", now), kept.get(b"b", now), kept.get(b"c", now)), (Some(1), None, Some(3)));
    }
}
