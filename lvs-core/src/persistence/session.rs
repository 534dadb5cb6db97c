//! Sessions: what a persistence engine found in a client's words, as a part of a template's key.
//!
//! A key of the table is two words, so that a lease can carry it; a session has up to 255 bytes. So its
//! key is a digest of network and session, and what it is a digest of stands beside the table, for
//! those who list or pass on templates. Services without an engine pay nothing for it.
//!
//! Digests are 128 bits of SipHash under random keys: nobody can aim at another's, and two that meet by
//! chance are not to be expected.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::table::Network;
use super::{Client, address, network};
use crate::config::Persistence;

/// The keys of the digests.
#[derive(Default)]
pub(super) struct Digests {
    high: RandomState,
    low: RandomState,
}

/// Whose the templates of one shard are, where their keys do not tell.
#[derive(Default)]
pub(super) struct Sessions {
    by_key: HashMap<Network, Session, foldhash::fast::RandomState>,
}

struct Session {
    /// Lowest address of the client network.
    network: IpAddr,
    bytes: Box<[u8]>,
}

impl Digests {
    pub(super) fn of(&self, network: Network, session: &[u8]) -> Network {
        (self.high.hash_one((network, session)), self.low.hash_one((network, session)))
    }
}

impl Sessions {
    /// Notes whose the template under this key is.
    pub(super) fn note(&mut self, key: Network, rule: &Persistence, client: Client<'_>) {
        if let Some(session) = client.session {
            let network = address(network(rule, client.address));
            self.by_key.insert(key, Session { network, bytes: session.into() });
        }
    }

    pub(super) fn whose(&self, key: Network) -> Client<'_> {
        match self.by_key.get(&key) {
            Some(session) => Client { address: session.network, session: Some(&session.bytes) },
            None => Client { address: address(key), session: None },
        }
    }

    /// Forgets those whose template is gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(Network) -> bool) {
        self.by_key.retain(|key, _| is_there(*key));
    }
}
