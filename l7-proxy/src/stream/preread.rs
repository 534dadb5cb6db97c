//! A look at the first message of a TLS client, without answering it (RFC 8446, 4.1.2).
//!
//! The server that gets the connection shakes hands; here only the name, the protocols and the
//! version that the client asks for are read. A message may come in pieces, both of the stream and
//! of its records, so that the reader says when it needs more. Whatever is no such message is no
//! error: it is passed on as it is.

/// What a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name, in lower case; empty if there is none.
    pub server_name: String,
    /// The protocols inside TLS, in the client's order.
    pub alpn: Vec<Vec<u8>>,
    /// The highest version: 0x0303 is TLS 1.2.
    pub version: u16,
}

/// What has been made of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preread {
    /// More of them are needed.
    More,
    /// It is not TLS.
    NotTls,
    /// The whole message.
    Hello(ClientHello),
}

impl ClientHello {
    /// Returns the name of the highest version that the client speaks.
    pub fn protocol(&self) -> Option<&'static str> {
        Some(match self.version {
            0x0300 => "SSLv3",
            0x0301 => "TLSv1",
            0x0302 => "TLSv1.1",
            0x0303 => "TLSv1.2",
            0x0304 => "TLSv1.3",
            // Drafts of TLS 1.3.
            0x7f00..=0x7fff => "TLSv1.3",
            0x0002 => "SSLv2",
            _ => return None,
        })
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// Longer messages than this are nobody's.
const MESSAGE_MAX: usize = 1 << 17;

/// Reads the first bytes of a connection.
pub fn read(bytes: &[u8]) -> Preread {
    if let Some(found) = sslv2(bytes) {
        return found;
    }
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        match rest.first() {
            Some(&HANDSHAKE) => {}
            Some(_) => return Preread::NotTls,
            None => return Preread::More,
        }
        if rest.get(1).is_some_and(|&major| major != 3) {
            return Preread::NotTls;
        }
        let Some((header, after)) = rest.split_at_checked(5) else { return Preread::More };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 {
            return Preread::NotTls;
        }
        let piece = &after[..length.min(after.len())];
        message.extend_from_slice(piece);
        match whole(&message) {
            Preread::More if piece.len() == length => rest = &after[length..],
            found => return found,
        }
    }
}

/// A message of SSL 2.0 that asks for a later version: it has no extensions.
fn sslv2(bytes: &[u8]) -> Option<Preread> {
    match *bytes {
        [first, _, CLIENT_HELLO, major, minor, ..] if first & 0x80 != 0 => {
            let version = u16::from_be_bytes([major, minor]);
            Some(Preread::Hello(ClientHello { version, ..ClientHello::default() }))
        }
        [first, ..] if first & 0x80 != 0 && bytes.len() < 5 => Some(Preread::More),
        _ => None,
    }
}

/// Reads the message that the records carry.
fn whole(message: &[u8]) -> Preread {
    if message.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
        return Preread::NotTls;
    }
    let Some((header, rest)) = message.split_at_checked(4) else { return Preread::More };
    let length = usize::from(header[1]) << 16 | usize::from(u16::from_be_bytes([header[2], header[3]]));
    if length > MESSAGE_MAX {
        return Preread::NotTls;
    }
    match rest.get(..length) {
        None => Preread::More,
        Some(body) => hello(body).map_or(Preread::NotTls, Preread::Hello),
    }
}

/// Reads the message without its header; `None` if its lengths do not fit each other.
fn hello(body: &[u8]) -> Option<ClientHello> {
    let (version, body) = take_u16(body)?;
    let (_random, body) = body.split_at_checked(32)?;
    let (_session, body) = take_short(body)?;
    let (_suites, body) = take_long(body)?;
    let (_compressions, body) = take_short(body)?;
    let mut found = ClientHello { version, ..ClientHello::default() };
    // Before extensions were invented a message ended here.
    if body.is_empty() {
        return Some(found);
    }
    let (mut extensions, _) = take_long(body)?;
    while !extensions.is_empty() {
        let (kind, rest) = take_u16(extensions)?;
        let (length, rest) = take_u16(rest)?;
        // What an extension says beyond the end is not there; the others were read well.
        let (data, rest) = rest.split_at(usize::from(length).min(rest.len()));
        extensions = rest;
        match kind {
            SERVER_NAME => found.server_name = server_name(data)?,
            ALPN => found.alpn = protocols(data)?,
            SUPPORTED_VERSIONS => found.version = highest(data)?,
            _ => {}
        }
    }
    Some(found)
}

fn server_name(data: &[u8]) -> Option<String> {
    let (mut list, _) = take_long(data)?;
    while let Some((&kind, rest)) = list.split_first() {
        let (name, rest) = take_long(rest)?;
        // A name with a NUL in it is two names to two readers.
        if kind == 0 && !name.contains(&0) {
            return Some(String::from_utf8_lossy(name).to_ascii_lowercase());
        }
        list = rest;
    }
    Some(String::new())
}

fn protocols(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut list, _) = take_long(data)?;
    let mut found = Vec::new();
    while !list.is_empty() {
        let (name, rest) = take_short(list)?;
        found.push(name.to_vec());
        list = rest;
    }
    Some(found)
}

/// Returns the highest version of a list, of those that exist: clients sprinkle in others.
fn highest(data: &[u8]) -> Option<u16> {
    let (list, _) = take_short(data)?;
    let versions = list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    versions.filter(|version| matches!(version, 0x0300..=0x0304 | 0x7f00..=0x7fff)).max().or(Some(0))
}

fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_at_checked(2)?;
    Some((u16::from_be_bytes([number[0], number[1]]), rest))
}

/// Takes what has its length in one byte before it.
fn take_short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// Takes what has its length in two bytes before it.
fn take_long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_u16(bytes)?;
    rest.split_at_checked(usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &long(data)].concat()
    }

    fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(long(&[0x13, 1]));
        body.extend([1, 0]);
        body.extend(long(&extensions.concat()));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO][..], &length[1..], &body].concat()
    }

    fn record(bytes: &[u8]) -> Vec<u8> {
        [&[HANDSHAKE, 3, 1][..], &long(bytes)].concat()
    }

    fn example() -> Vec<u8> {
        let name = [&[0][..], &long(b"Example.org")].concat();
        message(&[
            extension(0x0a0a, b""),
            extension(SERVER_NAME, &long(&name)),
            extension(ALPN, &long(b"\x02h2\x08http/1.1")),
            extension(SUPPORTED_VERSIONS, &[6, 0x7a, 0x7a, 3, 4, 3, 3]),
        ])
    }

    fn expected() -> Preread {
        Preread::Hello(ClientHello {
            server_name: "example.org".to_owned(),
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            version: 0x0304,
        })
    }

    #[test]
    fn message_is_read_when_its_last_byte_is_there() {
        let bytes = record(&example());
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Preread::More, "{end}");
        }
        assert_eq!(read(&bytes), expected());
        assert_eq!(read(&[bytes, b"more".to_vec()].concat()), expected());
    }

    #[test]
    fn message_may_be_cut_into_records_anywhere() {
        let message = example();
        for cut in 1..message.len() {
            let bytes = [record(&message[..cut]), record(&message[cut..])].concat();
            assert_eq!(read(&bytes), expected(), "{cut}");
        }
    }

    #[test]
    fn what_is_no_tls_is_told_as_soon_as_it_shows() {
        for bytes in
            [&b"GET / HTTP/1.1"[..], b"\x16\x02", b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\x00\x04\x02"]
        {
            assert_eq!(read(bytes), Preread::NotTls, "{bytes:?}");
        }
        assert_eq!(read(b""), Preread::More);
    }

    #[test]
    fn old_message_has_a_version_and_nothing_else() {
        let read = read(&[0x80, 0x2e, 1, 3, 1, 0, 0]);
        let Preread::Hello(hello) = read else { panic!("{read:?}") };
        assert_eq!((hello.protocol(), &*hello.server_name), (Some("TLSv1"), ""));
    }

    #[test]
    fn no_change_of_a_byte_does_harm() {
        let bytes = record(&example());
        let name = bytes.windows(11).position(|part| part == b"Example.org").unwrap();
        for place in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut wrong = bytes.clone();
                wrong[place] = value;
                let read = read(&wrong);
                if wrong == bytes || RANDOM.contains(&place) {
                    assert_eq!(read, expected(), "{value:#x} at {place}");
                    continue;
                }
                let Preread::Hello(hello) = read else { continue };
                // The name is there or not, and no other bytes are taken for it.
                let is_name = hello.server_name.is_empty() || hello.server_name == "example.org";
                assert!(
                    is_name || (name - 2..name + 11).contains(&place),
                    "{value:#x} at {place}: {:?}",
                    hello.server_name
                );
                let protocols = hello.alpn.concat();
                assert!(
                    protocols.len() <= b"h2\x08http/1.1".len(),
                    "{value:#x} at {place}: {:?}",
                    hello.alpn
                );
            }
        }
    }

    /// Where the random bytes of the example are, which say nothing: behind the heads of the record and of the
    /// message, and a version.
    const RANDOM: std::ops::Range<usize> = 11..43;
}
