//! What one process knows of upstreams beyond its file, for another that goes on in its place.
//!
//! The core's part (health, counts, templates) is what directors of `l4-proxy` hand over, too. Beside it
//! go what `lvsadm` has changed, as the difference between what the file said and what is served; what
//! names stand for; and the sessions that were learnt. What the other one learns while both serve stays with it.

use std::path::PathBuf;

use l4_proxy::takeover::Estate;
use lvs_core::{ServerConfig, ServiceConfig, ServiceKey};
use lvsadm::Timeouts;
use tracing::warn;

use super::administered::{Administered, Standing};
use crate::moment::Moment;
use crate::server::Shared;
use crate::unix;
use crate::upstream::Known;

/// What a process leaves to the one that goes on in its place, beside its sockets.
#[derive(Debug, Default)]
pub struct Legacy {
    standing: Standing,
    sessions: Vec<Zone>,
    estate: Estate,
}

/// The sessions of a zone.
type Zone = (String, Vec<Known>);

/// The first line of what is handed over, as JSON. The paths are those of Unix sockets, in the order of
/// the addresses that stand for them.
type Head = (
    String,
    Vec<PathBuf>,
    Vec<ServiceConfig>,
    Vec<ServiceConfig>,
    Vec<(ServiceKey, String, Vec<ServerConfig>)>,
    Vec<Zone>,
);

/// Writes what a proxy leaves.
pub(super) fn write(shared: &Shared, administered: &Administered) -> Vec<u8> {
    let Standing { wanted, present, found } = administered.standing();
    let sessions = shared.sessions.list(Moment::now());
    let head: Head = (MAGIC.to_owned(), unix::paths(), wanted, present, found, sessions);
    // Only a path that is no text cannot be written; then the successor begins by its file.
    let Ok(mut bytes) = serde_json::to_vec(&head) else { return Vec::new() };
    bytes.push(b'\n');
    bytes.extend(Estate::of(&shared.director, Timeouts::default(), Moment::now().as_time()).write());
    bytes
}

impl Legacy {
    /// Reads what [`Daemon::legacy`](super::Daemon::legacy) wrote in another process. It has to be read
    /// before a configuration is, so that both know Unix sockets by the same addresses.
    ///
    /// What makes no sense is nothing, and said in the log: a successor serves by its file then.
    pub fn read(bytes: &[u8]) -> Legacy {
        if bytes.is_empty() {
            return Legacy::default();
        }
        Legacy::parse(bytes).unwrap_or_else(|| {
            warn!("the other process speaks of its upstreams in another language: they begin by the file");
            Legacy::default()
        })
    }

    fn parse(bytes: &[u8]) -> Option<Legacy> {
        let end = memchr::memchr(b'\n', bytes)?;
        let (magic, paths, wanted, present, found, sessions): Head =
            serde_json::from_slice(&bytes[..end]).ok()?;
        if magic != MAGIC {
            return None;
        }
        let estate = Estate::parse(&bytes[end + 1..])?;
        for path in paths {
            unix::address(path);
        }
        Some(Legacy { standing: Standing { wanted, present, found }, sessions, estate })
    }

    /// Puts everything where it belongs in a proxy that does not serve yet.
    pub(super) fn bequeath(self, shared: &Shared, administered: &Administered) {
        let Legacy { standing, sessions, estate } = self;
        if standing.present.is_empty() {
            return;
        }
        if let Err(error) = administered.begin_with(standing) {
            return warn!("what the other process knew of its upstreams is lost: {error}");
        }
        estate.bequeath(&shared.director, Moment::now().as_time());
        for (zone, sessions) in sessions {
            shared.sessions.leave(zone, sessions, Moment::now());
        }
    }
}

const MAGIC: &str = "l7-proxy hands over 1";
