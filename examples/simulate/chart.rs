//! The figures side by side, as a picture: a line per algorithm, a panel per question.

use std::fmt::Write as _;

use crate::report::Row;

/// The chart as a file of its own.
pub(crate) fn svg(title: &str, rows: &[Row]) -> String {
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let mut chart = Chart { text: String::new(), bottom: height - BOTTOM };
    // Writing to a string does not fail.
    let _ = write!(
        chart.text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut lines = title.splitn(2, "; ");
    chart.text(LEFT, 24.0, "start", "#222222", lines.next().unwrap_or_default());
    chart.text(LEFT, 42.0, "start", "#222222", lines.next().unwrap_or_default());
    for (place, row) in rows.iter().enumerate() {
        if place % 2 == 0 {
            chart.bar(0.0, TOP + ROW * place as f64, WIDTH, ROW, "#f4f6f8");
        }
        chart.text(LEFT, middle(place) + 4.0, "start", "#222222", &row.algorithm.to_string());
    }
    chart.latencies(rows);
    let unevenness = rows.iter().map(|row| Some(row.outcome.unevenness * 100.0)).collect::<Vec<_>>();
    chart.bars(560.0, "uneven, %", &unevenness);
    let errors = rows.iter().map(|row| Some(row.outcome.errors as f64)).collect::<Vec<_>>();
    chart.bars(730.0, "errors", &errors);
    let moved = rows.iter().map(|row| row.outcome.moved.map(|moved| moved * 100.0)).collect::<Vec<_>>();
    chart.bars(900.0, "clients moved, %", &moved);
    chart.text.push_str("</svg>\n");
    chart.text
}

struct Chart {
    text: String,
    /// Where the rows end.
    bottom: f64,
}

impl Chart {
    /// Median and p99 of each row on a logarithmic axis.
    fn latencies(&mut self, rows: &[Row]) {
        let all = || rows.iter().flat_map(|row| [row.outcome.p50, row.outcome.p99]);
        let lowest = all().fold(f64::INFINITY, f64::min).clamp(0.001, 1e9).log10().floor();
        let highest = all().fold(0.0, f64::max).clamp(0.001, 1e9).log10().ceil().max(lowest + 1.0);
        let x = |ms: f64| {
            let part = (ms.max(0.001).log10() - lowest) / (highest - lowest);
            LATENCY + LATENCY_WIDTH * part.clamp(0.0, 1.0)
        };
        self.text(LATENCY, TOP - 24.0, "start", "#222222", "time to answer, ms:");
        self.dot(LATENCY + 132.0, TOP - 28.0, MEDIAN);
        self.text(LATENCY + 141.0, TOP - 24.0, "start", "#222222", "median");
        self.dot(LATENCY + 198.0, TOP - 28.0, TAIL);
        self.text(LATENCY + 207.0, TOP - 24.0, "start", "#222222", "99 of 100");
        for power in lowest as i32..=highest as i32 {
            let ms = 10f64.powi(power);
            self.line(x(ms), TOP, x(ms), self.bottom, "#c8ced4");
            self.text(x(ms), self.bottom + 16.0, "middle", "#555555", &ms.to_string());
        }
        for (place, row) in rows.iter().enumerate() {
            let (p50, p99) = (x(row.outcome.p50), x(row.outcome.p99));
            self.line(p50, middle(place), p99, middle(place), "#8a949e");
            self.dot(p50, middle(place), MEDIAN);
            self.dot(p99, middle(place), TAIL);
            self.text(p99 + 9.0, middle(place) + 4.0, "start", "#222222", &format!("{:.0}", row.outcome.p99));
        }
    }

    /// A bar for each row, its value beside it.
    fn bars(&mut self, left: f64, title: &str, values: &[Option<f64>]) {
        self.text(left, TOP - 24.0, "start", "#222222", title);
        self.line(left, TOP, left, self.bottom, "#c8ced4");
        let most = values.iter().flatten().fold(0.0, |most: f64, value| most.max(*value)).max(1e-9);
        for (place, value) in values.iter().enumerate() {
            let width = value.map_or(0.0, |value| BAR_WIDTH * value / most);
            self.bar(left, middle(place) - 6.0, width, 12.0, MEDIAN);
            let said = value.map_or("-".to_owned(), |value| format!("{value:.0}"));
            self.text(left + width + 5.0, middle(place) + 4.0, "start", "#222222", &said);
        }
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, color: &str, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.text,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{color}\">{words}</text>"
        );
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, color: &str) {
        let _ = writeln!(
            self.text,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\"/>"
        );
    }

    fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, color: &str) {
        let _ = writeln!(
            self.text,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"/>"
        );
    }

    fn dot(&mut self, x: f64, y: f64, color: &str) {
        let _ = writeln!(self.text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{color}\"/>");
    }
}

/// The height of a row's middle.
fn middle(place: usize) -> f64 {
    TOP + ROW * (place as f64 + 0.5)
}

const WIDTH: f64 = 1060.0;
const LEFT: f64 = 16.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = 30.0;
const ROW: f64 = 24.0;
const LATENCY: f64 = 150.0;
const LATENCY_WIDTH: f64 = 340.0;
const BAR_WIDTH: f64 = 100.0;

/// Two colors that the colour-blind tell apart.
const MEDIAN: &str = "#0072b2";
const TAIL: &str = "#d55e00";
