//! An answer that is written while it is sent: into a cache, or into a file.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;

use super::logged::Logged;
use super::{Answer, exchange};
use crate::body::{Deposit, Filling, Kind};
use crate::conf;
use crate::route::{Route, Server};
use crate::server::Beside;
use crate::transaction::Transaction;
use crate::upstream::parse_length;
use crate::uri::Target;

/// Has an answer written from now on, by a task of its own if it has not come already.
pub(super) async fn begin(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    answer: &mut Answer,
    deposit: Box<dyn Deposit>,
) {
    let inner = std::mem::replace(&mut answer.kind, Kind::Whole(Bytes::new()));
    let told = answer.headers.get(CONTENT_LENGTH).and_then(|value| parse_length(value.as_bytes()));
    let size = inner.exact_size().or(told);
    let rate = rate(transaction, server, route, target);
    let (mut filling, filled) = Filling::new(inner, deposit, size, rate);
    answer.kind = Kind::Filled(Box::new(filled));
    // Most answers have come with their heads.
    if poll_fn(|cx| Poll::Ready(filling.poll(cx).is_ready())).await {
        return;
    }
    let Some(beside) = Beside::of(&transaction.session) else {
        return filling.give_up(Bytes::new());
    };
    let session = Rc::clone(&transaction.session);
    let writing = Box::pin(async move { poll_fn(|cx| filling.poll(cx)).await });
    tokio::task::spawn_local(async move {
        tokio::select! {
            biased;
            () = beside.aborted() => {}
            () = Logged::new(session, writing) => {}
        }
    });
}

/// How many bytes per second are read of a server's answer; 0 sets no limit.
fn rate(transaction: &Transaction, server: &Server, route: &Route<'_>, target: &Target<'_>) -> u64 {
    let Some(value) = &route.proxy().limit_rate else { return 0 };
    let mut text = Vec::new();
    let exchange = exchange(transaction, server, route, target);
    let text = std::str::from_utf8(value.bytes(&exchange, &mut text)).ok();
    text.and_then(conf::parse_size).unwrap_or(0)
}
