//! What directors have with each other: who has the virtual addresses, and who tells whom of persistent
//! clients.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::standing::short;

/// What shares persistence templates with other directors (`-L --daemon`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Daemons {
    /// [`VERSION`](crate::document::VERSION).
    pub version: u32,
    /// In IPVS's order: master, backup.
    pub daemons: Vec<SyncDaemon>,
}

/// One half of it: the one that tells others, or the one that hears them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncDaemon {
    /// Which half.
    pub role: SyncRole,
    /// Interface that the others are on.
    pub interface: String,
    /// Directors with another number do not hear each other.
    pub id: u8,
    /// Longest message.
    pub maxlen: usize,
    /// Where messages go without peers.
    pub group: IpAddr,
    /// Where they go with them.
    pub peers: Vec<IpAddr>,
    /// Port of all.
    pub port: u16,
    /// Routers that a multicast message may pass, and one.
    pub ttl: u8,
    /// Messages with changes that were told, or templates that were learned.
    pub count: u64,
    /// Others that are heard now.
    pub others: usize,
    /// How many of them have told everything they had.
    pub others_complete: usize,
    /// Messages that were refused: forged, of another key, not understood.
    pub refused: u64,
    /// Why it does not work, if so.
    pub problem: Option<String>,
}

/// What a synchronisation daemon does, named as IPVS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncRole {
    /// It tells.
    Master,
    /// It hears.
    Backup,
}

/// VRRP instances (`-L --vrrp`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VirtualRouters {
    /// [`VERSION`](crate::document::VERSION).
    pub version: u32,
    /// In the order of the configuration.
    pub instances: Vec<VirtualRouter>,
}

/// One VRRP instance as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VirtualRouter {
    /// Its name.
    pub name: String,
    /// Its sync group, if it is in one.
    pub group: Option<String>,
    /// `INIT`, `BACKUP`, `MASTER` or `FAULT`.
    pub state: String,
    /// For how long.
    pub state_seconds: f64,
    /// What it was before, once it has been something else.
    pub previous_state: Option<String>,
    /// Why it is what it is.
    pub reason: Option<String>,
    /// What it depends on and is down.
    pub faults: Vec<String>,
    /// What it waits for before it starts.
    pub awaits: Vec<String>,
    /// The last thing that an operator should look into.
    pub last_warning: Option<String>,
    /// How long ago that was.
    pub last_warning_seconds: Option<f64>,
    /// There are two masters: what is known of it.
    pub split_brain: Option<String>,
    /// Interface that it speaks on.
    pub interface: Option<String>,
    /// Number of the virtual router.
    pub virtual_router_id: u8,
    /// Version of the protocol.
    pub version: u8,
    /// The configured priority.
    pub base_priority: u8,
    /// The priority that it has now.
    pub priority: u8,
    /// What its trackers add.
    pub weights: Vec<(String, i32)>,
    /// Its own address.
    pub address: Option<IpAddr>,
    /// The master that it knows, and its priority.
    pub master: Option<(IpAddr, u8)>,
    /// From one advertisement to the next.
    pub interval_seconds: f64,
    /// How long a master may be silent.
    pub master_down_seconds: f64,
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Those of them that it holds.
    pub held: Vec<IpAddr>,
    /// The third party without whose consent it is not master, if there is one.
    #[serde(default)]
    pub arbiter: Option<ArbiterView>,
    /// What it counted, by keepalived's names.
    pub counters: Vec<(String, u64)>,
}

/// How an arbiter stands to a VRRP instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArbiterView {
    /// Whom it asks; of several, the one that answered last.
    pub whom: String,
    /// `idle` while nobody wants its consent, `asked`, `held`, `refused`, `lost` when it does not answer and what
    /// it said counts no more, or `kept` when the addresses stay nevertheless.
    pub state: String,
    /// How long what it said counts yet.
    pub seconds_left: f64,
    /// Who has its consent, where it is refused.
    pub holder: Option<String>,
    /// Why the last question brought no answer, if it brought none.
    pub problem: Option<String>,
}

/// ipvsadm's lines, with what it has no place for behind them.
impl fmt::Display for Daemons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for daemon in &self.daemons {
            let SyncDaemon { interface, id, maxlen, group, port, ttl, .. } = daemon;
            let role = match daemon.role {
                SyncRole::Master => "master",
                SyncRole::Backup => "backup",
            };
            writeln!(
                f,
                "{role} sync daemon (mcast={interface}, syncid={id}, maxlen={maxlen}, group={group}, port={port}, ttl={ttl})"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for VirtualRouters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.instances.iter().try_for_each(|instance| instance.fmt(f))
    }
}

impl fmt::Display for VirtualRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds =
            |seconds: f64| short(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default());
        write!(f, "{} {} for {}", self.name, self.state, seconds(self.state_seconds))?;
        if let Some(previous) = &self.previous_state {
            write!(f, ", before {previous}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        writeln!(f)?;
        let interface = self.interface.as_deref().unwrap_or("any interface");
        write!(f, "  id {} on {interface}, version {}", self.virtual_router_id, self.version)?;
        if let Some(group) = &self.group {
            write!(f, ", group {group}")?;
        }
        write!(f, ", priority {}", self.priority)?;
        if self.priority != self.base_priority {
            let weights: Vec<_> =
                self.weights.iter().map(|(who, weight)| format!("{weight:+} {who}")).collect();
            write!(f, " ({} {})", self.base_priority, weights.join(" "))?;
        }
        writeln!(f, ", every {} s", self.interval_seconds)?;
        if let Some((master, priority)) = self.master.filter(|_| self.state != "MASTER") {
            writeln!(f, "  master is {master}, priority {priority}")?;
        }
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let held: Vec<String> = self.held.iter().map(ToString::to_string).collect();
        writeln!(f, "  addresses {}; held here: {}", list(&addresses), list(&held))?;
        if let Some(arbiter) = &self.arbiter {
            writeln!(f, "  {arbiter}")?;
        }
        for fault in &self.faults {
            writeln!(f, "  down: {fault}")?;
        }
        if !self.awaits.is_empty() {
            writeln!(f, "  waits for {}", self.awaits.join(", "))?;
        }
        if let Some(split_brain) = &self.split_brain {
            writeln!(f, "  SPLIT BRAIN: {split_brain}")?;
        }
        if let (Some(warning), Some(ago)) = (&self.last_warning, self.last_warning_seconds) {
            writeln!(f, "  {} ago: {warning}", seconds(ago))?;
        }
        Ok(())
    }
}

impl fmt::Display for ArbiterView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arbiter {}: {}", self.whom, self.state)?;
        match &self.holder {
            Some(holder) => write!(f, ", {holder} has its consent")?,
            None if self.seconds_left > 0.0 => write!(f, ", {:.1} s left", self.seconds_left)?,
            None => {}
        }
        match &self.problem {
            Some(problem) => write!(f, "; it does not answer: {problem}"),
            None => Ok(()),
        }
    }
}

fn list(addresses: &[String]) -> String {
    if addresses.is_empty() { "none".to_owned() } else { addresses.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_are_listed_as_ipvsadm_lists_them() {
        let daemon = SyncDaemon {
            role: SyncRole::Master,
            interface: "eth0".to_owned(),
            id: 1,
            maxlen: 1472,
            group: [224, 0, 0, 81].into(),
            peers: Vec::new(),
            port: 8848,
            ttl: 1,
            count: 7,
            others: 1,
            others_complete: 1,
            refused: 0,
            problem: None,
        };
        assert_eq!(
            Daemons { version: 1, daemons: vec![daemon] }.to_string(),
            "master sync daemon (mcast=eth0, syncid=1, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)\n"
        );
    }

    #[test]
    fn instance_is_told_with_its_reason_first() {
        let instance = VirtualRouter {
            name: "VI_1".to_owned(),
            group: None,
            state: "BACKUP".to_owned(),
            state_seconds: 75.0,
            previous_state: Some("MASTER".to_owned()),
            reason: Some("10.8.0.3 advertises priority 150".to_owned()),
            faults: Vec::new(),
            awaits: Vec::new(),
            last_warning: None,
            last_warning_seconds: None,
            split_brain: None,
            interface: Some("eth0".to_owned()),
            virtual_router_id: 51,
            version: 2,
            base_priority: 100,
            priority: 80,
            weights: vec![("script c".to_owned(), -20)],
            address: None,
            master: Some(([10, 8, 0, 3].into(), 150)),
            interval_seconds: 1.0,
            master_down_seconds: 3.6,
            addresses: vec![[10, 8, 0, 100].into()],
            held: Vec::new(),
            arbiter: Some(ArbiterView {
                whom: "etcd 10.8.0.5:2379".to_owned(),
                state: "refused".to_owned(),
                seconds_left: 0.0,
                holder: Some("lb1".to_owned()),
                problem: None,
            }),
            counters: Vec::new(),
        };
        assert_eq!(
            instance.to_string(),
            "VI_1 BACKUP for 1m15s, before MASTER: 10.8.0.3 advertises priority 150\n  \
             id 51 on eth0, version 2, priority 80 (100 -20 script c), every 1 s\n  \
             master is 10.8.0.3, priority 150\n  addresses 10.8.0.100; held here: none\n  \
             arbiter etcd 10.8.0.5:2379: refused, lb1 has its consent\n"
        );
    }
}
