//! The virtual addresses of one virtual router, where they were put.

use std::net::IpAddr;
use std::time::Duration;

use super::addresses;
use super::host::{Host, Placed};
use super::notice::Notice;
use super::settings::{Instance, VirtualAddress};
use super::vmac::Switch;
use crate::router::OWNER;

/// What a virtual router has on the interfaces of its host.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// The interface with its own MAC address, if it has one. It is up while addresses are on it.
    pub(super) vmac: Option<u32>,
    placed: Vec<Placed>,
}

impl Holdings {
    /// The addresses, in the order they were put.
    pub(super) fn placed(&self) -> &[Placed] {
        &self.placed
    }

    /// Takes up addresses that another process has put where they are.
    pub(super) fn inherit(&mut self, held: &[(u32, IpAddr, u8)]) {
        let placed = held.iter().map(|(link, address, prefix)| {
            let address = VirtualAddress { prefix: *prefix, ..VirtualAddress::new(*address) };
            Placed { link: *link, address }
        });
        self.placed = placed.collect();
    }

    /// Puts the addresses where they have to be, and takes away those that were there before and are not
    /// wanted any more.
    pub(super) fn place(&mut self, instance: &Instance, lifetime: Option<Duration>, host: &mut Host) {
        self.switch(instance, Switch::On, host);
        let places = self.places(instance, host);
        for old in std::mem::take(&mut self.placed) {
            let place = |placed: &Placed| (placed.link, placed.address.address, placed.address.prefix);
            if !places.iter().any(|new| place(new) == place(&old)) {
                remove(instance, &old, old.address.prefix, host);
            }
        }
        for placed in places {
            if let Err(error) = host.place(&placed, lifetime) {
                let what = format!("{} cannot be put on its interface: {error}", placed.address.address);
                trouble(instance, what, host);
            }
            // Kept also where it failed, so that it is tried again and taken away in the end.
            self.placed.push(placed);
        }
    }

    /// Has the kernel leave the addresses for longer.
    pub(super) fn prolong(&self, instance: &Instance, lifetime: Option<Duration>, host: &mut Host) {
        for placed in &self.placed {
            if let Err(error) = host.place(placed, lifetime) {
                let what = format!("{} cannot be prolonged: {error}", placed.address.address);
                trouble(instance, what, host);
            }
        }
    }

    /// Takes all of them away.
    pub(super) fn remove_all(&mut self, instance: &Instance, host: &mut Host) {
        for placed in std::mem::take(&mut self.placed) {
            remove(instance, &placed, placed.address.prefix, host);
        }
        self.switch(instance, Switch::Off, host);
    }

    /// Takes the addresses from their interfaces where one that was killed left them. Those of an owner
    /// are the host's own.
    pub(super) fn remove_left_over(&self, instance: &Instance, host: &mut Host) {
        if instance.priority == OWNER {
            return;
        }
        for wanted in self.places(instance, host) {
            let address = wanted.address.address;
            let held = host.links.addresses_of(wanted.link).filter(|held| held.address == address);
            let left: Vec<u8> = held.map(|held| held.prefix).collect();
            for prefix in left {
                let instance_name = instance.name.clone();
                let what =
                    format!("{address} was on its interface already: it was left over, and is taken away");
                host.tell(Notice::Odd { instance: instance_name, what });
                remove(instance, &wanted, prefix, host);
            }
        }
    }

    /// Whether an address is not where it was put, as far as is known.
    pub(super) fn lacks(&self, host: &Host) -> bool {
        self.placed.iter().any(|placed| is_missing(placed, host))
    }

    /// Puts back what somebody has taken away. What the kernel took because a consent is about to end has
    /// come to its end: that the consent ends is told when it does.
    pub(super) fn put_back(&self, instance: &Instance, lifetime: Option<Duration>, host: &mut Host) {
        if lifetime.is_some_and(|lifetime| lifetime < addresses::LIFETIME_MIN) {
            return;
        }
        for placed in self.placed.iter() {
            if is_missing(placed, host) {
                let address = placed.address.address;
                match host.place(placed, lifetime) {
                    Ok(()) => {
                        let what = format!("{address} was taken from its interface, and is put back");
                        host.tell(Notice::Odd { instance: instance.name.clone(), what });
                    }
                    Err(error) => trouble(instance, format!("{address} cannot be put back: {error}"), host),
                }
            }
        }
    }

    /// Where the addresses have to be, as far as there are such interfaces.
    fn places(&self, instance: &Instance, host: &mut Host) -> Vec<Placed> {
        let mut places = Vec::new();
        for address in instance.all_addresses() {
            let device = address.device.as_ref().or(instance.interface.as_ref());
            let own = self.vmac.filter(|_| address.device.is_none());
            let link = own.or_else(|| Some(host.links.by_name(device?)?.index));
            match link {
                Some(link) => places.push(Placed { link, address: address.clone() }),
                None => {
                    let device = device.map_or("none is named", |device| device.as_str());
                    let what = format!("{} has no interface to be put on: {device}", address.address);
                    trouble(instance, what, host);
                }
            }
        }
        places
    }

    fn switch(&self, instance: &Instance, to: Switch, host: &mut Host) {
        if let Some(vmac) = self.vmac
            && let Err(error) = host.switch(vmac, to)
        {
            trouble(instance, format!("the interface of its own cannot be switched: {error}"), host);
        }
    }
}

fn remove(instance: &Instance, placed: &Placed, prefix: u8, host: &mut Host) {
    let address: IpAddr = placed.address.address;
    if let Err(error) = host.remove(placed.link, address, prefix) {
        trouble(instance, format!("{address} cannot be taken from its interface: {error}"), host);
    }
}

/// Whether an address is not where it was put, although it could be.
fn is_missing(placed: &Placed, host: &Host) -> bool {
    let wanted = (placed.address.address, placed.address.prefix);
    host.links.is_up(placed.link)
        && !host.links.addresses_of(placed.link).any(|held| (held.address, held.prefix) == wanted)
}

fn trouble(instance: &Instance, what: String, host: &mut Host) {
    host.tell(Notice::Trouble { instance: Some(instance.name.clone()), what });
}
