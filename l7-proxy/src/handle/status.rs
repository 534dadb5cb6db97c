//! Pages of counts: nginx's, one for Prometheus, and one for programs; and one of the log in memory.
//!
//! Each is made when it is asked for, of what is counted anyway. Its series follow the
//! configuration: nothing that a client chooses makes one more.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use l4_proxy::metrics::{Exposition, Kind, of_director, of_process};
use lvs_core::{Director, Time};
use lvsadm::{CommitError, Connection, Control, Edit, Timeouts};

use super::{Answer, Step};
use crate::cache::{Census, Store};
use crate::model::{Settings, StatusPage};
use crate::moment::Moment;
use crate::server::{Census as Counted, Worker};
use crate::transaction::Transaction;

/// Answers with a page about the program.
pub(super) fn answer(transaction: &Transaction, settings: &Settings, page: StatusPage) -> Step {
    if !matches!(*transaction.method(), Method::GET | Method::HEAD) {
        return Step::status(405);
    }
    let worker = &*transaction.session.worker;
    let (text, kind) = match page {
        StatusPage::Stub => (worker.census().to_string(), "text/plain"),
        StatusPage::Metrics => (metrics(worker), "text/plain; version=0.0.4; charset=utf-8"),
        StatusPage::Log => return log(transaction, settings),
        StatusPage::Upstreams => match upstreams(worker.director()) {
            Some(text) => (text, "application/json"),
            None => return Step::status(500),
        },
    };
    let mut answer = Answer::plain(StatusCode::OK, text.into());
    answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Step::Done(answer)
}

/// What the logs of a location have in memory, or those of the process where it has none of its own.
fn log(transaction: &Transaction, settings: &Settings) -> Step {
    let own = settings.error_log.as_deref().map(|logs| logs.iter().filter_map(|log| log.target.memory()));
    let text: Vec<u8> = match own {
        Some(own) => own.flat_map(|memory| memory.latest()).collect(),
        None => transaction
            .generation
            .site
            .router
            .log_memory()
            .iter()
            .flat_map(|memory| memory.latest())
            .collect(),
    };
    let mut answer = Answer::plain(StatusCode::OK, text.into());
    answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Step::Done(answer)
}

/// What Prometheus reads, in its text format.
fn metrics(worker: &Worker) -> String {
    let mut out = Exposition::default();
    out.family("lvs_build_info", Kind::Gauge, "The version that runs; always 1.");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    let Counted { accepted, requests, reading, writing, waiting, responses } = worker.census();
    out.family("lvs_http_connections_accepted_total", Kind::Counter, "Connections of clients.");
    out.sample(&[], accepted);
    out.family("lvs_http_requests_total", Kind::Counter, "Requests that were begun.");
    out.sample(&[], requests);
    out.family("lvs_http_connections", Kind::Gauge, "Connections of clients, by what they are about.");
    for (state, count) in [("reading", reading), ("writing", writing), ("waiting", waiting)] {
        out.sample(&[("state", state)], count);
    }
    out.family("lvs_http_responses_total", Kind::Counter, "Answers, by the class of their status.");
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(responses) {
        out.sample(&[("code", class)], count);
    }
    let help = "How long servers took to answer, up to the end of the head.";
    out.family("lvs_http_upstream_response_seconds", Kind::Histogram, help);
    for (upstream, counted) in worker.timings().counted() {
        out.histogram(("upstream", &upstream), &counted.within, counted.count, counted.seconds);
    }
    of_caches(&mut out, &worker.caches().all());
    of_director(&mut out, worker.director());
    of_process(&mut out);
    out.finish()
}

/// What is kept of answers, by zone.
fn of_caches(out: &mut Exposition, stores: &[Arc<Store>]) {
    if stores.is_empty() {
        return;
    }
    let zones: Vec<_> = stores.iter().map(|store| (&*store.name, store.census())).collect();
    let help = "Requests at locations whose answers are kept, by what there was.";
    out.family("lvs_http_cache_requests_total", Kind::Counter, help);
    for (zone, census) in &zones {
        for (outcome, count) in census.requests {
            out.sample(&[("zone", zone), ("status", &outcome.as_str().to_ascii_lowercase())], count);
        }
    }
    type Read = fn(&Census) -> u64;
    let rows: [(&str, Kind, &str, Read); 5] = [
        (
            "lvs_http_cache_served_bytes_total",
            Kind::Counter,
            "Bytes of bodies that no server had to send.",
            |census| census.bytes_served,
        ),
        (
            "lvs_http_cache_stored_bytes_total",
            Kind::Counter,
            "Bytes of bodies that were written.",
            |census| census.bytes_stored,
        ),
        ("lvs_http_cache_evictions_total", Kind::Counter, "Entries that were removed.", |census| {
            census.evictions
        }),
        ("lvs_http_cache_entries", Kind::Gauge, "Keys that are known.", |census| census.entries as u64),
        ("lvs_http_cache_size_bytes", Kind::Gauge, "Bytes of all files.", |census| census.size),
    ];
    for (name, kind, help, read) in rows {
        out.family(name, kind, help);
        zones.iter().for_each(|(zone, census)| out.sample(&[("zone", zone)], read(census)));
    }
}

/// The upstreams and their servers: the document of `lvsadm -L --json`.
fn upstreams(director: &Director) -> Option<String> {
    let words = ["-L", "--json", "-n"].map(str::to_owned);
    let output = lvsadm::run(&words, "", &Looked(director));
    (output.code == 0).then_some(output.stdout)
}

/// A director that is looked at and not touched.
struct Looked<'a>(&'a Director);

impl Control for Looked<'_> {
    fn director(&self) -> &Director {
        self.0
    }

    fn now(&self) -> Time {
        Moment::now().as_time()
    }

    fn commit(&self, _: Edit) -> Result<(), CommitError> {
        Err(CommitError::Refused("a page changes nothing".to_owned()))
    }

    fn connections(&self) -> Vec<Connection> {
        Vec::new()
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts::default()
    }

    fn set_timeouts(&self, _: Timeouts) -> Result<(), CommitError> {
        self.commit(Edit::Replace(lvs_core::Config::default()))
    }
}
