//! Follows the frames of a client of HTTP/2, and notices when they are a flood, or what h2 lets pass.
//!
//! h2 bounds what a client can make it remember: streams that are reset at once, continuations, empty
//! data. What remains costs only time, yet costs us more than the client: settings and pings to be
//! answered, windows of one byte, streams that begin an exchange with a server and are reset just
//! later. So frames that move nothing are paid for from an account. It fills by the second, and by what
//! the client asks for and is sent; nobody who reads what he asks for gets near its end. nginx holds
//! bytes of frames against bytes of content in the same way.

use h2::Reason;

use crate::moment::Moment;

/// The account of one connection.
#[derive(Debug)]
pub(super) struct Flood {
    state: State,
    /// What the client may spend yet.
    credit: u32,
    filled: Moment,
    /// Bytes sent to the client that have earned nothing yet.
    sent: usize,
    /// Whether a head has begun of which more is to come.
    amid_head: bool,
    /// Whether that is so behind the present frame, too.
    continues: bool,
}

#[derive(Debug)]
enum State {
    /// In the preface, of which so much is to come.
    Preface(usize),
    /// In the head of a frame, of which so much has come.
    Head([u8; HEAD], usize),
    /// In a frame's payload, of which so much is to come.
    Payload(usize),
    /// In the payload of settings, in one of which so much has come.
    Settings { left: usize, setting: [u8; SETTING], filled: usize },
    /// Nothing is followed any more.
    Over(Offence),
}

/// Why a client is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offence {
    /// It has sent too many frames that move nothing: the account is overdrawn.
    Flood,
    /// It has sent a frame that is none, or is not a client's.
    Frame(Reason),
}

impl Offence {
    /// What the client is told, as nginx does.
    pub(super) fn reason(self) -> Reason {
        match self {
            Offence::Flood => Reason::NO_ERROR,
            Offence::Frame(reason) => reason,
        }
    }
}

impl Flood {
    pub(super) fn new(now: Moment) -> Flood {
        Flood {
            state: State::Preface(PREFACE),
            credit: CREDIT_MAX,
            filled: now,
            sent: 0,
            amid_head: false,
            continues: false,
        }
    }

    /// Bytes went out to the client, which it may confirm.
    pub(super) fn written(&mut self, count: usize) {
        self.sent += count;
        self.earn(self.sent / SENT_PER_CREDIT);
        self.sent %= SENT_PER_CREDIT;
    }

    /// Whether the head of a request, or of a frame, has begun and more of it is to come.
    pub(super) fn is_amid_head(&self) -> bool {
        self.amid_head || matches!(self.state, State::Head(_, 1..))
    }

    /// Follows the next bytes of the connection.
    pub(super) fn feed(&mut self, mut bytes: &[u8], now: Moment) -> Result<(), Offence> {
        while let Some(&byte) = bytes.first() {
            let taken = match &mut self.state {
                State::Over(offence) => return Err(*offence),
                State::Preface(left) | State::Payload(left) => {
                    let taken = (*left).min(bytes.len());
                    *left -= taken;
                    if *left == 0 {
                        self.state = State::Head([0; HEAD], 0);
                        self.amid_head = self.continues;
                    }
                    taken
                }
                State::Head(head, filled) => {
                    head[*filled] = byte;
                    *filled += 1;
                    if *filled == HEAD {
                        let head = *head;
                        self.begin(head, now).map_err(|offence| self.end(offence))?;
                    }
                    1
                }
                State::Settings { left, setting, filled } => {
                    setting[*filled] = byte;
                    *filled = (*filled + 1) % SETTING;
                    *left -= 1;
                    let (ended, whole) = (*left == 0, (*filled == 0).then_some(*setting));
                    if ended {
                        self.state = State::Head([0; HEAD], 0);
                    }
                    if whole.is_some_and(|setting| !is_window(setting)) {
                        return Err(self.end(Offence::Frame(Reason::FLOW_CONTROL_ERROR)));
                    }
                    1
                }
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Nothing more is followed.
    fn end(&mut self, offence: Offence) -> Offence {
        self.state = State::Over(offence);
        offence
    }

    /// A frame begins.
    fn begin(&mut self, head: [u8; HEAD], now: Moment) -> Result<(), Offence> {
        let size = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        self.state = match (size, kind) {
            (0, _) => State::Head([0; HEAD], 0),
            (_, SETTINGS) => State::Settings { left: size, setting: [0; SETTING], filled: 0 },
            _ => State::Payload(size),
        };
        if !is_sized(kind, flags, size) {
            return Err(Offence::Frame(Reason::FRAME_SIZE_ERROR));
        }
        let ends = flags & END_STREAM != 0;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.continues = flags & END_HEADERS == 0;
            self.amid_head = self.continues || size > 0;
        }
        let price = match kind {
            DATA if size > 0 || ends => return Ok(()),
            HEADERS => {
                self.earn(HEADERS_CREDIT);
                return Ok(());
            }
            RST_STREAM => RESET_PRICE,
            PUSH_PROMISE => return Err(Offence::Frame(Reason::PROTOCOL_ERROR)),
            _ => 1,
        };
        let seconds = now.since(self.filled).as_secs();
        if seconds > 0 {
            self.filled = now;
            self.earn(usize::try_from(seconds).unwrap_or(usize::MAX).saturating_mul(CREDIT_PER_SECOND));
        }
        match self.credit.checked_sub(price) {
            Some(credit) => {
                self.credit = credit;
                Ok(())
            }
            None => Err(Offence::Flood),
        }
    }

    fn earn(&mut self, credit: usize) {
        let credit = u32::try_from(credit).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_add(credit).min(CREDIT_MAX);
    }
}

/// Whether a frame is as large as its kind says (RFC 9113, section 6). h2 ends a connection for one that is not,
/// but gives another reason than a client may look for.
fn is_sized(kind: u8, flags: u8, size: usize) -> bool {
    match kind {
        PRIORITY => size == 5,
        RST_STREAM | WINDOW_UPDATE => size == 4,
        SETTINGS if flags & ACK != 0 => size == 0,
        SETTINGS => size.is_multiple_of(SETTING),
        PING => size == 8,
        GOAWAY => size >= 8,
        _ => true,
    }
}

/// Whether a window that a setting may ask for is one (RFC 9113, section 6.5.2).
fn is_window(setting: [u8; SETTING]) -> bool {
    let [0, INITIAL_WINDOW_SIZE, first, ..] = setting else { return true };
    first & 0x80 == 0
}

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The size of a setting, and the one that says how large windows are.
const SETTING: usize = 6;
const INITIAL_WINDOW_SIZE: u8 = 4;

/// What a client may spend at once.
const CREDIT_MAX: u32 = 2000;

/// What it gets by the second.
const CREDIT_PER_SECOND: usize = 100;

/// What it gets for a request: the windows, priorities and pings around it.
const HEADERS_CREDIT: usize = 10;

/// What it pays for taking a request back: that, and something more.
const RESET_PRICE: u32 = 15;

/// How many bytes it has to be sent for one: clients confirm pieces of a few kilobytes, twice each.
const SENT_PER_CREDIT: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, size: usize) -> Vec<u8> {
        let mut frame = vec![0, (size >> 8) as u8, size as u8, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + size, 7);
        frame
    }

    fn begun() -> Flood {
        let mut flood = Flood::new(Moment::now());
        flood.feed(&[b'x'; PREFACE], Moment::now()).unwrap();
        flood
    }

    /// Sends these frames again and again; returns how often that went well, `most` times at most.
    fn endure(frames: &[Vec<u8>], most: u32) -> u32 {
        let (mut flood, now) = (begun(), Moment::now());
        let bytes = frames.concat();
        (0..most).find(|_| flood.feed(&bytes, now).is_err()).unwrap_or(most)
    }

    #[test]
    fn frames_that_move_nothing_are_borne_for_a_while() {
        for (kind, size) in [(4, 6), (6, 8), (8, 4), (2, 5), (9, 0), (0, 0), (0xbe, 40)] {
            assert_eq!(endure(&[frame(kind, 0, size)], 100_000), CREDIT_MAX, "{kind}");
        }
        let reset = [frame(HEADERS, 5, 30), frame(RST_STREAM, 0, 4)];
        assert_eq!(endure(&reset, 100_000), 398);
    }

    #[test]
    fn requests_with_what_belongs_to_them_are_borne_for_ever() {
        let upload =
            [frame(HEADERS, 4, 30), frame(DATA, 0, 100), frame(8, 0, 4), frame(8, 0, 4), frame(0, 1, 0)];
        assert_eq!(endure(&upload, 100_000), 100_000);
        // Pieces of nine bytes, each of which is content.
        assert_eq!(endure(&[frame(DATA, 0, 9)], 100_000), 100_000);
    }

    #[test]
    fn what_is_sent_and_what_time_passes_pays_for_frames() {
        let mut flood = begun();
        let mut now = Moment::now();
        for _ in 0..100_000 {
            flood.written(1024);
            flood.feed(&[frame(8, 0, 4), frame(8, 0, 4)].concat(), now).unwrap();
        }
        for _ in 0..1000 {
            now = now + Duration::from_secs(1);
            (0..50).for_each(|_| flood.feed(&frame(6, 0, 8), now).unwrap());
        }
    }

    #[test]
    fn frames_that_are_no_clients_are_offences() {
        let (bad_frame, bad_size) = (Some(Reason::PROTOCOL_ERROR), Some(Reason::FRAME_SIZE_ERROR));
        for (kind, flags, size, expected) in [
            (PUSH_PROMISE, 0, 4, bad_frame),
            (GOAWAY, 0, 7, bad_size),
            (GOAWAY, 0, 8, None),
            (GOAWAY, 0, 9, None),
            (PRIORITY, 0, 4, bad_size),
            (PRIORITY, 0, 5, None),
            (RST_STREAM, 0, 3, bad_size),
            (RST_STREAM, 0, 4, None),
            (RST_STREAM, 0, 5, bad_size),
            (PING, ACK, 8, None),
            (PING, 0, 0, bad_size),
            (WINDOW_UPDATE, 0, 4, None),
            (WINDOW_UPDATE, 0, 8, bad_size),
            (SETTINGS, 0, 0, None),
            (SETTINGS, 0, 12, None),
            (SETTINGS, 0, 7, bad_size),
            (SETTINGS, ACK, 0, None),
            (SETTINGS, ACK, 6, bad_size),
        ] {
            let mut flood = begun();
            let fed = flood.feed(&frame(kind, flags, size), Moment::now());
            assert_eq!(fed.err(), expected.map(Offence::Frame), "{kind} of {size}");
            // Nothing makes up for it.
            assert_eq!(flood.feed(&frame(DATA, 0, 9), Moment::now()).err(), expected.map(Offence::Frame));
        }
    }

    #[test]
    fn window_that_is_none_is_an_offence_whichever_setting_it_is() {
        let settings = |windows: &[u32]| {
            let mut bytes = vec![0, 0, windows.len() as u8 * 6, SETTINGS, 0, 0, 0, 0, 0];
            for (index, window) in windows.iter().enumerate() {
                bytes.extend([0, INITIAL_WINDOW_SIZE * (index as u8 % 2)]);
                bytes.extend(window.to_be_bytes());
            }
            bytes
        };
        let offence = Some(Offence::Frame(Reason::FLOW_CONTROL_ERROR));
        for (windows, expected) in [
            (&[u32::MAX, 0x7fff_ffff][..], None),
            (&[0, 0x8000_0000], offence),
            (&[0, 1, 0, u32::MAX], offence),
            (&[0, u32::MAX, 0], offence),
        ] {
            let bytes = [settings(windows), frame(DATA, 0, 9)].concat();
            for size in 1..bytes.len() {
                let mut flood = begun();
                let fed = bytes.chunks(size).try_for_each(|piece| flood.feed(piece, Moment::now()));
                assert_eq!(fed.err(), expected, "{windows:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn head_is_awaited_until_its_last_byte() {
        let bytes =
            [frame(HEADERS, 0, 30), frame(CONTINUATION, 0, 0), frame(CONTINUATION, END_HEADERS, 9)].concat();
        let mut flood = begun();
        assert!(!flood.is_amid_head());
        for byte in &bytes[..bytes.len() - 1] {
            flood.feed(&[*byte], Moment::now()).unwrap();
            assert!(flood.is_amid_head());
        }
        flood.feed(&bytes[bytes.len() - 1..], Moment::now()).unwrap();
        assert!(!flood.is_amid_head());
        // Bodies have a limit of their own.
        flood.feed(&frame(DATA, 0, 30)[..20], Moment::now()).unwrap();
        assert!(!flood.is_amid_head());
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let bytes = [frame(HEADERS, 4, 300), frame(DATA, 0, 300), frame(6, 0, 8)].concat();
        for size in 1..bytes.len() {
            let mut flood = begun();
            bytes.chunks(size).for_each(|piece| flood.feed(piece, Moment::now()).unwrap());
            assert_eq!(flood.credit, CREDIT_MAX - 1, "in pieces of {size}");
        }
    }
}
