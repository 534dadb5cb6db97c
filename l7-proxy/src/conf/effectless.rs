//! Directives that are accepted and do nothing, for what they tune is built otherwise here.
//!
//! Each that a file has is noted at the start, so that nobody waits for an effect. Whoever adds one
//! says by the heading why leaving it out changes no answer.

use super::limit::ZONE_MIN;
use super::rules::{ANY, Context, Fault, Syntax};
use super::tree::Directive;
use super::value;

const SERVERS: Context = Context::HTTP.or(Context::SERVER);
const TLS: Context = SERVERS.or(Context::STREAM_SETTINGS);
const UPSTREAMS: Context = Context::UPSTREAM.or(Context::STREAM_UPSTREAM);

/// The directives, by what they tune.
pub(super) const DIRECTIVES: &[Effectless] = &[
    // Modules are part of the program.
    one("load_module", Context::MAIN).many(),
    // Where what is left of a failed process goes is the system's to say. All of the environment that it was
    // started with is there.
    one("working_directory", Context::MAIN),
    one("env", Context::MAIN).many(),
    several("thread_pool", Context::MAIN, 2, 3).takes(Takes::Threads).many(),
    time("timer_resolution", Context::MAIN),
    switch("pcre_jit", Context::MAIN),
    one("lock_file", Context::MAIN),
    one("debug_points", Context::MAIN).takes(Takes::Word(&["stop", "abort"])),
    // Every worker has a listener of its own; there is nothing to take turns at.
    switch("multi_accept", Context::EVENTS),
    switch("accept_mutex", Context::EVENTS),
    time("accept_mutex_delay", Context::EVENTS),
    count("worker_aio_requests", Context::EVENTS),
    one("debug_connection", Context::EVENTS).many(),
    // How bytes leave: pieces are gathered into one write as they are.
    switch("sendfile", Context::SETTINGS_IF),
    size("sendfile_max_chunk", Context::SETTINGS),
    switch("tcp_nopush", Context::SETTINGS),
    size("postpone_output", Context::SETTINGS),
    buffers("output_buffers", Context::SETTINGS),
    size("send_lowat", Context::SETTINGS),
    size("proxy_send_lowat", Context::SETTINGS),
    size("subrequest_output_buffer_size", Context::SETTINGS),
    one("aio", Context::SETTINGS).takes(Takes::Aio),
    switch("aio_write", Context::SETTINGS),
    one("directio", Context::SETTINGS).takes(Takes::Offset(&["off"])),
    one("directio_alignment", Context::SETTINGS).takes(Takes::Offset(&[])),
    size("read_ahead", Context::SETTINGS),
    // Pieces are as large as they come out.
    buffers("gzip_buffers", Context::SETTINGS),
    buffers("gunzip_buffers", Context::SETTINGS),
    switch("gzip_no_buffer", Context::SETTINGS),
    size("gzip_window", Context::SETTINGS).takes(Takes::Power(512, 32, "512, 1k, 2k, 4k, 8k, 16k, or 32k")),
    size("gzip_hash", Context::SETTINGS).takes(Takes::Power(
        512,
        128,
        "512, 1k, 2k, 4k, 8k, 16k, 32k, 64k, or 128k",
    )),
    size("postpone_gzipping", Context::SETTINGS),
    // What changes on a disk is asked of the system with each request.
    switch("open_file_cache_events", Context::SETTINGS),
    // Tables grow as they need.
    count("referer_hash_max_size", Context::SERVER.or(Context::LOCATION)),
    count("referer_hash_bucket_size", Context::SERVER.or(Context::LOCATION)),
    count("types_hash_max_size", Context::SETTINGS),
    count("types_hash_bucket_size", Context::SETTINGS),
    count("server_names_hash_max_size", Context::HTTP.or(Context::STREAM)),
    count("server_names_hash_bucket_size", Context::HTTP.or(Context::STREAM)),
    count("map_hash_max_size", Context::HTTP.or(Context::STREAM)),
    count("map_hash_bucket_size", Context::HTTP.or(Context::STREAM)),
    count("variables_hash_max_size", Context::HTTP.or(Context::STREAM)),
    count("variables_hash_bucket_size", Context::HTTP.or(Context::STREAM)),
    count("proxy_headers_hash_max_size", Context::SETTINGS),
    count("proxy_headers_hash_bucket_size", Context::SETTINGS),
    size("connection_pool_size", SERVERS).takes(Takes::Pool),
    size("request_pool_size", SERVERS).takes(Takes::Pool),
    // Answers stream through with back-pressure, and of a request's body 1 MB is held at most: nothing
    // is written to a disk unless somebody asks for the file, or an answer is kept.
    switch("client_body_in_single_buffer", Context::SETTINGS),
    several("fastcgi_temp_path", Context::SETTINGS, 1, 4),
    several("uwsgi_temp_path", Context::SETTINGS, 1, 4),
    several("scgi_temp_path", Context::SETTINGS, 1, 4),
    size("proxy_buffer_size", Context::STREAM_SETTINGS),
    buffers("proxy_buffers", Context::SETTINGS),
    size("proxy_busy_buffers_size", Context::SETTINGS),
    size("proxy_max_temp_file_size", Context::SETTINGS),
    size("proxy_temp_file_write_size", Context::SETTINGS),
    // HTTP/3 is spoken where `listen` says `quic`, which is refused, and nowhere else.
    switch("http3", SERVERS),
    switch("http3_hq", SERVERS),
    count("http3_max_concurrent_streams", SERVERS),
    size("http3_stream_buffer_size", SERVERS),
    count("quic_active_connection_id_limit", SERVERS),
    switch("quic_gso", SERVERS),
    one("quic_host_key", SERVERS),
    switch("quic_retry", SERVERS),
    switch("quic_bpf", Context::MAIN),
    // So it is with the modules of these: what has them at work is refused.
    size("mp4_buffer_size", Context::SETTINGS),
    size("mp4_max_buffer_size", Context::SETTINGS),
    switch("mp4_start_key_frame", Context::SETTINGS),
    several("image_filter", Context::LOCATION, 1, 3).takes(Takes::OnlyOff),
    size("image_filter_buffer", Context::SETTINGS),
    switch("image_filter_interlace", Context::SETTINGS),
    one("image_filter_jpeg_quality", Context::SETTINGS),
    one("image_filter_sharpen", Context::SETTINGS),
    switch("image_filter_transparency", Context::SETTINGS),
    one("image_filter_webp_quality", Context::SETTINGS),
    several("dav_methods", Context::SETTINGS, 1, ANY).takes(Takes::OnlyOff),
    several("dav_access", Context::SETTINGS, 1, 3),
    switch("create_full_put_path", Context::SETTINGS),
    count("min_delete_depth", Context::SETTINGS),
    switch("ssi_ignore_recycled_buffers", Context::SETTINGS),
    switch("ssi_last_modified", Context::SETTINGS),
    size("ssi_min_file_chunk", Context::SETTINGS),
    switch("ssi_silent_errors", Context::SETTINGS),
    several("ssi_types", Context::SETTINGS, 1, ANY),
    size("ssi_value_length", Context::SETTINGS),
    // What a server has counted is on the page of metrics.
    one("status_zone", Context::SERVER.or(Context::LOCATION).or(Context::STREAM_SERVER)),
    obsolete("proxy_downstream_buffer", Context::STREAM_SETTINGS, "proxy_buffer_size"),
    obsolete("proxy_upstream_buffer", Context::STREAM_SETTINGS, "proxy_buffer_size"),
    // Nothing is included or asked of FastCGI: what says so, or how it would be done, changes
    // nothing. What would have it done is refused.
    only_off("ssi", Context::SETTINGS_IF),
    only_off("fastcgi_cache", Context::SETTINGS),
    several("fastcgi_cache_bypass", Context::SETTINGS, 1, ANY).many(),
    several("fastcgi_no_cache", Context::SETTINGS, 1, ANY).many(),
    size("fastcgi_buffer_size", Context::SETTINGS),
    switch("fastcgi_buffering", Context::SETTINGS),
    buffers("fastcgi_buffers", Context::SETTINGS),
    size("fastcgi_busy_buffers_size", Context::SETTINGS),
    time("fastcgi_connect_timeout", Context::SETTINGS),
    one("fastcgi_hide_header", Context::SETTINGS).many(),
    several("fastcgi_ignore_headers", Context::SETTINGS, 1, ANY),
    one("fastcgi_index", Context::SETTINGS),
    switch("fastcgi_intercept_errors", Context::SETTINGS),
    switch("fastcgi_keep_conn", Context::SETTINGS),
    size("fastcgi_max_temp_file_size", Context::SETTINGS),
    several("fastcgi_param", Context::SETTINGS, 2, 3).many(),
    one("fastcgi_pass_header", Context::SETTINGS).many(),
    time("fastcgi_read_timeout", Context::SETTINGS),
    time("fastcgi_send_timeout", Context::SETTINGS),
    one("fastcgi_split_path_info", Context::SETTINGS),
    size("fastcgi_temp_file_write_size", Context::SETTINGS),
    // Keys are exchanged over elliptic curves only.
    one("ssl_dhparam", TLS),
    // Whoever checks revocation by OCSP asks the authority himself; few still do.
    switch("ssl_stapling", TLS),
    switch("ssl_stapling_verify", TLS),
    one("ssl_stapling_responder", TLS),
    switch("ssl_object_cache_inheritable", Context::MAIN),
    // Certificates are sent as they are.
    switch("ssl_certificate_compression", TLS),
    size("http2_body_preread_size", SERVERS),
    size("http2_recv_buffer_size", Context::HTTP),
    // What nginx calls obsolete: it goes by keepalive_requests, keepalive_timeout, client_header_timeout
    // and large_client_header_buffers instead, and pushes nothing.
    obsolete("http2_max_requests", SERVERS, "keepalive_requests"),
    obsolete("http2_max_concurrent_pushes", SERVERS, ""),
    obsolete("http2_max_field_size", SERVERS, "large_client_header_buffers"),
    obsolete("http2_max_header_size", SERVERS, "large_client_header_buffers"),
    size("http2_pool_size", SERVERS),
    count("http2_streams_index_size", SERVERS),
    obsolete("http2_recv_timeout", SERVERS, "client_header_timeout"),
    obsolete("http2_idle_timeout", SERVERS, "keepalive_timeout"),
    obsolete("http2_push_preload", Context::SETTINGS, ""),
    obsolete("http2_push", Context::SETTINGS, ""),
    // One process: what its workers share needs no memory set apart.
    several("zone", UPSTREAMS, 1, 2).takes(Takes::Zone),
    // Subrequests have no line in any log.
    switch("log_subrequest", Context::SETTINGS),
    switch("rewrite_log", Context::SETTINGS_IF.or(Context::SERVER_IF)),
    switch("uninitialized_variable_warn", Context::SETTINGS_IF.or(Context::SERVER_IF)),
    // Pages for browsers of the last century.
    switch("msie_refresh", Context::SETTINGS),
];

/// A directive that is accepted and does nothing.
pub(super) struct Effectless {
    pub(super) syntax: Syntax,
    takes: Takes,
    /// Whether it may stand only once in a block.
    pub(super) times: Times,
}

/// How often a directive may stand in one block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    Once,
    Many,
}

/// What arguments are checked for, since a slip of the pen is one here, too.
#[derive(Clone, Copy)]
enum Takes {
    /// Nothing.
    Anything,
    /// `on` or `off`.
    Switch,
    /// A whole number.
    Count,
    /// A size.
    Size,
    /// A size that is a power of two, from so many bytes to so many kilobytes; and how nginx lists those.
    Power(u64, u64, &'static str),
    /// The size of a pool of memory.
    Pool,
    /// A size of something that may be larger than memory, or a word.
    Offset(&'static [&'static str]),
    /// A time.
    Time,
    /// A number of buffers and the size of each.
    Buffers,
    /// What `aio` takes.
    Aio,
    /// `off`; what would switch it on is not supported.
    OnlyOff,
    /// One of these words.
    Word(&'static [&'static str]),
    /// What `thread_pool` takes.
    Threads,
    /// What `zone` takes: a name and perhaps a size.
    Zone,
    /// Whatever it was: nginx does nothing with it either, and says what took its place.
    Obsolete(&'static str),
}

impl Effectless {
    /// Checks the arguments.
    pub(super) fn check(&self, directive: &Directive) -> Result<(), Fault> {
        let invalid = || Fault::directive("invalid value");
        match self.takes {
            Takes::Anything | Takes::Obsolete(_) => Ok(()),
            Takes::Switch => value::flag(directive).map(drop),
            Takes::Count => value::number::<u64>(directive).map(drop),
            Takes::Size => value::size(directive).map(drop),
            Takes::Power(least, most, listed) => {
                let size = value::size(directive)?;
                match size.is_power_of_two() && (least..=most << 10).contains(&size) {
                    true => Ok(()),
                    false => Err(Fault::directive(format!("must be {listed}"))),
                }
            }
            Takes::Pool => match value::size(directive)? {
                0..POOL_MIN => Err(Fault::new(format!("the pool size must be no less than {POOL_MIN}"))),
                size if size % POOL_STEP != 0 => {
                    Err(Fault::new(format!("the pool size must be a multiple of {POOL_STEP}")))
                }
                _ => Ok(()),
            },
            Takes::Offset(words) if words.contains(&directive.arg(0)) => Ok(()),
            Takes::Offset(_) => value::offset(directive).map(drop),
            Takes::Time => value::time(directive, 0).map(drop),
            Takes::Buffers => {
                let number = value::parse_number(directive.arg(0)).filter(|&number: &u64| number > 0);
                let size = value::parse_size(directive.arg(1)).filter(|&size| size > 0);
                number.zip(size).map(drop).ok_or_else(invalid)
            }
            Takes::OnlyOff if value::choice(directive) == "off" => Ok(()),
            Takes::OnlyOff => Err(Fault::unsupported(directive.arg(0), directive)),
            Takes::Word(words) => match words.contains(&&*value::choice(directive)) {
                true => Ok(()),
                false => Err(Fault::value(directive.arg(0))),
            },
            Takes::Aio if matches!(directive.arg(0), "on" | "off" | "threads") => Ok(()),
            Takes::Aio if directive.arg(0).starts_with("threads=") => Ok(()),
            Takes::Aio => Err(invalid()),
            Takes::Threads => threads(directive),
            Takes::Zone => zone(directive),
        }
    }

    /// Returns what a person should know who wrote it.
    pub(super) fn note(&self) -> String {
        let name = self.syntax.name;
        match self.takes {
            Takes::Obsolete("") => format!("the \"{name}\" directive is obsolete, ignored"),
            Takes::Obsolete(heir) => {
                format!("the \"{name}\" directive is obsolete, use the \"{heir}\" directive instead")
            }
            _ => format!("\"{name}\" directive is accepted and has no effect"),
        }
    }

    const fn takes(self, takes: Takes) -> Self {
        Self { takes, ..self }
    }

    /// Returns the same for a directive that may stand several times.
    const fn many(self) -> Self {
        Self { times: Times::Many, ..self }
    }
}

fn threads(directive: &Directive) -> Result<(), Fault> {
    let mut known = false;
    for word in &directive.args[1..] {
        let (kind, number) = match word.split_once('=') {
            Some(("threads", number)) => ("threads", number),
            Some(("max_queue", number)) => ("max_queue", number),
            _ => continue,
        };
        let number = value::parse_number(number).filter(|&number: &u64| number > 0 || kind == "max_queue");
        number.ok_or_else(|| Fault::new(format!("invalid {kind} value \"{word}\"")))?;
        known |= kind == "threads";
    }
    if known { Ok(()) } else { Err(Fault::new("\"thread_pool\" must have \"threads\" parameter")) }
}

fn zone(directive: &Directive) -> Result<(), Fault> {
    let (name, size) = (directive.arg(0), directive.args.get(1));
    if name.is_empty() {
        return Err(Fault::new("invalid zone name \"\""));
    }
    let Some(word) = size else { return Ok(()) };
    match value::parse_size(word) {
        None => Err(Fault::new(format!("invalid zone size \"{word}\""))),
        Some(size) if size < ZONE_MIN => Err(Fault::new(format!("zone \"{name}\" is too small"))),
        Some(_) => Ok(()),
    }
}

/// A directive whose argument is not looked at.
const fn one(name: &'static str, contexts: Context) -> Effectless {
    several(name, contexts, 1, 1)
}

/// A directive with a number of arguments between `least` and `most`, which are not looked at.
const fn several(name: &'static str, contexts: Context, least: usize, most: usize) -> Effectless {
    let syntax = Syntax { name, contexts, args: least..=most, block: None };
    Effectless { syntax, takes: Takes::Anything, times: Times::Once }
}

const fn switch(name: &'static str, contexts: Context) -> Effectless {
    one(name, contexts).takes(Takes::Switch)
}

const fn only_off(name: &'static str, contexts: Context) -> Effectless {
    one(name, contexts).takes(Takes::OnlyOff)
}

const fn count(name: &'static str, contexts: Context) -> Effectless {
    one(name, contexts).takes(Takes::Count)
}

const fn size(name: &'static str, contexts: Context) -> Effectless {
    one(name, contexts).takes(Takes::Size)
}

const fn time(name: &'static str, contexts: Context) -> Effectless {
    one(name, contexts).takes(Takes::Time)
}

const fn buffers(name: &'static str, contexts: Context) -> Effectless {
    several(name, contexts, 2, 2).takes(Takes::Buffers)
}

const fn obsolete(name: &'static str, contexts: Context, heir: &'static str) -> Effectless {
    one(name, contexts).takes(Takes::Obsolete(heir)).many()
}

/// What nginx needs of a pool of memory, and what its size is a multiple of.
const POOL_MIN: u64 = 112;
const POOL_STEP: u64 = 16;
