//! Directives that are accepted and do nothing, for what they tune is built otherwise here.
//!
//! Each that a file has is noted at the start, so that nobody waits for an effect. Whoever adds one
//! says by the heading why leaving it out changes no answer.

use super::rules::{ANY, Context, Fault, Syntax};
use super::tree::Directive;
use super::value;

const SERVERS: Context = Context::HTTP.or(Context::SERVER);
const TLS: Context = SERVERS.or(Context::STREAM_SETTINGS);
const UPSTREAMS: Context = Context::UPSTREAM.or(Context::STREAM_UPSTREAM);

/// The directives, by what they tune.
pub(super) const DIRECTIVES: &[Effectless] = &[
    // Modules are part of the program.
    one("load_module", Context::MAIN),
    // Limits and priorities of the process are the service manager's.
    count("worker_rlimit_nofile", Context::MAIN),
    size("worker_rlimit_core", Context::MAIN),
    one("worker_priority", Context::MAIN),
    several("worker_cpu_affinity", Context::MAIN, 1, ANY),
    one("working_directory", Context::MAIN),
    one("env", Context::MAIN),
    several("thread_pool", Context::MAIN, 2, 3),
    time("timer_resolution", Context::MAIN),
    switch("pcre_jit", Context::MAIN),
    one("lock_file", Context::MAIN),
    one("debug_points", Context::MAIN),
    // Every worker has a listener of its own; there is nothing to take turns at.
    switch("multi_accept", Context::EVENTS),
    switch("accept_mutex", Context::EVENTS),
    time("accept_mutex_delay", Context::EVENTS),
    count("worker_aio_requests", Context::EVENTS),
    one("debug_connection", Context::EVENTS),
    // How bytes leave: pieces are gathered into one write as they are.
    switch("sendfile", Context::SETTINGS_IF),
    size("sendfile_max_chunk", Context::SETTINGS),
    switch("tcp_nopush", Context::SETTINGS),
    size("postpone_output", Context::SETTINGS),
    several("output_buffers", Context::SETTINGS, 2, 2),
    size("send_lowat", Context::SETTINGS),
    size("proxy_send_lowat", Context::SETTINGS),
    size("subrequest_output_buffer_size", Context::SETTINGS),
    one("aio", Context::SETTINGS),
    switch("aio_write", Context::SETTINGS),
    one("directio", Context::SETTINGS),
    size("directio_alignment", Context::SETTINGS),
    size("read_ahead", Context::SETTINGS),
    switch("reset_timedout_connection", Context::SETTINGS),
    one("lingering_close", Context::SETTINGS),
    time("lingering_time", Context::SETTINGS),
    time("lingering_timeout", Context::SETTINGS),
    // Pieces are as large as they come out.
    several("gzip_buffers", Context::SETTINGS, 2, 2),
    several("gunzip_buffers", Context::SETTINGS, 2, 2),
    switch("gzip_no_buffer", Context::SETTINGS),
    size("gzip_window", Context::SETTINGS),
    size("gzip_hash", Context::SETTINGS),
    size("postpone_gzipping", Context::SETTINGS),
    // Times are told in UTC wherever they are told.
    switch("autoindex_localtime", Context::SETTINGS),
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
    size("connection_pool_size", SERVERS),
    size("request_pool_size", SERVERS),
    // Answers stream through with back-pressure, and of a request's body 1 MB is held at most: nothing
    // is written to a disk unless somebody asks for the file.
    switch("client_body_in_single_buffer", Context::SETTINGS),
    several("proxy_temp_path", Context::SETTINGS, 1, 4),
    several("fastcgi_temp_path", Context::SETTINGS, 1, 4),
    several("uwsgi_temp_path", Context::SETTINGS, 1, 4),
    several("scgi_temp_path", Context::SETTINGS, 1, 4),
    switch("proxy_buffering", Context::SETTINGS),
    size("proxy_buffer_size", Context::STREAM_SETTINGS),
    several("proxy_buffers", Context::SETTINGS, 2, 2),
    size("proxy_busy_buffers_size", Context::SETTINGS),
    size("proxy_max_temp_file_size", Context::SETTINGS),
    size("proxy_temp_file_write_size", Context::SETTINGS),
    switch("proxy_socket_keepalive", Context::SETTINGS.or(Context::STREAM_SETTINGS)),
    // Keys are exchanged over elliptic curves only.
    one("ssl_dhparam", TLS),
    // Whoever checks revocation by OCSP asks the authority himself; few still do.
    switch("ssl_stapling", TLS),
    switch("ssl_stapling_verify", TLS),
    one("ssl_stapling_responder", TLS),
    switch("ssl_object_cache_inheritable", Context::MAIN),
    // Certificates are sent as they are.
    switch("ssl_certificate_compression", TLS),
    size("ssl_buffer_size", SERVERS),
    switch("grpc_socket_keepalive", Context::SETTINGS),
    size("http2_body_preread_size", SERVERS),
    size("http2_recv_buffer_size", Context::HTTP),
    // What nginx calls obsolete: it goes by keepalive_requests, keepalive_timeout, client_header_timeout
    // and large_client_header_buffers instead, and pushes nothing.
    count("http2_max_requests", SERVERS),
    count("http2_max_concurrent_pushes", SERVERS),
    size("http2_max_field_size", SERVERS),
    size("http2_max_header_size", SERVERS),
    size("http2_pool_size", SERVERS),
    count("http2_streams_index_size", SERVERS),
    time("http2_recv_timeout", SERVERS),
    time("http2_idle_timeout", SERVERS),
    switch("http2_push_preload", Context::SETTINGS),
    one("http2_push", Context::SETTINGS),
    // One process: what its workers share needs no memory set apart.
    several("zone", UPSTREAMS, 1, 2),
    // A log of connections whose name varies is opened for each line.
    several("open_log_file_cache", Context::STREAM_SETTINGS, 1, 4),
    // Subrequests have no line in any log.
    switch("log_subrequest", Context::SETTINGS),
    switch("rewrite_log", Context::SETTINGS_IF.or(Context::SERVER_IF)),
    switch("uninitialized_variable_warn", Context::SETTINGS_IF.or(Context::SERVER_IF)),
    // Pages for browsers of the last century.
    switch("msie_padding", Context::SETTINGS),
    switch("msie_refresh", Context::SETTINGS),
];

/// A directive that is accepted and does nothing.
pub(super) struct Effectless {
    pub(super) syntax: Syntax,
    /// Whether its argument is of its kind: a slip of the pen is one here, too.
    pub(super) check: fn(&Directive) -> Result<(), Fault>,
}

/// A directive whose argument is not looked at.
const fn one(name: &'static str, contexts: Context) -> Effectless {
    several(name, contexts, 1, 1)
}

/// A directive with a number of arguments between `least` and `most`, which are not looked at.
const fn several(name: &'static str, contexts: Context, least: usize, most: usize) -> Effectless {
    Effectless { syntax: Syntax { name, contexts, args: least..=most, block: None }, check: |_| Ok(()) }
}

/// `on` or `off`.
const fn switch(name: &'static str, contexts: Context) -> Effectless {
    Effectless { check: |directive| value::flag(directive).map(drop), ..one(name, contexts) }
}

/// A whole number.
const fn count(name: &'static str, contexts: Context) -> Effectless {
    Effectless { check: |directive| value::number::<u64>(directive).map(drop), ..one(name, contexts) }
}

/// A size.
const fn size(name: &'static str, contexts: Context) -> Effectless {
    Effectless { check: |directive| value::size(directive).map(drop), ..one(name, contexts) }
}

/// A time.
const fn time(name: &'static str, contexts: Context) -> Effectless {
    Effectless { check: |directive| value::time(directive, 0).map(drop), ..one(name, contexts) }
}
