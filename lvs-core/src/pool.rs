//! The eligible servers of a service, as a scheduler sees them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::occupancy::Load;
use crate::server::Server;
use crate::time::Time;

/// The servers of a service, of which a scheduler may choose the eligible ones.
///
/// Servers are known by index, in the order they were added: 0 is the oldest. Which of them are
/// eligible is a bitmap that changes as servers fail, recover and fill up; a scheduler must take
/// any answer as true for that moment only.
#[derive(Clone, Copy)]
pub struct Pool<'a> {
    servers: &'a [Server],
    /// One bit per server: weight and health allow it.
    usable: &'a [AtomicU64],
    /// Bits to leave out: the backups, or all but the backups.
    hidden: Option<Hidden<'a>>,
    /// Whether fullness has to be looked up.
    thresholds: bool,
    /// Servers that already failed this flow.
    tried: &'a [SocketAddr],
    now: Time,
}

/// Which servers are out of sight, by rank.
#[derive(Clone, Copy)]
pub(crate) struct Hidden<'a> {
    /// One bit per backup.
    pub(crate) backups: &'a [u64],
    /// Flips the bits: the backups stay, the others are hidden.
    pub(crate) invert: bool,
}

impl<'a> Pool<'a> {
    #[inline]
    pub(crate) fn new(
        servers: &'a [Server],
        usable: &'a [AtomicU64],
        hidden: Option<Hidden<'a>>,
        thresholds: bool,
        tried: &'a [SocketAddr],
        now: Time,
    ) -> Pool<'a> {
        Pool { servers, usable, hidden, thresholds, tried, now }
    }

    /// The moment of this decision.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How many servers there are, eligible or not: indexes run from 0 to one below.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether the service has no servers at all.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Whether this server may be chosen now.
    #[inline]
    pub fn is_eligible(&self, server: usize) -> bool {
        self.word(server / 64) >> (server % 64) & 1 == 1 && !self.is_refused(server)
    }

    /// Whether any server may be chosen now.
    pub fn any_eligible(&self) -> bool {
        self.next_older(self.len()).is_some()
    }

    /// Weight of a server.
    #[inline]
    pub fn weight(&self, server: usize) -> u32 {
        self.servers[server].weight
    }

    /// Connections of a server.
    #[inline]
    pub fn load(&self, server: usize) -> Load {
        self.servers[server].live.load()
    }

    /// Mean time that a server took for an answer, as far as answers were reported
    /// ([`Event::Responded`](crate::Event::Responded)).
    pub fn latency(&self, server: usize) -> Option<Duration> {
        self.servers[server].live.latency.mean()
    }

    /// The slowest a server answered of late; it sinks by half in five seconds, and a failure counts
    /// as an answer of ten seconds.
    pub fn peak_latency(&self, server: usize) -> Option<Duration> {
        self.servers[server].live.latency.peak(self.now)
    }

    /// Address of a server.
    pub fn address(&self, server: usize) -> SocketAddr {
        self.servers[server].live.address
    }

    /// The eligible servers, last added first: the order in which IPVS walks its list.
    pub fn newest_first(self) -> impl Iterator<Item = usize> + 'a {
        (0..self.usable.len()).rev().flat_map(move |word| {
            let mut bits = self.word(word);
            std::iter::from_fn(move || {
                while bits != 0 {
                    let bit = 63 - bits.leading_zeros() as usize;
                    bits ^= 1 << bit;
                    if !self.is_refused(word * 64 + bit) {
                        return Some(word * 64 + bit);
                    }
                }
                None
            })
        })
    }

    /// The eligible servers, first added first: the order of an nginx `upstream` block.
    pub fn oldest_first(self) -> impl Iterator<Item = usize> + 'a {
        (0..self.usable.len()).flat_map(move |word| {
            let mut bits = self.word(word);
            std::iter::from_fn(move || {
                while bits != 0 {
                    let bit = bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    if !self.is_refused(word * 64 + bit) {
                        return Some(word * 64 + bit);
                    }
                }
                None
            })
        })
    }

    /// The newest eligible server among those added before `limit`; `limit` may be the number of
    /// servers.
    #[inline]
    pub fn next_older(&self, limit: usize) -> Option<usize> {
        self.next_older_where(limit, |_| u64::MAX)
    }

    /// The newest eligible server among those with a bit in `among` that were added before `limit`.
    #[inline]
    pub(crate) fn next_older_among(&self, among: &[u64], limit: usize) -> Option<usize> {
        self.next_older_where(limit, |word| among[word])
    }

    #[inline(always)]
    fn next_older_where(&self, limit: usize, among: impl Fn(usize) -> u64) -> Option<usize> {
        let last = limit.checked_sub(1)?;
        let mut word = last / 64;
        let mut bits = self.word(word) & among(word) & u64::MAX >> (63 - last % 64);
        loop {
            while bits != 0 {
                let bit = 63 - bits.leading_zeros() as usize;
                if !self.is_refused(word * 64 + bit) {
                    return Some(word * 64 + bit);
                }
                bits ^= 1 << bit;
            }
            word = word.checked_sub(1)?;
            bits = self.word(word) & among(word);
        }
    }

    /// Whether this server may be chosen now, fullness aside.
    pub(crate) fn is_open(&self, server: usize) -> bool {
        self.word(server / 64) >> (server % 64) & 1 == 1 && !self.has_failed(server)
    }

    /// Whether the rules that IPVS has too rule this server out: it is quiesced or full. A server can
    /// be out of the question for other reasons, for which IPVS's servers are taken off the list.
    pub(crate) fn is_withheld(&self, server: usize) -> bool {
        self.weight(server) == 0 || self.is_full(server)
    }

    /// Bits of the servers that weight, health and rank allow, fullness aside.
    #[inline]
    pub(crate) fn word(&self, word: usize) -> u64 {
        let usable = self.usable[word].load(Ordering::Relaxed);
        match self.hidden {
            None => usable,
            Some(Hidden { backups, invert: false }) => usable & !backups[word],
            Some(Hidden { backups, invert: true }) => usable & backups[word],
        }
    }

    /// How many words [`Pool::word`] knows.
    pub(crate) fn words(&self) -> usize {
        self.usable.len()
    }

    /// Whether a server that its bit allows is full, or has failed this flow already.
    #[inline]
    fn is_refused(&self, server: usize) -> bool {
        self.is_full(server) || self.has_failed(server)
    }

    #[inline]
    fn is_full(&self, server: usize) -> bool {
        self.thresholds && self.servers[server].live.is_full()
    }

    #[inline]
    fn has_failed(&self, server: usize) -> bool {
        !self.tried.is_empty() && self.tried.contains(&self.address(server))
    }
}
