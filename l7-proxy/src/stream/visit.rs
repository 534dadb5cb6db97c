//! What a connection and a session of datagrams have in common: the phases that need no socket, and the
//! lines in the logs.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::error;

use super::facts::Facts;
use super::limit::Place;
use super::{Door, Server, access};
use crate::error_log::{Places, say};
use crate::model::{Enforcement, LimitStatus, StreamLogTarget};
use crate::server::Proxy;

/// A connection, or a session of datagrams, on its way through the phases.
pub(super) struct Visit {
    pub(super) worker: Proxy,
    pub(super) door: Arc<Door>,
    pub(super) facts: Facts,
    /// Who serves it: the default of the address until it has asked for another by name.
    pub(super) server: Arc<Server>,
    /// Places in the zones of `limit_conn`.
    pub(super) places: Vec<Place>,
    /// The places that it has where it was handed over.
    pub(super) held: Option<Box<dyn Any>>,
    /// How often it was handed over on its way here.
    pub(super) passes: u8,
}

impl Visit {
    /// One that has just come.
    pub(super) fn new(worker: &Proxy, door: &Arc<Door>, peer: SocketAddr, local: SocketAddr) -> Visit {
        let serial = door.common.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let mut facts = Facts::new(peer, local, serial);
        facts.transport = door.entrance.transport;
        facts.definitions = Arc::clone(&door.common.definitions);
        let server = Arc::clone(&door.entrance.servers[door.entrance.names.default()]);
        Visit {
            worker: worker.clone(),
            door: Arc::clone(door),
            facts,
            server,
            places: Vec::new(),
            held: None,
            passes: 0,
        }
    }

    /// Looks whether the client may connect.
    pub(super) fn admit(&mut self) -> Result<(), u16> {
        let settings = &self.server.model.settings;
        for limit in &settings.limits {
            let key = limit.key.bytes(&self.facts);
            match self.door.common.zones.enter(&limit.zone, key, limit.most) {
                Ok(None) => {}
                Ok(Some(place)) => {
                    self.places.push(place);
                    self.facts.limit = Some(LimitStatus::Passed);
                }
                Err(_) => {
                    let excess = &settings.on_limits;
                    let (trial, status) = match excess.enforcement {
                        Enforcement::On => ("", LimitStatus::Rejected),
                        Enforcement::DryRun => (", dry run,", LimitStatus::RejectedDryRun),
                    };
                    let (serial, zone, client) = (self.facts.serial, &limit.zone.name, self.facts.client());
                    let said = format_args!(
                        "*{serial} limiting connections{trial} by zone \"{zone}\" while initializing session, {client}"
                    );
                    say(excess.level, said);
                    self.facts.limit = Some(status);
                    match excess.enforcement {
                        Enforcement::On => return Err(excess.status),
                        Enforcement::DryRun => break,
                    }
                }
            }
        }
        if !access::admits(&settings.access, self.facts.remote.ip()) {
            let (serial, client) = (self.facts.serial, self.facts.client());
            error!("*{serial} access forbidden by rule while initializing session, {client}");
            return Err(403);
        }
        Ok(())
    }

    /// Where what happens to it goes, if not to the log of the process.
    pub(super) fn error_log(&self) -> Option<Places> {
        self.server.model.settings.error_log.clone()
    }

    /// Gives variables their values that `set` names.
    pub(super) fn assign(&mut self) {
        for (number, text) in &self.server.model.settings.set {
            let value = text.bytes(&self.facts);
            self.facts.assign(*number, value);
        }
    }

    /// Gives back its places in zones.
    pub(super) fn leave(&mut self) {
        self.places.clear();
    }

    /// Writes its lines.
    pub(super) fn log(&self) {
        for log in &self.server.model.settings.access_log {
            if let Some(condition) = &log.condition
                && matches!(&*condition.bytes(&self.facts), b"" | b"0")
            {
                continue;
            }
            let write = |lines: &mut Vec<u8>| {
                log.format.line.write_log(&self.facts, log.format.escape, lines);
                lines.push(b'\n');
            };
            match &log.target {
                StreamLogTarget::Fixed(target) => self.worker.writers().append(target, log.gathering, write),
                StreamLogTarget::Computed(name) => {
                    let mut line = Vec::new();
                    write(&mut line);
                    let rules = &self.server.model.settings.log_files;
                    self.worker.writers().append_to_named(&name.bytes(&self.facts), &line, rules);
                }
            }
        }
    }
}
