//! Questions to name servers and their answers, as bytes (RFC 1035, section 4; RFC 2782 for `SRV`).
//!
//! What comes from the network is not trusted: an answer counts if it is to the question that was
//! asked, every length is looked at, and pointers in names lead backwards only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Srv,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Address(IpAddr),
    Service { priority: u16, weight: u16, port: u16, target: String },
}

/// What a name server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) records: Vec<Record>,
    /// The name that stands at the end of a chain of others, if there is any.
    pub(crate) alias: Option<String>,
    /// How long that may be gone by.
    pub(crate) ttl: Duration,
}

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It answers something else, and is to be passed over.
    Stray,
    /// It does not fit into a datagram, and has to be asked for over TCP.
    Truncated,
    /// The name server says so.
    Code(u8),
    /// It cannot be read.
    Malformed,
}

/// Writes a question; `None` for what cannot be a name.
pub(crate) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    // One question; recursion is asked for.
    let [high, low] = id.to_be_bytes();
    let mut bytes = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > NAME_MAX {
        return None;
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=LABEL_MAX).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.number().to_be_bytes());
    bytes.extend_from_slice(&INTERNET.to_be_bytes());
    Some(bytes)
}

/// Reads the answer to a question.
///
/// # Errors
/// It is none, or the name server could not answer.
pub(crate) fn answer(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Result<Answer, Fault> {
    let mut reader = Reader { bytes, at: 0 };
    let [found, flags, questions, answers] =
        [(); 4].map(|()| reader.u16()).map(|word| word.ok_or(Fault::Stray));
    let (flags, questions, answers) = (flags?, questions?, answers?);
    if found? != id || flags & RESPONSE == 0 || questions != 1 {
        return Err(Fault::Stray);
    }
    reader.at = HEAD;
    let asked = reader.name().ok_or(Fault::Stray)?;
    let asked_kind = reader.u16().ok_or(Fault::Stray)?;
    reader.u16().ok_or(Fault::Stray)?;
    let wanted = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if asked != wanted || asked_kind != kind.number() {
        return Err(Fault::Stray);
    }
    if flags & TRUNCATED != 0 {
        return Err(Fault::Truncated);
    }
    match flags & CODE {
        0 => {}
        code => return Err(Fault::Code(code as u8)),
    }
    let resources = (0..answers).map(|_| reader.resource().ok_or(Fault::Malformed));
    let resources = resources.collect::<Result<Vec<_>, _>>()?;
    let mut answer = Answer { records: Vec::new(), alias: None, ttl: TTL_MAX };
    let mut owner = wanted;
    for _ in 0..ALIASES_MAX {
        let mut of_owner = resources.iter().filter(|resource| resource.owner == owner);
        let Some(alias) = of_owner.find(|resource| resource.kind == CNAME) else { break };
        owner = Reader { bytes, at: alias.data }.name().ok_or(Fault::Malformed)?;
        answer.hold_for(alias.ttl);
        answer.alias = Some(owner.clone());
    }
    for resource in &resources {
        if resource.owner == owner && resource.kind == kind.number() {
            answer.records.push(record(bytes, resource, kind).ok_or(Fault::Malformed)?);
            answer.hold_for(resource.ttl);
        }
    }
    Ok(answer)
}

impl Answer {
    /// Takes in the time to live of a part of it, in seconds.
    fn hold_for(&mut self, ttl: u32) {
        self.ttl = self.ttl.min(Duration::from_secs(ttl.into()));
    }
}

fn record(bytes: &[u8], resource: &Resource, kind: Kind) -> Option<Record> {
    let data = bytes.get(resource.data..resource.data + resource.length)?;
    Some(match kind {
        Kind::A => Record::Address(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
        Kind::Aaaa => Record::Address(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
        Kind::Srv => {
            let mut reader = Reader { bytes, at: resource.data };
            let [priority, weight, port] = [reader.u16()?, reader.u16()?, reader.u16()?];
            Record::Service { priority, weight, port, target: reader.name()? }
        }
    })
}

/// A resource record, its data still in the message.
struct Resource {
    owner: String,
    kind: u16,
    ttl: u32,
    data: usize,
    length: usize,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u16(&mut self) -> Option<u16> {
        let word = self.bytes.get(self.at..self.at + 2)?.try_into().ok()?;
        self.at += 2;
        Some(u16::from_be_bytes(word))
    }

    fn resource(&mut self) -> Option<Resource> {
        let owner = self.name()?;
        let kind = self.u16()?;
        self.u16()?;
        let ttl = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        let length = usize::from(self.u16()?);
        let data = self.at;
        self.at = data.checked_add(length).filter(|&end| end <= self.bytes.len())?;
        Some(Resource { owner, kind, ttl, data, length })
    }

    /// Reads a name, in lower case and without a dot at its end.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let (mut at, mut end) = (self.at, None);
        loop {
            let length = *self.bytes.get(at)?;
            match length {
                0 => break,
                POINTER.. => {
                    let target = u16::from_be_bytes([length & !POINTER, *self.bytes.get(at + 1)?]);
                    let target = usize::from(target);
                    end.get_or_insert(at + 2);
                    // Backwards only, so that it comes to an end.
                    at = Some(target).filter(|&target| target < at)?;
                    continue;
                }
                1..=LABEL_MAX => {}
                _ => return None,
            }
            let label = self.bytes.get(at + 1..at + 1 + usize::from(length))?;
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            if name.len() > 2 * NAME_MAX {
                return None;
            }
            at += 1 + usize::from(length);
        }
        self.at = end.unwrap_or(at + 1);
        Some(name)
    }
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Aaaa => 28,
            Kind::Srv => 33,
        }
    }
}

const HEAD: usize = 12;
const RESPONSE: u16 = 0x8000;
const TRUNCATED: u16 = 0x0200;
const CODE: u16 = 0x000f;
const INTERNET: u16 = 1;
const CNAME: u16 = 5;
/// The two highest bits of a length make it a pointer.
const POINTER: u8 = 0xc0;
const LABEL_MAX: u8 = 63;
const NAME_MAX: usize = 253;

/// A longer chain of names than this is a circle, or nobody's intent.
const ALIASES_MAX: usize = 16;

/// What an answer without records is worth, and the most that any is.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer to a question, with these records: owner as bytes, type, TTL, data.
    fn message(name: &str, kind: Kind, flags: u16, records: &[(&[u8], u16, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = question(7, name, kind).unwrap();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (owner, kind, ttl, data) in records {
            bytes.extend_from_slice(owner);
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&[0, 1]);
            bytes.extend_from_slice(&ttl.to_be_bytes());
            bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
            bytes.extend_from_slice(data);
        }
        bytes
    }

    /// Points at the name in the question.
    const ASKED: &[u8] = &[0xc0, 12];

    #[test]
    fn addresses_are_found_behind_other_names() {
        let other = b"\x05other\x04test\x00";
        let records: [(&[u8], u16, u32, &[u8]); 3] =
            [(ASKED, 5, 300, other), (other, 1, 60, &[10, 0, 0, 1]), (b"\x01x\x00", 1, 1, &[10, 0, 0, 9])];
        // In whatever order they come.
        for turn in 0..3 {
            let mut records = records;
            records.rotate_left(turn);
            let bytes = message("App.test", Kind::A, 0x8180, &records);
            let answer = answer(&bytes, 7, "app.test.", Kind::A).unwrap();
            assert_eq!(answer.records, [Record::Address([10, 0, 0, 1].into())]);
            assert_eq!(answer.ttl, Duration::from_secs(60));
        }
    }

    #[test]
    fn chain_of_names_that_leads_out_of_an_answer_or_round_in_a_circle_has_an_end() {
        let other = b"\x05other\x04test\x00";
        let leads_out = message("app.test", Kind::A, 0x8180, &[(ASKED, 5, 300, other)]);
        let found = answer(&leads_out, 7, "app.test", Kind::A).unwrap();
        assert_eq!((found.records.len(), found.alias.as_deref()), (0, Some("other.test")));
        let circle = message("app.test", Kind::A, 0x8180, &[(ASKED, 5, 300, other), (other, 5, 300, ASKED)]);
        assert_eq!(answer(&circle, 7, "app.test", Kind::A).unwrap().records, []);
    }

    #[test]
    fn service_has_priority_weight_port_and_target() {
        let data = b"\x00\x0a\x00\x05\x1f\x90\x01a\x04test\x00";
        let bytes = message("_http._tcp.app.test", Kind::Srv, 0x8180, &[(ASKED, 33, 9, data)]);
        let answer = answer(&bytes, 7, "_http._tcp.app.test", Kind::Srv).unwrap();
        let target = "a.test".to_owned();
        assert_eq!(answer.records, [Record::Service { priority: 10, weight: 5, port: 8080, target }]);
    }

    #[test]
    fn answer_to_another_question_is_passed_over() {
        let bytes = message("a.test", Kind::A, 0x8180, &[]);
        assert_eq!(answer(&bytes, 8, "a.test", Kind::A), Err(Fault::Stray));
        assert_eq!(answer(&bytes, 7, "b.test", Kind::A), Err(Fault::Stray));
        assert_eq!(answer(&bytes, 7, "a.test", Kind::Aaaa), Err(Fault::Stray));
        assert_eq!(answer(&question(7, "a.test", Kind::A).unwrap(), 7, "a.test", Kind::A), Err(Fault::Stray));
    }

    #[test]
    fn errors_and_truncation_are_told_apart() {
        let reply = |flags| answer(&message("a.test", Kind::A, flags, &[]), 7, "a.test", Kind::A);
        assert_eq!(reply(0x8183), Err(Fault::Code(3)));
        assert_eq!(reply(0x8380), Err(Fault::Truncated));
        assert_eq!(reply(0x8180).unwrap().records, []);
    }

    #[test]
    fn pointer_that_goes_round_in_circles_is_malformed() {
        let own = [0xc0, 24];
        let bytes = message("a.test", Kind::A, 0x8180, &[(&own, 1, 60, &[10, 0, 0, 1])]);
        assert_eq!(answer(&bytes, 7, "a.test", Kind::A), Err(Fault::Malformed));
    }

    #[test]
    fn what_cannot_be_a_name_is_not_asked_for() {
        let long = "a.".repeat(127) + "a";
        for name in ["", ".", "a..b", &"x".repeat(64), &long] {
            assert_eq!(question(1, name, Kind::A), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_stumble(tail in proptest::collection::vec(any::<u8>(), 0..64), count in 0..4_u16) {
            let mut bytes = message("a.test", Kind::Srv, 0x8180, &[]);
            bytes[6..8].copy_from_slice(&count.to_be_bytes());
            bytes.extend_from_slice(&tail);
            match answer(&bytes, 7, "a.test", Kind::Srv) {
                Ok(found) => {
                    // A record takes eleven bytes at least, its owner among them.
                    prop_assert!(usize::from(count) * 11 <= tail.len());
                    prop_assert!(found.records.len() <= usize::from(count));
                    let are_services = found.records.iter().all(|record| matches!(record, Record::Service { .. }));
                    prop_assert!(are_services, "{:?}", found.records);
                }
                Err(fault) => prop_assert_eq!((fault, count > 0), (Fault::Malformed, true)),
            }
            // Not even a number to compare with what was asked.
            prop_assert!(answer(&tail[..tail.len().min(11)], 7, "a.test", Kind::Srv).is_err());
        }

        #[test]
        fn beginning_of_an_answer_is_no_answer(end in 0..64_usize) {
            let other = b"\x05other\x04test\x00";
            let records: [(&[u8], u16, u32, &[u8]); 2] = [(ASKED, 5, 300, other), (other, 1, 60, &[10, 0, 0, 1])];
            let bytes = message("a.test", Kind::A, 0x8180, &records);
            let end = end.min(bytes.len());
            let found = answer(&bytes[..end], 7, "a.test", Kind::A);
            prop_assert_eq!(found.is_ok(), end == bytes.len(), "{} of {}: {:?}", end, bytes.len(), found);
        }
    }
}
