//! `SMTP_CHECK`: each host greets (220), takes a HELO (250) and lets go (221).

use lvs_core::Cause;

use super::{Report, origin, within};
use crate::keepalived::model::SmtpHost;
use crate::smtp::Dialogue;

pub(super) async fn check(hosts: &[SmtpHost], helo: &str) -> Report {
    for host in hosts {
        let report = within(host.timeout, converse(host, helo)).await;
        if let Report::Failed(cause) = report {
            return Report::Failed(Cause::from(format!("SMTP at {}: {cause}", host.origin.target)));
        }
    }
    Report::Passed
}

async fn converse(host: &SmtpHost, helo: &str) -> Result<(), Cause> {
    let mut dialogue = Dialogue::begin(origin::connect(&host.origin).await?).await?;
    dialogue.say(&format!("HELO {helo}"), "250").await?;
    dialogue.say("QUIT", "221").await
}
