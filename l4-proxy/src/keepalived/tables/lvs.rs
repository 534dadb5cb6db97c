//! `virtual_server` and what is in it.

use crate::keepalived::schema::{
    Block, Keyword, Kind, block, flag, idle, items, optional, outdated, script, several, switch, word,
};

pub(crate) static VIRTUAL_SERVER_GROUP: Block =
    items("virtual_server_group", 1, &[Kind::Text, Kind::Text, Kind::Choice(&["inet", "inet6"])], None);

pub(crate) static SSL: Block = Block {
    name: "SSL",
    keywords: &[
        idle(word("password", &[Kind::Text]), NO_CERTIFICATE),
        idle(word("ca", &[Kind::Text]), "SSL_GET takes any certificate, as in keepalived"),
        idle(word("certificate", &[Kind::Text]), NO_CERTIFICATE),
        idle(word("key", &[Kind::Text]), NO_CERTIFICATE),
    ],
    items: None,
};

pub(crate) static VIRTUAL_SERVER: Block = Block {
    name: "virtual_server",
    keywords: &[
        word("lvs_sched", SCHEDULERS),
        word("lb_algo", SCHEDULERS),
        flag("sh-port"),
        flag("sh-fallback"),
        flag("mh-port"),
        flag("mh-fallback"),
        flag("flag-1"),
        flag("flag-2"),
        flag("flag-3"),
        flag("ops"),
        several("lvs_method", 1, Kind::Text),
        several("lb_kind", 1, Kind::Text),
        word("protocol", &[Kind::Choice(&["TCP", "UDP", "SCTP"])]),
        optional("persistence_timeout", 0, &[Kind::Integer(1, 2_678_400)]),
        word("persistence_granularity", &[Kind::Mask]),
        word("persistence_engine", &[Kind::Text]),
        switch("alpha"),
        switch("omega"),
        word("quorum", &[Kind::Integer(1, MANY)]),
        word("hysteresis", &[Kind::Integer(0, MANY)]),
        script("quorum_up"),
        script("quorum_down"),
        optional("sorry_server", 1, &[Kind::Address, Kind::Port]),
        flag("sorry_server_inhibit"),
        several("sorry_server_lvs_method", 1, Kind::Text),
        switch("ha_suspend"),
        switch("smtp_alert"),
        word("virtualhost", &[Kind::Text]),
        word("snmp_name", &[Kind::Text]),
        word("ip_family", &[Kind::Choice(&["inet", "inet6"])]),
        word("weight", WEIGHT),
        switch("inhibit_on_failure"),
        word("connect_timeout", CONNECT_TIMEOUT),
        word("retry", RETRY),
        word("delay_before_retry", DELAY),
        word("warmup", WARMUP),
        word("delay_loop", DELAY),
        Keyword { body: Some(&REAL_SERVER), ..optional("real_server", 1, &[Kind::Address, Kind::Port]) },
    ],
    items: None,
};

static REAL_SERVER: Block = Block {
    name: "real_server",
    keywords: &[
        word("weight", WEIGHT),
        several("lvs_method", 1, Kind::Text),
        several("lb_kind", 1, Kind::Text),
        word("uthreshold", WEIGHT),
        word("lthreshold", WEIGHT),
        switch("inhibit_on_failure"),
        script("notify_up"),
        script("notify_down"),
        switch("smtp_alert"),
        word("virtualhost", &[Kind::Text]),
        word("snmp_name", &[Kind::Text]),
        switch("alpha"),
        word("connect_timeout", CONNECT_TIMEOUT),
        word("retry", RETRY),
        word("delay_before_retry", DELAY),
        word("warmup", WARMUP),
        word("delay_loop", DELAY),
        block("TCP_CHECK", &TCP_CHECK),
        block("HTTP_GET", &HTTP_GET),
        block("SSL_GET", &SSL_GET),
        block("SMTP_CHECK", &SMTP_CHECK),
        block("DNS_CHECK", &DNS_CHECK),
        block("UDP_CHECK", &UDP_CHECK),
        block("PING_CHECK", &PING_CHECK),
        block("MISC_CHECK", &MISC_CHECK),
        block("FILE_CHECK", &FILE_CHECK),
        block("BFD_CHECK", &BFD_CHECK),
    ],
    items: None,
};

/// Where a checker connects to, from where, and how patient it is; then its own words.
macro_rules! checker {
    ($name:literal $(, $own:expr)* $(,)?) => {
        Block {
            name: $name,
            keywords: &[
                word("connect_ip", &[Kind::Address]),
                word("connect_port", &[Kind::Integer(1, 65_535)]),
                word("bindto", &[Kind::Address]),
                word("bind_if", &[Kind::Text]),
                word("bind_port", &[Kind::Integer(1, 65_535)]),
                word("fwmark", &[Kind::Integer(0, MANY)]),
                word("connect_timeout", CONNECT_TIMEOUT),
                switch("alpha"),
                word("retry", RETRY),
                word("delay_before_retry", DELAY),
                word("warmup", WARMUP),
                word("delay_loop", DELAY),
                switch("log_all_failures"),
                $($own),*
            ],
            items: None,
        }
    };
}

static TCP_CHECK: Block = checker!("TCP_CHECK");
static PING_CHECK: Block = checker!("PING_CHECK");
static HTTP_GET: Block = checker!(
    "HTTP_GET",
    PROTOCOL,
    VIRTUAL_HOST,
    FAST_RECOVERY,
    OLD_RETRY,
    URL,
    idle(flag("enable_sni"), "HTTP_GET speaks no TLS"),
);
static SSL_GET: Block = checker!(
    "SSL_GET",
    PROTOCOL,
    VIRTUAL_HOST,
    FAST_RECOVERY,
    OLD_RETRY,
    URL,
    flag("enable_sni"),
    word("sni_name", &[Kind::Text]),
    switch("tls_compliant"),
);
static SMTP_CHECK: Block =
    checker!("SMTP_CHECK", word("helo_name", &[Kind::Text]), block("host", &SMTP_HOST));
static DNS_CHECK: Block = checker!("DNS_CHECK", word("type", DNS_TYPES), word("name", &[Kind::Text]));
static UDP_CHECK: Block = checker!(
    "UDP_CHECK",
    several("payload", 1, Kind::Text),
    several("require_reply", 0, Kind::Text),
    word("min_reply_length", &[Kind::Integer(0, 65_535)]),
    word("max_reply_length", &[Kind::Integer(0, 65_535)]),
);

static MISC_CHECK: Block = Block {
    name: "MISC_CHECK",
    keywords: &[
        word("misc_path", &[Kind::Text]),
        word("misc_timeout", DELAY),
        flag("misc_dynamic"),
        optional("user", 1, &[Kind::Text, Kind::Text]),
        switch("alpha"),
        word("retry", RETRY),
        word("delay_before_retry", DELAY),
        word("warmup", WARMUP),
        word("delay_loop", DELAY),
        switch("log_all_failures"),
    ],
    items: None,
};

static FILE_CHECK: Block = Block {
    name: "FILE_CHECK",
    keywords: &[
        word("track_file", &[Kind::Text]),
        flag("dynamic"),
        optional(
            "weight",
            1,
            &[Kind::Integer(-2_147_483_647, 2_147_483_647), Kind::Choice(&["reverse", "noreverse"])],
        ),
    ],
    items: None,
};

static BFD_CHECK: Block = Block { name: "BFD_CHECK", keywords: &[word("name", &[Kind::Text])], items: None };

// What is of the check as a whole is so wherever it stands.
static SMTP_HOST: Block = checker!("host");

static URL_BLOCK: Block = Block {
    name: "url",
    keywords: &[
        word("path", &[Kind::Text]),
        word("digest", &[Kind::Text]),
        several("status_code", 1, Kind::Text),
        word("virtualhost", &[Kind::Text]),
        word("regex", &[Kind::Text]),
        flag("regex_no_match"),
        several("regex_options", 1, Kind::Text),
        word("regex_stack", &[Kind::Integer(1, MANY), Kind::Integer(1, MANY)]),
        word("regex_min_offset", &[Kind::Integer(0, MANY)]),
        word("regex_max_offset", &[Kind::Integer(0, MANY)]),
        optional("tls_compliant", 0, &[Kind::Bool]),
    ],
    items: None,
};

const URL: Keyword = block("url", &URL_BLOCK);
const PROTOCOL: Keyword = word("http_protocol", &[Kind::Choice(&["1.0", "1.0C", "1.0K", "1.1", "1.1K"])]);
const VIRTUAL_HOST: Keyword = word("virtualhost", &[Kind::Text]);
const FAST_RECOVERY: Keyword = switch("fast_recovery");
const OLD_RETRY: Keyword = outdated(word("nb_get_retry", RETRY), "retry is its name today");

const SCHEDULERS: &[Kind] = &[Kind::Choice(&[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
])];
const DNS_TYPES: &[Kind] = &[Kind::Choice(&["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA"])];
const WEIGHT: &[Kind] = &[Kind::Integer(0, 2_147_483_647)];
const RETRY: &[Kind] = &[Kind::Integer(0, MANY)];
const CONNECT_TIMEOUT: &[Kind] = &[Kind::Seconds(0.000_001, 4_294.967_295)];
const DELAY: &[Kind] = &[Kind::Seconds(0.000_001, 1_000_000_000.0)];
const WARMUP: &[Kind] = &[Kind::Seconds(0.0, 1_000_000_000.0)];
const MANY: i64 = u32::MAX as i64;

const NO_CERTIFICATE: &str = "checks show no certificate";
