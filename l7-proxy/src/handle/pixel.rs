//! `empty_gif`: one transparent pixel.

use http::header::{CONTENT_TYPE, LAST_MODIFIED};
use http::{HeaderValue, Method, StatusCode};

use super::{Answer, Step};
use crate::model::Settings;
use crate::static_file;
use crate::transaction::Transaction;

/// Answers with the pixel.
pub(super) fn answer(transaction: &Transaction, settings: &Settings) -> Step {
    if !matches!(*transaction.method(), Method::GET | Method::HEAD) {
        return Step::status(405);
    }
    let rule = settings.files.if_modified_since;
    let status = static_file::conditional_status(&transaction.parts.headers, MODIFIED.0, rule);
    let mut answer = match status {
        StatusCode::OK => Answer::plain(status, PIXEL.into()),
        StatusCode::NOT_MODIFIED => Answer::plain(status, bytes::Bytes::new()),
        status => return Step::status(status.as_u16()),
    };
    if status == StatusCode::OK {
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    }
    answer.headers.insert(LAST_MODIFIED, HeaderValue::from_static(MODIFIED.1));
    Step::Done(answer)
}

/// The moment that nginx gives the pixel, so that a validator holds on both.
const MODIFIED: (u32, &str) = (23_349_600, "Mon, 28 Sep 1970 06:00:00 GMT");

/// One transparent pixel: a palette of two colours, the second transparent.
const PIXEL: &[u8] = b"GIF89a\x01\0\x01\0\x80\x01\0\0\0\0\xff\xff\xff\x21\xf9\x04\x01\0\0\x01\0\
                       \x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x4c\x01\0\x3b";
