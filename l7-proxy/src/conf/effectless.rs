//! Directives that are accepted and do nothing, for what they tune is built otherwise here.
//!
//! Each that a file has is noted at the start, so that nobody waits for an effect. Whoever adds one
//! says by the heading why leaving it out changes no answer.

use super::rules::{ANY, Context, Syntax};

const SERVERS: Context = Context::HTTP.or(Context::SERVER);
const UPSTREAMS: Context = Context::UPSTREAM.or(Context::STREAM_UPSTREAM);

/// The directives, by what they tune.
pub(super) const DIRECTIVES: &[Syntax] = &[
    // Modules are part of the program.
    one("load_module", Context::MAIN),
    // Limits and priorities of the process are the service manager's.
    one("worker_rlimit_nofile", Context::MAIN),
    one("worker_rlimit_core", Context::MAIN),
    one("worker_priority", Context::MAIN),
    several("worker_cpu_affinity", Context::MAIN, 1, ANY),
    one("working_directory", Context::MAIN),
    one("env", Context::MAIN),
    several("thread_pool", Context::MAIN, 2, 3),
    one("timer_resolution", Context::MAIN),
    one("pcre_jit", Context::MAIN),
    one("lock_file", Context::MAIN),
    one("debug_points", Context::MAIN),
    // Every worker has a listener of its own; there is nothing to take turns at.
    one("multi_accept", Context::EVENTS),
    one("accept_mutex", Context::EVENTS),
    one("accept_mutex_delay", Context::EVENTS),
    one("worker_aio_requests", Context::EVENTS),
    one("debug_connection", Context::EVENTS),
    // How bytes leave: pieces are gathered into one write as they are.
    one("sendfile", Context::SETTINGS),
    one("sendfile_max_chunk", Context::SETTINGS),
    one("tcp_nopush", Context::SETTINGS),
    one("postpone_output", Context::SETTINGS),
    several("output_buffers", Context::SETTINGS, 2, 2),
    one("send_lowat", Context::SETTINGS),
    one("aio", Context::SETTINGS),
    one("aio_write", Context::SETTINGS),
    one("directio", Context::SETTINGS),
    one("directio_alignment", Context::SETTINGS),
    one("read_ahead", Context::SETTINGS),
    one("reset_timedout_connection", Context::SETTINGS),
    one("lingering_close", Context::SETTINGS),
    one("lingering_time", Context::SETTINGS),
    one("lingering_timeout", Context::SETTINGS),
    several("open_file_cache", Context::SETTINGS, 1, 2),
    one("open_file_cache_valid", Context::SETTINGS),
    one("open_file_cache_min_uses", Context::SETTINGS),
    one("open_file_cache_errors", Context::SETTINGS),
    several("open_log_file_cache", Context::SETTINGS, 1, 4),
    // Answers go out as they are; a client that takes gzip takes plain as well.
    one("gzip", Context::SETTINGS),
    one("gzip_vary", Context::SETTINGS),
    several("gzip_proxied", Context::SETTINGS, 1, ANY),
    one("gzip_comp_level", Context::SETTINGS),
    several("gzip_buffers", Context::SETTINGS, 2, 2),
    one("gzip_http_version", Context::SETTINGS),
    several("gzip_types", Context::SETTINGS, 1, ANY),
    one("gzip_min_length", Context::SETTINGS),
    several("gzip_disable", Context::SETTINGS, 1, ANY),
    // Tables grow as they need.
    one("types_hash_max_size", Context::SETTINGS),
    one("types_hash_bucket_size", Context::SETTINGS),
    one("server_names_hash_max_size", Context::HTTP),
    one("server_names_hash_bucket_size", Context::HTTP),
    one("variables_hash_max_size", Context::HTTP.or(Context::STREAM)),
    one("variables_hash_bucket_size", Context::HTTP.or(Context::STREAM)),
    one("proxy_headers_hash_max_size", Context::SETTINGS),
    one("proxy_headers_hash_bucket_size", Context::SETTINGS),
    one("connection_pool_size", SERVERS),
    one("request_pool_size", SERVERS),
    // Bodies stream through with back-pressure; nothing is gathered or written to a disk.
    one("client_body_buffer_size", Context::SETTINGS),
    one("client_body_in_single_buffer", Context::SETTINGS),
    several("client_body_temp_path", Context::SETTINGS, 1, 4),
    one("client_header_buffer_size", SERVERS),
    several("proxy_temp_path", Context::SETTINGS, 1, 4),
    several("fastcgi_temp_path", Context::SETTINGS, 1, 4),
    several("uwsgi_temp_path", Context::SETTINGS, 1, 4),
    several("scgi_temp_path", Context::SETTINGS, 1, 4),
    one("proxy_buffering", Context::SETTINGS),
    one("proxy_request_buffering", Context::SETTINGS),
    one("proxy_buffer_size", Context::SETTINGS.or(Context::STREAM_SETTINGS)),
    several("proxy_buffers", Context::SETTINGS, 2, 2),
    one("proxy_busy_buffers_size", Context::SETTINGS),
    one("proxy_max_temp_file_size", Context::SETTINGS),
    one("proxy_temp_file_write_size", Context::SETTINGS),
    one("proxy_socket_keepalive", Context::SETTINGS.or(Context::STREAM_SETTINGS)),
    // One process: what its workers share needs no memory set apart.
    several("zone", UPSTREAMS, 1, 2),
    // There is one log for diagnostics.
    several("error_log", Context::SETTINGS.or(Context::STREAM_SETTINGS), 1, 2),
    one("log_not_found", Context::SETTINGS),
    one("log_subrequest", Context::SETTINGS),
    one("rewrite_log", Context::SETTINGS),
    // Browsers of the last century.
    one("msie_padding", Context::SETTINGS),
    one("msie_refresh", Context::SETTINGS),
    several("keepalive_disable", Context::SETTINGS, 1, ANY),
];

/// A directive with one argument.
const fn one(name: &'static str, contexts: Context) -> Syntax {
    several(name, contexts, 1, 1)
}

/// A directive with a number of arguments between `least` and `most`.
const fn several(name: &'static str, contexts: Context, least: usize, most: usize) -> Syntax {
    Syntax { name, contexts, args: least..=most, block: None }
}
