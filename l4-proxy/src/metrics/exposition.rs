//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

/// A text in the making: families with their samples, one after the other.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: &'static str,
}

/// What a family's values do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down.
    Gauge,
    /// They are counted by how large they are: see [`Exposition::histogram`].
    Histogram,
}

impl Exposition {
    /// Begins a family; the samples that follow are its.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.family = name;
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        // Writing to a string cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Adds one sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.part("", labels, value);
    }

    /// Adds the samples of one histogram: for each bound how many are no larger, how many there are, and
    /// their sum.
    pub fn histogram(&mut self, label: (&str, &str), within: &[(f64, u64)], count: u64, sum: f64) {
        for (bound, within) in within {
            self.part("_bucket", &[label, ("le", &bound.to_string())], within);
        }
        self.part("_bucket", &[label, ("le", "+Inf")], count);
        self.part("_sum", &[label], sum);
        self.part("_count", &[label], count);
    }

    fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (index, (name, content)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for character in content.chars() {
                match character {
                    '\\' => self.text.push_str(r"\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str(r"\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// Returns the text.
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_and_help_are_escaped() {
        let mut out = Exposition::default();
        out.family("a_total", Kind::Counter, "one\\two\nthree");
        out.sample(&[("x", "say \"hi\"\n"), ("y", r"c:\d")], 3_u64);
        out.sample(&[], 0.5);
        let wanted = "# HELP a_total one\\\\two\\nthree\n# TYPE a_total counter\n\
                      a_total{x=\"say \\\"hi\\\"\\n\",y=\"c:\\\\d\"} 3\na_total 0.5\n";
        assert_eq!(out.finish(), wanted);
    }
}
