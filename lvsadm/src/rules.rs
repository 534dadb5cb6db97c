//! The rules of a director as text: what `ipvsadm-save` writes.
//!
//! A file of rules has one command a line, as ipvsadm takes it, with or without the word `ipvsadm`
//! in front. Empty lines and lines that begin with `#` are left out. What ipvsadm does not save
//! is not saved here either: thresholds and timeouts.

use std::fmt;
use std::path::{Path, PathBuf};

use lvs_core::{
    Config, Forwarding, Protocol, ServerConfig, ServiceConfig, ServiceKey, Tunnel, TunnelChecksum,
};

use crate::arguments::{self, Command};
use crate::control::{CommitError, Edit};
use crate::edit;
use crate::listing::{Fit, endpoint, mask, protocol, scheduler_flags};
use crate::message::Failure;
use crate::names::{Names, Naming};
use crate::order;

/// What is wrong in a file of rules, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, with the word to blame.
    pub message: String,
}

/// Reads the rules of a file whose text this is.
///
/// Only commands that edit are rules: `-A -E -D -C -a -e -d`. Names of hosts and services are
/// looked up now, and what they lead to is kept.
///
/// ```
/// # use lvsadm::rules;
/// let config = rules::parse("director.rules", "-A -t 192.0.2.1:80 -s wrr\n-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -m\n")?;
/// assert_eq!(config.services[0].servers.len(), 1);
///
/// let error = rules::parse("director.rules", "-A -t 192.0.2.1:80\n-a -t 192.0.2.1:80 -r 10.0.0.1 -w x\n");
/// assert_eq!(error.unwrap_err().to_string(), "director.rules:2: illegal weight specified: \"x\"");
/// # Ok::<(), rules::RulesError>(())
/// ```
///
/// # Errors
/// The first line that is no rule, or does not fit what the lines before it say.
pub fn parse(file: impl AsRef<Path>, text: &str) -> Result<Config, RulesError> {
    parse_for(file, text, |_| Ok(()))
}

/// The same for a director that cannot do everything: each rule must also pass `accepts`, so that
/// what it refuses has a line.
///
/// # Errors
/// The first line that is no rule, does not fit what the lines before it say, or is not accepted.
pub fn parse_for(
    file: impl AsRef<Path>,
    text: &str,
    accepts: impl Fn(&Edit) -> Result<(), CommitError>,
) -> Result<Config, RulesError> {
    let names = Names::default();
    let mut config = Config::default();
    for (line, words) in lines(text) {
        if words[0].starts_with('#') {
            continue;
        }
        let wrong = |message| RulesError { file: file.as_ref().to_owned(), line, message };
        let edit = read(&words, &names).map_err(|failure| wrong(failure.reason()))?;
        edit::make(&edit, &mut config).map_err(|failure| wrong(failure.reason()))?;
        accepts(&edit).map_err(|refused| wrong(refused.to_string()))?;
    }
    Ok(config)
}

fn read(words: &[String], names: &Names) -> Result<Edit, Failure> {
    match arguments::parse(words, names)? {
        Command::Edit(edit) => Ok(*edit),
        _ => Err(Failure::words("the command is no rule").blame(&words[0])),
    }
}

/// The commands in a text with their line numbers, split into words. A leading word `ipvsadm` is
/// dropped, and lines without a command are left out.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<String>)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let mut words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        if words.first().is_some_and(|word| word == "ipvsadm") {
            words.remove(0);
        }
        (!words.is_empty()).then_some((index + 1, words))
    })
}

/// Writes rules, one command a line, in the order of a listing.
///
/// Named pools, which no command leads to, are left out.
pub fn save(config: &Config, naming: Naming) -> String {
    let names = Names::default();
    let names = (naming == Naming::Named).then_some(&names);
    let mut services: Vec<&ServiceConfig> = config.services.iter().collect();
    order::services(&mut services, |service| &service.key);
    let mut out = String::new();
    for service in services {
        let Some(key) = key_words(&service.key, names) else { continue };
        out.push_str(&format!("-A {key} {}\n", service_words(service)));
        let mut servers: Vec<&ServerConfig> = service.servers.iter().rev().collect();
        order::servers(&mut servers, |server| server.address);
        for server in servers {
            let address = endpoint(server.address, protocol(&service.key), names, Fit::Whole);
            out.push_str(&format!("-a {key} -r {address} {}\n", server_words(server)));
        }
    }
    out
}

fn key_words(key: &ServiceKey, names: Option<&Names>) -> Option<String> {
    match key {
        ServiceKey::Address { protocol, address } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            Some(format!("{option} {}", endpoint(*address, Some(*protocol), names, Fit::Whole)))
        }
        ServiceKey::Mark { mark, family: lvs_core::Family::V4 } => Some(format!("-f {mark}")),
        ServiceKey::Mark { mark, family: lvs_core::Family::V6 } => Some(format!("-f {mark} -6")),
        ServiceKey::Name(_) => None,
    }
}

fn service_words(service: &ServiceConfig) -> String {
    let mut words = format!("-s {}", service.algorithm);
    if let Some(persistence) = &service.persistence {
        words.push_str(&format!(" -p {}", persistence.timeout().as_secs()));
    }
    if let Some(mask) = mask(service) {
        words.push_str(&format!(" -M {mask}"));
    }
    if service.one_packet {
        words.push_str(" -o");
    }
    if !service.flags.is_empty() {
        words.push_str(&format!(" -b {}", scheduler_flags(service)));
    }
    words
}

fn server_words(server: &ServerConfig) -> String {
    let checksum = |checksum| match checksum {
        TunnelChecksum::Absent => "--tun-nocsum",
        TunnelChecksum::Present => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    let weight = server.weight;
    match server.forwarding {
        Forwarding::Gatewaying => format!("-g -w {weight}"),
        Forwarding::Tunneling(Tunnel::Gue { port, checksum: sum }) => {
            format!("-i -w {weight} --tun-type gue --tun-port {port} {}", checksum(sum))
        }
        Forwarding::Tunneling(Tunnel::Gre { checksum: sum }) => {
            format!("-i -w {weight} --tun-type gre {}", checksum(sum))
        }
        Forwarding::Tunneling(_) => format!("-i -w {weight} --tun-type ipip"),
        _ => format!("-m -w {weight}"),
    }
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

impl std::error::Error for RulesError {}
