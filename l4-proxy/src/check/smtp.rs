//! `SMTP_CHECK`: each host greets (220), takes a HELO (250) and lets go (221).

use lvs_core::Cause;
use tokio::time::Instant;

use super::{CONNECT_TIMED_OUT, Report, by, origin};
use crate::keepalived::model::SmtpHost;
use crate::smtp::Dialogue;

pub(super) async fn check(hosts: &[SmtpHost], helo: &str) -> Report {
    for host in hosts {
        if let Err(cause) = converse(host, helo).await {
            return Report::Failed(Cause::from(format!("SMTP at {}: {cause}", host.origin.target)));
        }
    }
    Report::Passed
}

async fn converse(host: &SmtpHost, helo: &str) -> Result<(), Cause> {
    let until = Instant::now() + host.timeout;
    let stream = by(until, CONNECT_TIMED_OUT, origin::connect(&host.origin)).await?;
    let mut dialogue = by(until, "no greeting in time", Dialogue::begin(stream)).await?;
    by(until, "no answer to HELO in time", dialogue.say(&format!("HELO {helo}"), "250")).await?;
    by(until, "no answer to QUIT in time", dialogue.say("QUIT", "221")).await
}
