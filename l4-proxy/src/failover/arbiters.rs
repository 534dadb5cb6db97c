//! The arbiters of a `keepalived.conf`: one for each instance or sync group that has one. One that stays as
//! it was goes on over a reload, with what it holds.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use lvsadm::document::ArbiterView;
use tracing::{info, warn};
use vrrp::arbiter::{Note, OnLoss, Standing, Terms, Witness};
use vrrp::os::{self, Consent, Handle, Notice, Ping, Said, View};
use vrrp::router::Moment;

use crate::keepalived::model::{Arbiter, ArbiterKind, Etcd, Instance, OnArbiterLoss, Vrrp};

/// Those that run.
#[derive(Default)]
pub(super) struct Arbiters {
    running: Arc<os::Arbiters>,
    seats: Vec<Seat>,
}

/// Arbiters that can be run.
pub(super) struct Prepared {
    kept: Vec<Seat>,
    begun: Vec<(Seat, Box<dyn Witness>)>,
}

/// Who asks whom.
#[derive(Clone, PartialEq)]
struct Seat {
    /// An instance, or all of a sync group.
    instances: Vec<String>,
    interface: Option<String>,
    arbiter: Arbiter,
    /// How others are told who holds the addresses.
    name: String,
}

impl Arbiters {
    /// What hears what a node tells.
    pub(super) fn ear(&self) -> impl FnMut(&Notice) + Send + 'static {
        let running = Arc::clone(&self.running);
        move |notice| running.hear(notice)
    }

    /// Says whom to tell.
    pub(super) fn connect(&self, node: Handle) {
        self.running.connect(node);
    }

    /// Whom to call when a consent has become another.
    pub(super) fn echo(&self, echo: impl Fn() + Send + Sync + 'static) {
        self.running.echo(echo);
    }

    /// By what others know the arbiter of an instance: its consent can pass to a process that asks the same one.
    pub(super) fn tag(&self, instance: &str) -> Option<String> {
        let seat = self.seats.iter().find(|seat| seat.instances.iter().any(|name| name == instance))?;
        Some(match &seat.arbiter.kind {
            ArbiterKind::Ping(gateway) => format!("ping {gateway}"),
            ArbiterKind::Etcd(etcd) => format!("etcd {} {}", etcd.key, etcd.endpoints.join(" ")),
        })
    }

    /// Asks nobody any more for these, and leaves what is held to another process.
    pub(super) fn rest(&self, instances: &[String]) -> Vec<(String, String)> {
        self.running.rest(instances)
    }

    /// Goes on with what was left.
    pub(super) fn recover(&self) {
        self.running.recover();
    }

    /// Goes on for an instance with what another process has left.
    pub(super) fn resume(&self, instance: &str, bequest: &str, consent: Option<Moment>) {
        self.running.resume(instance, bequest, consent);
    }

    /// Makes sure that those of a configuration can be run.
    ///
    /// # Errors
    /// Which one cannot, and why.
    pub(super) fn prepare(&self, vrrp: &Vrrp, name: &str) -> Result<Prepared, String> {
        let mut prepared = Prepared { kept: Vec::new(), begun: Vec::new() };
        for seat in wanted(vrrp, name) {
            if self.seats.contains(&seat) {
                prepared.kept.push(seat);
            } else {
                let witness =
                    witness(&seat).map_err(|why| format!("{}: {why}", seat.instances.join(", ")))?;
                prepared.begun.push((seat, witness));
            }
        }
        Ok(prepared)
    }

    /// Runs what was prepared, and nothing else.
    ///
    /// # Errors
    /// The system has no more threads.
    pub(super) fn follow(&mut self, prepared: Prepared) -> io::Result<()> {
        let Prepared { kept, begun } = prepared;
        let replaced: Vec<&String> = begun.iter().flat_map(|(seat, _)| &seat.instances).collect();
        for gone in self.seats.iter().filter(|seat| !kept.contains(seat)) {
            let gone: Vec<String> =
                gone.instances.iter().filter(|instance| !replaced.contains(instance)).cloned().collect();
            self.running.remove(&gone);
        }
        self.seats = kept;
        for (seat, witness) in begun {
            let on_loss = match seat.arbiter.on_loss {
                OnArbiterLoss::Yield => OnLoss::Yield,
                OnArbiterLoss::Keep => OnLoss::Keep,
            };
            self.running
                .add(&seat.instances, Terms { ttl: seat.arbiter.ttl, on_loss }, witness, |said| log(&said))?;
            self.seats.push(seat);
        }
        Ok(())
    }
}

impl Arbiters {
    /// How the one of an instance stands, if it has one.
    pub(super) fn view(&self, instance: &str) -> Option<ArbiterView> {
        let View { whom, standing, left, silence } = self.running.view(instance)?;
        let (state, holder) = match standing {
            Standing::Idle => ("idle", None),
            Standing::Asked => ("asked", None),
            Standing::Held(_) => ("held", None),
            Standing::Kept(_) => ("kept", None),
            Standing::Refused { by } => ("refused", Some(by)),
            Standing::Lost => ("lost", None),
        };
        let state = state.to_owned();
        Some(ArbiterView { whom, state, seconds_left: left.as_secs_f64(), holder, problem: silence })
    }

    /// The consents that the addresses of these instances need.
    pub(super) fn consents(&self, vrrp: &Vrrp) -> impl Iterator<Item = (IpAddr, Arc<Consent>)> {
        let with_arbiter = vrrp
            .instances
            .iter()
            .filter_map(|instance| self.running.consent(&instance.name).map(|consent| (instance, consent)));
        with_arbiter.flat_map(|(instance, consent)| {
            let addresses = instance.addresses.iter().chain(&instance.excluded);
            addresses.map(move |address| (address.address, Arc::clone(&consent)))
        })
    }
}

/// The groups that have one, and the instances that have one by themselves.
fn wanted(vrrp: &Vrrp, name: &str) -> Vec<Seat> {
    let seat = |instances: Vec<String>, first: &Instance| {
        let arbiter = first.arbiter.clone()?;
        Some(Seat { instances, interface: first.interface.clone(), arbiter, name: name.to_owned() })
    };
    let group = |name: &String| vrrp.groups.iter().find(|group| group.members.contains(name));
    let seats = vrrp.instances.iter().filter_map(|instance| match group(&instance.name) {
        None => seat(vec![instance.name.clone()], instance),
        Some(group) if group.members.first() == Some(&instance.name) => seat(group.members.clone(), instance),
        Some(_) => None,
    });
    seats.collect()
}

fn witness(seat: &Seat) -> Result<Box<dyn Witness>, String> {
    match &seat.arbiter.kind {
        ArbiterKind::Ping(gateway) => Ok(Box::new(Ping::new(*gateway, seat.interface.clone()))),
        ArbiterKind::Etcd(etcd) => client(etcd, seat),
    }
}

#[cfg(feature = "etcd")]
fn client(etcd: &Etcd, seat: &Seat) -> Result<Box<dyn Witness>, String> {
    use vrrp::arbiter::etcd::{Login, Settings};
    let settings = Settings {
        endpoints: etcd.endpoints.clone(),
        key: etcd.key.clone(),
        name: seat.name.clone(),
        ttl: seat.arbiter.ttl,
        ca_file: etcd.ca_file.clone(),
        certificate: etcd.certificate.clone(),
        login: etcd.login.clone().map(|(user, password)| Login { user, password }),
    };
    let client = vrrp::arbiter::etcd::Etcd::new(&settings).map_err(|error| error.to_string())?;
    Ok(Box::new(client))
}

#[cfg(not(feature = "etcd"))]
fn client(_: &Etcd, _: &Seat) -> Result<Box<dyn Witness>, String> {
    Err("this program was built without the feature \"etcd\"".to_owned())
}

fn log(said: &Said) {
    match said.note {
        Note::Lost(_) | Note::Kept => warn!("{said}"),
        _ => info!("{said}"),
    }
}
