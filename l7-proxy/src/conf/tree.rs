//! The directives of a file and of those that it includes, each where it may stand.
//!
//! Names, places and numbers of arguments are checked while reading, so that the first fault of a
//! file is the one that is told, in the order in which a person reads it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::glob;
use super::lexer::{END_OF_FILE, End, Lexer, Malformed, Statement};
use super::rules::{Context, Syntax};
use super::tables::{self, Standing};

/// A directive with its arguments and what is inside it.
#[derive(Debug, Clone)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) place: Place,
    /// The directives inside; empty for one without a block.
    pub(super) block: Vec<Directive>,
}

impl Directive {
    /// Returns argument `number`, counted from 0; empty if there is none.
    pub(super) fn arg(&self, number: usize) -> &str {
        self.args.get(number).map_or("", |arg| arg)
    }
}

/// Where a directive ends: a line of a file, or the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    file: Option<Arc<Path>>,
    line: usize,
}

impl Place {
    /// Returns the file; `None` for the command line.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Returns the line, counted from 1; 0 for the command line.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}:{}", file.display(), self.line),
            None => f.write_str("command line"),
        }
    }
}

/// Blocks inside blocks, and files inside files: far more than anyone writes, far less than would
/// exhaust the stack.
const DEPTH_MAX: usize = 64;

/// What is said of the command line where it is [`END_OF_FILE`] for a file: no brace is open there.
const END_OF_PARAMETER: &str = "unexpected end of parameter, expecting \";\"";

/// Reads directives that are given on the command line.
pub(super) fn read_text(text: &str) -> Result<Vec<Directive>, Error> {
    let mut reader = Reader { base: PathBuf::new(), depth: 0, files: Vec::new() };
    let mut found = Vec::new();
    reader.read(text.as_bytes(), None, Context::MAIN, &mut found)?;
    Ok(found)
}

/// Reads text as a file of that name, which need not be there; what it includes is relative to `base`.
pub(super) fn read_named(
    text: &str,
    name: &Path,
    base: &Path,
) -> Result<(Vec<Directive>, Vec<SourceFile>), Error> {
    let mut reader = Reader { base: base.to_owned(), depth: 0, files: Vec::new() };
    let mut found = Vec::new();
    reader.read(text.as_bytes(), Some(name.into()), Context::MAIN, &mut found)?;
    Ok((found, reader.files))
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// What was in it.
    pub text: Vec<u8>,
}

/// Reads a file; what it includes is relative to its folder. The files come in the order in which
/// they were first read.
pub(super) fn read_file(path: &Path) -> Result<(Vec<Directive>, Vec<SourceFile>), Error> {
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut reader = Reader { base, depth: 0, files: Vec::new() };
    let mut found = Vec::new();
    let text = reader.open(path).map_err(Error::general)?;
    reader.read(&text, Some(path.into()), Context::MAIN, &mut found)?;
    Ok((found, reader.files))
}

/// Returns the system's number and words for an error, as nginx puts them.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => format!("{number}: {}", text.split(" (os error").next().unwrap_or_default()),
        None => text,
    }
}

/// What ends the reading of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Brace,
    FileEnd,
}

struct Reader {
    base: PathBuf,
    depth: usize,
    files: Vec<SourceFile>,
}

impl Reader {
    fn open(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let failed = |error| format!("open() \"{}\" failed ({})", path.display(), reason(&error));
        let text = fs::read(path).map_err(failed)?;
        if !self.files.iter().any(|file| file.path == path) {
            self.files.push(SourceFile { path: path.to_owned(), text: text.clone() });
        }
        Ok(text)
    }

    fn read(
        &mut self,
        text: &[u8],
        file: Option<Arc<Path>>,
        context: Context,
        found: &mut Vec<Directive>,
    ) -> Result<(), Error> {
        let mut lexer = Lexer::new(text);
        self.block(&mut lexer, file.as_ref(), context, Until::FileEnd, found)
    }

    fn block(
        &mut self,
        lexer: &mut Lexer<'_>,
        file: Option<&Arc<Path>>,
        context: Context,
        until: Until,
        found: &mut Vec<Directive>,
    ) -> Result<(), Error> {
        let at = |line| Place { file: file.cloned(), line };
        loop {
            let statement = lexer.next().map_err(|Malformed { message, line }| match (&file, &*message) {
                (None, END_OF_FILE) => Error::at(&at(line), END_OF_PARAMETER.to_owned()),
                _ => Error::at(&at(line), message),
            })?;
            let (mut words, end, line) = match statement {
                Statement::Words { words, end, line } => (words, end, line),
                Statement::BlockEnd { .. } if until == Until::Brace => return Ok(()),
                Statement::BlockEnd { line } => return Err(Error::at(&at(line), "unexpected \"}\"")),
                Statement::FileEnd { .. } if until == Until::FileEnd => return Ok(()),
                Statement::FileEnd { line } => {
                    return Err(Error::at(&at(line), "unexpected end of file, expecting \"}\""));
                }
            };
            let name = words.remove(0);
            let mut directive = Directive { name, args: words, place: at(line), block: Vec::new() };
            if directive.name == "include" {
                check_shape(&directive, end, None, &(1..=1))?;
                self.include(&directive, context, found)?;
                continue;
            }
            if context == Context::DATA {
                if end == End::Brace {
                    return Err(Error::at(&directive.place, "unexpected \"{\""));
                }
                found.push(directive);
                continue;
            }
            let syntax = check(&directive, context)?;
            check_shape(&directive, end, syntax.block, &syntax.args)?;
            if let Some(inside) = syntax.block {
                self.enter(&directive)?;
                self.block(lexer, file, inside, Until::Brace, &mut directive.block)?;
                self.depth -= 1;
            }
            found.push(directive);
        }
    }

    fn include(
        &mut self,
        directive: &Directive,
        context: Context,
        found: &mut Vec<Directive>,
    ) -> Result<(), Error> {
        let path = self.base.join(directive.arg(0));
        let paths = if glob::is_pattern(directive.arg(0)) { glob::expand(&path) } else { vec![path] };
        self.enter(directive)?;
        for path in paths {
            let text = self.open(&path).map_err(|message| Error::at(&directive.place, message))?;
            self.read(&text, Some(path.into()), context, found)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn enter(&mut self, directive: &Directive) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::at(&directive.place, "blocks and includes are nested too deeply"));
        }
        Ok(())
    }
}

/// Returns the syntax of a directive that may stand in `context`.
fn check(directive: &Directive, context: Context) -> Result<&'static Syntax, Error> {
    let name = &directive.name;
    let message = match tables::look_up(name, context) {
        Standing::Here(syntax) => return Ok(syntax),
        Standing::Elsewhere => format!("\"{name}\" directive is not allowed here"),
        Standing::Unsupported => format!("\"{name}\" directive is not supported by l7-proxy"),
        Standing::Unknown => format!("unknown directive \"{name}\""),
    };
    Err(Error::at(&directive.place, message))
}

fn check_shape(
    directive: &Directive,
    end: End,
    block: Option<Context>,
    args: &std::ops::RangeInclusive<usize>,
) -> Result<(), Error> {
    let name = &directive.name;
    let message = match (block, end) {
        (None, End::Brace) => format!("directive \"{name}\" is not terminated by \";\""),
        (Some(_), End::Semicolon) => format!("directive \"{name}\" has no opening \"{{\""),
        _ if !args.contains(&directive.args.len()) => {
            format!("invalid number of arguments in \"{name}\" directive")
        }
        _ => return Ok(()),
    };
    Err(Error::at(&directive.place, message))
}
