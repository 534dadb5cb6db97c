//! What a `keepalived.conf` says of VRRP, as a node of [`vrrp::os`] takes it.

use std::net::IpAddr;

use vrrp::os::{
    Accepted, AddressFlag, Advertises, Announcing, Authentication, Dependence, Dialect, Effect, Instance,
    LinkDelay, Mac, Peer, Reach, Scope, Settings, SyncGroup, VirtualAddress, WatchedLink,
};
use vrrp::packet::Coverage;
use vrrp::router::{Answer, Consent, Moment, Preempt};

use super::trackers;
use crate::keepalived::model::{self, Vrrp};

/// All of it, where VRRP began at this moment in this process; if it goes on in the place of another, nobody waits
/// any more.
///
/// # Errors
/// What of it a node cannot do.
pub(super) fn settings(vrrp: &Vrrp, began: Option<Moment>) -> Result<Settings, String> {
    let begins = began.map_or(Moment::ZERO, |began| (began + vrrp.startup_delay).max(vrrp.boot_delay));
    let instance = |one| instance(vrrp, one).map(|instance| Instance { begins, ..instance });
    let instances = vrrp.instances.iter().map(instance).collect::<Result<_, _>>()?;
    let group =
        |group: &model::SyncGroup| SyncGroup { name: group.name.clone(), members: group.members.clone() };
    let delay = |delay: &model::LinkDelay| LinkDelay {
        interface: delay.interface.clone(),
        down: delay.down,
        up: delay.up,
    };
    Ok(Settings {
        instances,
        groups: vrrp.groups.iter().map(group).collect(),
        link_delays: vrrp.link_delays.iter().map(delay).collect(),
    })
}

fn instance(vrrp: &Vrrp, from: &model::Instance) -> Result<Instance, String> {
    let addresses = |list: &[model::Address]| -> Result<Vec<VirtualAddress>, String> {
        list.iter()
            .map(|address| virtual_address(address).map_err(|why| format!("{}: {why}", from.name)))
            .collect()
    };
    let interfaces = from.track.interfaces.iter();
    let groups = vrrp.groups.iter().filter(|group| group.members.contains(&from.name));
    let of_groups = groups.flat_map(|group| {
        let weighed =
            |weight: model::Weight| if group.weights_count { weight } else { weight.without_value() };
        group.track.interfaces.iter().map(move |(name, weight)| (name, weight.map(weighed)))
    });
    let links = interfaces.map(|(name, weight)| (name, *weight)).chain(of_groups);
    let watched = |name: &String, weight: model::Weight| {
        let effect = |up| weight.adds(up).map_or(Effect::Fault, |added| Effect::Adds(added as i32));
        WatchedLink { interface: name.clone(), up: effect(true), down: effect(false) }
    };
    Ok(Instance {
        interface: from.interface.clone(),
        dialect: dialect(from),
        priority: from.priority,
        interval: from.advertisement,
        down_adverts: from.wire.down_adverts,
        preempt: match from.preempt_delay {
            _ if from.no_preempt => Preempt::Never,
            delay if delay.is_zero() => Preempt::AtOnce,
            delay => Preempt::After(delay),
        },
        reach: reach(from),
        source: from.source,
        addresses: addresses(&from.addresses)?,
        excluded: addresses(&from.excluded)?,
        mac: match &from.vmac {
            None => Mac::OfInterface,
            Some(name) => Mac::Virtual {
                name: name.clone(),
                advertises: if from.wire.from_base {
                    Advertises::FromInterface
                } else {
                    Advertises::Virtually
                },
            },
        },
        announcing: announcing(&from.announcing),
        dependence: if from.ignores_interface { Dependence::Untracked } else { Dependence::Tracked },
        links: links.map(|(name, weight)| watched(name, weight.unwrap_or_default())).collect(),
        awaits: trackers::awaited(vrrp, from),
        consent: if from.arbiter.is_some() { Consent::Needed } else { Consent::NotNeeded },
        to_lower: if from.wire.answers_lower { Answer::Advert } else { Answer::Nothing },
        to_higher: if from.wire.answers_higher { Answer::Advert } else { Answer::Nothing },
        ..Instance::new(&from.name, "", from.router_id)
    })
}

fn dialect(from: &model::Instance) -> Dialect {
    if from.version == 3 {
        return Dialect::V3(if from.wire.checksum_as_v2 {
            Coverage::Message
        } else {
            Coverage::PseudoHeader
        });
    }
    Dialect::V2(match &from.authentication {
        None => Authentication::None,
        Some(model::Authentication::Password(password)) => Authentication::Password(password.clone().into()),
        Some(model::Authentication::Header(key)) => Authentication::Header(key.clone().into()),
    })
}

fn reach(from: &model::Instance) -> Reach {
    if from.peers.is_empty() {
        return Reach::Group(from.wire.group);
    }
    let peer = |peer: &model::Peer| Peer { address: peer.address, ttl: peer.ttl };
    Reach::Peers {
        peers: from.peers.iter().map(peer).collect(),
        ttl: from.wire.unicast_ttl,
        accepted: if from.wire.checks_source { Accepted::Peers } else { Accepted::All },
    }
}

fn announcing(from: &model::Announcing) -> Announcing {
    let some = |time: std::time::Duration| (!time.is_zero()).then_some(time);
    Announcing {
        repeat: from.repeat,
        again: some(from.again),
        refresh: some(from.refresh),
        refresh_repeat: from.refresh_repeat,
        contested_repeat: from.contested_repeat,
        contested_again: some(from.contested_again),
        arp_spacing: from.arp_spacing,
        na_spacing: from.na_spacing,
    }
}

/// An address with its options, which are in the order of the file, values behind their words.
fn virtual_address(from: &model::Address) -> Result<VirtualAddress, String> {
    let mut address = VirtualAddress {
        prefix: from.prefix,
        device: from.device.clone(),
        label: from.label.clone(),
        ..VirtualAddress::new(from.address)
    };
    let mut words = from.options.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "home" => address.flags.push(AddressFlag::Home),
            "mngtmpaddr" => address.flags.push(AddressFlag::ManageTemporary),
            "noprefixroute" => address.flags.push(AddressFlag::NoPrefixRoute),
            "autojoin" => address.flags.push(AddressFlag::AutoJoin),
            // Duplicate detection is always off for a virtual address, and none of them is watched.
            "-nodad" | "no_track" => {}
            "track_group" | "local" => drop(words.next()),
            "brd" | "broadcast" => address.broadcast = broadcast(from, words.next()),
            "scope" => {
                let word = words.next().unwrap_or_default();
                address.scope =
                    scope(word).ok_or_else(|| format!("unknown scope \"{word}\" of {}", from.address))?;
            }
            "peer" | "to" => {
                let end = words.next().unwrap_or_default();
                let end = end.split('/').next().and_then(|end| end.parse::<IpAddr>().ok());
                address.peer =
                    Some(end.ok_or_else(|| format!("the peer of {} is no address", from.address))?);
            }
            "preferred_lft" => {
                address.flags.retain(|flag| *flag != AddressFlag::Deprecated);
                if words.next() == Some("0") {
                    address.flags.push(AddressFlag::Deprecated);
                }
            }
            other => return Err(format!("option {other} of {} is not supported", from.address)),
        }
    }
    Ok(address)
}

/// `+` is the address with all host bits set, `-` with none.
fn broadcast(from: &model::Address, word: Option<&str>) -> Option<std::net::Ipv4Addr> {
    let IpAddr::V4(own) = from.address else { return None };
    let host = u32::MAX.checked_shr(from.prefix.into()).unwrap_or(0);
    match word? {
        "+" => Some((u32::from(own) | host).into()),
        "-" => Some((u32::from(own) & !host).into()),
        text => text.parse().ok(),
    }
}

fn scope(word: &str) -> Option<Scope> {
    Some(match word {
        "global" | "universe" => Scope::Global,
        "site" => Scope::Site,
        "link" => Scope::Link,
        "host" => Scope::Host,
        "nowhere" => Scope::Other(u8::MAX),
        number => Scope::Other(number.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let loaded = crate::keepalived::read(Path::new("lb.conf"), text, "node");
        assert!(loaded.complaints.is_empty(), "{:?}", loaded.complaints);
        settings(&loaded.model.vrrp, Some(BEGAN))
    }

    const BEGAN: Moment = Duration::from_secs(100);

    #[test]
    fn instances_begin_when_both_delays_are_over_and_answer_as_they_are_told() {
        let text = |globals: &str, own: &str| {
            format!(
                "global_defs {{\n{globals}\n}}\ninterface_up_down_delays {{\neth0 0.5 2\neth1 4\n}}
                vrrp_instance A {{\ninterface eth0\nvirtual_router_id 51\n{own}\nvirtual_ipaddress {{\n10.8.0.100\n}}\n}}"
            )
        };
        let first = |globals: &str, own: &str| {
            read(&text(globals, own)).expect("a node can do that").instances.swap_remove(0)
        };
        for (globals, begins) in [
            ("", BEGAN),
            ("vrrp_startup_delay 5.5", BEGAN + Duration::from_millis(5500)),
            ("vrrp_delay_after_boot 103", Duration::from_secs(103)),
            ("vrrp_delay_after_boot 103\nvrrp_startup_delay 7", Duration::from_secs(107)),
        ] {
            assert_eq!(first(globals, "").begins, begins, "{globals}");
        }
        let answers = |globals: &str, own: &str| {
            let instance = first(globals, own);
            (instance.to_lower, instance.to_higher)
        };
        let (advert, nothing) = (Answer::Advert, Answer::Nothing);
        assert_eq!(answers("", ""), (advert, advert));
        assert_eq!(answers("vrrp_lower_prio_no_advert", ""), (nothing, advert));
        assert_eq!(answers("vrrp_lower_prio_no_advert", "lower_prio_no_advert off"), (advert, advert));
        assert_eq!(answers("vrrp_higher_prio_send_advert off", ""), (advert, nothing));
        assert_eq!(answers("", "higher_prio_send_advert no"), (advert, nothing));
        let delays = read(&text("", "")).expect("a node can do that").link_delays;
        let delay = |delay: &LinkDelay| (delay.interface.clone(), delay.down, delay.up);
        let seconds = Duration::from_secs_f64;
        assert_eq!(
            delays.iter().map(delay).collect::<Vec<_>>(),
            [
                ("eth0".to_owned(), seconds(0.5), seconds(2.0)),
                ("eth1".to_owned(), seconds(4.0), seconds(4.0))
            ]
        );
    }

    #[test]
    fn words_of_the_file_arrive_at_the_node() {
        let text = "global_defs {\nvrrp_garp_master_refresh 60\nvrrp_garp_master_repeat 2\n}
            vrrp_script c {\nscript /bin/true\nweight -20\n}
            vrrp_instance A {\nstate MASTER\ninterface eth0\nvirtual_router_id 51\npriority 150\nadvert_int 0.5\nversion 3\nnopreempt
            virtual_ipaddress {\n10.8.0.100/24 dev eth1 label eth1:v brd + scope link\n}
            virtual_ipaddress_excluded {\nfd00::1/64 preferred_lft 0\n}
            unicast_src_ip 10.8.0.2\nunicast_peer {\n10.8.0.3 min_ttl 64\n}\ncheck_unicast_src\ntrack_script {\nc\n}\ntrack_interface {\neth2 weight -5\neth3\neth4 weight 0 reverse\neth5 weight 5 reverse\n}\n}"
            .replace("state MASTER", "state BACKUP");
        let settings = read(&text).expect("a node can do that");
        let instance = &settings.instances[0];
        assert_eq!(
            (instance.name.as_str(), instance.vrid, instance.interval),
            ("A", 51, Duration::from_millis(500))
        );
        assert_eq!(
            (instance.preempt, &instance.dialect),
            (Preempt::Never, &Dialect::V3(Coverage::PseudoHeader))
        );
        let own = &instance.addresses[0];
        assert_eq!(
            (own.prefix, own.device.as_deref(), own.label.as_deref()),
            (24, Some("eth1"), Some("eth1:v"))
        );
        assert_eq!((own.broadcast, own.scope), (Some([10, 8, 0, 255].into()), Scope::Link));
        assert_eq!(instance.excluded[0].flags, [AddressFlag::Deprecated]);
        let Reach::Peers { peers, accepted: Accepted::Peers, .. } = &instance.reach else { panic!("peers") };
        assert_eq!(peers[0].ttl, (64, 255));
        assert_eq!(
            (instance.announcing.repeat, instance.announcing.refresh),
            (2, Some(Duration::from_secs(60)))
        );
        assert_eq!(instance.awaits, ["script c"]);
        let links: Vec<_> =
            instance.links.iter().map(|link| (link.interface.as_str(), link.up, link.down)).collect();
        let expected = [
            ("eth2", Effect::Adds(0), Effect::Adds(-5)),
            ("eth3", Effect::Adds(0), Effect::Fault),
            ("eth4", Effect::Fault, Effect::Adds(0)),
            ("eth5", Effect::Adds(-5), Effect::Adds(0)),
        ];
        assert_eq!(links, expected);
    }
}
