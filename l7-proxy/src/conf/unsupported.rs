//! Directives that nginx has and this program has not: their names, so that the error can say "not
//! supported" where it would else say "unknown", which sends a person looking for a slip of the pen.
//!
//! The names are those of nginx 1.31.5 with all its modules, and the best known of its commercial
//! edition. One that becomes supported is taken off; a test watches over that.

use super::rules::Context;

/// Returns whether nginx has a directive called `name` in one of these kinds of block.
pub(super) fn knows(name: &str, contexts: Context) -> bool {
    TABLE.iter().any(|(kinds, names)| kinds.meets(contexts) && lists(names, name))
}

/// Returns whether nginx has a directive called `name` anywhere.
pub(super) fn knows_anywhere(name: &str) -> bool {
    TABLE.iter().any(|(_, names)| lists(names, name)) || lists(MAIL, name)
}

fn lists(names: &str, name: &str) -> bool {
    names.split_ascii_whitespace().any(|known| known == name)
}

const TABLE: [(Context, &str); 4] = [
    (Context::MAIN.or(Context::EVENTS), MAIN),
    (Context::SETTINGS, HTTP),
    (Context::UPSTREAM.or(Context::STREAM_UPSTREAM), UPSTREAM),
    (Context::STREAM_SETTINGS, STREAM),
];

/// At the top level and in `events {}`.
const MAIN: &str = "
    acceptex_read devpoll_changes devpoll_events epoll_events eventport_events
    google_perftools_profiles iocp_threads kqueue_changes kqueue_events mail post_acceptex
    ssl_engine
";

/// In `http {}`, its servers and locations.
const HTTP: &str = "
    api auth_jwt auth_jwt_key_file auth_oidc
    client_body_early_read degradation degrade f4f fastcgi_bind fastcgi_cache_background_update
    fastcgi_cache_key fastcgi_cache_lock fastcgi_cache_lock_age fastcgi_cache_lock_timeout
    fastcgi_cache_max_range_offset fastcgi_cache_methods fastcgi_cache_min_uses
    fastcgi_cache_path fastcgi_cache_revalidate fastcgi_cache_use_stale fastcgi_cache_valid
    fastcgi_catch_stderr fastcgi_force_ranges fastcgi_ignore_client_abort fastcgi_limit_rate
    fastcgi_next_upstream fastcgi_next_upstream_timeout fastcgi_next_upstream_tries fastcgi_pass
    fastcgi_pass_request_body fastcgi_pass_request_headers fastcgi_request_buffering
    fastcgi_send_lowat fastcgi_socket_keepalive fastcgi_socket_rcvbuf fastcgi_socket_sndbuf
    fastcgi_store fastcgi_store_access flv geoip_city geoip_country geoip_org geoip_proxy
    geoip_proxy_recursive hls js_body_filter js_content js_header_filter js_import js_path
    js_preload_object js_set js_shared_dict_zone js_var keyval keyval_zone memcached_bind
    memcached_buffer_size memcached_connect_timeout memcached_gzip_flag memcached_next_upstream
    memcached_next_upstream_timeout memcached_next_upstream_tries memcached_pass
    memcached_read_timeout memcached_send_timeout memcached_socket_keepalive
    mp4 perl perl_modules perl_require perl_set
    proxy_cache_purge scgi_bind scgi_buffer_size scgi_buffering scgi_buffers
    scgi_busy_buffers_size scgi_cache scgi_cache_background_update scgi_cache_bypass
    scgi_cache_key scgi_cache_lock scgi_cache_lock_age scgi_cache_lock_timeout
    scgi_cache_max_range_offset scgi_cache_methods scgi_cache_min_uses scgi_cache_path
    scgi_cache_revalidate scgi_cache_use_stale scgi_cache_valid scgi_connect_timeout
    scgi_force_ranges scgi_hide_header scgi_ignore_client_abort scgi_ignore_headers
    scgi_intercept_errors scgi_limit_rate scgi_max_temp_file_size scgi_next_upstream
    scgi_next_upstream_timeout scgi_next_upstream_tries scgi_no_cache scgi_param scgi_pass
    scgi_pass_header scgi_pass_request_body scgi_pass_request_headers scgi_read_timeout
    scgi_request_buffering scgi_send_timeout scgi_socket_keepalive scgi_socket_rcvbuf
    scgi_socket_sndbuf scgi_store scgi_store_access scgi_temp_file_write_size session_log
    session_log_format session_log_zone ssl_ech_file ssl_ocsp
    ssl_ocsp_cache ssl_ocsp_responder tunnel_bind tunnel_buffer_size tunnel_connect_timeout
    tunnel_next_upstream tunnel_next_upstream_timeout tunnel_next_upstream_tries tunnel_pass
    tunnel_read_timeout tunnel_send_lowat tunnel_send_timeout tunnel_socket_keepalive
    tunnel_socket_rcvbuf tunnel_socket_sndbuf uwsgi_bind uwsgi_buffer_size uwsgi_buffering
    uwsgi_buffers uwsgi_busy_buffers_size uwsgi_cache uwsgi_cache_background_update
    uwsgi_cache_bypass uwsgi_cache_key uwsgi_cache_lock uwsgi_cache_lock_age
    uwsgi_cache_lock_timeout uwsgi_cache_max_range_offset uwsgi_cache_methods
    uwsgi_cache_min_uses uwsgi_cache_path uwsgi_cache_revalidate uwsgi_cache_use_stale
    uwsgi_cache_valid uwsgi_connect_timeout uwsgi_force_ranges uwsgi_hide_header
    uwsgi_ignore_client_abort uwsgi_ignore_headers uwsgi_intercept_errors uwsgi_limit_rate
    uwsgi_max_temp_file_size uwsgi_modifier1 uwsgi_modifier2 uwsgi_next_upstream
    uwsgi_next_upstream_timeout uwsgi_next_upstream_tries uwsgi_no_cache uwsgi_param uwsgi_pass
    uwsgi_pass_header uwsgi_pass_request_body uwsgi_pass_request_headers uwsgi_read_timeout
    uwsgi_request_buffering uwsgi_send_timeout uwsgi_socket_keepalive uwsgi_socket_rcvbuf
    uwsgi_socket_sndbuf uwsgi_ssl_certificate uwsgi_ssl_certificate_cache
    uwsgi_ssl_certificate_key uwsgi_ssl_ciphers uwsgi_ssl_conf_command uwsgi_ssl_crl
    uwsgi_ssl_name uwsgi_ssl_password_file uwsgi_ssl_protocols uwsgi_ssl_server_name
    uwsgi_ssl_session_reuse uwsgi_ssl_trusted_certificate uwsgi_ssl_verify
    uwsgi_ssl_verify_depth uwsgi_store uwsgi_store_access uwsgi_string
    uwsgi_temp_file_write_size xml_entities xml_external_entities xslt_last_modified xslt_param
    xslt_string_param xslt_stylesheet xslt_types
";

/// In `upstream {}`.
const UPSTREAM: &str = "
    ntlm state
";

/// In `stream {}` and its servers.
const STREAM: &str = "
    geoip_city geoip_country geoip_org js_access js_filter js_import js_preread
    js_set ssl_ech_file ssl_ocsp ssl_ocsp_cache ssl_ocsp_responder zone_sync
    zone_sync_server
";

/// In `mail {}`, which is not supported at all.
const MAIL: &str = "
    auth_http auth_http_header auth_http_pass_client_cert auth_http_timeout imap_auth
    imap_capabilities imap_client_buffer max_errors pop3_auth pop3_capabilities protocol proxy
    proxy_buffer proxy_pass_error_message proxy_smtp_auth smtp_auth smtp_capabilities
    smtp_client_buffer smtp_greeting_delay starttls timeout xclient
";
