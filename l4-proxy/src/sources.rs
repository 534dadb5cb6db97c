//! Where the configuration comes from: a file of rules, a `keepalived.conf`, or both.

use std::path::{Path, PathBuf};

use l4_proxy::daemon;
use l4_proxy::fwmark::Entrance;
use l4_proxy::keepalived::{self, Complaint, Dialect, Model, Severity};
use l4_proxy::takeover::Given;
use lvs_core::Config;
use lvsadm::rules::{Rules, TimeoutRule};
use lvsadm::{Edit, Naming, Timeouts};
use tracing::warn;

use crate::options::Named;

/// The files, and how they are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Rules as `ipvsadm-save` writes them.
    pub(crate) rules: Option<PathBuf>,
    /// A `keepalived.conf`.
    pub(crate) config: Option<PathBuf>,
    /// What its lines that begin with `@` go by, if not the name of the machine.
    pub(crate) id: Option<String>,
    /// What becomes of lines that cannot be understood.
    pub(crate) dialect: Dialect,
    /// Where the director takes in what has a firewall mark.
    pub(crate) entrances: Vec<Entrance>,
    /// What the command line says of single services, which may not be there.
    pub(crate) named: Vec<Named>,
}

/// What was in them.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) rules: Rules,
    pub(crate) model: Option<Model>,
    pub(crate) warnings: Vec<String>,
    /// What the `keepalived.conf` says.
    statements: String,
}

impl Sources {
    /// The names of the files, for messages.
    pub(crate) fn names(&self) -> String {
        let names = [&self.config, &self.rules].into_iter().flatten();
        names.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
    }

    /// Whether there is no file at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_none() && self.config.is_none()
    }

    /// Reads the files; all that is wrong with them is in the error.
    pub(crate) fn read(&self) -> Result<Read, String> {
        let mut read = Read::default();
        let accepts = |edit: &Edit| daemon::accepts(&self.entrances, edit);
        if let Some(path) = &self.rules {
            let unreadable = |error| format!("{}: {error}", path.display());
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            let rules = lvsadm::rules::read(path, &text, accepts);
            read.rules = rules.map_err(|error| error.to_string())?;
        }
        if let Some(path) = &self.config {
            let id = self.id.clone().unwrap_or_else(keepalived::default_id);
            let unreadable = |error| format!("{}: {error}", path.display());
            let mut loaded = keepalived::load(path, &id).map_err(unreadable)?;
            loaded.fit(accepts);
            read.statements = std::mem::take(&mut loaded.statements);
            let (model, warnings) =
                loaded.accept(self.dialect).map_err(|complaints| lines(path, &complaints))?;
            read.model = Some(model);
            read.warnings = warnings.iter().map(ToString::to_string).collect();
        }
        // Without files services come from `lvsadm`, when they come.
        if !self.is_empty() {
            let config = read.config();
            read.warnings.extend(self.named.iter().filter_map(|named| {
                let missing = named.missing_from(&config)?;
                Some(format!("{}: warning: {missing} is in {}", named.option, self.names()))
            }));
        }
        Ok(read)
    }
}

impl Read {
    /// All of it as it begins, before any check has been made.
    pub(crate) fn config(&self) -> Config {
        let mut config = self.rules.config.clone();
        config.services.extend(self.model.iter().flat_map(keepalived::services));
        config
    }

    /// What a successor has to know of it.
    pub(crate) fn given(&self) -> Given {
        let statements = if self.model.is_some() { digest(&self.statements) } else { String::new() };
        let timeouts = timeouts(self.rules.timeouts);
        let rules = lvsadm::rules::save_full(&self.rules.config, timeouts, Naming::Numeric);
        Given { rules, statements }
    }

    /// Whether a director that was given this, perhaps an earlier version, has read the same.
    pub(crate) fn says(&self, given: &Given) -> bool {
        // Written and read again, so that both are in the order in which rules are written.
        let read = |text: &str| {
            let rules = lvsadm::rules::read("the files", text, |_| Ok(())).ok()?;
            Some((rules.config, timeouts(rules.timeouts)))
        };
        let own = self.given();
        own.statements == given.statements
            && read(&own.rules).is_some_and(|own| read(&given.rules) == Some(own))
    }

    /// Writes to the log what is odd about it.
    pub(crate) fn warn(&self) {
        for warning in &self.warnings {
            warn!("{warning}");
        }
    }

    /// What is in it, for people.
    pub(crate) fn summary(&self) -> String {
        let Some(model) = &self.model else {
            let servers: usize = self.rules.config.services.iter().map(|service| service.servers.len()).sum();
            return format!(
                "the rules are good (services: {}, servers: {servers})",
                self.rules.config.services.len()
            );
        };
        let servers: usize = model.services.iter().map(|service| service.servers.len()).sum();
        let (services, routers) = (self.config().services.len(), model.vrrp.instances.len());
        format!(
            "the configuration is good (services: {services}, servers: {servers}, VRRP instances: {routers})"
        )
    }
}

/// The timeouts that hold after a rule, where the usual ones do before it.
fn timeouts(rule: Option<TimeoutRule>) -> Timeouts {
    rule.map_or(Timeouts::default(), |rule| rule.apply_to(Timeouts::default()))
}

fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How many complaints there are, and then each of them on lines of its own.
fn lines(file: &Path, complaints: &[Complaint]) -> String {
    let errors = complaints.iter().filter(|complaint| complaint.severity == Severity::Error).count();
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut text = format!("{} cannot be used: {}", file.display(), plural(errors, "error"));
    if errors < complaints.len() {
        text.push_str(&format!(", {}", plural(complaints.len() - errors, "warning")));
    }
    for complaint in complaints {
        text.push_str(&format!("\n{complaint}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Read {
        let rules = lvsadm::rules::read("rules", text, |_| Ok(())).expect("rules");
        Read { rules, ..Read::default() }
    }

    #[test]
    fn files_say_the_same_in_whatever_words_a_version_writes_them() {
        let read =
            rules("-A -t 192.0.2.2:80 -s wlc\n-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.0.1 -m\n");
        assert!(read.says(&read.given()));
        let check = |text: &str, same: bool| {
            let given = Given { rules: text.to_owned(), statements: String::new() };
            assert_eq!(read.says(&given), same, "{text}");
        };
        let elsewhere = "--add-service --tcp-service 192.0.2.1:80 --scheduler rr\n\
                         --add-server -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1 -x 0\n-A -t 192.0.2.2:80\n";
        check(elsewhere, true);
        check(&format!("--set 900 0 0\n{elsewhere}"), true);
        check(&format!("--set 800 0 0\n{elsewhere}"), false);
        check(&elsewhere.replace("-w 1", "-w 2"), false);
        check(&format!("{elsewhere}--of-a-later-version\n"), false);
        let with_statements = Given { statements: digest("a"), ..read.given() };
        assert!(!read.says(&with_statements));
    }
}
