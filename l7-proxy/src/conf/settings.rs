//! Directives of `http`, `server` and `location` that say how a request is served: files, limits,
//! connections, pages.

use std::num::NonZeroU64;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::model::{
    ErrorPage, ErrorPageStatus, IfModifiedSince, KeepaliveDisabled, Linger, Padding, Recursion, Root,
    ServerTokens, Settings, Slashes, Types,
};
use crate::variable::{Value, Variable};

use super::Scope;
use super::rules::{ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::value::{choice, flag, number, parse_number, parse_size, seconds, size, time};

/// Where what must be known before the location stands.
const SERVERS: Context = Context::HTTP.or(Context::SERVER);

/// What fills in [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("root", Context::SETTINGS_IF, 1..=1, |scope, settings, directive| {
        settings.files.root = Root::Root(root(scope, directive)?);
        Ok(())
    }),
    Rule::new("post_action", Context::SETTINGS_IF, 1..=1, |_, settings: &mut Settings, directive| {
        let word = directive.arg(0);
        let is_path = word.starts_with('/') || word.len() > 1 && word.starts_with('@');
        settings.post_action = Some(word.into()).filter(|_| is_path);
        if is_path { Ok(()) } else { Err(Fault::value(word)) }
    }),
    Rule::new("index", Context::SETTINGS, 1..=ANY, index).many(|settings| settings.files.index.clear()),
    Rule::new("types", Context::SETTINGS, 0..=0, types)
        .block(Context::DATA)
        .many(|settings| settings.files.types = Arc::new(Types::none())),
    Rule::new("default_type", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.default_type = match directive.arg(0) {
            "" => None,
            word => Some(field_value(word)?),
        };
        Ok(())
    }),
    Rule::new("etag", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.etag = flag(directive)?;
        Ok(())
    }),
    Rule::new("if_modified_since", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.if_modified_since = match &*choice(directive) {
            "off" => IfModifiedSince::Off,
            "exact" => IfModifiedSince::Exact,
            "before" => IfModifiedSince::Before,
            _ => return Err(Fault::value(directive.arg(0))),
        };
        Ok(())
    }),
    Rule::new("max_ranges", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.max_ranges = Some(number(directive)?);
        Ok(())
    }),
    Rule::new("slice", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.files.slice = NonZeroU64::new(size(directive)?);
        Ok(())
    }),
    Rule::new(
        "client_header_timeout",
        Context::HTTP.or(Context::SERVER),
        1..=1,
        |_, settings: &mut Settings, directive| {
            settings.client.header_timeout = time(directive, 0)?;
            Ok(())
        },
    ),
    Rule::new("send_timeout", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.client.send_timeout = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("keepalive_timeout", Context::SETTINGS, 1..=2, |_, settings, directive| {
        let connection = &mut settings.connection;
        connection.keepalive_timeout = Some(time(directive, 0)?).filter(|time| !time.is_zero());
        connection.keepalive_header = match directive.args.len() {
            1 => None,
            _ => Some(seconds(directive, 1)?).filter(|time| !time.is_zero()),
        };
        Ok(())
    }),
    Rule::new("keepalive_requests", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.connection.keepalive_requests = number(directive)?;
        Ok(())
    }),
    Rule::new("keepalive_min_timeout", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.connection.keepalive_min = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("keepalive_time", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.connection.keepalive_time = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("keepalive_disable", Context::SETTINGS, 1..=2, |scope, settings, directive| {
        scope.note_repeated(directive);
        let mut disabled = KeepaliveDisabled { msie6: false, safari: false };
        for word in &directive.args {
            match &*word.to_ascii_lowercase() {
                "none" => {}
                "msie6" => disabled.msie6 = true,
                "safari" => disabled.safari = true,
                _ => return Err(Fault::value(word)),
            }
        }
        settings.connection.keepalive_disabled = disabled;
        Ok(())
    }),
    Rule::new("limit_rate", Context::SETTINGS_IF, 1..=1, |scope, settings: &mut Settings, directive| {
        settings.limit_rate = Some(super::proxy::rate(scope, directive)?);
        Ok(())
    }),
    Rule::new(
        "limit_rate_after",
        Context::SETTINGS_IF,
        1..=1,
        |scope, settings: &mut Settings, directive| {
            settings.limit_rate_after = Some(super::proxy::rate(scope, directive)?);
            Ok(())
        },
    ),
    Rule::new("merge_slashes", SERVERS, 1..=1, |_, settings, directive| {
        settings.client.slashes = if flag(directive)? { Slashes::Merged } else { Slashes::Kept };
        Ok(())
    }),
    Rule::new("underscores_in_headers", SERVERS, 1..=1, |_, settings, directive| {
        settings.client.names.underscores = flag(directive)?;
        Ok(())
    }),
    Rule::new("ignore_invalid_headers", SERVERS, 1..=1, |_, settings, directive| {
        settings.client.names.odd = !flag(directive)?;
        Ok(())
    }),
    Rule::new("client_header_buffer_size", SERVERS, 1..=1, |_, settings, directive| {
        settings.client.head.first = size(directive)?;
        Ok(())
    }),
    Rule::new("large_client_header_buffers", SERVERS, 2..=2, |_, settings, directive| {
        let lines = parse_number::<u64>(directive.arg(0)).filter(|&lines| lines > 0);
        let size = parse_size(directive.arg(1)).filter(|&size| size > 0);
        let (lines, size) = lines.zip(size).ok_or_else(|| Fault::directive("invalid value"))?;
        settings.client.head.lines = lines;
        settings.client.head.line = size;
        Ok(())
    }),
    Rule::new("max_headers", SERVERS, 1..=1, |_, settings, directive| {
        settings.client.head.fields = number(directive)?;
        Ok(())
    }),
    Rule::new("chunked_transfer_encoding", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.connection.chunked = flag(directive)?;
        Ok(())
    }),
    Rule::new("tcp_nodelay", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.connection.tcp_nodelay = flag(directive)?;
        Ok(())
    }),
    Rule::new("lingering_close", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.connection.lingering.when = match &*choice(directive) {
            "off" => Linger::Never,
            "on" => Linger::Expected,
            "always" => Linger::Always,
            _ => return Err(Fault::value(directive.arg(0))),
        };
        Ok(())
    }),
    Rule::new("lingering_time", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.connection.lingering.whole = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("lingering_timeout", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.connection.lingering.pause = time(directive, 0)?;
        Ok(())
    }),
    Rule::new("reset_timedout_connection", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.connection.resets_timed_out = flag(directive)?;
        Ok(())
    }),
    Rule::new("msie_padding", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.padding = if flag(directive)? { Padding::On } else { Padding::Off };
        Ok(())
    }),
    Rule::new("server_tokens", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.server_tokens = match &*choice(directive) {
            "on" | "build" => ServerTokens::On,
            "off" => ServerTokens::Off,
            _ => return Err(Fault::value(directive.arg(0))),
        };
        Ok(())
    }),
    Rule::new("absolute_redirect", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.redirects.absolute = flag(directive)?;
        Ok(())
    }),
    Rule::new("port_in_redirect", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.redirects.port = flag(directive)?;
        Ok(())
    }),
    Rule::new("server_name_in_redirect", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.redirects.server_name = flag(directive)?;
        Ok(())
    }),
    Rule::new("recursive_error_pages", Context::SETTINGS, 1..=1, |_, settings, directive| {
        settings.recursion = if flag(directive)? { Recursion::On } else { Recursion::Off };
        Ok(())
    }),
    Rule::new("error_page", Context::SETTINGS_IF, 2..=ANY, error_page)
        .many(|settings| settings.error_pages.clear()),
];

/// Returns the text of a directive as a field's value.
fn field_value(word: &str) -> Result<HeaderValue, Fault> {
    HeaderValue::from_str(word).map_err(|_| Fault::value(word))
}

/// Returns a field's name; nginx takes any text, which cannot be sent in HTTP.
pub(super) fn field_name(word: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(word.as_bytes()).map_err(|_| Fault::new(format!("invalid header name \"{word}\"")))
}

fn root(scope: &Scope, directive: &Directive) -> Result<Value, Fault> {
    let written = directive.arg(0);
    let without_slash = match written.trim_end_matches('/') {
        // The root of the file system is then nothing in front of a path.
        "" if written.starts_with('/') => "",
        text => text,
    };
    if without_slash.is_empty() {
        return Ok(Value::literal(""));
    }
    directory(scope, directive, without_slash)
}

/// Returns a directory with variables in it, which is relative to the prefix.
pub(super) fn directory(scope: &Scope, directive: &Directive, written: &str) -> Result<Value, Fault> {
    let text = match written {
        // What a variable begins with is not known yet.
        written if written.starts_with('$') => written.to_owned(),
        written => scope.path(written).to_string_lossy().into_owned(),
    };
    let value = Value::parse(&text, &scope.names)?;
    let name = &directive.name;
    for variable in value.variables() {
        let written = match variable {
            Variable::DocumentRoot => "document_root",
            Variable::RealpathRoot => "realpath_root",
            Variable::RequestFilename => "request_filename",
            _ => continue,
        };
        let message = format!("the ${written} variable cannot be used in the \"{name}\" directive");
        return Err(Fault::new(message));
    }
    Ok(value)
}

fn index(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    for (place, word) in directive.args.iter().enumerate() {
        if word.starts_with('/') && place + 1 < directive.args.len() {
            scope.note(directive, "only the last index in \"index\" directive should be absolute");
        }
        if word.is_empty() {
            return Err(Fault::new(format!("index \"{word}\" in \"index\" directive is invalid")));
        }
        settings.files.index.push(Value::parse(word, &scope.names)?);
    }
    Ok(())
}

fn types(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let types = Arc::make_mut(&mut settings.files.types);
    for line in &directive.block {
        let media_type = field_value(&line.name)?;
        for extension in &line.args {
            if let Some(before) = types.insert(extension, media_type.clone()) {
                let before = before.to_str().unwrap_or_default();
                let message = format!(
                    "duplicate extension \"{extension}\", content type: \"{}\", previous content type: \
                     \"{before}\"",
                    line.name
                );
                scope.note(line, &message);
            }
        }
    }
    Ok(())
}

fn error_page(scope: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let Some((target, words)) = directive.args.split_last() else { return Ok(()) };
    let (words, status) = match words.split_last() {
        Some((last, before)) => match last.strip_prefix('=') {
            Some("") => (before, ErrorPageStatus::Taken),
            Some(code) => {
                let status = parse_number(code).filter(|code| (100..=999).contains(code));
                let status = status.ok_or_else(|| Fault::value(last))?;
                (before, ErrorPageStatus::Set(status))
            }
            None => (words, ErrorPageStatus::Keep),
        },
        None => (words, ErrorPageStatus::Keep),
    };
    if words.is_empty() {
        return Err(Fault::value(directive.arg(0)));
    }
    let target = Value::parse(target, &scope.names)?;
    let mut statuses = Vec::with_capacity(words.len());
    for word in words {
        match parse_number::<u64>(word) {
            Some(499) | None => return Err(Fault::value(word)),
            Some(code) => match u16::try_from(code).ok().filter(|code| (300..=599).contains(code)) {
                Some(code) => statuses.push(code),
                None => return Err(Fault::new(format!("value \"{word}\" must be between 300 and 599"))),
            },
        }
    }
    settings.error_pages.push(ErrorPage { statuses, status, target });
    Ok(())
}
