//! What the virtual routers of a node share: the kernel's ear, what it told of the host, and those who
//! are to be told.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::announce::{Announcements, Told};
use super::links::{Link, Links};
use super::netlink::Requests;
use super::notice::Notice;
use super::probe::{self, Answer, Ears};
use super::settings::{Announcing, VirtualAddress};
use super::vmac::{Switch, Wanted};
use super::{addresses, clock, sys, vmac};
use crate::router::{Moment, Occasion};

/// The host, as its virtual routers see it.
pub(super) struct Host {
    kernel: Requests,
    pub(super) links: Links,
    frames: OwnedFd,
    pub(super) announcements: Announcements,
    pub(super) ears: Ears,
    /// Why answers of neighbours could not be heard last.
    deaf: Option<String>,
    notices: Box<dyn FnMut(Notice) + Send>,
}

/// A virtual address that was put on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) link: u32,
    pub(super) address: VirtualAddress,
}

impl Host {
    pub(super) fn new(notices: Box<dyn FnMut(Notice) + Send>) -> io::Result<Host> {
        // Of no protocol, so that it sends and is sent nothing.
        let frames = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        let mut host = Host {
            kernel: Requests::open()?,
            links: Links::default(),
            frames,
            announcements: Announcements::default(),
            ears: Ears::default(),
            deaf: None,
            notices,
        };
        host.survey()?;
        Ok(host)
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        (self.notices)(notice);
    }

    /// Asks for all interfaces and addresses.
    pub(super) fn survey(&mut self) -> io::Result<()> {
        let (mut links, now) = (self.links.anew(), clock::now());
        self.kernel.survey(|message| links.learn(message, now))?;
        links.complete();
        self.links = links;
        Ok(())
    }

    /// Puts an address on an interface, for as long as it may stay there.
    pub(super) fn place(&mut self, placed: &Placed, lifetime: Option<Duration>) -> io::Result<()> {
        addresses::place(&mut self.kernel, placed.link, &placed.address, lifetime)
    }

    /// Takes one away, and stops telling who has it.
    pub(super) fn remove(&mut self, link: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        self.announcements.withdraw(link, address);
        addresses::remove(&mut self.kernel, link, address, prefix)
    }

    /// The index of an interface with a MAC address of a virtual router's own, which is made if it is not
    /// there.
    pub(super) fn make_vmac(&mut self, wanted: &Wanted) -> io::Result<u32> {
        if self.links.by_name(&wanted.name).is_none() {
            wanted.create(&mut self.kernel)?;
            self.survey()?;
        }
        let is_wanted = |link: &&Link| link.mac == Some(wanted.mac) && link.below == Some(wanted.below.1);
        match self.links.by_name(&wanted.name).filter(is_wanted) {
            Some(link) => Ok(link.index),
            None => Err(io::Error::other(format!("{} is there, and is another interface", wanted.name))),
        }
    }

    /// Switches an interface on or off.
    pub(super) fn switch(&mut self, link: u32, to: Switch) -> io::Result<()> {
        vmac::switch(&mut self.kernel, link, to)
    }

    /// Removes an interface.
    pub(super) fn delete(&mut self, link: u32) -> io::Result<()> {
        vmac::delete(&mut self.kernel, link)
    }

    /// Has the neighbours told who has an address, if they are the kind that has to be told.
    pub(super) fn announce(&mut self, placed: &Placed, how: &Announcing, occasion: Occasion, now: Moment) {
        let Some(mac) = self.links.mac_of(placed.link) else { return };
        let told = Told { link: placed.link, mac, address: placed.address.address };
        let spacing = if told.address.is_ipv4() { how.arp_spacing } else { how.na_spacing };
        let later = how.contested_again.map_or((now, 0), |after| (now + after, how.contested_repeat));
        let bursts = match occasion {
            Occasion::Taken | Occasion::Again => [(now, how.repeat), (now, 0)],
            Occasion::Refresh => [(now, how.refresh_repeat), (now, 0)],
            Occasion::Contested => [(now, how.contested_repeat), later],
        };
        self.announcements.add(told, spacing, &bursts);
    }

    /// Tells the neighbours what is due.
    pub(super) fn announce_due(&mut self, now: Moment) {
        while let Some(told) = self.announcements.take(now) {
            // Those who miss it learn it from the next one, or find out by themselves.
            let _ = sys::send_frame(&self.frames, told.link, &told.frame());
        }
    }

    /// Asks the neighbours who else has an address, if they are the kind that can be asked. Returns
    /// whether they have been.
    pub(super) fn ask(&mut self, placed: &Placed, now: Moment) -> bool {
        let Some(mac) = self.links.mac_of(placed.link) else { return false };
        let address = placed.address.address;
        if let Err(error) = self.ears.prick(address, now) {
            let what = format!("cannot hear who else has a virtual address: {error}");
            if self.deaf.as_ref() != Some(&what) {
                self.deaf = Some(what.clone());
                self.tell(Notice::Trouble { instance: None, what });
            }
            return false;
        }
        self.deaf = None;
        sys::send_frame(&self.frames, placed.link, &probe::question(mac, address)).is_ok()
    }

    /// What others answered; an answer of an interface of this host, wherever it was heard, is none.
    pub(super) fn answers(&self) -> Vec<Answer> {
        let mut answers = self.ears.answers();
        answers.retain(|answer| !self.links.has_mac(answer.mac));
        answers
    }
}
