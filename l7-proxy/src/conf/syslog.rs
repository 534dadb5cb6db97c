//! `syslog:server=...` where a log goes.

use crate::model::{Facility, Hostname, Syslog};

use super::address;
use super::core::level;
use super::rules::Fault;

/// Reads what follows `syslog:`.
pub(super) fn read(text: &str) -> Result<Syslog, Fault> {
    let (mut server, mut facility, mut severity, mut tag) = (None, None, None, None);
    let mut hostname = Hostname::Told;
    for word in text.split(',') {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let is_again = match key {
            "server" => {
                let fault = |reason| Fault::new(format!("{reason} in syslog server \"{value}\""));
                let addrs = address::resolve(value, Some(514)).map_err(fault)?;
                let addr = addrs.into_iter().next().ok_or_else(|| fault("host not found"))?;
                server.replace(addr).is_some()
            }
            "facility" => {
                let unknown = || Fault::new(format!("unknown syslog facility \"{value}\""));
                facility.replace(Facility::named(value).ok_or_else(unknown)?).is_some()
            }
            "severity" => {
                let unknown = || Fault::new(format!("unknown syslog severity \"{value}\""));
                severity.replace(level(value).ok_or_else(unknown)?).is_some()
            }
            "tag" => {
                if value.len() > TAG_MAX {
                    return Err(Fault::new(format!("syslog tag length exceeds {TAG_MAX}")));
                }
                if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    let message = "syslog \"tag\" only allows alphanumeric characters and underscore";
                    return Err(Fault::new(message));
                }
                tag.replace(value.to_owned()).is_some()
            }
            "nohostname" if word == key => {
                hostname = Hostname::LeftOut;
                false
            }
            _ => return Err(Fault::new(format!("unknown syslog parameter \"{word}\""))),
        };
        if is_again {
            return Err(Fault::new(format!("duplicate syslog \"{key}\"")));
        }
    }
    let mut syslog = Syslog::new(server.ok_or_else(|| Fault::new("no syslog server specified"))?);
    syslog.hostname = hostname;
    syslog.facility = facility.unwrap_or(syslog.facility);
    syslog.severity = severity.unwrap_or(syslog.severity);
    syslog.tag = tag.unwrap_or(syslog.tag);
    Ok(syslog)
}

/// The longest tag (RFC 3164, section 4.1.3).
const TAG_MAX: usize = 32;
