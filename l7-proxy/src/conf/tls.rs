//! `ssl_*` and `proxy_ssl_*`, which `http` and `stream` have in common.

mod command;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error_log::Errno;
use crate::model::{
    CertificateCache, CertificatePair, Curve, Passwords, Pem, PemText, SessionCache, Settings,
    StreamSettings, TlsClient, TlsServer, TlsVersions, VerifyClient,
};

use crate::stream::text::Text;
use crate::variable::Value;

use super::Scope;
use super::limit::ZONE_MIN;
use super::rules::{ANY, Context, Fault, Rule};
use super::tree::Directive;
use super::value::{choice, flag, number, parse_number, parse_seconds, parse_size, seconds, size};

/// What has settings of TLS.
pub(super) trait HasTls {
    /// Those with clients.
    fn server(&mut self) -> &mut TlsServer;
    /// Those with servers.
    fn client(&mut self) -> &mut TlsClient;
    /// Compiles a text with variables.
    fn text(text: &str, scope: &Scope) -> Result<PemText, Fault>;
}

impl HasTls for Settings {
    fn server(&mut self) -> &mut TlsServer {
        Arc::make_mut(&mut self.tls)
    }

    fn client(&mut self) -> &mut TlsClient {
        &mut Arc::make_mut(&mut self.proxy).tls
    }

    fn text(text: &str, scope: &Scope) -> Result<PemText, Fault> {
        Ok(PemText::Http(Value::parse(text, &scope.names)?))
    }
}

impl HasTls for StreamSettings {
    fn server(&mut self) -> &mut TlsServer {
        Arc::make_mut(&mut self.tls)
    }

    fn client(&mut self) -> &mut TlsClient {
        &mut self.proxy_tls
    }

    fn text(text: &str, scope: &Scope) -> Result<PemText, Fault> {
        Ok(PemText::Stream(Text::parse(text, &scope.stream.names)?))
    }
}

/// In `http {}` and its servers.
pub(super) const HTTP: &[Rule<Settings>] = &server(Context::HTTP.or(Context::SERVER));

/// What only `http {}` and its servers have.
pub(super) const HTTP_ONLY: &[Rule<Settings>] = &[
    Rule::new("http2", Context::HTTP.or(Context::SERVER), 1..=1, |_, settings: &mut Settings, directive| {
        settings.http2.on = flag(directive)?;
        Ok(())
    }),
    Rule::new(
        "http2_max_concurrent_streams",
        Context::HTTP.or(Context::SERVER),
        1..=1,
        |_, settings, directive| {
            settings.http2.streams = number(directive)?;
            Ok(())
        },
    ),
    Rule::new("http2_chunk_size", Context::SETTINGS, 1..=1, |_, settings, directive| {
        // As in nginx, none is larger than a frame may be.
        let size = size(directive)?.clamp(1, FRAME_MAX);
        settings.http2.chunk = usize::try_from(size).unwrap_or(usize::MAX);
        Ok(())
    }),
    Rule::new("ssl_buffer_size", Context::HTTP.or(Context::SERVER), 1..=1, |_, settings, directive| {
        let size = usize::try_from(size(directive)?).unwrap_or(usize::MAX);
        // Less nobody means, and more is not TLS.
        Arc::make_mut(&mut settings.tls).record_size = Some(size.clamp(RECORD_MIN, RECORD_MAX));
        Ok(())
    }),
    Rule::new("ssl_early_data", Context::HTTP.or(Context::SERVER), 1..=1, |scope, _, directive| {
        if flag(directive)? {
            // Clients are told in their handshake, and send it once that is complete: it cannot be replayed.
            scope.note(directive, "\"ssl_early_data\" is not supported by l7-proxy, ignored");
        }
        Ok(())
    }),
];

/// The least that rustls seals together, and the most (RFC 8446, section 5.1).
const RECORD_MIN: usize = 32;
const RECORD_MAX: usize = 1 << 14;

/// In `http {}`, its servers and their locations.
pub(super) const HTTP_PROXY: &[Rule<Settings>] = &client(Context::SETTINGS);

/// `proxy_ssl_name`, in `http {}`, its servers and their locations.
pub(super) const HTTP_PROXY_NAME: &[Rule<Settings>] =
    &[Rule::new("proxy_ssl_name", Context::SETTINGS, 1..=1, |scope, settings: &mut Settings, directive| {
        Arc::make_mut(&mut settings.proxy).tls_name = Value::parse(directive.arg(0), &scope.names)?;
        Ok(())
    })];

/// In `stream {}` and its servers.
pub(super) const STREAM: &[Rule<StreamSettings>] = &server(Context::STREAM_SETTINGS);

/// In `stream {}` and its servers.
pub(super) const STREAM_PROXY: &[Rule<StreamSettings>] = &client(Context::STREAM_SETTINGS);

const fn server<T: HasTls>(contexts: Context) -> [Rule<T>; 20] {
    [
        Rule::new("ssl_conf_command", contexts, 2..=2, |scope, target: &mut T, directive| {
            let commands = command::read(scope, directive)?;
            target.server().commands.extend(commands);
            Ok(())
        })
        .many(|target| target.server().commands.clear()),
        Rule::new("ssl_certificate_cache", contexts, 1..=3, |_, target, directive| {
            target.server().certificate_cache = certificate_cache(directive)?;
            Ok(())
        }),
        Rule::new("ssl_certificate", contexts, 1..=1, |scope, target: &mut T, directive| {
            let pem = Some(pem::<T>(scope, directive)?);
            let pairs = &mut target.server().certificates;
            match pairs.iter_mut().find(|pair| pair.certificate.is_none()) {
                Some(pair) => pair.certificate = pem,
                None => pairs.push(CertificatePair { certificate: pem, key: None }),
            }
            Ok(())
        })
        .many(|target| {
            let pairs = &mut target.server().certificates;
            pairs.iter_mut().for_each(|pair| pair.certificate = None);
            pairs.retain(|pair| pair.key.is_some());
        }),
        Rule::new("ssl_certificate_key", contexts, 1..=1, |scope, target: &mut T, directive| {
            let pem = Some(pem::<T>(scope, directive)?);
            let pairs = &mut target.server().certificates;
            match pairs.iter_mut().find(|pair| pair.key.is_none()) {
                Some(pair) => pair.key = pem,
                None => pairs.push(CertificatePair { certificate: None, key: pem }),
            }
            Ok(())
        })
        .many(|target| {
            let pairs = &mut target.server().certificates;
            pairs.iter_mut().for_each(|pair| pair.key = None);
            pairs.retain(|pair| pair.certificate.is_some());
        }),
        Rule::new("ssl_protocols", contexts, 1..=ANY, |scope, target, directive| {
            target.server().versions = versions(scope, directive)?;
            Ok(())
        }),
        Rule::new("ssl_ciphers", contexts, 1..=1, |_, target, directive| {
            target.server().ciphers = Some(directive.arg(0).to_owned());
            Ok(())
        }),
        Rule::new("ssl_ecdh_curve", contexts, 1..=1, |scope, target, directive| {
            target.server().curves = curves(scope, directive, directive.arg(0))?;
            Ok(())
        }),
        Rule::new("ssl_stapling_file", contexts, 1..=1, |scope, target, directive| {
            target.server().stapling_file = Some(path(scope, directive)?);
            Ok(())
        }),
        Rule::new("ssl_verify_client", contexts, 1..=1, |_, target, directive| {
            target.server().verify_client = match &*choice(directive) {
                "off" => VerifyClient::Off,
                "on" => VerifyClient::On,
                "optional" => VerifyClient::Optional,
                "optional_no_ca" => VerifyClient::OptionalNoCa,
                _ => return Err(Fault::value(directive.arg(0))),
            };
            Ok(())
        }),
        Rule::new("ssl_client_certificate", contexts, 1..=1, |scope, target, directive| {
            target.server().client_certificate = Some(path(scope, directive)?);
            Ok(())
        }),
        Rule::new("ssl_trusted_certificate", contexts, 1..=1, |scope, target, directive| {
            target.server().trusted_certificate = Some(path(scope, directive)?);
            Ok(())
        }),
        Rule::new("ssl_crl", contexts, 1..=1, |scope, target, directive| {
            target.server().crl = Some(path(scope, directive)?);
            Ok(())
        }),
        Rule::new("ssl_password_file", contexts, 1..=1, |scope, target, directive| {
            target.server().passwords = passwords(scope, directive)?;
            Ok(())
        }),
        Rule::new("ssl_verify_depth", contexts, 1..=1, |_, target, directive| {
            target.server().verify_depth = number(directive)?;
            Ok(())
        }),
        Rule::new("ssl_prefer_server_ciphers", contexts, 1..=1, |_, target, directive| {
            target.server().prefer_server_ciphers = flag(directive)?;
            Ok(())
        }),
        Rule::new("ssl_session_cache", contexts, 1..=2, |_, target, directive| {
            for word in &directive.args {
                target.server().session_cache = session_cache(word)?;
            }
            Ok(())
        }),
        Rule::new("ssl_session_tickets", contexts, 1..=1, |_, target, directive| {
            target.server().session_tickets = flag(directive)?;
            Ok(())
        }),
        Rule::new("ssl_session_ticket_key", contexts, 1..=1, |scope, target: &mut T, directive| {
            target.server().ticket_keys.push(path(scope, directive)?);
            Ok(())
        })
        .many(|target| target.server().ticket_keys.clear()),
        Rule::new("ssl_session_timeout", contexts, 1..=1, |_, target, directive| {
            target.server().session_timeout = seconds(directive, 0)?;
            Ok(())
        }),
        Rule::new("ssl_reject_handshake", contexts, 1..=1, |_, target, directive| {
            target.server().reject_handshake = flag(directive)?;
            Ok(())
        }),
    ]
}

const fn client<T: HasTls>(contexts: Context) -> [Rule<T>; 13] {
    [
        Rule::new("proxy_ssl_conf_command", contexts, 2..=2, |scope, target: &mut T, directive| {
            let commands = command::read(scope, directive)?;
            target.client().commands.extend(commands);
            Ok(())
        })
        .many(|target| target.client().commands.clear()),
        Rule::new("proxy_ssl_certificate_cache", contexts, 1..=3, |_, target, directive| {
            target.client().certificate_cache = certificate_cache(directive)?;
            Ok(())
        }),
        Rule::new("proxy_ssl_verify", contexts, 1..=1, |_, target, directive| {
            target.client().verify = flag(directive)?;
            Ok(())
        }),
        Rule::new("proxy_ssl_trusted_certificate", contexts, 1..=1, |scope, target, directive| {
            target.client().trusted_certificate = Some(path(scope, directive)?);
            Ok(())
        }),
        Rule::new("proxy_ssl_crl", contexts, 1..=1, |scope, target, directive| {
            target.client().crl = Some(path(scope, directive)?);
            Ok(())
        }),
        Rule::new("proxy_ssl_certificate", contexts, 1..=1, |scope, target, directive| {
            let pem = pem::<T>(scope, directive)?;
            target.client().certificate.get_or_insert_default().certificate = Some(pem);
            Ok(())
        }),
        Rule::new("proxy_ssl_certificate_key", contexts, 1..=1, |scope, target, directive| {
            let pem = pem::<T>(scope, directive)?;
            target.client().certificate.get_or_insert_default().key = Some(pem);
            Ok(())
        }),
        Rule::new("proxy_ssl_password_file", contexts, 1..=1, |scope, target, directive| {
            target.client().passwords = passwords(scope, directive)?;
            Ok(())
        }),
        Rule::new("proxy_ssl_verify_depth", contexts, 1..=1, |_, target, directive| {
            target.client().verify_depth = number(directive)?;
            Ok(())
        }),
        Rule::new("proxy_ssl_server_name", contexts, 1..=1, |_, target, directive| {
            target.client().send_name = flag(directive)?;
            Ok(())
        }),
        Rule::new("proxy_ssl_session_reuse", contexts, 1..=1, |_, target, directive| {
            target.client().session_reuse = flag(directive)?;
            Ok(())
        }),
        Rule::new("proxy_ssl_protocols", contexts, 1..=ANY, |scope, target, directive| {
            let TlsVersions { tls12, tls13 } = versions(scope, directive)?;
            let client = target.client();
            (client.tls12, client.tls13) = (tls12, tls13);
            Ok(())
        }),
        Rule::new("proxy_ssl_ciphers", contexts, 1..=1, |_, target, directive| {
            target.client().ciphers = Some(directive.arg(0).to_owned());
            Ok(())
        }),
    ]
}

/// Returns where argument 0 says that PEM is.
fn pem<T: HasTls>(scope: &Scope, directive: &Directive) -> Result<Pem, Fault> {
    let word = directive.arg(0);
    if ["engine:", "store:"].iter().any(|start| word.starts_with(start)) {
        return Err(Fault::unsupported(word, directive));
    }
    if word.contains('$') {
        return Ok(Pem::Computed { text: T::text(word, scope)?, folder: scope.path("") });
    }
    Ok(match word.strip_prefix("data:") {
        Some(data) => Pem::Data(data.into()),
        None => Pem::File(scope.path(word)),
    })
}

/// Returns the file of argument 0.
fn path(scope: &Scope, directive: &Directive) -> Result<PathBuf, Fault> {
    let word = directive.arg(0);
    if word.contains('$') || ["data:", "engine:", "store:"].iter().any(|start| word.starts_with(start)) {
        return Err(Fault::unsupported(word, directive));
    }
    Ok(scope.path(word))
}

/// Reads the names of curves, as OpenSSL has them; none of them takes all.
fn curves(scope: &mut Scope, directive: &Directive, word: &str) -> Result<Vec<Curve>, Fault> {
    let mut found = Vec::new();
    for name in word.split(':').filter(|_| word != "auto") {
        // One that may be missing is marked so.
        match &*name.trim_start_matches(['?', '*']).to_ascii_lowercase() {
            "x25519" => found.push(Curve::X25519),
            "prime256v1" | "p-256" | "secp256r1" => found.push(Curve::P256),
            "secp384r1" | "p-384" => found.push(Curve::P384),
            _ => scope.note(directive, &format!("\"{name}\" is not supported by l7-proxy")),
        }
    }
    if found.is_empty() && word != "auto" {
        return Err(Fault::unsupported(word, directive));
    }
    Ok(found)
}

/// Reads `off` and `max=N [inactive=TIME] [valid=TIME]`.
fn certificate_cache(directive: &Directive) -> Result<Option<CertificateCache>, Fault> {
    if let [only] = &*directive.args
        && &**only == "off"
    {
        return Ok(None);
    }
    let mut cache =
        CertificateCache { most: 0, inactive: Duration::from_secs(10), valid: Duration::from_secs(60) };
    for word in &directive.args {
        let invalid = || Fault::new(format!("invalid parameter \"{word}\""));
        let (name, value) = word.split_once('=').ok_or_else(invalid)?;
        match name {
            "max" => cache.most = parse_number(value).filter(|most| *most > 0).ok_or_else(invalid)?,
            "inactive" => cache.inactive = parse_seconds(value).ok_or_else(invalid)?,
            "valid" => cache.valid = parse_seconds(value).ok_or_else(invalid)?,
            _ => return Err(invalid()),
        }
    }
    match cache.most {
        0 => Err(Fault::directive("must have the \"max\" parameter")),
        _ => Ok(Some(cache)),
    }
}

/// Reads the passwords in the file of argument 0. It is read once, here, so that it may be a pipe.
fn passwords(scope: &Scope, directive: &Directive) -> Result<Passwords, Fault> {
    let path = scope.path(directive.arg(0));
    let text = std::fs::read(&path)
        .map_err(|error| Fault::new(format!("open() \"{}\" failed ({})", path.display(), Errno(&error))))?;
    Ok(Passwords::from_lines(&text))
}

fn versions(scope: &mut Scope, directive: &Directive) -> Result<TlsVersions, Fault> {
    scope.note_repeated(directive);
    let mut found = TlsVersions { tls12: false, tls13: false };
    for word in &directive.args {
        match &*word.to_ascii_lowercase() {
            "tlsv1.2" => found.tls12 = true,
            "tlsv1.3" => found.tls13 = true,
            "sslv2" | "sslv3" | "tlsv1" | "tlsv1.1" => {
                scope.note(directive, &format!("\"{word}\" is not spoken by l7-proxy"));
            }
            _ => return Err(Fault::value(word)),
        }
    }
    Ok(found)
}

/// Reads `off`, `none`, `builtin[:SESSIONS]` and `shared:NAME:SIZE`. Every server has a cache of its
/// own, so that the name does not count.
fn session_cache(word: &str) -> Result<SessionCache, Fault> {
    let invalid = || Fault::new(format!("invalid session cache \"{word}\""));
    let parts: Vec<&str> = word.split(':').collect();
    match *parts {
        ["off"] => Ok(SessionCache::Off),
        ["none"] => Ok(SessionCache::None),
        ["builtin"] => Ok(SessionCache::Keep(BUILTIN)),
        ["builtin", number] => parse_number(number).map(SessionCache::Keep).ok_or_else(invalid),
        ["shared", name, size] if !name.is_empty() => {
            let size = parse_size(size).ok_or_else(invalid)?;
            if size < ZONE_MIN {
                return Err(Fault::new(format!("session cache \"{word}\" is too small")));
            }
            let size = usize::try_from(size).map_err(|_| invalid())?;
            Ok(SessionCache::Keep((size / SESSION_SIZE).max(1)))
        }
        _ => Err(invalid()),
    }
}

/// The largest frame of HTTP/2 (RFC 9113, section 4.2).
const FRAME_MAX: u64 = (1 << 24) - 1;

/// Sessions of a cache whose size is not told, as in OpenSSL.
const BUILTIN: usize = 20_480;

/// What nginx counts on for a session: a megabyte holds about 4000.
const SESSION_SIZE: usize = 256;
