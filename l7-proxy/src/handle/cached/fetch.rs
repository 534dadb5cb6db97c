//! A server is asked, and its answer is kept.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{ETAG, LAST_MODIFIED, RANGE};
use http::{HeaderValue, Method, StatusCode};
use hyper::ext::ReasonPhrase;
use tracing::error;

use super::super::finish::exchange_with;
use super::super::{Answer, fill, relay};
use super::{Spot, fields_of, holds};
use crate::body::Source;
use crate::cache::{Claim, Draft, Entry, Extent, Head, Keeping, Said, now};
use crate::date;
use crate::error_log::Errno;
use crate::forward::{self, Fault, Unanswered};
use crate::transaction::Transaction;
use crate::upstream::parse_length;
use crate::variable::{Asking, Outcome};

/// What a server is asked for.
pub(super) struct Errand {
    purpose: Purpose,
    /// A hold on the entry, if there is one already.
    claim: Option<Claim>,
    /// What there is, though its time is over.
    stale: Option<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The answer is to be kept.
    Keep,
    /// It is for its client alone.
    Pass,
}

impl Errand {
    /// An answer to be kept, of which there is none.
    pub(super) fn keeping(claim: Claim) -> Errand {
        Errand { purpose: Purpose::Keep, claim: Some(claim), stale: None }
    }

    /// An answer to be kept in place of another.
    pub(super) fn renewing(claim: Claim, stale: Entry) -> Errand {
        Errand { purpose: Purpose::Keep, claim: Some(claim), stale: Some(stale) }
    }

    /// An answer to be kept whatever there is.
    pub(super) fn overwriting() -> Errand {
        Errand { purpose: Purpose::Keep, claim: None, stale: None }
    }

    /// An answer that is not to be kept.
    pub(super) fn passing() -> Errand {
        Errand { purpose: Purpose::Pass, claim: None, stale: None }
    }
}

impl Spot<'_> {
    /// Asks a server.
    ///
    /// # Errors
    /// As [`forward::forward`].
    pub(super) async fn fetch(
        &self,
        transaction: &mut Transaction,
        body: Option<Rc<Source>>,
        mut errand: Errand,
    ) -> Result<Answer, Unanswered> {
        if self.is_far_part(transaction) {
            errand.purpose = Purpose::Pass;
            errand.claim = None;
        }
        self.prepare(transaction, &errand);
        let (pass, pool) = (self.pass, Rc::clone(&self.pool));
        let answered =
            forward::forward(transaction, self.server, self.route, (pass, pool), self.target, body).await;
        let Errand { purpose, claim, stale } = errand;
        match answered {
            Err(unanswered) => {
                if let Some(entry) = stale.filter(|entry| self.is_good_for(entry, unanswered)) {
                    return self.send(transaction, entry, Outcome::Stale).ok_or(unanswered);
                }
                let status = unanswered.status;
                if purpose == Purpose::Keep
                    && matches!(status, 502 | 504)
                    && let (Some(claim), Some(time)) = (claim, self.rules().valid_for(status))
                {
                    claim.refuse(status, now().saturating_add(time.as_secs()));
                }
                Err(unanswered)
            }
            Ok(answer) => {
                let status = answer.status.as_u16();
                if let Some(entry) = stale {
                    if self.rules().use_stale.statuses.contains(&status) {
                        return self.send(transaction, entry, Outcome::Stale).ok_or(Unanswered::own(500));
                    }
                    // What was asked as the client asks tells of what the client has.
                    let is_ours = purpose == Purpose::Keep && self.rules().revalidate;
                    if answer.status == StatusCode::NOT_MODIFIED && is_ours {
                        return self.confirm(transaction, &answer, entry, claim).ok_or(Unanswered::own(500));
                    }
                }
                match purpose {
                    Purpose::Keep => Ok(self.keep(transaction, answer, claim).await),
                    Purpose::Pass => Ok(answer),
                }
            }
        }
    }

    /// Whether a part is asked for that begins too far behind for the whole to be fetched.
    fn is_far_part(&self, transaction: &Transaction) -> bool {
        let Some(most) = self.rules().max_range_offset else { return false };
        let Some(range) = fields_of(transaction).get(RANGE).map(HeaderValue::as_bytes) else { return false };
        if most == 0 {
            return true;
        }
        let Some((unit, list)) = range.split_at_checked(6) else { return false };
        if !unit.eq_ignore_ascii_case(b"bytes=") {
            return false;
        }
        let list = list.trim_ascii_start();
        let digits = list.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match parse_length(&list[..digits]) {
            // A part at the end, of which nobody knows where it begins.
            None => list.starts_with(b"-"),
            Some(offset) => offset >= most,
        }
    }

    /// Takes down how the server is asked.
    fn prepare(&self, transaction: &mut Transaction, errand: &Errand) {
        let revalidates = self.rules().revalidate;
        let Some(cached) = &mut transaction.findings.cached else { return };
        cached.asking = match (errand.purpose, &errand.stale) {
            (Purpose::Pass, _) => Asking::AsSent,
            (Purpose::Keep, Some(entry)) if revalidates => {
                cached.tag = entry.facts.etag.clone();
                cached.changed = entry.facts.modified;
                Asking::Changes
            }
            (Purpose::Keep, _) => Asking::Whole,
        };
    }

    /// Whether what there is, is better than no answer.
    fn is_good_for(&self, entry: &Entry, unanswered: Unanswered) -> bool {
        let use_stale = &self.rules().use_stale;
        let is_wanted = match unanswered.fault {
            Fault::Own => return false,
            Fault::Connection => use_stale.error,
            Fault::Time => use_stale.timeout,
            Fault::Answer => use_stale.invalid_header,
            Fault::Status => use_stale.error || use_stale.statuses.contains(&unanswered.status),
        };
        is_wanted || entry.facts.validity.serves_errors(now())
    }

    /// Answers with what there is, since a server has said that nothing has changed.
    fn confirm(
        &self,
        transaction: &mut Transaction,
        word: &Answer,
        entry: Entry,
        claim: Option<Claim>,
    ) -> Option<Answer> {
        let (ignored, now) = (&self.route.proxy().relay.ignore, now());
        let mut validity = Said::by(&word.headers, ignored, now).validity;
        let facts = entry.facts.clone();
        let before = entry.without_body();
        let answer = self.send(transaction, entry, Outcome::Revalidated)?;
        if validity.until == 0 {
            validity = Said::by(&answer.headers, ignored, now).validity;
        }
        let validity = validity.or_for(self.rules().valid_for(answer.status.as_u16()), now);
        if validity.until != 0
            && validity != facts.validity
            && let Some(claim) = claim
        {
            claim.renew(&before, validity);
        }
        Some(answer)
    }

    /// Keeps an answer, if it may be kept; it is returned to be sent.
    async fn keep(&self, transaction: &mut Transaction, mut answer: Answer, claim: Option<Claim>) -> Answer {
        let settings = self.route.proxy();
        let (rules, relay, now) = (self.rules(), &settings.relay, now());
        let status = answer.status.as_u16();
        if answer.tunnel.is_some() || relay::is_sent_elsewhere(relay, &answer.headers) {
            return answer;
        }
        let mut said = Said::by(&answer.headers, &relay.ignore, now);
        said.validity = said.validity.or_for(rules.valid_for(status), now);
        if let Some(cached) = &mut transaction.findings.cached {
            cached.is_keepable = said.allows;
        }
        let may_be_kept = said.allows && said.validity.until != 0;
        if relay::is_intercepted(self.route, status) {
            if let Some(claim) = claim.filter(|_| may_be_kept) {
                claim.refuse(status, said.validity.until);
            }
            return answer;
        }
        let is_part = answer.status == StatusCode::PARTIAL_CONTENT
            && !settings.set_headers.iter().any(|set| set.name == RANGE);
        if !may_be_kept
            || !rules.buffering
            || relay::is_not_buffered(relay, &answer.headers)
            // Neither is an answer by itself to whoever asks for the whole.
            || is_part
            || answer.status == StatusCode::NOT_MODIFIED
            || self.is_unwanted(transaction, &answer)
        {
            return answer;
        }
        let Some(claim) = claim.or_else(|| self.store.overwrite(&self.key)) else { return answer };
        match Draft::begin(claim, self.keeping(transaction, &answer, said)) {
            Ok(Some(draft)) => {
                fill::begin(transaction, self.server, self.route, self.target, &mut answer, Box::new(draft))
                    .await
            }
            Ok(None) => {}
            Err(error) => {
                let (serial, context) = (transaction.connection.serial, transaction.context(self.server));
                error!("*{serial} an answer cannot be kept ({}){context}", Errno(&error));
            }
        }
        answer
    }

    /// Whether `proxy_no_cache` keeps an answer from being kept.
    fn is_unwanted(&self, transaction: &mut Transaction, answer: &Answer) -> bool {
        let values = &self.rules().no_cache;
        if values.is_empty() {
            return false;
        }
        if transaction.generation.site.router.needs().upstream_fields {
            transaction.upstream_headers = Some(answer.headers.clone());
        }
        let (status, headers) = (answer.status, &answer.headers);
        holds(values, &exchange_with(transaction, self.server, self.route, self.target, status, headers))
    }

    fn keeping<'t>(&'t self, transaction: &'t Transaction, answer: &Answer, said: Said) -> Keeping<'t> {
        let headers = &answer.headers;
        let is_compared = matches!(answer.status.as_u16(), 200 | 206);
        let modified = headers.get(LAST_MODIFIED).filter(|_| is_compared).and_then(date::parse);
        let etag = headers.get(ETAG).filter(|_| is_compared);
        let cached = transaction.findings.cached.as_ref();
        let is_head =
            *transaction.method() == Method::HEAD && !cached.is_some_and(|cached| cached.converts_head);
        let reason = answer.extensions.get::<ReasonPhrase>();
        Keeping {
            key: &self.key,
            request: fields_of(transaction),
            said,
            modified,
            etag: etag.map_or(Bytes::new(), |etag| Bytes::copy_from_slice(etag.as_bytes())),
            extent: if is_head { Extent::Head } else { Extent::Whole },
            head: Head::write(answer.status, headers, reason, &transaction.session.spelling),
            temporary: &self.rules().temporary,
        }
    }
}
