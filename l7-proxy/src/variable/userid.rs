//! `$uid_got` and `$uid_set`: the cookie by which a client can be told apart (`userid`).
//!
//! It is sixteen bytes in base64: who gave it, when, in which process, and which it was there. nginx
//! keeps them as four numbers, and shows them as its processor has them in memory.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{error, info};

use super::Exchange;
use super::write::cookie;
use crate::credentials::base64;
use crate::model::{UserId, UserIdMode};

/// Sixteen bytes that tell a client apart.
pub(crate) type Uid = [u8; 16];

/// Returns what the request's cookie says; `None` if there is none, or it is none of ours.
pub(crate) fn got(exchange: &Exchange<'_>) -> Option<Uid> {
    let userid = &*exchange.settings.userid;
    if userid.mode == UserIdMode::Off {
        return None;
    }
    // Behind the digits there may be a mark, or anything: many clients have kept odd ones.
    let digits = cookie(exchange.headers, &userid.name)?.get(..DIGITS)?;
    let bytes = base64::decode(digits)?;
    Uid::try_from(bytes).ok().filter(|uid| uid[12..] != [0; 4])
}

/// Returns what the client's cookie is set to, if it is.
pub(crate) fn set(exchange: &Exchange<'_>) -> Option<Uid> {
    let userid = &*exchange.settings.userid;
    // Where none is set nothing is decided for the places that the request may still come to.
    if !matches!(userid.mode, UserIdMode::First | UserIdMode::Second) {
        return None;
    }
    *exchange.findings.userid.get_or_init(|| {
        let Some(got) = got(exchange) else {
            complain(exchange, userid);
            return Some(new(exchange, userid));
        };
        let mut text = Vec::new();
        match userid.reset.as_ref().map_or(&b""[..], |reset| reset.bytes(exchange, &mut text)) {
            b"" | b"0" => {}
            word => {
                if word == b"log" {
                    let serial = exchange.connection.serial;
                    let mut shown = Vec::new();
                    show(&userid.name, &got, &mut shown);
                    info!("*{serial} userid cookie \"{}\" was reset", shown.escape_ascii());
                }
                return Some(new(exchange, userid));
            }
        }
        // One without the mark is set again, as it is.
        let mark = userid.mark?;
        let marked = cookie(exchange.headers, &userid.name)
            .is_some_and(|value| value.get(DIGITS..DIGITS + 2) == Some(&[mark, b'=']));
        if marked { None } else { Some(got) }
    })
}

/// Writes `NAME=` and the four numbers.
pub(crate) fn show(name: &str, uid: &Uid, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    for number in uid.as_chunks::<4>().0 {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{:08X}", u32::from_ne_bytes(*number));
    }
}

/// Says that a cookie cannot be read, if there is one.
fn complain(exchange: &Exchange<'_>, userid: &UserId) {
    let Some(value) = cookie(exchange.headers, &userid.name) else { return };
    let what = if value.len() < DIGITS { "too short" } else { "invalid" };
    error!("*{} client sent {what} userid cookie \"{}\"", exchange.connection.serial, value.escape_ascii());
}

fn new(exchange: &Exchange<'_>, userid: &UserId) -> Uid {
    let now = exchange.moment.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = (now & u64::from(u32::MAX)) as u32;
    let numbers = match userid.mode {
        UserIdMode::First => {
            let number = FIRST.fetch_add(STEP, Ordering::Relaxed);
            [userid.service.unwrap_or(0), now, *START, number].map(u32::to_ne_bytes)
        }
        _ => {
            let service = userid.service.map_or_else(|| address(exchange), u32::to_be_bytes);
            let number = SECOND_FIRST.wrapping_add(SECOND.fetch_add(STEP, Ordering::Relaxed) % SECOND_COUNT);
            [service, now.to_be_bytes(), START.to_be_bytes(), number.to_be_bytes()]
        }
    };
    let mut uid = [0; 16];
    uid.copy_from_slice(numbers.as_flattened());
    uid
}

/// The last four bytes of the address that the request came to.
fn address(exchange: &Exchange<'_>) -> [u8; 4] {
    match exchange.connection.local.ip() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            [a, b, c, d]
        }
    }
}

/// What tells this process from those before it and beside it.
static START: LazyLock<u32> = LazyLock::new(|| {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_micros();
    (micros / 20) << 16 | (std::process::id() & 0xffff)
});

/// The next number of the first version.
static FIRST: AtomicU32 = AtomicU32::new(1);

/// How many numbers of the second version there have been.
static SECOND: AtomicU32 = AtomicU32::new(0);

const STEP: u32 = 0x100;

/// Numbers of the second version begin here, since their lowest byte tells the version, and none is zero.
const SECOND_FIRST: u32 = 0x0303_0302;
const SECOND_COUNT: u32 = 0xfc00_0000;

/// Sixteen bytes are so many digits, without what fills them up.
pub(crate) const DIGITS: usize = 22;
