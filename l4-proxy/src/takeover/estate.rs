//! What a director hands on, as a text: a line for each thing, and then the rules and templates whole.
//!
//! Who reads it passes over lines that it does not know: a later version may tell more. Times are relative,
//! in milliseconds.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use lvs_core::{Cause, Director, Family, Finding, HealthRecord, Protocol, ServiceKey, Time};
use lvsadm::Naming;

use super::tally::Tally;
use crate::check::Weighs;
use crate::check::rhythm::Standing;
use crate::keepalived::keeper::Record;
use crate::keepalived::pool::Check;
use crate::udp::FlowRecord;

/// What a director has, on its way to the one that goes on in its place.
#[derive(Debug, Default)]
pub struct Estate {
    pub(super) rules: String,
    /// What its files said; the rules may be others by now.
    pub(super) given: Option<Given>,
    pub(super) templates: Vec<u8>,
    pub(super) health: Vec<(ServiceKey, SocketAddr, HealthRecord)>,
    pub(super) tally: Tally,
    /// Whether this director, and those before it, answer what they have counted since; an earlier version does
    /// not.
    pub(super) telling: Vec<bool>,
    /// What the checks of keepalived.conf have found.
    pub(super) checks: Vec<Record>,
    pub(super) sockets: usize,
    /// Ways to directors before this one.
    pub(super) elders: usize,
    /// Flows of datagrams, each with the address it came to and the number of the socket there.
    pub(super) flows: Vec<(SocketAddr, usize, FlowRecord)>,
}

/// What a director was given by its files, whatever `lvsadm` has changed since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The rules of a file of rules, as [`lvsadm::rules::save_full`] writes them: a text, so that a later version,
    /// which may write them otherwise, can read them and compare what they say.
    pub rules: String,
    /// A digest of the statements of a `keepalived.conf`, which may hold secrets; empty without one.
    pub statements: String,
}

impl Estate {
    /// What a director knows by itself: its rules, templates, health and counters.
    pub fn of(director: &Director, timeouts: lvsadm::Timeouts, now: Time) -> Estate {
        let rules = lvsadm::rules::save_full(&director.config(), timeouts, Naming::Numeric);
        let mut estate = Estate {
            tally: Tally::of(director),
            rules,
            templates: director.save_templates(now),
            health: director.health_records(now),
            ..Estate::default()
        };
        // Flows of datagrams pass, with what they count.
        estate
            .tally
            .open
            .retain(|(service, ..)| !matches!(service, ServiceKey::Address { protocol: Protocol::Udp, .. }));
        estate
    }

    /// Writes it as a text.
    pub fn write(&self) -> Vec<u8> {
        let mut head = format!("{MAGIC}\nsockets {}\nelders {}\n", self.sockets, self.elders);
        if !self.telling.is_empty() {
            let words: Vec<_> = self.telling.iter().map(|tells| if *tells { "yes" } else { "no" }).collect();
            head.extend(["telling ", &words.join(" "), "\n"]);
        }
        self.tally.write(&mut head);
        // Writing to a string cannot fail.
        for (service, server, record) in &self.health {
            write_health(&mut head, &name(service), *server, record);
        }
        if let Some(Given { rules, statements }) = &self.given {
            let _ = writeln!(head, "statements {statements}");
            for rule in rules.lines() {
                let _ = writeln!(head, "given {rule}");
            }
        }
        for Record { name, enough, servers } in &self.checks {
            let _ = writeln!(head, "quorum {} {name}", if *enough { "there" } else { "lost" });
            for (server, checks) in servers {
                for Check { standing, cause, weighs } in checks {
                    let standing = if *standing == Standing::Up { "up" } else { "down" };
                    let weighs = match weighs {
                        Some(Weighs::Is(weight)) => format!("is:{weight}"),
                        Some(Weighs::Adds(number)) => format!("adds:{number}"),
                        None => "-".to_owned(),
                    };
                    let cause = cause.as_ref().map_or(String::new(), line_of);
                    let _ = writeln!(head, "check {server} {standing} {weighs} {cause}");
                }
            }
        }
        for (at, socket, flow) in &self.flows {
            let FlowRecord { client, to, server, answered, silent, lasted, bytes: [there, back] } = flow;
            let to = to.map_or("-".to_owned(), |to| to.to_string());
            let [silent, lasted] = [silent, lasted].map(Duration::as_millis);
            let _ = writeln!(
                head,
                "flow {at} {socket} {client} {to} {server} {answered} {silent} {lasted} {there} {back}"
            );
        }
        let _ = writeln!(head, "rules {} templates {}", self.rules.len(), self.templates.len());
        [head.as_bytes(), self.rules.as_bytes(), &self.templates].concat()
    }

    /// Puts templates, health and counters where they belong in a director that has a configuration and
    /// does not serve yet. What belongs to no service or server is left out.
    pub fn bequeath(&self, director: &Director, now: Time) {
        match director.restore_templates(&self.templates, now) {
            Ok(restored) => tracing::info!(templates = restored.restored, "templates taken over"),
            Err(error) => tracing::warn!(%error, "templates are lost"),
        }
        // Neither needs to be configured any more.
        for (service, server, record) in &self.health {
            let _ = director.restore_health(service, *server, record, now);
        }
        self.tally.count(director);
    }

    /// Reads what another process [wrote](Estate::write); `None` if it is something else.
    pub fn parse(bytes: &[u8]) -> Option<Estate> {
        let mut estate = Estate::default();
        let (magic, mut rest) = line(bytes)?;
        if magic != MAGIC {
            return None;
        }
        loop {
            let (text, after) = line(rest)?;
            rest = after;
            let (what, words) = text.split_once(' ').unwrap_or((text, ""));
            match what {
                "sockets" => estate.sockets = words.parse().ok().filter(|count| *count <= SOCKETS_MAX)?,
                "elders" => estate.elders = words.parse().ok().filter(|count| *count <= SOCKETS_MAX)?,
                "statements" => estate.given.get_or_insert_default().statements = words.to_owned(),
                // An earlier version wrote no statements, and here a digest, which says nothing to this one.
                "given" => {
                    if let Some(given) = &mut estate.given {
                        given.rules.extend([words, "\n"]);
                    }
                }
                "counts" | "open" => estate.tally.read(what, words)?,
                "telling" => estate.telling = words.split(' ').map(|word| word == "yes").collect(),
                "health" | "down" | "inhibited" | "ejected" => estate.read_health(what, words)?,
                "quorum" => {
                    let (quorum, name) = words.split_once(' ')?;
                    let name = name.to_owned();
                    estate.checks.push(Record { name, enough: quorum == "there", servers: Vec::new() });
                }
                "check" => read_check(estate.checks.last_mut()?, words)?,
                "flow" => estate.flows.push(read_flow(words)?),
                "rules" => {
                    let (rules, templates) = words.split_once(" templates ")?;
                    let (rules, templates): (usize, usize) = (rules.parse().ok()?, templates.parse().ok()?);
                    let (text, after) = rest.split_at_checked(rules)?;
                    estate.rules = String::from_utf8(text.to_vec()).ok()?;
                    estate.templates = (after.len() == templates).then(|| after.to_vec())?;
                    return Some(estate);
                }
                _ => {}
            }
        }
    }

    /// `health` begins what is told of a server; `down`, `inhibited` and `ejected` add to it.
    fn read_health(&mut self, what: &str, words: &str) -> Option<()> {
        let mut words = words.splitn(9, ' ');
        let mut next = || words.next();
        let (service, server) = (key(next()?, next()?)?, next()?.parse().ok()?);
        if what == "health" {
            let mut record = HealthRecord::default();
            (record.against, record.ejections) = (next()?.parse().ok()?, next()?.parse().ok()?);
            record.failures = (next()?.parse().ok()?, millis(next()?)?);
            record.warming = optional(next()?, millis)?;
            record.drains = optional(next()?, millis)?;
            self.health.push((service, server, record));
            return Some(());
        }
        let (.., record) = self.health.last_mut().filter(|last| (&last.0, last.1) == (&service, server))?;
        let left = if what == "ejected" { Some(millis(next()?)?) } else { None };
        let (ago, failures) = (millis(next()?)?, next()?.parse().ok()?);
        let mut cause = next()?.to_owned();
        words.for_each(|word| cause.extend([" ", word]));
        let finding = Finding { ago, failures, cause: cause.into() };
        match left {
            Some(left) => record.ejected = Some((finding, left)),
            None => (record.down, record.inhibited) = (Some(finding), what == "inhibited"),
        }
        Some(())
    }
}

fn write_health(head: &mut String, service: &str, server: SocketAddr, record: &HealthRecord) {
    let HealthRecord { against, ejections, failures: (failures, ago), warming, drains, .. } = record;
    let optional = |time: &Option<Duration>| time.map_or("-".to_owned(), |time| time.as_millis().to_string());
    let (warming, drains) = (optional(warming), optional(drains));
    let ago = ago.as_millis();
    let _ =
        writeln!(head, "health {service} {server} {against} {ejections} {failures} {ago} {warming} {drains}");
    if let Some(Finding { ago, failures, cause }) = &record.down {
        let (ago, cause) = (ago.as_millis(), line_of(cause));
        let what = if record.inhibited { "inhibited" } else { "down" };
        let _ = writeln!(head, "{what} {service} {server} {ago} {failures} {cause}");
    }
    if let Some((Finding { ago, failures, cause }, left)) = &record.ejected {
        let (ago, left, cause) = (ago.as_millis(), left.as_millis(), line_of(cause));
        let _ = writeln!(head, "ejected {service} {server} {left} {ago} {failures} {cause}");
    }
}

fn line_of(cause: &Cause) -> String {
    cause.to_string().replace('\n', " ")
}

fn read_check(record: &mut Record, words: &str) -> Option<()> {
    let mut words = words.splitn(4, ' ');
    let mut next = || words.next();
    let server: SocketAddr = next()?.parse().ok()?;
    let standing = if next()? == "up" { Standing::Up } else { Standing::Down };
    let weighs = match next()?.split_once(':') {
        Some(("is", weight)) => Some(Weighs::Is(weight.parse().ok()?)),
        Some(("adds", number)) => Some(Weighs::Adds(number.parse().ok()?)),
        _ => None,
    };
    let cause = Some(next()?).filter(|cause| !cause.is_empty()).map(|cause| cause.to_owned().into());
    let check = Check { standing, cause, weighs };
    match record.servers.last_mut().filter(|(last, _)| *last == server) {
        Some((_, checks)) => checks.push(check),
        None => record.servers.push((server, vec![check])),
    }
    Some(())
}

fn read_flow(words: &str) -> Option<(SocketAddr, usize, FlowRecord)> {
    let mut words = words.split(' ');
    let mut next = || words.next();
    let (at, socket) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let flow = FlowRecord {
        client: next()?.parse().ok()?,
        to: optional(next()?, |to| to.parse().ok())?,
        server: next()?.parse().ok()?,
        answered: next()?.parse().ok()?,
        silent: millis(next()?)?,
        lasted: millis(next()?)?,
        bytes: [next()?.parse().ok()?, next()?.parse().ok()?],
    };
    Some((at, socket, flow))
}

/// Nothing for `-`; `None` if it is neither that nor what it should be.
pub(super) fn optional<T>(word: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if word == "-" { Some(None) } else { read(word).map(Some) }
}

fn millis(word: &str) -> Option<Duration> {
    word.parse().ok().map(Duration::from_millis)
}

fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

pub(super) fn name(service: &ServiceKey) -> String {
    match service {
        ServiceKey::Address { protocol, address } => format!("{protocol} {address}"),
        ServiceKey::Mark { mark, family: Family::V4 } => format!("FWM {mark}"),
        ServiceKey::Mark { mark, family: Family::V6 } => format!("FWM6 {mark}"),
        // What parts words and lines is written by its number.
        ServiceKey::Name(name) => {
            format!("NAME {}", name.replace('%', "%25").replace(' ', "%20").replace('\n', "%0A"))
        }
    }
}

pub(super) fn key(protocol: &str, address: &str) -> Option<ServiceKey> {
    let mark = |family| Some(ServiceKey::Mark { mark: address.parse().ok()?, family });
    match protocol {
        "FWM" => return mark(Family::V4),
        "FWM6" => return mark(Family::V6),
        "NAME" => {
            let name = address.replace("%0A", "\n").replace("%20", " ").replace("%25", "%");
            return Some(ServiceKey::name(&name));
        }
        _ => {}
    }
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = protocols.into_iter().find(|known| known.to_string() == protocol)?;
    Some(ServiceKey::Address { protocol, address: address.parse().ok()? })
}

const MAGIC: &str = "l4-proxy hands over 1";

const SOCKETS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn estate() -> Estate {
        let web = ServiceKey::tcp("192.0.2.1:80".parse().expect("an address"));
        let marked = key("FWM6", "7").expect("a mark");
        let named = ServiceKey::name("an upstream%20\n");
        let server: SocketAddr = "[2001:db8::1]:8080".parse().expect("an address");
        let second = Duration::from_secs(1);
        let finding = Finding {
            ago: second,
            failures: 2,
            cause: "connect refused, after all the time".to_owned().into(),
        };
        let mut health = HealthRecord::default();
        health.down = Some(finding.clone());
        health.ejected = Some((finding, 3 * second));
        (health.failures, health.warming) = ((4, second), Some(second));
        let inhibited = {
            let mut record = HealthRecord::default();
            (record.down, record.inhibited) = (health.down.clone(), true);
            record
        };
        let check = |standing, weighs| Check { standing, cause: Some("HTTP 503: no".into()), weighs };
        let checks = vec![
            check(Standing::Up, Some(Weighs::Adds(-3))),
            Check { cause: None, ..check(Standing::Down, Some(Weighs::Is(5))) },
        ];
        let flow = FlowRecord {
            client: "192.0.2.7:5000".parse().expect("an address"),
            to: Some(server.ip()),
            server,
            answered: true,
            silent: second,
            lasted: second,
            bytes: [1, 2],
        };
        Estate {
            rules: "-A -t 192.0.2.1:80 -s rr\n".to_owned(),
            given: Some(Given {
                rules: "--set 900 120 300\n-A -t 192.0.2.1:80 -s wlc\n".to_owned(),
                statements: "5e1f".to_owned(),
            }),
            templates: vec![0, 10, 255],
            elders: 2,
            health: vec![
                (marked, server, HealthRecord::default()),
                (named, server, inhibited),
                (web.clone(), server, health),
            ],
            tally: Tally::one_of_each(&web, server),
            telling: vec![true, false, true],
            checks: vec![Record {
                name: "[192.0.2.1]:tcp:80 x".to_owned(),
                enough: true,
                servers: vec![(server, checks)],
            }],
            sockets: 3,
            flows: vec![(server, 1, FlowRecord { to: None, ..flow.clone() }), (server, 0, flow)],
        }
    }

    #[test]
    fn estate_arrives_as_it_was_sent() {
        let there = Estate::parse(&estate().write()).expect("its own language");
        assert_eq!(format!("{there:?}"), format!("{:?}", estate()));
    }

    #[test]
    fn lines_of_a_later_version_are_passed_over() {
        let text = estate().write();
        let after = text.iter().position(|byte| *byte == b'\n').expect("lines") + 1;
        let later = [&text[..after], b"weather fine\n\n", &text[after..]].concat();
        let there = Estate::parse(&later).expect("its own language");
        assert_eq!(format!("{there:?}"), format!("{:?}", estate()));
    }

    #[test]
    fn digest_of_an_earlier_version_is_not_taken_for_rules() {
        let text = String::from_utf8(Estate::default().write()).expect("no templates");
        let earlier = text.replacen("rules ", "given 5e1f5e1f\nrules ", 1);
        assert_eq!(Estate::parse(earlier.as_bytes()).expect("its own language").given, None);
    }

    #[test]
    fn estate_that_is_cut_off_or_changed_is_refused_or_read_but_never_a_panic() {
        let whole = estate().write();
        for end in 0..whole.len() {
            assert!(Estate::parse(&whole[..end]).is_none(), "cut at {end}");
        }
        let mut dice = 1_u64;
        for _ in 0..20_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut bytes = whole.clone();
            let place = (dice >> 33) as usize % bytes.len();
            bytes[place] = (dice >> 20) as u8;
            let _ = Estate::parse(&bytes);
        }
    }
}
