//! What only writers need, and what they do on the way: end ejections and drains, open circles.

use std::collections::HashMap;
use std::sync::Weak;

use super::{Draining, Notice};
use crate::config::{Config, ServiceKey};
use crate::server::Handle;
use crate::service::{Service, ServiceState};
use crate::time::Time;

/// What only writers need.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) config: Config,
    /// States of deleted services whose connections may still live.
    pub(super) retired: HashMap<ServiceKey, Weak<ServiceState>>,
    /// Servers of which it is to be told when they are empty.
    pub(super) draining: Vec<Handle>,
    /// What the next tick tells.
    pub(super) notices: Vec<Notice>,
}

impl Writer {
    pub(super) fn lapse(&mut self, service: &Service, now: Time) {
        service.state.set_clock(now);
        for (index, server) in service.servers.iter().enumerate() {
            let Some(transition) = server.live.health().lapse(now) else { continue };
            service.refresh(index);
            service.warm_up(index, now);
            service.note(index, now);
            // Without anybody who ticks they are not fetched, and the oldest matter least.
            if self.notices.len() == NOTICES_MAX {
                self.notices.remove(0);
            }
            let (key, server) = (service.state.key.clone(), server.live.address);
            self.notices.push(Notice::Turned { service: key, server, transition });
        }
        service.note_service(now);
        service.find_next_lapse();
    }

    /// Tells of the drains that are over: the server is empty, or out of time, or was given a weight
    /// again.
    pub(super) fn end_drains(&mut self, now: Time) {
        let notices = &mut self.notices;
        self.draining.retain(|live| {
            let Some(Draining { service, server, load, deadline, .. }) = Draining::of(live) else {
                return false;
            };
            let over = load.total() == 0 || deadline <= now;
            if over {
                notices.push(Notice::Drained { service, server, load });
            }
            !over
        });
    }

    /// Removes the templates of deleted services: a connection that was scheduled while its service
    /// was deleted may have made one, and a template holds its server, which holds the service,
    /// which holds the template.
    pub(super) fn open_circles(&mut self) {
        self.retired.retain(|_, state| {
            let state = state.upgrade();
            state.inspect(|state| state.templates.clear()).is_some()
        });
    }
}

/// Notices that wait for a tick.
const NOTICES_MAX: usize = 1024;
