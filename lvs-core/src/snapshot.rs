//! Templates as bytes: what a restart or a standby needs to keep every client's server.
//!
//! All numbers are big-endian. A header (magic, version), then the services with templates: key as
//! text, number of servers, their addresses as text, number of templates, and for each the server's
//! number, the client network (16 bytes, IPv4 mapped into IPv6), the nanoseconds it had left, bits
//! ([`ASSURED`], [`SESSION`]) and, where they say so, the session. At the end a CRC-32 of all before it. Times are relative, so the clocks
//! of the two processes need not agree.
//!
//! The checksum is checked before anything is believed; what is read is checked again, since a
//! checksum proves no good will.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::flow::canonical;
use crate::persistence::{Inserted, Saved};

/// What [`Director::restore_templates`](crate::Director::restore_templates) or
/// [`Director::learn_templates`](crate::Director::learn_templates) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Templates that hold again.
    pub restored: usize,
    /// Their service is not there, or has no persistence.
    pub unknown_service: usize,
    /// Their server is not there.
    pub unknown_server: usize,
    /// Their client came back before and has a template that holds, or is connected here.
    pub present: usize,
    /// The table of their service is full.
    pub no_room: usize,
}

impl Restored {
    pub(crate) fn count(&mut self, inserted: Inserted) {
        *match inserted {
            Inserted::Restored => &mut self.restored,
            Inserted::Present => &mut self.present,
            Inserted::NoRoom => &mut self.no_room,
        } += 1;
    }
}

/// Why nothing was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {
    /// These are not saved templates.
    NoSnapshot,
    /// Saved in a format that this version does not read.
    Version(u16),
    /// Cut off, or changed since they were saved.
    Corrupt,
}

/// Writes a snapshot.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

/// One service of a snapshot.
pub(crate) struct Part {
    pub(crate) service: String,
    pub(crate) servers: Vec<SocketAddr>,
    /// Server by number, and the template.
    pub(crate) templates: Vec<(u32, Saved)>,
}

impl Part {
    pub(crate) fn of(service: String) -> Part {
        Part { service, servers: Vec::new(), templates: Vec::new() }
    }
}

impl Writer {
    pub(crate) fn new() -> Writer {
        let mut writer = Writer { bytes: MAGIC.to_vec() };
        writer.bytes.extend(VERSION.to_be_bytes());
        writer
    }

    pub(crate) fn part(&mut self, part: &Part) {
        self.text(&part.service);
        self.number(part.servers.len());
        for server in &part.servers {
            self.text(&server.to_string());
        }
        self.number(part.templates.len());
        for (server, saved) in &part.templates {
            self.bytes.extend(server.to_be_bytes());
            let client = match saved.client {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            self.bytes.extend(client.octets());
            self.bytes.extend(u64::try_from(saved.left.as_nanos()).unwrap_or(u64::MAX).to_be_bytes());
            let assured = if saved.assured { ASSURED } else { 0 };
            self.bytes.push(assured | if saved.session.is_some() { SESSION } else { 0 });
            if let Some(session) = &saved.session {
                self.number(session.len());
                self.bytes.extend_from_slice(session);
            }
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let sum = crc32(&self.bytes);
        self.bytes.extend(sum.to_be_bytes());
        self.bytes
    }

    fn number(&mut self, number: usize) {
        self.bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes.extend(text.as_bytes());
    }
}

/// The services of a snapshot.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Part>, RestoreError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(RestoreError::NoSnapshot)?;
    let (version, _) = rest.split_first_chunk().ok_or(RestoreError::Corrupt)?;
    match u16::from_be_bytes(*version) {
        VERSION => {}
        other => return Err(RestoreError::Version(other)),
    }
    let (content, sum) = bytes.split_last_chunk().ok_or(RestoreError::Corrupt)?;
    if crc32(content) != u32::from_be_bytes(*sum) {
        return Err(RestoreError::Corrupt);
    }
    let rest = content.get(MAGIC.len() + 2..).ok_or(RestoreError::Corrupt)?;
    Reader { rest }.parts().ok_or(RestoreError::Corrupt)
}

/// What has not been read yet.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn parts(mut self) -> Option<Vec<Part>> {
        let mut parts = Vec::new();
        while !self.rest.is_empty() {
            let service = self.text()?;
            // Collected one by one: a number that lies about what follows must not allocate.
            let mut part = Part::of(service);
            for _ in 0..self.number()? {
                part.servers.push(self.text()?.parse().ok()?);
            }
            for _ in 0..self.number()? {
                let server = self.number()?;
                let client = canonical(IpAddr::V6(Ipv6Addr::from(self.take::<16>()?)));
                let left = Duration::from_nanos(u64::from_be_bytes(self.take()?));
                let [bits] = self.take()?;
                let session = if bits & SESSION == 0 { None } else { Some(self.bytes()?.into()) };
                if server as usize >= part.servers.len() {
                    return None;
                }
                part.templates.push((server, Saved { client, session, left, assured: bits & ASSURED != 0 }));
            }
            parts.push(part);
        }
        Some(parts)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn bytes(&mut self) -> Option<&[u8]> {
        let length = self.number()? as usize;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }
}

/// CRC-32 as in zip and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| sum >> 8 ^ CRC[((sum ^ u32::from(*byte)) & 0xff) as usize])
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::NoSnapshot => f.write_str("these are not saved templates"),
            RestoreError::Version(version) => write!(f, "saved templates of unknown version {version}"),
            RestoreError::Corrupt => f.write_str("the saved templates are cut off or were changed"),
        }
    }
}

impl std::error::Error for RestoreError {}

const MAGIC: &[u8] = b"lvs templates\n";
const VERSION: u16 = 1;

/// A connection under the template has reached its server.
const ASSURED: u8 = 1;
/// The template is of one session.
const SESSION: u8 = 2;

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_the_books() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn number_that_promises_more_than_follows_is_refused() {
        let mut writer = Writer::new();
        writer.text("TCP 192.0.2.1:80");
        writer.number(usize::MAX);
        assert_eq!(read(&writer.finish()).err(), Some(RestoreError::Corrupt));
    }
}
