//! `access_log` and `log_format`, `error_log` of servers and locations, and where logs go.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    AccessLog, AccessLogTarget, ErrorLog, ErrorLogTarget, Escape, Gathering, LogFileCache, LogFormat,
    LogLevel, LogNotFound, LogTarget, Memory, Packing, Settings,
};
use crate::variable::Value;

use super::core::level;
use super::rules::{ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::value::{flag, parse_number, parse_seconds, parse_size, parse_time};
use super::{Scope, syslog};

/// Formats go into the scope, where `access_log` finds them.
pub(super) const FORMATS: &[Rule<()>] =
    &[Rule::new("log_format", Context::HTTP, 2..=ANY, log_format).many(|()| {})];

/// What fills in the logs of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("access_log", ANYWHERE, 1..=ANY, access_log).many(|settings| settings.access_log.clear()),
    Rule::new("open_log_file_cache", Context::SETTINGS, 1..=4, |_, settings, directive| {
        settings.log_files = file_cache(directive)?;
        Ok(())
    }),
    Rule::new("log_not_found", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.log_not_found = if flag(directive)? { LogNotFound::On } else { LogNotFound::Off };
        Ok(())
    }),
    Rule::new("error_log", Context::SETTINGS, 1..=2, |scope, settings: &mut Settings, directive| {
        add_error_log(scope, Arc::make_mut(settings.error_log.get_or_insert_default()), directive)
    })
    .many(|settings| settings.error_log = None),
];

/// Adds the log of an `error_log`.
pub(super) fn add_error_log(
    scope: &Scope,
    logs: &mut Vec<ErrorLog>,
    directive: &Directive,
) -> Result<(), Fault> {
    let level = match directive.args.get(1) {
        None => LogLevel::Error,
        Some(word) => level(word).ok_or_else(|| Fault::new(format!("invalid log level \"{word}\"")))?,
    };
    let target = match directive.arg(0).strip_prefix(MEMORY) {
        Some(size) => {
            let memory = parse_size(size).and_then(|size| Memory::new(usize::try_from(size).ok()?));
            let memory = memory.ok_or_else(|| Fault::new(format!("invalid buffer size \"{size}\"")))?;
            ErrorLogTarget::Memory(Arc::new(memory))
        }
        None => target(scope, directive)?.into(),
    };
    if logs.iter().any(|log| log.target == target && target == LogTarget::Stderr.into()) {
        return Err(Fault::directive("is duplicate"));
    }
    logs.push(ErrorLog { target, level });
    Ok(())
}

/// Reads an `open_log_file_cache`.
pub(super) fn file_cache(directive: &Directive) -> Result<LogFileCache, Fault> {
    if directive.arg(0) == "off" && directive.args.len() == 1 {
        return Ok(LogFileCache::default());
    }
    let mut cache = LogFileCache::default();
    for word in &directive.args {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let read = match key {
            "max" => parse_number(value).filter(|&max| max > 0).map(|max| cache.max = max),
            "inactive" => parse_seconds(value).map(|time| cache.inactive = time),
            "min_uses" => parse_number(value).filter(|&uses| uses > 0).map(|uses| cache.min_uses = uses),
            "valid" => parse_seconds(value).map(|time| cache.valid = time),
            _ => None,
        };
        read.ok_or_else(|| Fault::new(format!("invalid \"open_log_file_cache\" parameter \"{word}\"")))?;
    }
    if cache.max == 0 {
        return Err(Fault::new("\"open_log_file_cache\" must have \"max\" parameter"));
    }
    Ok(cache)
}

/// Wherever a location's settings may stand, and in the blocks inside one.
const ANYWHERE: Context = Context::SETTINGS_IF.or(Context::LIMIT_EXCEPT);

/// The text of the format `combined`, which is there without being defined.
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
                        \"$http_referer\" \"$http_user_agent\"";

/// Returns the format `combined`.
pub(super) fn combined(scope: &Scope) -> Result<LogFormat, Fault> {
    let line = Value::parse(COMBINED, &scope.names)?;
    Ok(LogFormat { name: "combined".to_owned(), line, escape: Escape::Default })
}

/// What a log begins with that is kept in memory.
const MEMORY: &str = "memory:";

/// What a log begins with that goes to a syslog server, and is not the name of a file.
pub(super) const SYSLOG: &str = "syslog:";

/// Returns where the log of argument 0 goes.
pub(super) fn target(scope: &Scope, directive: &Directive) -> Result<LogTarget, Fault> {
    match directive.arg(0) {
        "stderr" => Ok(LogTarget::Stderr),
        word if word.starts_with(MEMORY) => Err(Fault::unsupported(MEMORY, directive)),
        word => match word.strip_prefix(SYSLOG) {
            Some(text) => Ok(LogTarget::Syslog(Arc::new(syslog::read(text)?))),
            None => Ok(LogTarget::File(scope.path(word))),
        },
    }
}

/// Returns what a `log_format` says after its name: how values are escaped, and its texts as one.
pub(super) fn format_text(directive: &Directive) -> Result<(Escape, String), Fault> {
    let (escape, texts) = match directive.arg(1).strip_prefix("escape=") {
        Some("default") => (Escape::Default, &directive.args[2..]),
        Some("json") => (Escape::Json, &directive.args[2..]),
        Some("none") => (Escape::None, &directive.args[2..]),
        Some(other) => return Err(Fault::new(format!("unknown log format escaping \"{other}\""))),
        None => (Escape::Default, &directive.args[1..]),
    };
    Ok((escape, texts.concat()))
}

fn log_format(scope: &mut Scope, (): &mut (), directive: &Directive) -> Result<(), Fault> {
    let name = directive.arg(0);
    if scope.formats.contains_key(name) || name == "combined" {
        return Err(Fault::new(format!("duplicate \"log_format\" name \"{name}\"")));
    }
    let (escape, texts) = format_text(directive)?;
    let line = Value::parse(&texts, &scope.names)?;
    let format = LogFormat { name: name.to_owned(), line, escape };
    scope.formats.insert(name.to_owned(), Arc::new(format));
    Ok(())
}

fn access_log(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    if directive.arg(0) == "off" {
        if directive.args.len() > 1 {
            return Err(Fault::parameter(directive.arg(1)));
        }
        settings.access_log.clear();
        return Ok(());
    }
    if directive.arg(0) == "stderr" {
        return Err(Fault::unsupported(directive.arg(0), directive));
    }
    let is_file = !directive.arg(0).starts_with(SYSLOG);
    let target = if is_file && directive.arg(0).contains('$') {
        let path = scope.path(directive.arg(0)).to_string_lossy().into_owned();
        AccessLogTarget::Varying(Value::parse(&path, &scope.names)?)
    } else {
        AccessLogTarget::Fixed(target(scope, directive)?)
    };
    let name = directive.args.get(1).map_or("combined", |name| name);
    let format = match scope.formats.get(name) {
        Some(format) => Arc::clone(format),
        None if name == "combined" => Arc::new(combined(scope)?),
        None => return Err(Fault::new(format!("unknown log format \"{name}\""))),
    };
    let mut log = AccessLog { target, format, condition: None, gathering: None };
    let mut parameters = Parameters::default();
    for parameter in directive.args.iter().skip(2) {
        match parameter.strip_prefix("if=") {
            Some(condition) => log.condition = Some(Value::parse(condition, &scope.names)?),
            None => parameters.read(parameter)?,
        }
    }
    log.gathering = parameters.finish(scope, directive, log.target.fixed())?;
    settings.access_log.push(log);
    Ok(())
}

/// What the parameters of an `access_log` say of how its lines are gathered.
#[derive(Default)]
pub(super) struct Parameters {
    size: Option<usize>,
    time: Option<Duration>,
    level: Option<u32>,
}

impl Parameters {
    /// Reads one of them.
    pub(super) fn read(&mut self, parameter: &str) -> Result<(), Fault> {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match key {
            "buffer" => {
                let size = parse_size(value).and_then(|size| usize::try_from(size).ok());
                let invalid = || Fault::new(format!("invalid buffer size \"{value}\""));
                self.size = Some(size.filter(|&size| size > 0).ok_or_else(invalid)?);
            }
            "flush" => {
                let time = parse_time(value).filter(|time| !time.is_zero());
                self.time = Some(time.ok_or_else(|| Fault::new(format!("invalid flush time \"{value}\"")))?);
            }
            "gzip" => {
                let level = if parameter == "gzip" { Some(1) } else { parse_number(value) };
                let level = level.filter(|level| (1..=9).contains(level));
                let invalid = || Fault::new(format!("invalid compression level \"{value}\""));
                self.level = Some(level.ok_or_else(invalid)?);
            }
            _ => return Err(Fault::parameter(parameter)),
        }
        Ok(())
    }

    /// Returns what they come to for a log in this place; `None` is one whose place varies.
    ///
    /// A file has one buffer, so what is said of it in several places must agree.
    pub(super) fn finish(
        self,
        scope: &mut Scope,
        directive: &Directive,
        target: Option<&LogTarget>,
    ) -> Result<Option<Gathering>, Fault> {
        let size = self.size.or_else(|| self.level.map(|_| PACKED_SIZE));
        let Some(size) = size else {
            return match self.time {
                Some(_) => {
                    let name = directive.arg(0);
                    Err(Fault::new(format!("no buffer is defined for access_log \"{name}\"")))
                }
                None => Ok(None),
            };
        };
        let packing = self.level.map_or(Packing::Plain, Packing::Gzip);
        let gathering = Gathering { size, time: self.time, packing };
        let path = match target {
            None => return Err(Fault::new("buffered logs cannot have variables in name")),
            Some(LogTarget::Syslog(_)) => return Err(Fault::new("logs to syslog cannot be buffered")),
            Some(LogTarget::Stderr) => return Ok(Some(gathering)),
            Some(LogTarget::File(path)) => path,
        };
        if *scope.gathered.entry(path.clone()).or_insert(gathering) != gathering {
            let name = directive.arg(0);
            let message = format!("access_log \"{name}\" already defined with conflicting parameters");
            return Err(Fault::new(message));
        }
        Ok(Some(gathering))
    }
}

/// How much is gathered of a log that is compressed, unless it says so.
const PACKED_SIZE: usize = 64 * 1024;
