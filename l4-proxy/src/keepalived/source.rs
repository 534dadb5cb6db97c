//! Files into lines: comments, includes, conditions and definitions are gone afterwards.
//!
//! A line is looked at in keepalived's order: an `include` is recognised before anything is put in,
//! then come `@conditions`, definitions and loops. What a definition brings in is looked at again
//! from the conditions on. Each line knows the place in a file that it comes from.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::complaint::{Complaint, Line};
use super::expand::{self, Definitions, Expanded};
use super::glob;
use super::lexer::{self, Token};

/// The lines that a text leads to, in order.
pub(crate) fn lines(file: &Path, text: &str, id: &str) -> (Vec<Arc<Line>>, Vec<Complaint>) {
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64);
    let mut reader = Reader {
        definitions: Definitions::new(id, seed),
        waiting: VecDeque::new(),
        lines: Vec::new(),
        complaints: Vec::new(),
        check: Check::default(),
        files: 0,
    };
    reader.open(file, text, 0);
    reader.read();
    (reader.lines, reader.complaints)
}

struct Reader {
    definitions: Definitions,
    /// What is still to be looked at, the next first.
    waiting: VecDeque<Entry>,
    lines: Vec<Arc<Line>>,
    complaints: Vec<Complaint>,
    check: Check,
    files: usize,
}

enum Entry {
    /// A line of a file.
    Raw(Arc<Line>, Depth),
    /// A line that a definition or a loop made.
    Made(Arc<Line>, Depth),
    /// The variables of a loop's next round.
    Set(Vec<(String, String)>),
}

/// How many files, or definitions, lie between a line and the file that was asked for.
type Depth = u16;

/// What an `include` demands, by keepalived's names.
#[derive(Clone, Copy, Default)]
struct Check {
    readable: bool,
    matches: bool,
    wildcard: bool,
    brace: bool,
}

impl Reader {
    /// Puts the lines of a file in front of what waits.
    fn open(&mut self, file: &Path, text: &str, depth: Depth) {
        let file: Arc<Path> = file.into();
        self.files += 1;
        for (index, text) in text.lines().enumerate().collect::<Vec<_>>().into_iter().rev() {
            let text = lexer::without_comment(text).trim_end().to_owned();
            let line = Line { file: Arc::clone(&file), number: index + 1, text };
            self.waiting.push_front(Entry::Raw(Arc::new(line), depth));
        }
    }

    fn read(&mut self) {
        let mut left = LINES_MAX;
        while let Some(entry) = self.waiting.pop_front() {
            let (line, depth) = match entry {
                Entry::Set(variables) => {
                    for (name, value) in variables {
                        self.definitions.define(&name, vec![value]);
                    }
                    continue;
                }
                Entry::Raw(line, depth) => {
                    if self.include(&line, depth) {
                        continue;
                    }
                    (line, 0)
                }
                Entry::Made(line, depth) => (line, depth),
            };
            left -= 1;
            if left == 0 {
                self.complaints.push(Complaint::on(&line, format!("more than {LINES_MAX} lines")));
                self.lines.clear();
                return;
            }
            self.look(&line, depth);
        }
    }

    fn look(&mut self, line: &Arc<Line>, depth: Depth) {
        let text = line.text.trim_start();
        if text.is_empty() {
            return;
        }
        if depth > DEPTH_MAX || text.len() > LENGTH_MAX {
            let what =
                if depth > DEPTH_MAX { "the definitions lead in a circle" } else { "the line is too long" };
            self.complaints.push(Complaint::on(line, what));
            return;
        }
        if let Some(condition) = text.strip_prefix('@') {
            let (name, rest) =
                condition.split_at(condition.find(char::is_whitespace).unwrap_or(condition.len()));
            let holds = match name.strip_prefix('^') {
                Some(name) => name != self.definitions.id,
                None => name == self.definitions.id,
            };
            if holds {
                self.push(line, rest, depth + 1);
            }
            return;
        }
        if let Some((name, value)) = expand::definition(text) {
            let body = self.body(value);
            self.definitions.define(name, body);
            return;
        }
        match expand::loop_of(text) {
            Some(Ok(found)) => {
                for round in found.rounds.into_iter().rev() {
                    self.push(line, found.rest, depth + 1);
                    self.waiting.push_front(Entry::Set(round));
                }
                return;
            }
            Some(Err(reason)) => return self.complaints.push(Complaint::on(line, reason)),
            None => {}
        }
        let directory = directory(&line.file);
        match self.definitions.expand(&line.text, &directory) {
            Expanded::Same => self.lines.push(Arc::clone(line)),
            Expanded::Line(text) => self.push(line, &text, depth + 1),
            Expanded::Lines(texts) => {
                for text in texts.iter().rev() {
                    self.push(line, text, depth + 1);
                }
            }
        }
    }

    /// Looks next at a text that came from this line.
    fn push(&mut self, line: &Arc<Line>, text: &str, depth: Depth) {
        let line = Line { file: Arc::clone(&line.file), number: line.number, text: text.to_owned() };
        self.waiting.push_front(Entry::Made(Arc::new(line), depth));
    }

    /// The body of a definition: the rest of its line, and the lines after it as long as each but
    /// the last ends in a backslash.
    fn body(&mut self, value: &str) -> Vec<String> {
        let Some(first) = value.trim_end().strip_suffix('\\') else {
            let value = value.trim();
            return if value.is_empty() { Vec::new() } else { vec![value.to_owned()] };
        };
        let mut body = vec![first.trim().to_owned()];
        body.retain(|first| !first.is_empty());
        while let Some(Entry::Raw(line, _) | Entry::Made(line, _)) = self.waiting.front() {
            let text = line.text.trim_end().to_owned();
            self.waiting.pop_front();
            match text.strip_suffix('\\') {
                Some(text) => body.push(text.trim_end().to_owned()),
                None => {
                    body.push(text);
                    break;
                }
            }
        }
        body
    }

    /// Carries out an `include` or `include_check`; says whether the line was one.
    fn include(&mut self, line: &Arc<Line>, depth: Depth) -> bool {
        let text = line.text.trim_start();
        let (keyword, argument) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
        let mut check = self.check;
        match keyword {
            "include" => {}
            "includer" => check.readable = true,
            "includem" => check.matches = true,
            "includew" => check.wildcard = true,
            "includeb" => check.brace = true,
            "includea" => check = Check { readable: true, matches: true, wildcard: true, brace: true },
            "include_check" => {
                self.set_check(line, argument);
                return true;
            }
            _ => return false,
        }
        let pattern = argument.trim().trim_matches(['"', '\'']);
        if pattern.is_empty() {
            self.complaints.push(Complaint::on(line, format!("{keyword} names no file")));
            return true;
        }
        let found = self.find(line, pattern, check);
        for path in found.iter().rev() {
            self.open_included(line, path, check, depth + 1);
        }
        true
    }

    fn find(&mut self, line: &Arc<Line>, pattern: &str, check: Check) -> Vec<PathBuf> {
        let directory = directory(&line.file);
        let names = glob::without_braces(pattern);
        let mut found = Vec::new();
        for name in &names {
            let before = found.len();
            found.extend(glob::matching(&directory.join(name)));
            if found.len() > before {
                continue;
            }
            let complaint = Complaint::on(line, format!("no file matches {name}"));
            let demanded = if names.len() > 1 { check.brace } else { check.matches };
            if demanded
                || (glob::is_pattern(name) && check.wildcard)
                || (!glob::is_pattern(name) && check.readable)
            {
                self.complaints.push(complaint);
            } else if !glob::is_pattern(name) && names.len() == 1 {
                // keepalived says nothing; but a file that was named and is not there is a typo.
                self.complaints.push(complaint.only_warns());
            }
        }
        found
    }

    fn open_included(&mut self, line: &Arc<Line>, path: &Path, check: Check, depth: Depth) {
        if depth > INCLUDES_MAX || self.files >= FILES_MAX {
            self.complaints.push(Complaint::on(line, "the files include each other without end"));
            return;
        }
        match std::fs::read_to_string(path) {
            Ok(text) => self.open(path, &text, depth),
            Err(error) => {
                let complaint = Complaint::on(line, format!("cannot read {}: {error}", path.display()));
                self.complaints.push(if check.readable { complaint } else { complaint.only_warns() });
            }
        }
    }

    /// `include_check [+|-]option …`: without a sign the options replace those in force.
    fn set_check(&mut self, line: &Arc<Line>, options: &str) {
        let line_words = lexer::tokens(line, &mut self.complaints);
        let signed = options.trim_start().starts_with(['+', '-']);
        let mut check = if signed { self.check } else { Check::default() };
        for token in line_words.iter().skip(1) {
            let (Token::Word(word) | Token::Open(word) | Token::Close(word)) = token;
            let (on, name) = match word.text.split_at_checked(1) {
                Some(("-", name)) => (false, name),
                Some(("+", name)) => (true, name),
                _ => (true, word.text.as_str()),
            };
            match name {
                "readable" => check.readable = on,
                "match" => check.matches = on,
                "wildcard_match" => check.wildcard = on,
                "brace_match" => check.brace = on,
                _ => self.complaints.push(word.blame(format!("unknown include_check \"{name}\""))),
            }
        }
        self.check = check;
    }
}

/// Where relative names in a file start from.
fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// More lines than the largest example of keepalived's manual makes.
const LINES_MAX: usize = 1_500_000;

/// Longer than any line a person writes; definitions that double each other get there.
const LENGTH_MAX: usize = 64 * 1024;

/// Definitions and loops within each other on one line.
const DEPTH_MAX: Depth = 256;

const INCLUDES_MAX: Depth = 16;

const FILES_MAX: usize = 4096;
