//! Directives of the process: the file's top level and `events {}`.

use std::num::NonZeroUsize;

use crate::identity::Unknown;
use crate::model::{Affinity, ControlSocket, Events, Identity, LogLevel, Process, Workers};

use super::rules::{ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::value::{self, flag};
use super::{Scope, log};

/// What fills in a [`Process`].
pub(super) const PROCESS: &[Rule<Process>] = &[
    Rule::new("lvs_control", Context::MAIN, 1..=2, control),
    Rule::new("daemon", Context::MAIN, 1..=1, |_, process, directive| {
        process.daemon = flag(directive)?;
        Ok(())
    }),
    Rule::new("master_process", Context::MAIN, 1..=1, |_, process, directive| {
        process.master_process = flag(directive)?;
        Ok(())
    }),
    Rule::new("error_log", Context::MAIN, 1..=2, |scope, process: &mut Process, directive| {
        log::add_error_log(scope, &mut process.error_log, directive)
    })
    .many(|process| process.error_log.clear()),
    Rule::new("pid", Context::MAIN, 1..=1, |scope, process, directive| {
        process.pid = scope.path(directive.arg(0));
        Ok(())
    }),
    Rule::new("user", Context::MAIN, 1..=2, user),
    Rule::new("worker_cpu_affinity", Context::MAIN, 1..=ANY, affinity),
    Rule::new("worker_rlimit_nofile", Context::MAIN, 1..=1, |_, process, directive| {
        process.open_files = Some(value::number(directive)?);
        Ok(())
    }),
    Rule::new("worker_rlimit_core", Context::MAIN, 1..=1, |_, process, directive| {
        process.core_size = Some(value::offset(directive)?);
        Ok(())
    }),
    Rule::new("worker_priority", Context::MAIN, 1..=1, |_, process, directive| {
        let word = directive.arg(0);
        let number = value::parse_number(word.strip_prefix(['-', '+']).unwrap_or(word));
        let number: i32 = number.ok_or_else(|| Fault::directive("invalid number"))?;
        process.priority = Some(if word.starts_with('-') { -number } else { number });
        Ok(())
    }),
    Rule::new("worker_processes", Context::MAIN, 1..=1, worker_processes),
    Rule::new("worker_shutdown_timeout", Context::MAIN, 1..=1, |_, process, directive| {
        process.shutdown_timeout = Some(value::time(directive, 0)?);
        Ok(())
    }),
];

/// What fills in [`Events`].
pub(super) const EVENTS: &[Rule<Events>] = &[
    Rule::new("worker_connections", Context::EVENTS, 1..=1, |_, events, directive| {
        let word = directive.arg(0);
        let number = value::parse_number(word);
        events.worker_connections = number.ok_or_else(|| Fault::new(format!("invalid number \"{word}\"")))?;
        Ok(())
    }),
    Rule::new("use", Context::EVENTS, 1..=1, |_, _, directive| match directive.arg(0) {
        // Whatever the kernel has is used; the word is checked for being one of its own.
        "epoll" | "poll" | "select" => Ok(()),
        other => Err(Fault::new(format!("invalid event type \"{other}\""))),
    }),
];

/// `lvs_control unix:PATH [mode=OCTAL]`, or `off`.
fn control(scope: &mut Scope, process: &mut Process, directive: &Directive) -> Result<(), Fault> {
    let word = directive.arg(0);
    if word == "off" && directive.args.len() == 1 {
        process.control = None;
        return Ok(());
    }
    let path = word.strip_prefix("unix:").filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| Fault::parameter(word))?;
    let mut control = ControlSocket::new(scope.path(path));
    if let Some(word) = directive.args.get(1) {
        let mode = word.strip_prefix("mode=").and_then(|mode| u32::from_str_radix(mode, 8).ok());
        control.mode = mode.filter(|mode| *mode <= 0o777).ok_or_else(|| Fault::parameter(word))?;
    }
    process.control = Some(control);
    Ok(())
}

fn user(scope: &mut Scope, process: &mut Process, directive: &Directive) -> Result<(), Fault> {
    if !rustix::process::geteuid().is_root() {
        let message = "the \"user\" directive makes sense only if the process runs with super-user privileges, \
                       ignored";
        scope.note(directive, message);
        return Ok(());
    }
    let (user, group) = (directive.arg(0), directive.args.get(1).map(|group| &**group));
    let found = Identity::find(user, group).map_err(|unknown| {
        Fault::new(match unknown {
            Unknown::User => format!("getpwnam(\"{user}\") failed"),
            Unknown::Group => format!("getgrnam(\"{}\") failed", group.unwrap_or(user)),
        })
    });
    process.user = Some(found?);
    Ok(())
}

/// `worker_cpu_affinity MASK…`, or `auto [MASK]`.
fn affinity(_: &mut Scope, process: &mut Process, directive: &Directive) -> Result<(), Fault> {
    let set = |mask: &String| {
        let invalid = |bit| Fault::new(format!("invalid character \"{bit}\" in \"worker_cpu_affinity\""));
        if let Some(bit) = mask.chars().find(|bit| !matches!(bit, '0' | '1' | ' ')) {
            return Err(invalid(bit));
        }
        Affinity::parse_mask(mask)
            .ok_or_else(|| Fault::new("\"worker_cpu_affinity\" supports up to 1024 CPUs only"))
    };
    process.affinity = Some(match &*directive.args {
        [auto] if auto == "auto" => Affinity::Auto(None),
        [auto, mask] if auto == "auto" => Affinity::Auto(Some(set(mask)?)),
        [auto, _, word, ..] if auto == "auto" => return Err(Fault::parameter(word)),
        masks => Affinity::Sets(masks.iter().map(set).collect::<Result<_, _>>()?),
    });
    Ok(())
}

fn worker_processes(_: &mut Scope, process: &mut Process, directive: &Directive) -> Result<(), Fault> {
    process.workers = match directive.arg(0) {
        "auto" => Workers::Auto,
        word => match value::parse_number(word).and_then(NonZeroUsize::new) {
            Some(count) => Workers::Count(count),
            None => return Err(Fault::directive("invalid value")),
        },
    };
    Ok(())
}

/// Returns the level that a word stands for.
pub(super) fn level(word: &str) -> Option<LogLevel> {
    Some(match word {
        "debug" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "notice" => LogLevel::Notice,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        "crit" => LogLevel::Crit,
        "alert" => LogLevel::Alert,
        "emerg" => LogLevel::Emerg,
        _ => return None,
    })
}
