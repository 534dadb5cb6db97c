//! Sessions that go on: kept here, or sealed and given to the client as tickets.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};

use super::TlsError;

/// Sessions that are kept here; one that is too old is as good as gone.
#[derive(Debug)]
pub(super) struct Cache {
    kept: Arc<ServerSessionMemoryCache>,
    timeout: Duration,
}

impl Cache {
    /// Room for this many sessions.
    pub(super) fn new(room: usize, timeout: Duration) -> Arc<Self> {
        Arc::new(Self { kept: ServerSessionMemoryCache::new(room), timeout })
    }

    fn fresh(&self, stamped: Vec<u8>) -> Option<Vec<u8>> {
        let (stamp, session) = stamped.split_at_checked(STAMP_LEN)?;
        is_fresh(stamp, self.timeout).then(|| session.to_vec())
    }
}

impl StoresServerSessions for Cache {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.kept.put(key, [&stamp()[..], &value].concat())
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.fresh(self.kept.get(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.fresh(self.kept.take(key)?)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Seals sessions with AES-256-GCM.
pub(super) struct Tickets {
    /// New tickets are sealed with the first; those sealed with any are opened.
    keys: Vec<LessSafeKey>,
    random: SystemRandom,
    timeout: Duration,
}

impl Tickets {
    /// Keys made from the secrets in these files; one made up if there is none.
    pub(super) fn new(files: &[impl AsRef<Path>], timeout: Duration) -> Result<Self, TlsError> {
        let random = SystemRandom::new();
        let mut keys = Vec::with_capacity(files.len().max(1));
        for file in files {
            let path = file.as_ref();
            let fault = |reason: &dyn fmt::Display| TlsError::file("session ticket key", path, reason);
            let secret = std::fs::read(path).map_err(|error| fault(&error))?;
            if !matches!(secret.len(), 48 | 80) {
                return Err(fault(&"it must be 48 or 80 bytes"));
            }
            keys.push(key(digest(&SHA256, &secret).as_ref())?);
        }
        if keys.is_empty() {
            let mut secret = [0; 32];
            random.fill(&mut secret).map_err(TlsError::setup)?;
            keys.push(key(&secret)?);
        }
        Ok(Self { keys, random, timeout })
    }
}

fn key(secret: &[u8]) -> Result<LessSafeKey, TlsError> {
    UnboundKey::new(&AES_256_GCM, secret).map(LessSafeKey::new).map_err(TlsError::setup)
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.timeout.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = [&stamp()[..], plain].concat();
        let key = self.keys.first()?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.split_at_checked(NONCE_LEN)?;
        self.keys.iter().find_map(|key| {
            let mut opened = sealed.to_vec();
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let plain = key.open_in_place(nonce, Aad::empty(), &mut opened).ok()?;
            let (stamp, session) = plain.split_at_checked(STAMP_LEN)?;
            is_fresh(stamp, self.timeout).then(|| session.to_vec())
        })
    }
}

/// Nobody's session goes on.
#[derive(Debug)]
pub(super) struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

const STAMP_LEN: usize = 8;

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The present time, to be put in front of a session.
fn stamp() -> [u8; STAMP_LEN] {
    now().to_be_bytes()
}

fn is_fresh(stamp: &[u8], timeout: Duration) -> bool {
    let Ok(stamp) = stamp.try_into().map(u64::from_be_bytes) else { return false };
    u128::from(now().saturating_sub(stamp)) <= timeout.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_FILES: &[&Path] = &[];

    #[test]
    fn ticket_is_opened_by_whoever_has_its_key_and_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        std::fs::write(&one, [1; 48]).unwrap();
        std::fs::write(&other, [2; 80]).unwrap();
        let minute = Duration::from_secs(60);
        let first = Tickets::new(&[&one], minute).unwrap();
        let ticket = first.encrypt(b"session").unwrap();
        let rolled = Tickets::new(&[&other, &one], minute).unwrap();
        assert_eq!(rolled.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(Tickets::new(&[&other], minute).unwrap().decrypt(&ticket), None);
        assert_eq!(Tickets::new(NO_FILES, minute).unwrap().decrypt(&ticket), None);
    }

    #[test]
    fn changed_ticket_is_not_opened() {
        let tickets = Tickets::new(NO_FILES, Duration::from_secs(60)).unwrap();
        let ticket = tickets.encrypt(b"session").unwrap();
        for place in 0..ticket.len() {
            let mut wrong = ticket.clone();
            wrong[place] ^= 1;
            assert_eq!(tickets.decrypt(&wrong), None, "{place}");
            assert_eq!(tickets.decrypt(&ticket[..place]), None, "{place}");
        }
    }

    #[test]
    fn session_that_is_too_old_is_gone() {
        assert!(is_fresh(&stamp(), Duration::from_secs(1)));
        let old = (now() - 1001).to_be_bytes();
        assert!(!is_fresh(&old, Duration::from_secs(1)));
        assert!(!is_fresh(b"short", Duration::from_secs(1)));
    }

    #[test]
    fn secret_of_another_size_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, [1; 47]).unwrap();
        let refused = Tickets::new(&[&path], Duration::ZERO).unwrap_err();
        assert!(refused.to_string().contains("it must be 48 or 80 bytes"), "{refused}");
    }
}
