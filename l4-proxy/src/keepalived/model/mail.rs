//! Who is sent mail of what: `smtp_alert`, and what `global_defs` says of mail.

use std::time::Duration;

use super::build::{Build, duration, switched_on, text};
use crate::keepalived::schema;
use crate::keepalived::tree::Node;

/// Whether mail is sent of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mail {
    /// As `global_defs` says.
    #[default]
    AsGlobal,
    /// Of changes.
    On,
    /// None.
    Off,
}

impl Mail {
    pub(super) fn of(switched_on: bool) -> Mail {
        if switched_on { Mail::On } else { Mail::Off }
    }

    /// Whether it is sent, where that is what the file says of all, or else this.
    pub(crate) fn is_on(self, global: Mail, otherwise: Mail) -> bool {
        let said = [self, global, otherwise].into_iter().find(|mail| *mail != Mail::AsGlobal);
        said == Some(Mail::On)
    }
}

/// Where mail goes, and of what it is sent where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailing {
    /// Who gets it.
    pub to: Vec<String>,
    /// Who it is from; this program on this machine otherwise.
    pub from: Option<String>,
    /// Host and port of the server that takes it.
    pub server: Option<(String, u16)>,
    /// What this machine calls itself there.
    pub helo: Option<String>,
    /// How long each step may take.
    pub timeout: Duration,
    /// What this director is called in subjects.
    pub name: Option<String>,
    /// Of checks and quorums.
    pub of_checks: Mail,
    /// Of VRRP.
    pub of_vrrp: Mail,
    /// Not of faults.
    pub no_faults: bool,
}

impl Mailing {
    /// Whether there is somebody to send it to, and a way.
    pub fn goes_anywhere(&self) -> bool {
        !self.to.is_empty() && self.server.is_some()
    }
}

impl Build<'_> {
    pub(super) fn mailing(&mut self) -> Mailing {
        let mut mailing = Mailing { timeout: TIMEOUT, ..Mailing::default() };
        let (mut of_all, mut asking) = (Mail::AsGlobal, None);
        for node in self.blocks("global_defs").into_iter().flat_map(Node::children) {
            match node.name() {
                "router_id" => mailing.name = text(node),
                "notification_email" => {
                    mailing.to.extend(node.children().iter().map(|address| address.name().to_owned()));
                }
                "notification_email_from" => mailing.from = text(node),
                "smtp_server" => {
                    let port = node.text(2).and_then(schema::port).unwrap_or(PORT);
                    mailing.server = text(node).map(|host| (host, port));
                }
                "smtp_helo_name" => mailing.helo = text(node),
                "smtp_connect_timeout" => mailing.timeout = duration(node).unwrap_or(TIMEOUT),
                "smtp_alert" => of_all = Mail::of(switched_on(node)),
                "smtp_alert_vrrp" => mailing.of_vrrp = Mail::of(switched_on(node)),
                "smtp_alert_checker" => mailing.of_checks = Mail::of(switched_on(node)),
                "no_email_faults" => mailing.no_faults = true,
                _ => {}
            }
            let asks = matches!(node.name(), "smtp_alert" | "smtp_alert_vrrp" | "smtp_alert_checker");
            asking = asking.or((asks && switched_on(node)).then_some(node));
        }
        for of_some in [&mut mailing.of_checks, &mut mailing.of_vrrp] {
            if *of_some == Mail::AsGlobal {
                *of_some = of_all;
            }
        }
        let asking = asking.or_else(|| self.nodes.iter().find_map(asks));
        if let Some(node) = asking.filter(|_| !mailing.goes_anywhere()) {
            let lacking = if mailing.to.is_empty() { "notification_email" } else { "smtp_server" };
            let message = format!("no mail is sent: there is no {lacking} in global_defs");
            self.unfit.push(node.blame(message).only_warns());
        }
        mailing
    }
}

/// What asks for mail in a block, and in those within.
fn asks(node: &Node) -> Option<&Node> {
    let here = |node: &Node| node.name() == "smtp_alert" && switched_on(node);
    node.children().iter().find_map(|child| if here(child) { Some(child) } else { asks(child) })
}

const PORT: u16 = 25;
const TIMEOUT: Duration = Duration::from_secs(30);
