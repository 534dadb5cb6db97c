//! Addresses that this director may serve only while an arbiter agrees.
//!
//! The kernel takes such an address away when the consent ends, also from a process that is stopped. What
//! had come in before that waits in the sockets, though, and a process that goes on finds it there: so
//! whoever takes clients in, or passes on what open connections have brought, looks here first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use vrrp::os::Consent;

/// The addresses that need consent, by address. A clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Consents {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Written when a configuration is taken on; a late read asks nobody for a moment longer.
    any: AtomicBool,
    needed: ArcSwapOption<Needed>,
}

type Needed = HashMap<IpAddr, Arc<Consent>, RandomState>;

impl Consents {
    /// These are needed from now on, and no others.
    pub(crate) fn need(&self, needed: impl Iterator<Item = (IpAddr, Arc<Consent>)>) {
        let needed: Needed = needed.collect();
        let any = !needed.is_empty();
        self.shared.needed.store(any.then(|| Arc::new(needed)));
        self.shared.any.store(any, Ordering::Release);
    }

    /// Until when each address may be served, in a form for another process of this host: `ADDRESS NANOS`,
    /// a line each, on the clock of [`vrrp::os::now`].
    pub(crate) fn tell(&self) -> String {
        let needed = self.shared.needed.load();
        let told = needed.iter().flat_map(|needed| needed.iter());
        told.map(|(address, consent)| format!("{address} {}\n", consent.until().as_nanos())).collect()
    }

    /// Goes by the word of another process, which serves the addresses now. What it does not mention it has
    /// given away.
    pub(crate) fn hear(&self, told: &str) {
        let until: HashMap<IpAddr, Duration> = told
            .lines()
            .filter_map(|line| {
                let (address, nanos) = line.split_once(' ')?;
                Some((address.parse().ok()?, Duration::from_nanos(nanos.parse().ok()?)))
            })
            .collect();
        for (address, consent) in self.shared.needed.load().iter().flat_map(|needed| needed.iter()) {
            match until.get(address) {
                Some(until) => consent.last(*until),
                None => consent.end(),
            }
        }
    }

    /// Whether an address may be served now. Where nothing needs consent that is one load.
    pub(crate) fn allow(&self, address: IpAddr) -> bool {
        if !self.shared.any.load(Ordering::Acquire) {
            return true;
        }
        let needed = self.shared.needed.load();
        let Some(needed) = &*needed else { return true };
        needed.get(&address.to_canonical()).is_none_or(|consent| consent.holds())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use vrrp::arbiter::{Answer, OnLoss, Terms, Witness};
    use vrrp::os::{Arbiters, Notice};

    use super::*;

    /// Says yes once.
    struct Once(bool);

    impl Witness for Once {
        fn acquire(&mut self, _: Duration) -> Answer {
            if std::mem::take(&mut self.0) { Answer::Yes } else { Answer::Held("another".to_owned()) }
        }

        fn renew(&mut self, _: Duration) -> Answer {
            Answer::Gone
        }

        fn revoke(&mut self, _: Duration) {}

        fn whom(&self) -> String {
            "a test".to_owned()
        }
    }

    fn eventually(what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(20), "never came true: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn address_is_served_from_an_arbiters_word_to_its_end() {
        let arbiters = Arbiters::new();
        let terms = Terms { ttl: Duration::from_secs(3), on_loss: OnLoss::Yield };
        arbiters.add(&["web".to_owned()], terms, Box::new(Once(true)), |_| {}).expect("a thread");
        let (needed, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let consents = Consents::default();
        assert!(consents.allow(needed), "nothing needs consent");
        let consent = arbiters.consent("web").expect("it has an arbiter");
        consents.need([(needed, consent)].into_iter());
        assert!(!consents.allow(needed), "nobody has been asked");
        assert!(consents.allow(other));

        arbiters.hear(&Notice::Asks { instance: "web".to_owned() });
        eventually("the arbiter agrees", || consents.allow(needed));
        // Another process hears of it, and of its end.
        let follower = Consents::default();
        follower.need([(needed, Arc::new(Consent::default()))].into_iter());
        follower.hear(&consents.tell());
        assert!(follower.allow(needed));
        follower.hear("");
        assert!(!follower.allow(needed));
        eventually("its word ends", || !consents.allow(needed));
    }
}
