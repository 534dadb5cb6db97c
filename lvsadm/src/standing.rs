//! What a server is to new clients, and why, in an operator's words.
//!
//! Of several reasons the first that counts is told, in the core's order: quiesced, down, ejected,
//! full, warming up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use lvs_core::{Condition, Draining, History, ServerStats, ServiceHistory, ServiceKey, Time};

use crate::control::Control;
use crate::line::TIMEOUT_MAX;

/// What is known at one moment besides the counters of a table.
pub(crate) struct Besides {
    history: HashMap<ServiceKey, ServiceHistory>,
    draining: Vec<Draining>,
    pub(crate) now: Time,
}

/// What stands for or against a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// One word: `up`, `draining`, `quiesced`, `down`, `ejected`, `full`, `warming` or `backup`.
    pub(crate) state: &'static str,
    /// More words, where there is more to say.
    pub(crate) reason: String,
}

impl Besides {
    /// Nothing: what most listings need.
    pub(crate) fn nothing(now: Time) -> Besides {
        Besides { history: HashMap::new(), draining: Vec::new(), now }
    }

    pub(crate) fn of(control: &dyn Control) -> Besides {
        let director = control.director();
        let config = director.config();
        let history = |key: ServiceKey| Some((key.clone(), director.history(&key)?));
        Besides {
            history: config.services.into_iter().filter_map(|service| history(service.key)).collect(),
            draining: director.draining(),
            now: control.now(),
        }
    }

    pub(crate) fn draining(&self, service: &ServiceKey, server: SocketAddr) -> Option<&Draining> {
        self.draining.iter().find(|draining| draining.server == server && draining.service == *service)
    }

    /// What a server of a service is.
    pub(crate) fn standing(&self, service: &ServiceKey, server: &ServerStats) -> Standing {
        let address = server.config.address;
        Standing::of(server, self.draining(service, address), self.now)
    }

    pub(crate) fn history(&self, service: &ServiceKey) -> Option<&History> {
        self.history.get(service).map(|history| &history.service)
    }

    pub(crate) fn history_of(&self, service: &ServiceKey, server: SocketAddr) -> Option<&History> {
        let mut servers = self.history.get(service)?.servers.iter();
        servers.find(|(address, _)| *address == server).map(|(_, history)| history)
    }
}

impl Standing {
    fn of(server: &ServerStats, draining: Option<&Draining>, now: Time) -> Standing {
        let said = |state, reason| Standing { state, reason };
        if let Some(draining) = draining {
            let connections = count(draining.load.total().into(), "connection", "connections");
            let kept = match draining.templates {
                0 => String::new(),
                clients => {
                    format!(" and {}", count(clients.into(), "persistent client", "persistent clients"))
                }
            };
            let end = cut_off(draining, now)
                .map_or_else(String::new, |time| format!(", cut off in {}", left(time)));
            return said("draining", format!("{connections}{kept} left{end}"));
        }
        let why = server.condition.reason().map(|why| why.to_string()).unwrap_or_default();
        if server.config.weight.value() == 0 {
            return match server.condition {
                Condition::Inhibited { .. } => said("down", format!("{why}; weight 0 for that")),
                // Who is about to give it weight wants to know.
                Condition::Down { .. } => said("quiesced", format!("weight 0, and down: {why}")),
                _ => said("quiesced", "weight 0".to_owned()),
            };
        }
        match &server.condition {
            Condition::Down { .. } => return said("down", why),
            Condition::Ejected { until, .. } => {
                let left = short(until.since(now));
                return said("ejected", format!("{why}, tried again in {left}"));
            }
            _ => {}
        }
        if server.full {
            let upper = server.config.thresholds.upper();
            let connections = count(server.load.total().into(), "connection", "connections");
            return said("full", format!("{connections}, upper threshold {upper}"));
        }
        match server.warmth {
            Some(warmth) => said("warming", format!("takes {:.0} % of its share", warmth * 100.0)),
            None if server.config.backup => said("backup", "serves while no other server can".to_owned()),
            None => said("up", String::new()),
        }
    }
}

/// In how long those are cut off who are on a server that drains, if it has a deadline.
pub(crate) fn cut_off(draining: &Draining, now: Time) -> Option<Duration> {
    let left = draining.deadline.since(now);
    (left <= Duration::from_secs(TIMEOUT_MAX.into())).then_some(left)
}

pub(crate) fn count(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// A time in its two largest units: `42s`, `5m07s`, `3h00m`, `12d04h`.
pub(crate) fn short(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds @ 3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Time that is left: as long as there is any of a second, it is one.
pub(crate) fn left(time: Duration) -> String {
    short(Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0)))
}

/// The deadline of a drain for which none was asked: further away than any that can be asked for, so that
/// nobody is cut off whom weight 0 would leave alone.
pub(crate) const NO_DEADLINE: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_in_two_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (90_061, "1d01h")]
        {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn time_that_is_left_is_not_over_before_its_end() {
        for (millis, text) in [(2000, "2s"), (1999, "2s"), (1, "1s"), (0, "0s"), (59_001, "1m00s")] {
            assert_eq!(left(Duration::from_millis(millis)), text);
        }
    }
}
