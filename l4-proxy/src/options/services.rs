//! Options that say of one service how its connections are treated: `--NAME VIP:PORT=VALUE`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use l4_proxy::fwmark::Entrance;
use l4_proxy::proxy_protocol::Version;
use l4_proxy::{AcceptProxy, Network, Settings, Source};
use lvs_core::{Config, Family, ServiceKey};

/// What the command line says of single services, in its order.
#[derive(Default)]
pub(super) struct Services {
    wishes: Vec<(Service, Wish)>,
    named: Vec<Named>,
}

/// An option about one service.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// As it was written, without its value.
    pub(crate) option: String,
    meant: Meant,
}

/// The services that an option can mean.
#[derive(Clone, Debug)]
enum Meant {
    One(Service),
    /// Those that come in there.
    At(Entrance),
}

/// As a service is named on the command line.
#[derive(Clone, Copy, Debug)]
enum Service {
    Address(SocketAddr),
    /// Of both families.
    Mark(NonZeroU32),
}

enum Wish {
    SendProxy(Version),
    AcceptProxy(Vec<Network>),
    Source(Source),
    ConnectionsMax(usize),
    Redispatch(usize),
}

impl Services {
    /// Whether an option is about one service.
    pub(super) fn know(name: &str) -> bool {
        WANTED.iter().any(|(known, _)| *known == name)
    }

    /// Takes in one option; the error says what was wanted.
    pub(super) fn take(&mut self, name: &str, text: &str) -> Result<(), &'static str> {
        let wanted = WANTED.iter().find(|(known, _)| *known == name).map_or("", |(_, wanted)| *wanted);
        let wish = Services::read(name, text).ok_or(wanted)?;
        let service = text.split_once('=').map_or(text, |(service, _)| service);
        self.named.push(Named { option: format!("{name} {service}"), meant: Meant::One(wish.0) });
        self.wishes.push(wish);
        Ok(())
    }

    /// What was said, and of whom.
    pub(super) fn named(&self) -> Vec<Named> {
        self.named.clone()
    }

    fn read(name: &str, text: &str) -> Option<(Service, Wish)> {
        let (service, value) = match name {
            "--transparent" => (text, ""),
            _ => text.split_once('=')?,
        };
        let wish = match name {
            "--send-proxy" => Wish::SendProxy(match value {
                "v1" => Version::V1,
                "v2" => Version::V2,
                _ => return None,
            }),
            "--accept-proxy" => Wish::AcceptProxy(list(value)?),
            "--source" => Wish::Source(Source::Addresses(list::<IpAddr>(value)?)),
            "--transparent" => Wish::Source(Source::Client),
            "--limit" => Wish::ConnectionsMax(value.parse().ok().filter(|max| *max > 0)?),
            "--redispatch" => Wish::Redispatch(value.parse().ok().filter(|max| *max <= REDISPATCH_MAX)?),
            _ => return None,
        };
        Some((Service::read(service)?, wish))
    }

    /// The settings of every service that has some of its own, on the ground of those of all.
    pub(super) fn on(self, all: &Settings) -> HashMap<ServiceKey, Settings> {
        let mut services = HashMap::new();
        for (service, wish) in self.wishes {
            for key in service.keys() {
                wish.grant(services.entry(key).or_insert_with(|| all.clone()));
            }
        }
        services
    }
}

impl Named {
    /// An address of `--fwmark`.
    pub(super) fn at(entrance: Entrance) -> Named {
        let (mark, address) = match entrance {
            Entrance::OfMark { mark, address, .. } => (mark.to_string(), address),
            Entrance::OfPackets { address } => ("packets".to_owned(), address),
        };
        Named { option: format!("--fwmark {mark}={address}"), meant: Meant::At(entrance) }
    }

    /// What is not there, if it can mean no service of this configuration.
    pub(crate) fn missing_from(&self, config: &Config) -> Option<&'static str> {
        let is_there = |is_meant: &dyn Fn(&ServiceKey) -> bool| {
            config.services.iter().any(|service| is_meant(&service.key))
        };
        let (is_there, what) = match &self.meant {
            Meant::One(service) => (is_there(&|key| service.keys().contains(key)), "no such TCP service"),
            Meant::At(entrance) => {
                (is_there(&|key| entrance.leads_to(key)), "no service that this address leads to")
            }
        };
        (!is_there).then_some(what)
    }
}

impl Service {
    fn read(text: &str) -> Option<Service> {
        let mark = || text.parse().ok().map(Service::Mark);
        text.parse().ok().map(Service::Address).or_else(mark)
    }

    fn keys(&self) -> Vec<ServiceKey> {
        match *self {
            Service::Address(address) => vec![ServiceKey::tcp(address)],
            Service::Mark(mark) => {
                [Family::V4, Family::V6].map(|family| ServiceKey::Mark { mark, family }).into()
            }
        }
    }
}

impl Wish {
    fn grant(&self, settings: &mut Settings) {
        match self {
            Wish::SendProxy(version) => settings.send_proxy = Some(*version),
            Wish::AcceptProxy(networks) => {
                settings.accept_proxy = Some(AcceptProxy::from(networks.iter().copied()));
            }
            Wish::Source(source) => settings.source = source.clone(),
            Wish::ConnectionsMax(max) => settings.connections_max = Some(*max),
            Wish::Redispatch(bytes) => settings.redispatch = *bytes,
        }
    }
}

fn list<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(',').map(|item| item.parse().ok()).collect()
}

const WANTED: [(&str, &str); 6] = [
    ("--send-proxy", "VIP:PORT=v1 or VIP:PORT=v2"),
    ("--accept-proxy", "VIP:PORT=NETWORK[,NETWORK], such as 192.0.2.1:80=10.0.0.0/8"),
    ("--source", "VIP:PORT=ADDRESS[,ADDRESS]"),
    ("--transparent", "VIP:PORT"),
    ("--limit", "VIP:PORT=CONNECTIONS"),
    ("--redispatch", "VIP:PORT=BYTES, up to 1048576"),
];

/// Most bytes of one client that are held for another server.
const REDISPATCH_MAX: usize = 1 << 20;

pub(super) const TRANSPARENT_HELP: &str = "\
With --transparent the real servers see the client's address and not the director's. Their answers
are addressed to the client, so they must be routed through the director, and the director must
take them for its own. The process needs CAP_NET_ADMIN.

On every real server, the way back (a default route, or policy routing by the service's port):

  ip route replace default via DIRECTOR

On the director, what arrives for one of its transparent sockets is delivered locally:

  nft -f - <<'RULES'
  table ip l4-proxy {
    chain prerouting {
      type filter hook prerouting priority mangle;
      meta l4proto tcp socket transparent 1 meta mark set 1
    }
  }
  RULES
  ip rule add fwmark 1 lookup 100
  ip route add local default dev lo table 100

For IPv6 the same with table ip6, ip -6 rule and ip -6 route. Without nftables, one rule for each
real server does as well:

  ip rule add iif INTERFACE ipproto tcp from SERVER sport PORT lookup 100

A client in the real servers' own subnet would be answered directly, past the director, and its
connections would break: such a client needs a route through the director, or a service without
--transparent. If net.ipv4.conf.*.rp_filter is 1 on the director, set it to 2 or 0.
";
