//! What holds of any rules and any words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use lvs_core::{
    Algorithm, Config, Family, Forwarding, Persistence, Protocol, SchedulerFlags, ServerConfig,
    ServiceConfig, ServiceKey, Thresholds, Tunnel, TunnelChecksum, Weight,
};
use lvsadm::{Naming, Timeouts, rules};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::director::Fake;

fn host() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..224, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d.max(1)])),
        any::<[u16; 7]>().prop_map(|[b, c, d, e, f, g, h]| {
            IpAddr::from(Ipv6Addr::new(0x2001, b, c, d, e, f, g | h | 1, h))
        }),
    ]
}

fn key() -> impl Strategy<Value = ServiceKey> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    prop_oneof![
        3 => (protocol, host(), any::<u16>()).prop_map(|(protocol, host, port)| {
            ServiceKey::Address { protocol, address: SocketAddr::new(host, port) }
        }),
        1 => (any::<NonZeroU32>(), select(vec![Family::V4, Family::V6]))
            .prop_map(|(mark, family)| ServiceKey::Mark { mark, family }),
    ]
}

fn checksum() -> impl Strategy<Value = TunnelChecksum> {
    select(vec![TunnelChecksum::Absent, TunnelChecksum::Present, TunnelChecksum::Remote])
}

fn forwarding() -> impl Strategy<Value = Forwarding> {
    prop_oneof![
        Just(Forwarding::Masquerading),
        Just(Forwarding::Gatewaying),
        Just(Forwarding::Tunneling(Tunnel::Ipip)),
        (1u16.., checksum())
            .prop_map(|(port, checksum)| Forwarding::Tunneling(Tunnel::Gue { port, checksum })),
        checksum().prop_map(|checksum| Forwarding::Tunneling(Tunnel::Gre {
            checksum: if checksum == TunnelChecksum::Remote { TunnelChecksum::Present } else { checksum }
        })),
    ]
}

fn persistence(family: Family) -> impl Strategy<Value = Persistence> {
    (1u64..=2_678_400, any::<u32>(), 1u8..=128).prop_map(move |(timeout, mask, prefix)| {
        let persistence = Persistence::new(Duration::from_secs(timeout)).unwrap();
        match family {
            Family::V4 => persistence.mask(Ipv4Addr::from(mask)),
            Family::V6 => persistence.prefix(prefix).unwrap(),
        }
    })
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0u32..=20, 1 => Just(i32::MAX as u32)]
}

fn service() -> impl Strategy<Value = ServiceConfig> {
    let servers = vec((host(), any::<u16>(), weight(), forwarding()), 0..6);
    let config = (key(), select(Algorithm::ALL.to_vec()), 0u8..8, any::<bool>(), servers);
    let config = config.prop_flat_map(|(key, algorithm, flags, one_packet, servers)| {
        let persistence = option::of(persistence(key.family().unwrap()));
        (Just((key, algorithm, flags, one_packet, servers)), persistence)
    });
    config.prop_map(|((key, algorithm, flags, one_packet, servers), persistence)| {
        // As much as fits the service: rules cannot say what contradicts itself.
        let port = key.address().map(|address| address.port());
        let is_udp =
            matches!(key, ServiceKey::Address { protocol: Protocol::Udp, .. } | ServiceKey::Mark { .. });
        let mut service = ServiceConfig::new(key.clone(), algorithm);
        service.one_packet = one_packet && is_udp;
        service.persistence = persistence;
        if port == Some(0) && persistence.is_none() {
            service.persistence = Some(Persistence::new(Duration::from_secs(60)).unwrap());
        }
        for (bit, flag) in
            [SchedulerFlags::FIRST, SchedulerFlags::SECOND, SchedulerFlags::THIRD].iter().enumerate()
        {
            if flags >> bit & 1 == 1 {
                service.flags = service.flags.with(*flag);
            }
        }
        for (host, own_port, weight, forwarding) in servers {
            let is_tunneled = matches!(forwarding, Forwarding::Tunneling(_));
            let port =
                if forwarding == Forwarding::Masquerading { own_port } else { port.unwrap_or(own_port) };
            let mut server =
                ServerConfig::new(SocketAddr::new(host, port)).weight(Weight::new(weight).unwrap());
            server.forwarding = forwarding;
            let fits = is_tunneled || key.family() == Some(Family::of(host));
            let is_new = service.servers.iter().all(|other| other.address != server.address);
            if fits && is_new {
                service.servers.push(server);
            }
        }
        service
    })
}

fn config() -> impl Strategy<Value = Config> {
    vec(service(), 0..6).prop_map(|services| {
        let mut config = Config::default();
        for service in services {
            // A key that came twice is left out.
            let _ = config.add_service(service);
        }
        config
    })
}

/// With what only `-S --full` saves: thresholds, backups, parameters of algorithms, a named pool.
fn full_config() -> impl Strategy<Value = Config> {
    let servers = vec((0u32..9, 0u32..9, any::<bool>()), 1..5);
    (config(), servers, any::<u16>()).prop_map(|(mut config, extras, slack)| {
        let mut pool = ServiceConfig::new(ServiceKey::name("api"), Algorithm::HashBounded { slack });
        for host in ["10.0.0.1:80", "[2001:db8::1]:8080"] {
            pool.servers.push(ServerConfig::new(host.parse().unwrap()));
        }
        config.services.push(pool);
        let servers = config.services.iter_mut().flat_map(|service| &mut service.servers);
        for (server, (upper, lower, backup)) in servers.zip(extras.iter().cycle()) {
            server.thresholds = Thresholds::new(*upper, *lower.min(upper)).unwrap();
            server.backup = *backup;
        }
        config
    })
}

/// Rules are saved in the order of a listing, so only the order may change.
fn in_order(mut config: Config) -> Config {
    for service in &mut config.services {
        service.servers.sort_by_key(|server| server.address);
    }
    config.services.sort_by(|a, b| a.key.cmp(&b.key));
    config
}

/// Words that are, or nearly are, those of a command line. None can be taken for a host by name,
/// since that would be looked up.
fn word() -> impl Strategy<Value = String> {
    let known = [
        "-A",
        "-E",
        "-D",
        "-C",
        "-a",
        "-e",
        "-d",
        "-L",
        "-Z",
        "-S",
        "-R",
        "--set",
        "-t",
        "-u",
        "-f",
        "-6",
        "-r",
        "-m",
        "-i",
        "-g",
        "-w",
        "-x",
        "-y",
        "-s",
        "-srr",
        "-p",
        "-M",
        "-b",
        "-bflag-1,flag-2",
        "-o",
        "-n",
        "-c",
        "--stats",
        "--exact",
        "--timeout",
        "--tun-type",
        "--tun-type=gue",
        "--tun-port",
        "--tun-csum",
        "192.0.2.1:80",
        "[2001:db8::1]:80",
        "10.0.0.1",
        "::1",
        "1",
        "0",
        "255.255.255.0",
        "--",
        "-",
        "",
        "-Ln",
        "--rate",
        "--health",
        "--json",
        "--full",
        "--pool",
        "--backup",
        "--drain",
        "--deadline",
        "--explain",
        "--plan",
        "--top",
        "-At",
        "--start-daemon",
        "--start-daemon=master",
        "--syncid",
        "#",
    ];
    prop_oneof![
        8 => select(known.to_vec()).prop_map(str::to_owned),
        1 => "[-=:.\\[\\]0-9ü%]{0,12}",
        1 => "-[-nmigocXqZ0-9=,]{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn saved_rules_are_read_back_as_they_were(config in config()) {
        let text = rules::save(&config, Naming::Numeric);
        let again = rules::parse("saved", &text).unwrap();
        prop_assert_eq!(&rules::save(&again, Naming::Numeric), &text);
        prop_assert_eq!(in_order(again), in_order(config));
    }

    #[test]
    fn full_save_loses_nothing(config in full_config(), seconds in any::<[u16; 3]>()) {
        let [tcp, tcp_fin, udp] = seconds.map(|seconds| Duration::from_secs(u64::from(seconds) + 1));
        let timeouts = Timeouts { tcp, tcp_fin, udp };
        let text = rules::save_full(&config, timeouts, Naming::Numeric);
        let again = rules::read("saved", &text, |_| Ok(())).unwrap();
        prop_assert_eq!(again.timeouts.unwrap().apply_to(Timeouts::default()), timeouts);
        prop_assert_eq!(&rules::save_full(&again.config, timeouts, Naming::Numeric), &text);
        prop_assert_eq!(in_order(again.config), in_order(config));
    }

    #[test]
    fn any_words_are_answered(words in vec(word(), 0..9)) {
        let fake = Fake::with("-A -t 192.0.2.1:80\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m\n");
        let output = lvsadm::run(&words, "-C\n", &fake);
        prop_assert_eq!(output.code == 0, output.stderr.is_empty());
        prop_assert!([0, 1, 2, 255].contains(&output.code));
    }

    #[test]
    fn any_text_is_read_or_refused_with_its_line(lines in vec(vec(word(), 0..7), 0..6)) {
        let text: String = lines.iter().map(|words| words.join(" ") + "\n").collect();
        let text = format!("ipvsadm -A -t 192.0.2.1:80\n{text}");
        match rules::parse("any", &text) {
            Ok(config) => prop_assert_eq!(config.check(), Ok(())),
            Err(error) => prop_assert!((2..=lines.len() + 1).contains(&error.line)),
        }
        Fake::default().run_with("-R", &text);
    }
}

proptest! {
    // Fewer cases: laying out the rings of servers of the largest weight takes its time.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn every_saved_rule_is_restored(config in config()) {
        let text = rules::save(&config, Naming::Numeric);
        let fake = Fake::default();
        let output = fake.run_with("-R", &text);
        prop_assert_eq!((output.stderr.as_str(), output.code), ("", 0));
        prop_assert_eq!(fake.stdout("-Sn"), text);
    }
}
