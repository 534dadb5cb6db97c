//! The character set that an answer is said to be in (`charset`), and is put into if it is in another.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tracing::error;

use crate::body::{Kind, Recoded};
use crate::charset::{CharsetId, Charsets, Recoder, Recoding, split};
use crate::model::Charset;
use crate::route::Server;
use crate::transaction::{Origin, Transaction};
use crate::variable::{Exchange, Value};

/// Says the character set that is configured, or that a server has asked for (`X-Accel-Charset`), and puts the
/// body into it.
pub(super) fn add(
    transaction: &Transaction,
    server: &Server,
    charset: &Charset,
    exchange: &Exchange<'_>,
    headers: &mut HeaderMap,
    kind: &mut Kind,
) {
    let charsets = transaction.generation.site.router.charsets();
    let asked = transaction.charset.as_deref();
    let Decision { content_type, recoding } = match decide(charsets, charset, asked, exchange, headers) {
        Ok(Some(decision)) => decision,
        Ok(None) => return,
        Err(why) => {
            let (serial, context) = (transaction.connection.serial, transaction.context(server));
            return error!("*{serial} {why}{context}");
        }
    };
    if let Some(value) = content_type {
        headers.insert(CONTENT_TYPE, value);
    }
    if let Some(recoding) = recoding {
        if !recoding.keeps_size() {
            headers.remove(CONTENT_LENGTH);
            if kind.origin() == Origin::Own {
                headers.remove(ACCEPT_RANGES);
            }
        }
        let plain = std::mem::replace(kind, Kind::Whole(Bytes::new()));
        *kind = Kind::Recoded(Box::new(Recoded::new(plain, Recoder::new(recoding))));
    }
}

/// What becomes of an answer.
struct Decision {
    /// Its new type, if it gets one.
    content_type: Option<HeaderValue>,
    recoding: Option<Arc<Recoding>>,
}

/// A character set: its name, and its number if the configuration has it.
struct Named<'a> {
    name: &'a [u8],
    id: Option<CharsetId>,
}

impl Named<'_> {
    fn new<'a>(charsets: &Charsets, name: &'a [u8]) -> Named<'a> {
        Named { name, id: charsets.find(name) }
    }

    fn is(&self, other: &Named<'_>) -> bool {
        self.id == other.id && self.name.eq_ignore_ascii_case(other.name)
    }
}

/// Decides what becomes of an answer by nginx's rules; nothing, or why it stays as it is.
fn decide(
    charsets: &Charsets,
    charset: &Charset,
    asked: Option<&str>,
    exchange: &Exchange<'_>,
    headers: &HeaderMap,
) -> Result<Option<Decision>, String> {
    let Some(said) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else { return Ok(None) };
    let (media_type, own) = split(said);
    let (mut scratch, mut other) = (Vec::new(), Vec::new());
    let to = match (asked.filter(|asked| !asked.is_empty()), &charset.name) {
        (Some(asked), _) => asked.as_bytes(),
        (None, None) => return Ok(None),
        (None, Some(_)) if own.is_some() && !charset.overrides => return Ok(None),
        (None, Some(_)) if own.is_none() && !charset.types.contain(Some(media_type)) => return Ok(None),
        (None, Some(name)) => name.bytes(exchange, &mut scratch),
    };
    if to.is_empty() {
        return Ok(None);
    }
    let to = Named::new(charsets, to);
    if asked.is_some() && to.id.is_none() {
        return Err(format!("unknown charset \"{}\" to override", to.name.escape_ascii()));
    }
    // Old browsers took that of a redirect for that of the page they were sent to, and nginx still spares
    // them.
    let redirects = exchange.response.is_some_and(|response| matches!(response.status, 301 | 302));
    let content_type = match redirects {
        true => HeaderValue::from_bytes(media_type).ok(),
        false => HeaderValue::from_bytes(&[media_type, b"; charset=", to.name].concat()).ok(),
    };
    let plain = Ok(Some(Decision { content_type: content_type.clone(), recoding: None }));
    let from = match (own, &charset.source) {
        (Some(own), _) => own,
        (None, Some(source)) => Value::bytes(source, exchange, &mut other),
        (None, None) => return plain,
    };
    let from = Named::new(charsets, from);
    if from.is(&to) {
        return plain;
    }
    if from.id.is_some() && to.id.is_some() && headers.contains_key(CONTENT_ENCODING) {
        return Ok(None);
    }
    let recoding = from.id.zip(to.id).and_then(|(from, to)| charsets.between(from, to));
    match recoding {
        Some(recoding) => Ok(Some(Decision { content_type, recoding: Some(Arc::clone(recoding)) })),
        None => Err(format!(
            "no \"charset_map\" between the charsets \"{}\" and \"{}\"",
            from.name.escape_ascii(),
            to.name.escape_ascii()
        )),
    }
}
