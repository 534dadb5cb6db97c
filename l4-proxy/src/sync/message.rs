//! Messages between directors that share templates: their bytes, and the proof of who wrote them.
//!
//! All numbers are big-endian. A header of 24 bytes: magic, version, kind, group number (`id`), a
//! reserved byte, who speaks ([`Speaker`]), and a number that means what the kind says. Then what the
//! kind has, and at the end HMAC-SHA256 over all before it. Nothing is believed before that is checked;
//! what is read is checked again, since a key proves no good will.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lvs_core::{Protocol, ServiceKey, TemplateStats};
use ring::hmac;

/// Who speaks: chosen anew whenever a director starts, so that nothing that an earlier one said is
/// taken for the words of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Speaker(pub(crate) u64);

impl Speaker {
    /// Nobody in particular.
    pub(crate) const ANY: Speaker = Speaker(0);
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) speaker: Speaker,
    pub(crate) content: Content,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The speaker's changes of this number. None at all: everything that whoever was welcomed had to
    /// be told has been told.
    Changes { number: u64, templates: Vec<TemplateStats> },
    /// The speaker's next changes will have this number, and it still has those from `oldest` on.
    Beat { next: u64, oldest: u64 },
    /// Is this speaker there, or whoever is ([`Speaker::ANY`])? The answer has the same nonce, and
    /// everything follows.
    Join { nonce: u64, of: Speaker },
    /// The answer. Whoever asked with this nonce hears everything, from `next` on.
    Welcome { next: u64, nonce: u64 },
    /// Changes of `of` that did not arrive: from the first number up to the second, which is not meant.
    Missing { serial: u64, of: Speaker, from: u64, to: u64 },
}

/// A key that directors share.
#[derive(Clone)]
pub(crate) struct Key(hmac::Key);

/// Why bytes are no message for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not a message, or of another version.
    Foreign,
    /// Of another group.
    OtherGroup,
    /// The key is another, or the bytes were changed.
    Unsigned,
    /// It was made by somebody with the key, and makes no sense.
    Malformed,
}

impl Key {
    pub(crate) fn new(bytes: &[u8]) -> Key {
        Key(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }
}

/// Two keys are compared by what they sign.
impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        hmac::verify(&other.0, MAGIC, hmac::sign(&self.0, MAGIC).as_ref()).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Message {
    /// Its bytes, signed. Templates of what is no address and port cannot be told, and are left out.
    pub(crate) fn seal(&self, group: u8, key: &Key) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let (kind, number) = match &self.content {
            Content::Changes { number, .. } => (CHANGES, *number),
            Content::Beat { next, .. } => (BEAT, *next),
            Content::Join { nonce, .. } => (JOIN, *nonce),
            Content::Welcome { next, .. } => (WELCOME, *next),
            Content::Missing { serial, .. } => (MISSING, *serial),
        };
        bytes.extend([VERSION, kind, group, 0]);
        bytes.extend(self.speaker.0.to_be_bytes());
        bytes.extend(number.to_be_bytes());
        match &self.content {
            Content::Changes { templates, .. } => {
                templates.iter().for_each(|template| write(template, &mut bytes));
            }
            Content::Beat { oldest, .. } => bytes.extend(oldest.to_be_bytes()),
            Content::Welcome { nonce, .. } => bytes.extend(nonce.to_be_bytes()),
            Content::Missing { of, from, to, .. } => {
                [of.0, *from, *to].iter().for_each(|number| bytes.extend(number.to_be_bytes()));
            }
            Content::Join { of, .. } => bytes.extend(of.0.to_be_bytes()),
        }
        let signature = hmac::sign(&key.0, &bytes);
        bytes.extend(signature.as_ref());
        bytes
    }

    /// Reads a message of this group that was signed with this key.
    pub(crate) fn open(bytes: &[u8], group: u8, key: &Key) -> Result<Message, Refused> {
        let signed = bytes.len().checked_sub(SIGNATURE).ok_or(Refused::Foreign)?;
        let (content, signature) = bytes.split_at(signed);
        let rest = content.strip_prefix(MAGIC).ok_or(Refused::Foreign)?;
        let Some(([version, kind, theirs, _], rest)) =
            rest.split_first_chunk().map(|(head, rest)| (*head, rest))
        else {
            return Err(Refused::Foreign);
        };
        if version != VERSION {
            return Err(Refused::Foreign);
        }
        if theirs != group {
            return Err(Refused::OtherGroup);
        }
        hmac::verify(&key.0, content, signature).map_err(|_| Refused::Unsigned)?;
        Reader { rest }.message(kind).ok_or(Refused::Malformed)
    }
}

/// Bytes for templates in a message of this size.
pub(crate) fn room(size: usize) -> usize {
    size.saturating_sub(HEADER + SIGNATURE)
}

/// How many of these templates have room in so many bytes, one after the other; one has, whatever it is.
pub(crate) fn fitting(templates: &[TemplateStats], mut room: usize) -> usize {
    let fits = |template: &&TemplateStats| {
        let session = template.session.as_ref().map_or(0, |session| 1 + session.len());
        room.checked_sub(RECORD + session).map(|left| room = left).is_some()
    };
    templates.iter().take_while(fits).count().max(1)
}

fn write(template: &TemplateStats, bytes: &mut Vec<u8>) {
    let ServiceKey::Address { protocol, address } = &template.service else { return };
    let protocol = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        _ => 132,
    };
    let session =
        template.session.as_deref().and_then(|session| Some((u8::try_from(session.len()).ok()?, session)));
    let assured = if template.assured { ASSURED } else { 0 };
    bytes.extend([protocol, assured | if session.is_some() { SESSION } else { 0 }]);
    bytes.extend(octets(template.client));
    for end in [address, &template.server] {
        bytes.extend(octets(end.ip()));
        bytes.extend(end.port().to_be_bytes());
    }
    let left = u32::try_from(template.left.as_millis()).unwrap_or(u32::MAX);
    bytes.extend(left.to_be_bytes());
    if let Some((length, session)) = session {
        bytes.push(length);
        bytes.extend(session);
    }
}

/// IPv4 in its mapped place.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// What has not been read yet.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn message(mut self, kind: u8) -> Option<Message> {
        let speaker = Speaker(self.number()?);
        let number = self.number()?;
        let content = match kind {
            CHANGES => {
                let mut templates = Vec::with_capacity(self.rest.len() / RECORD);
                while !self.rest.is_empty() {
                    templates.push(self.template()?);
                }
                Content::Changes { number, templates }
            }
            BEAT => Content::Beat { next: number, oldest: self.number()? },
            JOIN => Content::Join { nonce: number, of: Speaker(self.number()?) },
            WELCOME => Content::Welcome { next: number, nonce: self.number()? },
            MISSING => Content::Missing {
                serial: number,
                of: Speaker(self.number()?),
                from: self.number()?,
                to: self.number()?,
            },
            _ => return None,
        };
        self.rest.is_empty().then_some(Message { speaker, content })
    }

    fn template(&mut self) -> Option<TemplateStats> {
        let [protocol, bits] = self.take()?;
        let protocol = match protocol {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            132 => Protocol::Sctp,
            _ => return None,
        };
        let client = self.address()?;
        let mut end = || Some(SocketAddr::new(self.address()?, u16::from_be_bytes(self.take()?)));
        let (address, server) = (end()?, end()?);
        let left = Duration::from_millis(u32::from_be_bytes(self.take()?).into());
        let service = ServiceKey::Address { protocol, address };
        let template = TemplateStats::told(service, client, server, left, bits & ASSURED != 0);
        if bits & SESSION == 0 {
            return Some(template);
        }
        let [length] = self.take()?;
        let (session, rest) = self.rest.split_at_checked(length.into())?;
        self.rest = rest;
        Some(template.of_session(session))
    }

    fn address(&mut self) -> Option<IpAddr> {
        Some(IpAddr::V6(Ipv6Addr::from(self.take::<16>()?)).to_canonical())
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Foreign => "not a message of this protocol and version",
            Refused::OtherGroup => "another id",
            Refused::Unsigned => "the signature is wrong: the keys differ",
            Refused::Malformed => "signed with our key, and cannot be read",
        })
    }
}

const MAGIC: &[u8] = b"LVST";
const VERSION: u8 = 1;
const CHANGES: u8 = 1;
const BEAT: u8 = 2;
const JOIN: u8 = 3;
const WELCOME: u8 = 4;
const MISSING: u8 = 5;
const HEADER: usize = 24;
/// Bytes of a template; one of a session has the session's length and the session behind it.
pub(crate) const RECORD: usize = 2 + 16 + 18 + 18 + 4;
/// Bits of a record: a connection under it has reached its server.
const ASSURED: u8 = 1;
/// Bits of a record: it is of one session.
const SESSION: u8 = 2;
const SIGNATURE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(b"a key that nobody else has")
    }

    fn template(client: &str) -> TemplateStats {
        let service = ServiceKey::tcp("192.0.2.1:80".parse().expect("an address"));
        let server = "[2001:db8::1]:8080".parse().expect("an address");
        let client = client.parse().expect("an address");
        TemplateStats::told(service, client, server, Duration::from_millis(59_999), true)
    }

    fn messages() -> Vec<Message> {
        let templates = vec![
            template("198.51.100.7"),
            template("2001:db8::7"),
            template("198.51.100.7").of_session(b"1234@client"),
            template("198.51.100.7").of_session(&[b'x'; 255]),
        ];
        let contents = [
            Content::Changes { number: 7, templates },
            Content::Beat { next: 8, oldest: 3 },
            Content::Join { nonce: 9, of: Speaker(2) },
            Content::Welcome { next: 8, nonce: 9 },
            Content::Changes { number: 11, templates: Vec::new() },
            Content::Missing { serial: 1, of: Speaker(4), from: 5, to: 6 },
        ];
        contents.into_iter().map(|content| Message { speaker: Speaker(1 << 60), content }).collect()
    }

    #[test]
    fn message_arrives_as_it_was_sent() {
        for message in messages() {
            assert_eq!(Message::open(&message.seal(3, &key()), 3, &key()), Ok(message));
        }
    }

    #[test]
    fn message_has_the_room_that_was_asked_for() {
        for size in [100, 1472, 9000] {
            let mut templates = vec![template("198.51.100.7"); 1000];
            templates.truncate(fitting(&templates, room(size)));
            let message = Message { speaker: Speaker(1), content: Content::Changes { number: 1, templates } };
            let length = message.seal(0, &key()).len();
            assert!(length <= size.max(HEADER + RECORD + SIGNATURE), "{length} for {size}");
            assert!(length + RECORD > size, "{length} for {size}");
        }
    }

    #[test]
    fn long_session_takes_the_room_that_it_needs() {
        let long = template("198.51.100.7").of_session(&[b'x'; 255]);
        let templates = vec![long.clone(), template("198.51.100.7"), long];
        let length = 2 * RECORD + 256;
        assert_eq!(fitting(&templates, length - 1), 1);
        assert_eq!(fitting(&templates, length), 2);
        assert_eq!(fitting(&templates, 0), 1, "there is no smaller part");
    }

    #[test]
    fn nothing_that_was_changed_or_signed_by_others_is_opened() {
        for message in messages() {
            let bytes = message.seal(3, &key());
            assert_eq!(Message::open(&bytes, 4, &key()), Err(Refused::OtherGroup));
            assert_eq!(Message::open(&bytes, 3, &Key::new(b"another")), Err(Refused::Unsigned));
            for place in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[place] ^= 1;
                assert!(Message::open(&changed, 3, &key()).is_err(), "byte {place}");
                assert!(Message::open(&bytes[..place], 3, &key()).is_err(), "cut at {place}");
            }
        }
    }

    #[test]
    fn signed_nonsense_is_refused_or_read_as_what_it_says() {
        let mut dice = 1_u64;
        for _ in 0..20_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            for message in messages() {
                let mut bytes = message.seal(3, &key());
                bytes.truncate(bytes.len() - SIGNATURE);
                let place = MAGIC.len() + 1 + (dice >> 33) as usize % (bytes.len() - MAGIC.len() - 1);
                bytes[place] = (dice >> 20) as u8;
                bytes.truncate(bytes.len() - (dice >> 50) as usize % 4);
                let signature = hmac::sign(&key().0, &bytes);
                bytes.extend(signature.as_ref());
                if let Ok(read) = Message::open(&bytes, 3, &key()) {
                    assert_eq!(Message::open(&read.seal(3, &key()), 3, &key()), Ok(read));
                }
            }
        }
    }
}
