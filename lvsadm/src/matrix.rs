//! Which command takes which options: the table at the head of ipvsadm's manual.

use crate::message::Failure;
use crate::option::{Opt, Verb};

/// The options that a command line has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present(u64);

/// How a tunneled server's packets are wrapped (`--tun-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TunnelKind {
    #[default]
    Ipip,
    Gue,
    Gre,
}

/// The options of a command or a tunnel type; any other is illegal with it.
#[derive(Default)]
struct Rules {
    required: &'static [Opt],
    allowed: &'static [Opt],
    /// Allowed, but only one of them at a time.
    exclusive: &'static [Opt],
}

impl Present {
    pub(crate) fn has(self, option: Opt) -> bool {
        self.0 & 1 << option as u32 != 0
    }

    pub(crate) fn has_any(self, options: &[Opt]) -> bool {
        options.iter().any(|option| self.has(*option))
    }

    /// Notes an option, of which there may be only one.
    pub(crate) fn add(&mut self, option: Opt) -> Result<(), Failure> {
        if self.has(option) {
            return Err(Failure::words(format!("multiple '{}' options specified", option.name())));
        }
        self.0 |= 1 << option as u32;
        Ok(())
    }

    /// Checks that the command takes these options and has those it needs.
    pub(crate) fn check_verb(self, verb: Verb) -> Result<(), Failure> {
        use Opt::*;
        let rules = match verb {
            Verb::AddService | Verb::EditService => Rules {
                required: &[Service],
                allowed: &[Scheduler, Persistent, Netmask, Ops, PersistenceEngine, SchedFlags],
                exclusive: &[],
            },
            Verb::AddServer | Verb::EditServer => Rules {
                required: &[Service, RealServer],
                allowed: &[
                    Forwarding,
                    Weight,
                    UpperThreshold,
                    LowerThreshold,
                    TunType,
                    TunPort,
                    TunNocsum,
                    TunCsum,
                    TunRemcsum,
                    Backup,
                ],
                exclusive: &[],
            },
            Verb::DeleteService => Rules { required: &[Service], ..Rules::default() },
            Verb::DeleteServer => Rules { required: &[Service, RealServer], ..Rules::default() },
            Verb::List => Rules {
                required: &[],
                allowed: &[
                    Numeric,
                    Stats,
                    Rate,
                    Thresholds,
                    PersistentConn,
                    Nosort,
                    Syncid,
                    Exact,
                    TunInfo,
                    Json,
                    Health,
                ],
                exclusive: &[Connection, Service, Timeout, Daemon, Vrrp],
            },
            Verb::Zero => Rules { allowed: &[Service], ..Rules::default() },
            Verb::Save => Rules { allowed: &[Numeric, Full], ..Rules::default() },
            Verb::StartDaemon => Rules {
                allowed: &[McastInterface, Syncid, SyncMaxlen, McastGroup, McastPort, McastTtl],
                ..Rules::default()
            },
            Verb::StopDaemon => Rules { allowed: &[Syncid], ..Rules::default() },
            Verb::Explain => Rules { allowed: &[Service, Json], ..Rules::default() },
            Verb::Plan => Rules { allowed: &[Json], ..Rules::default() },
            Verb::Drain => Rules { allowed: &[Service, Deadline], ..Rules::default() },
            Verb::Clear | Verb::Restore | Verb::Set | Verb::Help | Verb::Version | Verb::Top => {
                Rules::default()
            }
        };
        self.check(&Opt::ALL, &rules, &format!("'{}' command", verb.name()))
    }

    /// Checks that the tunnel type takes these options and has those it needs.
    pub(crate) fn check_tunnel(self, kind: TunnelKind) -> Result<(), Failure> {
        use Opt::{TunCsum, TunNocsum, TunPort, TunRemcsum};
        let rules = match kind {
            TunnelKind::Ipip => Rules::default(),
            TunnelKind::Gue => {
                Rules { required: &[TunPort], allowed: &[], exclusive: &[TunNocsum, TunCsum, TunRemcsum] }
            }
            TunnelKind::Gre => Rules { exclusive: &[TunNocsum, TunCsum], ..Rules::default() },
        };
        let what = format!("'{}' tunnel type", kind.name());
        self.check(&[TunPort, TunNocsum, TunCsum, TunRemcsum], &rules, &what)
    }

    fn check(self, options: &[Opt], rules: &Rules, what: &str) -> Result<(), Failure> {
        let mut before: Option<Opt> = None;
        for &option in options {
            let name = option.name();
            let is_required = rules.required.contains(&option);
            if !self.has(option) {
                if is_required {
                    let text = format!("You need to supply the '{name}' option for the {what}");
                    return Err(Failure::words(text));
                }
            } else if rules.exclusive.contains(&option) {
                if let Some(before) = before {
                    let before = before.name();
                    return Err(Failure::words(format!(
                        "The option '{name}' conflicts with the '{before}' option in the {what}"
                    )));
                }
                before = Some(option);
            } else if !is_required && !rules.allowed.contains(&option) {
                return Err(Failure::words(format!("Illegal '{name}' option with the {what}")));
            }
        }
        Ok(())
    }
}

impl TunnelKind {
    pub(crate) fn parse(name: &str) -> Option<TunnelKind> {
        match name {
            "ipip" => Some(TunnelKind::Ipip),
            "gue" => Some(TunnelKind::Gue),
            "gre" => Some(TunnelKind::Gre),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            TunnelKind::Ipip => "ipip",
            TunnelKind::Gue => "gue",
            TunnelKind::Gre => "gre",
        }
    }
}

/// The options that only a tunneled server has.
pub(crate) const TUNNEL: [Opt; 5] =
    [Opt::TunType, Opt::TunPort, Opt::TunNocsum, Opt::TunCsum, Opt::TunRemcsum];
