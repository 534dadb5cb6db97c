//! The options of one command line, gathered from left to right and then put together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use lvs_core::{
    Algorithm, Family, Forwarding, Persistence, PersistenceEngine, Protocol, SchedulerFlags, ServerConfig,
    ServiceConfig, ServiceKey, Thresholds, Tunnel, TunnelChecksum, Weight,
};

use crate::address::{Endpoint, number};
use crate::arguments::{Extent, Format, Layout, Listing, Numbers, Order, PersistenceColumns};
use crate::matrix::{Present, TUNNEL, TunnelKind};
use crate::message::{Failure, INVALID, NO_SCHEDULER, OUT_OF_RANGE};
use crate::names::{Names, Naming};
use crate::option::{Found, Name, Opt, Verb};

/// What the options of one command line have said so far.
pub(crate) struct Line<'a> {
    names: &'a Names,
    present: Present,
    service: Option<ServiceKey>,
    real_server: &'a str,
    scheduler: Option<&'a str>,
    flags: &'a str,
    /// Seconds.
    persistence: Option<u32>,
    netmask: Option<&'a str>,
    engine: Option<&'a str>,
    forwarding: Method,
    weight: Weight,
    upper_threshold: u32,
    lower_threshold: u32,
    tunnel: TunnelKind,
    tunnel_port: u16,
    deadline: Option<Duration>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Method {
    #[default]
    Gatewaying,
    Tunneling,
    Masquerading,
}

impl<'a> Line<'a> {
    pub(crate) fn new(names: &'a Names) -> Line<'a> {
        Line {
            names,
            present: Present::default(),
            service: None,
            real_server: "",
            scheduler: None,
            flags: "",
            persistence: None,
            netmask: None,
            engine: None,
            forwarding: Method::default(),
            weight: Weight::ONE,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: TunnelKind::default(),
            tunnel_port: 0,
            deadline: None,
        }
    }

    /// Takes in one option and checks its value, where that can be done alone.
    pub(crate) fn take(&mut self, found: Found<'a>) -> Result<(), Failure> {
        let value = found.value.unwrap_or_default();
        let within = |min, max, text: &'static str| {
            number(value, min, max).ok_or_else(|| Failure::words(text).blame(value))
        };
        match found.name {
            Name::Verb(_) => return Err(Failure::words(format!("invalid option `{}'", found.word))),
            Name::TcpService => self.take_service(Protocol::Tcp, value)?,
            Name::UdpService => self.take_service(Protocol::Udp, value)?,
            Name::SctpService => self.take_service(Protocol::Sctp, value)?,
            Name::MarkService => {
                self.present.add(Opt::Service)?;
                let mark = number(value, 1, u32::MAX).and_then(NonZeroU32::new);
                let mark =
                    mark.ok_or_else(|| Failure::words(format!("invalid fwmark value `{value}' specified")))?;
                self.service = Some(ServiceKey::Mark { mark, family: Family::V4 });
            }
            Name::Pool => {
                self.present.add(Opt::Service)?;
                if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c.is_control()) {
                    return Err(Failure::words("illegal pool name specified").blame(value));
                }
                self.service = Some(ServiceKey::name(value));
            }
            Name::Ipv6 => match &mut self.service {
                Some(ServiceKey::Mark { family, .. }) => *family = Family::V6,
                _ => return Err(Failure::words("-6 used before -f\n")),
            },
            Name::Gatewaying => self.take_method(Method::Gatewaying)?,
            Name::Ipip => self.take_method(Method::Tunneling)?,
            Name::Masquerading => self.take_method(Method::Masquerading)?,
            Name::Sort => {}
            Name::Plain(option) => {
                self.present.add(option)?;
                match option {
                    Opt::Scheduler => self.scheduler = Some(value),
                    Opt::SchedFlags => self.flags = value,
                    Opt::PersistenceEngine => self.engine = Some(value),
                    Opt::Netmask => self.take_netmask(value)?,
                    Opt::RealServer => self.real_server = value,
                    Opt::Persistent => {
                        self.persistence = Some(match found.value {
                            None => PERSISTENCE_DEFAULT,
                            Some(_) => number(value, 1, TIMEOUT_MAX).ok_or_else(|| invalid_timeout(value))?,
                        });
                    }
                    Opt::Weight => {
                        let weight = within(0, Weight::MAX.value(), "illegal weight specified")?;
                        self.weight = Weight::new(weight).unwrap_or(Weight::MAX);
                    }
                    Opt::UpperThreshold => {
                        self.upper_threshold = within(0, THRESHOLD_MAX, "illegal u_threshold specified")?;
                    }
                    Opt::LowerThreshold => {
                        self.lower_threshold = within(0, THRESHOLD_MAX, "illegal l_threshold specified")?;
                    }
                    Opt::TunType => {
                        let kind = TunnelKind::parse(value);
                        self.tunnel =
                            kind.ok_or_else(|| Failure::words("illegal tunnel type specified").blame(value))?;
                    }
                    Opt::TunPort => {
                        let port = within(1, u16::MAX.into(), "illegal tunnel port specified")?;
                        self.tunnel_port = u16::try_from(port).unwrap_or_default();
                    }
                    Opt::Deadline => {
                        let seconds = number(value, 0, TIMEOUT_MAX).ok_or_else(|| invalid_timeout(value))?;
                        self.deadline = Some(Duration::from_secs(seconds.into()));
                    }
                    Opt::Syncid => drop(within(0, 255, "illegal syncid specified")?),
                    Opt::SyncMaxlen => drop(within(1, 65_507, "illegal sync-maxlen specified")?),
                    Opt::McastPort => drop(within(1, u16::MAX.into(), "illegal mcast-port specified")?),
                    Opt::McastTtl => drop(within(1, 255, "illegal mcast-ttl specified")?),
                    Opt::McastGroup if !value.parse().is_ok_and(|group: IpAddr| group.is_multicast()) => {
                        let version = if value.contains(':') { 6 } else { 4 };
                        let text = format!("invalid IPv{version} mcast-group `{value}'");
                        return Err(Failure::words(text));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
    fn take_service(&mut self, protocol: Protocol, value: &str) -> Result<(), Failure> {
        self.present.add(Opt::Service)?;
        let endpoint = Endpoint::parse(value, protocol, self.names);
        let endpoint = endpoint
            .ok_or_else(|| Failure::words("illegal virtual server address[:port] specified").blame(value))?;
        let address = SocketAddr::new(endpoint.host, endpoint.port.unwrap_or(0));
        self.service = Some(ServiceKey::Address { protocol, address });
        Ok(())
    }

    /// Refuses at once what is no mask of a service that is known, or of any.
    fn take_netmask(&mut self, value: &'a str) -> Result<(), Failure> {
        match self.service.as_ref().and_then(ServiceKey::family) {
            Some(Family::V6) => drop(prefix_v6(value)?),
            Some(Family::V4) => drop(mask_v4(value)?),
            None if prefix_v6(value).is_ok() => {}
            None => drop(mask_v4(value)?),
        }
        self.netmask = Some(value);
        Ok(())
    }

    fn take_method(&mut self, method: Method) -> Result<(), Failure> {
        self.present.add(Opt::Forwarding)?;
        self.forwarding = method;
        Ok(())
    }

    /// The flags of `-b`, which are named after the scheduler that knows them.
    pub(crate) fn scheduler_flags(&self) -> Result<SchedulerFlags, Failure> {
        let mut flags = SchedulerFlags::default();
        for word in self.flags.split(',').filter(|word| !word.is_empty()) {
            let (scheduler, flag) = match word {
                "flag-1" => (None, SchedulerFlags::FIRST),
                "flag-2" => (None, SchedulerFlags::SECOND),
                "flag-3" => (None, SchedulerFlags::THIRD),
                "sh-fallback" => (Some("sh"), SchedulerFlags::FIRST),
                "sh-port" => (Some("sh"), SchedulerFlags::SECOND),
                "mh-fallback" => (Some("mh"), SchedulerFlags::FIRST),
                "mh-port" => (Some("mh"), SchedulerFlags::SECOND),
                _ => return Err(Failure::words(format!("invalid scheduler flag `{word}'"))),
            };
            if scheduler.is_some_and(|scheduler| scheduler != self.scheduler_name()) {
                return Err(Failure::words(format!("incompatible scheduler flag `{word}'")));
            }
            flags = flags.with(flag);
        }
        Ok(flags)
    }

    /// Checks that the command takes the options and has those it needs.
    pub(crate) fn check_options(&self, verb: Verb) -> Result<(), Failure> {
        self.present.check_verb(verb)
    }

    fn scheduler_name(&self) -> &'a str {
        self.scheduler.filter(|name| !name.is_empty()).unwrap_or(SCHEDULER_DEFAULT)
    }

    pub(crate) fn naming(&self) -> Naming {
        if self.present.has(Opt::Numeric) { Naming::Numeric } else { Naming::Named }
    }

    pub(crate) fn format(&self) -> Format {
        if self.present.has(Opt::Json) { Format::Json } else { Format::Text }
    }

    pub(crate) fn extent(&self) -> Extent {
        if self.present.has(Opt::Full) { Extent::Full } else { Extent::Ipvsadm }
    }

    /// How long connections of a server that drains may stay.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    pub(crate) fn into_service(self) -> Option<ServiceKey> {
        self.service
    }

    /// The service, which the command cannot do without.
    pub(crate) fn service(&self) -> Result<ServiceKey, Failure> {
        self.service.clone().ok_or_else(|| Failure::words("illegal virtual server address[:port] specified"))
    }

    /// The service with all that `-A` and `-E` may say about it.
    pub(crate) fn service_config(&self, flags: SchedulerFlags) -> Result<ServiceConfig, Failure> {
        let key = self.service()?;
        if let ServiceKey::Address { protocol, address } = &key {
            if address.port() == 0 && self.persistence.is_none() {
                let text = "Zero port specified for non-persistent service";
                return Err(Failure::words(text).blame(address));
            }
            if self.present.has(Opt::Ops) && *protocol != Protocol::Udp {
                return Err(Failure::words("One-Packet Scheduling is only for UDP virtual services"));
            }
        }
        let persistence = self.persistence(key.family())?;
        let name = self.scheduler_name();
        let algorithm: Algorithm = name
            .parse()
            .map_err(|_| Failure::refused(NO_SCHEDULER).because("unknown scheduler").blame(name))?;
        let mut service = ServiceConfig::new(key, algorithm);
        service.flags = flags;
        service.persistence = persistence;
        service.one_packet = self.present.has(Opt::Ops);
        Ok(service)
    }

    fn persistence(&self, family: Option<Family>) -> Result<Option<Persistence>, Failure> {
        // A mask is checked even where there is no persistence that it could apply to.
        let seconds = self.persistence.unwrap_or(PERSISTENCE_DEFAULT);
        let mut persistence = Persistence::new(Duration::from_secs(seconds.into()))
            .map_err(|error| Failure::words(error.to_string()))?;
        if let Some(mask) = self.netmask {
            persistence = match family {
                Some(Family::V6) => persistence.prefix(prefix_v6(mask)?),
                _ => Ok(persistence.mask(mask_v4(mask)?)),
            }
            .map_err(|error| Failure::words(error.to_string()))?;
        }
        // As IPVS, which knows the name or not, and makes nothing of it without `-p`.
        if let Some(name) = self.engine.filter(|name| !name.is_empty()) {
            let engine = PersistenceEngine::of_name(name).ok_or_else(|| {
                Failure::refused(NO_SCHEDULER).because("unknown persistence engine").blame(name)
            })?;
            persistence = persistence.engine(engine);
        }
        Ok(self.persistence.is_some().then_some(persistence))
    }

    /// The server with all that `-a` and `-e` may say about it.
    pub(crate) fn server_config(&self) -> Result<ServerConfig, Failure> {
        let (service, written) = (self.service()?, self.written_server()?);
        let service_port = service.address().map(|address| address.port());
        // Only NAT can lead to another port: the other methods leave the packet as it came.
        let port = match service_port {
            Some(port) if self.forwarding != Method::Masquerading => port,
            _ => written.port.or(service_port).unwrap_or(0),
        };
        let tunneled = self.forwarding == Method::Tunneling;
        if service.family().is_some_and(|family| family != Family::of(written.host)) && !tunneled {
            let text = "Different address family is allowed only for tunneling servers";
            return Err(Failure::words(text).blame(self.real_server));
        }
        if self.present.has_any(&TUNNEL) && !tunneled {
            return Err(Failure::words("Tunnel options conflict with forward method"));
        }
        self.present.check_tunnel(self.tunnel)?;
        if !is_unicast(written.host) {
            let reason = "a real server needs a unicast address";
            return Err(Failure::refused(INVALID).because(reason).blame(self.real_server));
        }
        let mut server = ServerConfig::new(SocketAddr::new(written.host, port)).weight(self.weight);
        server.forwarding = match self.forwarding {
            Method::Gatewaying => Forwarding::Gatewaying,
            Method::Masquerading => Forwarding::Masquerading,
            Method::Tunneling => Forwarding::Tunneling(self.tunnel()),
        };
        server.backup = self.present.has(Opt::Backup);
        server.thresholds = Thresholds::new(self.upper_threshold, self.lower_threshold)
            .map_err(|error| Failure::refused(OUT_OF_RANGE).because(error))?;
        Ok(server)
    }

    /// The server's address, which is all that `-d` needs.
    pub(crate) fn server_address(&self) -> Result<SocketAddr, Failure> {
        let (service, written) = (self.service()?, self.written_server()?);
        let service_port = service.address().map(|address| address.port());
        Ok(SocketAddr::new(written.host, written.port.or(service_port).unwrap_or(0)))
    }

    fn written_server(&self) -> Result<Endpoint, Failure> {
        let protocol = match self.service {
            Some(ServiceKey::Address { protocol, .. }) => protocol,
            _ => Protocol::Tcp,
        };
        Endpoint::parse(self.real_server, protocol, self.names).ok_or_else(|| {
            Failure::words("illegal real server address[:port] specified").blame(self.real_server)
        })
    }

    fn tunnel(&self) -> Tunnel {
        let checksum = if self.present.has(Opt::TunRemcsum) {
            TunnelChecksum::Remote
        } else if self.present.has(Opt::TunCsum) {
            TunnelChecksum::Present
        } else {
            TunnelChecksum::Absent
        };
        match self.tunnel {
            TunnelKind::Ipip => Tunnel::Ipip,
            TunnelKind::Gue => Tunnel::Gue { port: self.tunnel_port, checksum },
            TunnelKind::Gre => Tunnel::Gre { checksum },
        }
    }

    /// What `-L` is to list.
    pub(crate) fn listing(&self) -> Result<Listing, Failure> {
        use Opt::{Connection, Daemon, Health, PersistentConn, Rate, Stats, Thresholds, Timeout, Vrrp};
        let has = |option| self.present.has(option);
        let no_services = self.present.has_any(&[Connection, Timeout, Daemon, Vrrp]);
        if (no_services && self.present.has_any(&[Stats, Rate, Thresholds, Health]))
            || (has(PersistentConn) && self.present.has_any(&[Timeout, Daemon, Vrrp]))
        {
            return Err(Failure::words("options conflicts in the list command"));
        }
        if has(Connection) {
            return Ok(Listing::Connections(if has(PersistentConn) {
                PersistenceColumns::Present
            } else {
                PersistenceColumns::Absent
            }));
        }
        if has(Timeout) {
            return Ok(Listing::Timeouts);
        }
        if has(Daemon) {
            return Ok(Listing::Daemons);
        }
        if has(Vrrp) {
            return Ok(Listing::VirtualRouters);
        }
        let layout = if has(Health) {
            Layout::Health
        } else if has(Stats) {
            Layout::Stats
        } else if has(Rate) {
            Layout::Rate
        } else if has(Thresholds) {
            Layout::Thresholds
        } else if has(PersistentConn) {
            Layout::PersistentConn
        } else if has(Opt::TunInfo) {
            Layout::TunInfo
        } else {
            Layout::Plain
        };
        Ok(Listing::Services {
            only: self.service.clone(),
            layout,
            numbers: if has(Opt::Exact) { Numbers::Exact } else { Numbers::Scaled },
            order: if has(Opt::Nosort) { Order::Kernel } else { Order::ByAddress },
        })
    }
}

/// Reads a dotted mask in full: ipvsadm takes `24` for 0.0.0.24, which nobody means.
fn mask_v4(text: &str) -> Result<Ipv4Addr, Failure> {
    text.parse().map_err(|_| Failure::words("illegal virtual server persistent mask specified").blame(text))
}

fn prefix_v6(text: &str) -> Result<u8, Failure> {
    let prefix = number(text, 1, 128).and_then(|prefix| u8::try_from(prefix).ok());
    prefix.ok_or_else(|| Failure::words("illegal ipv6 netmask specified").blame(text))
}

pub(crate) fn invalid_timeout(word: &str) -> Failure {
    Failure::words(format!("invalid timeout value `{word}' specified"))
}

fn is_unicast(host: IpAddr) -> bool {
    let is_broadcast = matches!(host, IpAddr::V4(host) if host.is_broadcast());
    !host.is_unspecified() && !host.is_multicast() && !is_broadcast
}

/// What `-p` means without a number, in seconds; ipvsadm's manual says 300, ipvsadm does this.
const PERSISTENCE_DEFAULT: u32 = 360;
/// Longest timeout, 31 days, in seconds.
pub(crate) const TIMEOUT_MAX: u32 = 31 * 24 * 3600;
const THRESHOLD_MAX: u32 = i32::MAX as u32;
const SCHEDULER_DEFAULT: &str = "wlc";
