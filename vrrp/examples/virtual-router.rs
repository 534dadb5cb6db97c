//! One virtual router by hand: takes part in an election, and says what happens.
//!
//! It runs until its input ends, and then resigns; killed, it leaves its address behind, as any other
//! program would. Lines of its input are what trackers would say: `weight -20`, `fail disk full`,
//! `well`; `status` shows how it stands.

#![allow(clippy::print_stdout, reason = "it speaks to whoever runs it")]

use std::error::Error;
use std::io::{self, BufRead};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lexopt::prelude::*;
use vrrp::arbiter::etcd::{self, Etcd};
use vrrp::arbiter::{OnLoss, Terms, Witness};
use vrrp::os::{
    Accepted, Advertises, Arbiters, Authentication, Dialect, Handle, Instance, Mac, Node, Notice, Peer, Ping,
    Reach, Schedule, Settings, Verdict, VirtualAddress,
};
use vrrp::packet::Coverage;
use vrrp::router::{Consent, Preempt};

const HELP: &str = "\
Usage: virtual-router --interface IF --vrid N --address IP[/PREFIX] [OPTIONS]

  --priority N          1 to 255; 100 if it is not given
  --interval SECONDS    from one advertisement to the next; 1 if it is not given
  --v3                  speak version 3
  --coverage message    v3 checksum without the pseudo header
  --peer IP             speak to this host only; may be repeated
  --source IP           where advertisements come from
  --password TEXT       prove oneself by a password
  --key TEXT            prove oneself by an authentication header
  --vmac                have a MAC address of the virtual router's own
  --nopreempt           leave a master of lower priority alone
  --preempt-delay SECONDS
  --etcd URL            be master only with a lease in this etcd; may be repeated
  --ping IP             be master only while this gateway answers
  --etcd-key KEY        the key that the lease is for; /vrrp/example if it is not given
  --ttl SECONDS         how long the lease lasts; 5 if it is not given
  --keep                keep the address when etcd cannot be asked
";

fn main() -> Result<(), Box<dyn Error>> {
    let (instance, arbiter) = instance(lexopt::Parser::from_env())?;
    let name = instance.name.clone();
    let arbiters = Arc::new(Arbiters::new());
    if let Some((terms, witness)) = arbiter {
        arbiters.add(std::slice::from_ref(&name), terms, witness, |said| println!("{said}"))?;
    }
    let settings = Settings { instances: vec![instance], ..Settings::default() };
    let asked = Arc::clone(&arbiters);
    let node = Node::start(settings, Schedule::First(1), move |notice| {
        asked.hear(&notice);
        // Said again and again while it waits; the arbiter says it once.
        if !matches!(notice, Notice::Asks { .. }) {
            println!("{notice}");
        }
    })?;
    arbiters.connect(node.handle().clone());
    for line in io::stdin().lock().lines() {
        obey(&line?, &name, node.handle())?;
    }
    node.stop();
    Ok(())
}

fn obey(line: &str, name: &str, node: &Handle) -> Result<(), Box<dyn Error>> {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("weight", weight) => node.report(name, TRACKER, Verdict::Weight(weight.parse()?))?,
        ("fail", why) => node.report(name, TRACKER, Verdict::Failed(why.to_owned()))?,
        ("well", _) => node.report(name, TRACKER, Verdict::Well)?,
        ("status", _) => println!("{:#?}", node.statuses()?),
        _ => println!("weight N, fail WHY, well or status"),
    }
    Ok(())
}

/// The virtual router, and the arbiter that it needs the consent of.
type Wanted = (Instance, Option<(Terms, Box<dyn Witness>)>);

fn instance(mut words: lexopt::Parser) -> Result<Wanted, Box<dyn Error>> {
    let mut instance = Instance::new("VI_1", "eth0", 51);
    let (mut on_loss, mut ping) = (OnLoss::Yield, None);
    let mut etcd = etcd::Settings {
        endpoints: Vec::new(),
        key: "/vrrp/example".to_owned(),
        name: std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned(),
        ttl: Duration::from_secs(5),
        ca_file: None,
        certificate: None,
        login: None,
    };
    let (mut peers, mut v3, mut coverage, mut proof) =
        (Vec::new(), false, Coverage::default(), Authentication::None);
    while let Some(word) = words.next()? {
        match word {
            Long("interface") => instance.interface = Some(words.value()?.string()?),
            Long("vrid") => instance.vrid = words.value()?.parse()?,
            Long("address") => instance.addresses.push(address(&words.value()?.string()?)?),
            Long("priority") => instance.priority = words.value()?.parse()?,
            Long("interval") => instance.interval = seconds(&mut words)?,
            Long("v3") => v3 = true,
            Long("coverage") => {
                coverage = words.value()?.parse_with(|word| match word {
                    "message" => Ok(Coverage::Message),
                    "pseudo-header" => Ok(Coverage::PseudoHeader),
                    _ => Err("neither message nor pseudo-header"),
                })?;
            }
            Long("peer") => peers.push(Peer { address: words.value()?.parse()?, ttl: (0, 255) }),
            Long("source") => instance.source = Some(words.value()?.parse()?),
            Long("password") => proof = Authentication::Password(words.value()?.string()?.into_bytes()),
            Long("key") => proof = Authentication::Header(words.value()?.string()?.into_bytes()),
            Long("vmac") => instance.mac = Mac::Virtual { name: None, advertises: Advertises::Virtually },
            Long("nopreempt") => instance.preempt = Preempt::Never,
            Long("preempt-delay") => instance.preempt = Preempt::After(seconds(&mut words)?),
            Long("etcd") => etcd.endpoints.push(words.value()?.string()?),
            Long("ping") => ping = Some(words.value()?.parse()?),
            Long("etcd-key") => etcd.key = words.value()?.string()?,
            Long("ttl") => etcd.ttl = seconds(&mut words)?,
            Long("keep") => on_loss = OnLoss::Keep,
            Long("help") | Short('h') => {
                println!("{HELP}");
                std::process::exit(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if !peers.is_empty() {
        instance.reach = Reach::Peers { peers, ttl: 255, accepted: Accepted::All };
    }
    instance.dialect = if v3 { Dialect::V3(coverage) } else { Dialect::V2(proof) };
    let terms = Terms { ttl: etcd.ttl, on_loss };
    let witness: Box<dyn Witness> = match ping {
        Some(gateway) => Box::new(Ping::new(gateway, instance.interface.clone())),
        None if etcd.endpoints.is_empty() => return Ok((instance, None)),
        None => Box::new(Etcd::new(&etcd)?),
    };
    instance.consent = Consent::Needed;
    Ok((instance, Some((terms, witness))))
}

fn seconds(words: &mut lexopt::Parser) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::try_from_secs_f64(words.value()?.parse()?)?)
}

fn address(text: &str) -> Result<VirtualAddress, Box<dyn Error>> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
    let mut address = VirtualAddress::new(address.parse::<IpAddr>()?);
    if let Some(prefix) = prefix {
        address.prefix = prefix.parse()?;
    }
    Ok(address)
}

const TRACKER: &str = "by hand";
