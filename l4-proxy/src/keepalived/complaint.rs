//! What is wrong in a configuration, and where: file, line, and the text to blame.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// One thing that is wrong with a configuration, or odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in the operator's words.
    pub message: String,
    line: Arc<Line>,
    span: Range<usize>,
}

/// How bad a complaint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be meant like this.
    Error,
    /// It is clear what is done, but it may surprise.
    Warning,
}

/// Where something was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    line: Arc<Line>,
    span: Range<usize>,
}

/// One line as it is read: with its definitions put in, without its comment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) file: Arc<Path>,
    /// From 1; of what a definition brings in, the line that uses it.
    pub(crate) number: usize,
    pub(crate) text: String,
}

/// One word of a line, without its quotes, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) line: Arc<Line>,
    /// Bytes of the line's text.
    pub(crate) span: Range<usize>,
}

impl Complaint {
    /// An error about a part of a line.
    pub(crate) fn at(line: &Arc<Line>, span: Range<usize>, message: impl Into<String>) -> Complaint {
        Complaint { severity: Severity::Error, message: message.into(), line: Arc::clone(line), span }
    }

    /// An error about a whole line.
    pub(crate) fn on(line: &Arc<Line>, message: impl Into<String>) -> Complaint {
        let text = &line.text;
        let begin = text.len() - text.trim_start().len();
        Complaint::at(line, begin..text.trim_end().len().max(begin), message)
    }

    /// The same, as a warning.
    #[must_use]
    pub(crate) fn only_warns(self) -> Complaint {
        Complaint { severity: Severity::Warning, ..self }
    }

    /// The file it is about.
    pub fn file(&self) -> &Path {
        &self.line.file
    }

    /// The line it is about, from 1.
    pub fn line(&self) -> usize {
        self.line.number
    }
}

impl Place {
    /// Where a word stands.
    pub(crate) fn of(word: &Word) -> Place {
        Place { line: Arc::clone(&word.line), span: word.span.clone() }
    }

    /// An error about what was asked for there.
    pub(crate) fn blame(&self, message: impl Into<String>) -> Complaint {
        Complaint::at(&self.line, self.span.clone(), message)
    }
}

/// `FILE:LINE`
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line.file.display(), self.line.number)
    }
}

impl Word {
    /// An error about this word.
    pub(crate) fn blame(&self, message: impl Into<String>) -> Complaint {
        Complaint::at(&self.line, self.span.clone(), message)
    }

    /// An error about what it is as a value, which says so if it names a parameter that nothing defines.
    pub(crate) fn blame_value(&self, message: impl Into<String>) -> Complaint {
        let hint = self.parameter().map(|name| format!("; ${name} is not defined"));
        self.blame(message.into() + &hint.unwrap_or_default())
    }

    /// The first parameter that it names: one that is defined would have been put in by now.
    fn parameter(&self) -> Option<&str> {
        let is_part = |character: char| character == '_' || character.is_ascii_alphanumeric();
        let mut names = self.text.split('$').skip(1).map(|rest| {
            let rest = rest.strip_prefix('{').unwrap_or(rest);
            &rest[..rest.find(|character| !is_part(character)).unwrap_or(rest.len())]
        });
        names.find(|name| name.starts_with(|first: char| first == '_' || first.is_ascii_alphabetic()))
    }
}

/// `FILE:LINE: what is wrong`, the line, and a row of `^` under the text to blame.
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { file, number, text } = &*self.line;
        let severity = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(f, "{}:{number}: {severity}{}", file.display(), self.message)?;
        let shown = text.trim();
        if shown.is_empty() {
            return Ok(());
        }
        let indent = text.len() - text.trim_start().len();
        let columns = |bytes: usize| {
            text.char_indices().skip_while(|(at, _)| *at < indent).take_while(|(at, _)| *at < bytes).count()
        };
        let (begin, end) = (columns(self.span.start), columns(self.span.end));
        // Tabs would be of another width above than below.
        let shown = shown.replace(char::is_control, " ");
        write!(f, "\n    {shown}\n    {}{}", " ".repeat(begin), "^".repeat((end - begin).max(1)))
    }
}
