//! The figures side by side, as text.

use std::fmt::Write as _;

use lvs_core::Algorithm;

use crate::traffic::Traffic;
use crate::world::Outcome;

/// One algorithm and what became of the traffic under it.
pub(crate) struct Row {
    pub(crate) algorithm: Algorithm,
    pub(crate) outcome: Outcome,
}

/// The table, and which of its rows are the best in what.
pub(crate) fn table(traffic: &Traffic, rows: &[Row]) -> String {
    let mut text = format!("{traffic}\n\n");
    let heads = ["algorithm", "p50 ms", "p99 ms", "uneven %", "errors", "moved %"];
    // Writing to a string does not fail.
    let mut line = |cells: [&str; 6]| {
        let [name, cells @ ..] = cells;
        let _ = write!(text, "{name:<16}");
        for cell in cells {
            let _ = write!(text, "{cell:>10}");
        }
        text.push('\n');
    };
    line(heads);
    for Row { algorithm, outcome } in rows {
        line([
            &algorithm.to_string(),
            &format!("{:.1}", outcome.p50),
            &format!("{:.1}", outcome.p99),
            &format!("{:.1}", outcome.unevenness * 100.0),
            &outcome.errors.to_string(),
            &outcome.moved.map_or("-".to_owned(), |moved| format!("{:.1}", moved * 100.0)),
        ]);
    }
    text.push_str(LEGEND);
    text.push_str(&verdict(rows));
    text
}

/// The quickest of those that answer, and of those under which clients stay too.
fn verdict(rows: &[Row]) -> String {
    let quickest = |stays: &dyn Fn(&Row) -> bool| {
        let rows =
            rows.iter().filter(|row| stays(row) && row.outcome.errors * ERRORS_ONE_IN < row.outcome.requests);
        rows.min_by(|a, b| a.outcome.p99.total_cmp(&b.outcome.p99))
    };
    let mut text = String::new();
    let mut say = |what: &str, row: Option<&Row>| {
        if let Some(Row { algorithm, outcome }) = row {
            let _ = writeln!(text, "{what}: {algorithm}, p99 {:.1} ms", outcome.p99);
        }
    };
    say("quickest for this traffic", quickest(&|_| true));
    let stays = |row: &Row| row.outcome.moved.is_some_and(|moved| moved < STAYS);
    say("quickest that keeps clients on their server", quickest(&stays));
    text
}

const LEGEND: &str = "
uneven: variation of requests for weight over the servers, while all are up
errors: requests that a failing server was working at, or that found no server
moved:  clients that got another server when the first one failed

";

/// Who gives no answer to more than one request in so many is not the quickest.
const ERRORS_ONE_IN: usize = 100;

/// Where more than half of the clients move, they are not kept.
const STAYS: f64 = 0.5;
