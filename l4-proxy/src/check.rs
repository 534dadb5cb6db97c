//! Active checks as keepalived makes them: one file for each kind.
//!
//! A check is asked one question and gives one answer, a [`Report`]. How often it is asked, and
//! what an answer means for the server, is decided elsewhere: [`rhythm`] counts, and
//! `keepalived::keeper` acts. Each check ends within its time, whatever the server does.

mod dns;
pub(crate) mod file;
mod http;
mod misc;
pub(crate) mod origin;
mod ping;
pub mod rhythm;
mod smtp;
mod tcp;
mod tls;
mod udp;

use lvs_core::Cause;
use tokio::time::{Instant, timeout_at};

use crate::keepalived::model::{Checker, Kind};
use crate::script::Account;

/// What a check saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The server answered as it should.
    Passed,
    /// It did, and this is to be its weight, or to be added to it.
    Weighs(Weighs),
    /// It did not.
    Failed(Cause),
}

/// What a check has to say about the weight of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighs {
    /// The weight in place of the configured one.
    Is(u32),
    /// What is added to it.
    Adds(i64),
}

/// Whether a check goes through all that it can ask, or takes one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thoroughness {
    /// All urls in a row: the server is up.
    All,
    /// This one of the urls: the server is to come up.
    Step(usize),
}

/// Makes a check once.
pub async fn once(checker: &Checker, thoroughness: Thoroughness, account: &Account) -> Report {
    let patience = checker.rhythm.timeout;
    match &checker.kind {
        Kind::Misc { script, dynamic } => return misc::check(script, *dynamic, account, patience).await,
        Kind::File { file, dynamic } => return file::check(file, *dynamic),
        // Each url and each host has the whole time.
        Kind::Http(origin, method) => return http::check(origin, method, thoroughness, patience).await,
        Kind::Smtp(hosts, helo) => return smtp::check(hosts, helo).await,
        Kind::Udp(origin, body) => return udp::check(origin, body, patience).await,
        Kind::Tcp(_) | Kind::Dns(..) | Kind::Ping(_) => {}
    }
    let until = Instant::now() + patience;
    let passed = match &checker.kind {
        Kind::Dns(origin, query) => by(until, "no answer in time", dns::check(origin, query)).await,
        Kind::Ping(origin) => by(until, "no echo in time", ping::check(origin)).await,
        Kind::Tcp(origin) => by(until, CONNECT_TIMED_OUT, tcp::check(origin)).await,
        _ => Ok(()),
    };
    passed.map_or_else(Report::Failed, |()| Report::Passed)
}

/// How many steps a check has: one for each url.
pub(crate) fn steps(checker: &Checker) -> usize {
    match &checker.kind {
        Kind::Http(_, method) if !method.fast_recovery => method.urls.len(),
        _ => 1,
    }
}

/// What comes of a part of a check that has to be over by then, or else what was waited for in vain.
async fn by<T>(
    until: Instant,
    late: &'static str,
    asked: impl Future<Output = Result<T, Cause>>,
) -> Result<T, Cause> {
    timeout_at(until, asked).await.unwrap_or_else(|_| Err(Cause::from(late)))
}

const CONNECT_TIMED_OUT: &str = "connect timed out";
