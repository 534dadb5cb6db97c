//! What `http`, `server` and `location` may all set: the values that hold at one place.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderName;

use crate::spool::Afterwards;
use crate::variable::Value;

use super::addition::Addition;
use super::answer::Expires;
use super::auth::Auth;
use super::browsers::Browsers;
use super::charset::Charset;
use super::client_addr::RealIp;
use super::compress::Gzip;
use super::files::Files;
use super::limit::Limits;
use super::log::{AccessLog, ErrorLog, LogFileCache, LogNotFound};
use super::mirror::Mirror;
use super::proxy::{GrpcSettings, ProxySettings};
use super::referers::Referers;
use super::resolver::Resolving;
use super::secure_link::SecureLink;
use super::substitution::Substitution;
use super::tls::TlsServer;
use super::userid::UserId;

/// Everything that holds at one location, inherited values included.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// How files are found and described.
    pub files: Files,
    /// When an early word of a server (status 103) goes to the client: if one of these is neither empty
    /// nor `0` (`early_hints`).
    pub early_hints: Vec<Value>,
    /// Which answers are sent compressed.
    pub gzip: Arc<Gzip>,
    /// Which texts are replaced in which answers.
    pub substitution: Arc<Substitution>,
    /// What is put around answers (`addition`).
    pub addition: Arc<Addition>,
    /// Limits on what a client sends.
    pub client: Client,
    /// Who may come in (`allow`, `deny`); nobody is kept out without a rule.
    pub access: Vec<crate::stream::access::Rule>,
    /// How many requests may be served at a time, and how fast they may follow each other.
    pub limits: Arc<Limits>,
    /// Who may come in by name and password.
    pub auth: Arc<Auth>,
    /// Which pages requests may come from (`valid_referers`); `None` welcomes all.
    pub referers: Option<Arc<Referers>>,
    /// How a link is proved (`secure_link`).
    pub secure_link: Option<Arc<SecureLink>>,
    /// By which cookie clients are told apart.
    pub userid: Arc<UserId>,
    /// Where a request goes on when it is over (`post_action`): a path, or `@NAME`.
    pub post_action: Option<Box<str>>,
    /// Where copies of requests go.
    pub mirror: Arc<Mirror>,
    /// Whose word on the client's address is taken.
    pub real_ip: RealIp,
    /// Bytes per second that an answer is sent with (`limit_rate`); 0 sets no limit.
    pub limit_rate: Option<Value>,
    /// Bytes of an answer that are sent before that holds (`limit_rate_after`).
    pub limit_rate_after: Option<Value>,
    /// How long a client's connection is kept.
    pub connection: ConnectionSettings,
    /// How requests are forwarded by `proxy_pass`.
    pub proxy: Arc<ProxySettings>,
    /// How requests are forwarded by `grpc_pass`.
    pub grpc: GrpcSettings,
    /// Fields added to answers (`add_header`).
    pub add_headers: Vec<AddHeader>,
    /// Fields added behind the bodies of answers (`add_trailer`).
    pub add_trailers: Vec<AddHeader>,
    /// What blocks have of the fields that outer blocks add.
    pub inherit: Inherit,
    /// How long answers are good for (`expires`).
    pub expires: Expires,
    /// What is sent in place of an error (`error_page`).
    pub error_pages: Vec<ErrorPage>,
    /// The logs that get a line for each request; empty for `access_log off`.
    pub access_log: Vec<AccessLog>,
    /// How many files of logs whose names vary are kept open (`open_log_file_cache`).
    pub log_files: LogFileCache,
    /// Where diagnostics of requests go; `None` where those of the process go.
    pub error_log: Option<Arc<Vec<ErrorLog>>>,
    /// Whether it is a diagnostic that a file is not there (`log_not_found`).
    pub log_not_found: LogNotFound,
    /// The character set that answers are said to be in.
    pub charset: Arc<Charset>,
    /// Which browsers are modern, and which are not.
    pub browsers: Arc<Browsers>,
    /// Whether an error page that fails may have an error page (`recursive_error_pages`).
    pub recursion: Recursion,
    /// How much the `Server` field and the error pages tell.
    pub server_tokens: ServerTokens,
    /// Whether browsers that show an error page of their own in place of a short one get a longer one
    /// (`msie_padding`).
    pub padding: Padding,
    /// How a redirect that we make ourselves is spelled.
    pub redirects: Redirects,
    /// How TLS is spoken with clients.
    pub tls: Arc<TlsServer>,
    /// Whether and how HTTP/2 is spoken with clients.
    pub http2: Http2,
    /// Who is asked for the addresses of names.
    pub resolving: Resolving,
}

impl Settings {
    /// Returns whether every request may go on at once.
    pub fn admits_all(&self) -> bool {
        let auth = &self.auth;
        self.access.is_empty() && self.limits.is_empty() && auth.realm.is_none() && auth.request.is_none()
    }
}

/// Whether and how HTTP/2 is spoken with clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2 {
    /// Whether it is (`http2`, off by default).
    pub on: bool,
    /// The most streams of a connection at a time; 128 by default.
    pub streams: u32,
    /// The most of an answer in one frame (`http2_chunk_size`); as much as the client takes by default.
    pub chunk: usize,
}

impl Default for Http2 {
    fn default() -> Self {
        Self { on: false, streams: 128, chunk: usize::MAX }
    }
}

/// What a block has of the fields that outer blocks add (`add_header_inherit`, `add_trailer_inherit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inherit {
    /// Those of `add_header`.
    pub headers: Inheritance,
    /// Those of `add_trailer`.
    pub trailers: Inheritance,
}

/// What a block has of what outer blocks add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inheritance {
    /// All of it, unless it adds something itself.
    #[default]
    On,
    /// Nothing.
    Off,
    /// All of it, and what it adds itself.
    Merge,
}

/// How a redirect to a path of our own is spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirects {
    /// With scheme and host in front of the path (`absolute_redirect`, on by default).
    pub absolute: bool,
    /// With the port of the connection unless it is the scheme's (`port_in_redirect`, on by default).
    pub port: bool,
    /// With the first name of the server in place of the request's (`server_name_in_redirect`).
    pub server_name: bool,
}

impl Default for Redirects {
    fn default() -> Self {
        Self { absolute: true, port: true, server_name: false }
    }
}

/// Limits on what a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Whether `//` in a path is one slash (`merge_slashes`). Taken from the default server.
    pub slashes: Slashes,
    /// Which names of fields are taken. Taken from the default server.
    pub names: FieldNames,
    /// How large a head may be. Taken from the default server.
    pub head: HeadLimits,
    /// The largest request body; `None` for `client_max_body_size 0`. 1 MB by default.
    pub max_body_size: Option<u64>,
    /// Where a request body is kept while it is read.
    pub body: BodyStore,
    /// Time between two reads of a request body; 60 s by default.
    pub body_timeout: Duration,
    /// Time for a whole request head; 60 s by default. Taken from the default server of an address.
    pub header_timeout: Duration,
    /// Time between two writes of an answer; 60 s by default.
    pub send_timeout: Duration,
}

impl Default for Client {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            slashes: Slashes::default(),
            names: FieldNames::default(),
            head: HeadLimits::default(),
            max_body_size: Some(1 << 20),
            body: BodyStore::default(),
            body_timeout: minute,
            header_timeout: minute,
            send_timeout: minute,
        }
    }
}

/// Where a request's body is kept while it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyStore {
    /// The largest body that variables show as text (`client_body_buffer_size`, 16 kB by default); a
    /// larger one is shown as a file, if any variable shows the file.
    pub buffer_size: u64,
    /// Whether every body goes into a file (`client_body_in_file_only`).
    pub in_file: Option<Afterwards>,
    /// The folder of files for bodies (`client_body_temp_path`), made when it is wanted; `client_body_temp` where
    /// the program runs unless it is said.
    pub folder: Arc<Path>,
}

impl Default for BodyStore {
    fn default() -> Self {
        Self { buffer_size: 16 * 1024, in_file: None, folder: Path::new("client_body_temp").into() }
    }
}

/// What several slashes in a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slashes {
    /// One slash.
    #[default]
    Merged,
    /// Slashes around empty segments.
    Kept,
}

/// Which names of fields are taken beside those of letters, digits and hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FieldNames {
    /// Those with underscores (`underscores_in_headers`).
    pub underscores: bool,
    /// Any others (`ignore_invalid_headers off`).
    pub odd: bool,
}

/// How large a request's head may be, the ends of its lines included.
///
/// Nothing is allocated by these sizes; they only bound what is taken, where nginx's buffers would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// What is taken whatever its lines are like (`client_header_buffer_size`).
    pub first: u64,
    /// How many lines of the largest size it may have beyond that (`large_client_header_buffers`).
    pub lines: u64,
    /// The largest line, unless `first` is larger.
    pub line: u64,
    /// The most fields (`max_headers`).
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { first: 1024, lines: 4, line: 8192, fields: 1000 }
    }
}

impl HeadLimits {
    /// Returns the largest line that is taken.
    pub(crate) fn line_max(&self) -> u64 {
        self.first.max(self.line)
    }

    /// Returns how large all lines together may be.
    pub(crate) fn size_max(&self) -> u64 {
        self.line.saturating_mul(self.lines).saturating_add(self.first)
    }
}

/// How long a client's connection is kept, and how its bytes are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// How long an idle connection is kept for the next request; `None` closes after each. 75 s by default.
    pub keepalive_timeout: Option<Duration>,
    /// The time told to the client in `Keep-Alive: timeout=`; `None` tells none.
    pub keepalive_header: Option<Duration>,
    /// Requests after which a connection is closed; 1000 by default.
    pub keepalive_requests: u64,
    /// How old a connection may become before it is closed after its request; 1 h by default.
    pub keepalive_time: Duration,
    /// How long after its last answer a kept-alive connection is left open when the process is to
    /// end (`keepalive_min_timeout`); 200 ms by default, where nginx has 0.
    ///
    /// A client that sends one request after the other gets an answer to its next, and is told then;
    /// otherwise its request would meet the end of the connection.
    pub keepalive_min: Duration,
    /// The browsers whose connections are not kept (`keepalive_disable`).
    pub keepalive_disabled: KeepaliveDisabled,
    /// Whether a body of unknown size goes out in chunks (`chunked_transfer_encoding`, on by default);
    /// without them the end of the connection is that of the body.
    pub chunked: bool,
    /// Whether Nagle's algorithm is off (`tcp_nodelay`, on by default).
    pub tcp_nodelay: bool,
    /// How a client that still sends is parted from.
    pub lingering: Lingering,
    /// Whether a client that made us wait for too long is sent a reset, and one that gets no answer (444), so
    /// that the kernel keeps nothing for it (`reset_timedout_connection`).
    pub resets_timed_out: bool,
}

/// How a client that still sends is parted from: what it sends is read for a while and thrown away, since it
/// would otherwise be sent a reset, which may overtake the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lingering {
    /// When that is done (`lingering_close`).
    pub when: Linger,
    /// How long what it sends may pause; 5 s by default (`lingering_timeout`).
    pub pause: Duration,
    /// How long it is read at most; 30 s by default (`lingering_time`).
    pub whole: Duration,
}

/// When the end of a client that may still send is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// Never.
    Never,
    /// Where more of it is to come, by what it has said or sent.
    Expected,
    /// Always.
    Always,
}

/// The browsers whose connections are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepaliveDisabled {
    /// Internet Explorer up to 6, after a POST.
    pub msie6: bool,
    /// Safari on macOS.
    pub safari: bool,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            keepalive_timeout: Some(Duration::from_secs(75)),
            keepalive_header: None,
            keepalive_requests: 1000,
            keepalive_time: Duration::from_secs(3600),
            keepalive_min: Duration::from_millis(200),
            keepalive_disabled: KeepaliveDisabled { msie6: true, safari: false },
            chunked: true,
            tcp_nodelay: true,
            lingering: Lingering {
                when: Linger::Expected,
                pause: Duration::from_secs(5),
                whole: Duration::from_secs(30),
            },
            resets_timed_out: false,
        }
    }
}

/// A field added to answers, in front of the body or behind it.
#[derive(Debug, Clone)]
pub struct AddHeader {
    /// The name.
    pub name: HeaderName,
    /// The name as the configuration spells it.
    pub written: String,
    /// The value; an empty one adds nothing.
    pub value: Value,
    /// For which statuses.
    pub when: When,
}

/// For which statuses a field is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// 200, 201, 204, 206, 301, 302, 303, 304, 307 and 308.
    Good,
    /// Every status (`always`).
    Always,
}

impl When {
    /// Returns whether a field is added to an answer with this status.
    pub fn holds(self, status: u16) -> bool {
        self == Self::Always || matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
    }
}

/// What is sent in place of an error.
#[derive(Debug, Clone)]
pub struct ErrorPage {
    /// The statuses that it replaces.
    pub statuses: Vec<u16>,
    /// The status of the replacement.
    pub status: ErrorPageStatus,
    /// A path for an internal redirect, `@name` for a named location, or a URL for a redirect.
    pub target: Value,
}

/// The status of an answer that replaces an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorPageStatus {
    /// The error's own.
    Keep,
    /// Whatever the replacement answers (`=`).
    Taken,
    /// This one (`=200`).
    Set(u16),
}

/// Whether an error page that fails may have an error page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recursion {
    /// The error is answered by the built-in page.
    #[default]
    Off,
    /// It may, as often as there may be internal redirects.
    On,
}

/// Whether built-in error pages are made longer for browsers that want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Padding {
    /// They are, for Internet Explorer and Chrome.
    #[default]
    On,
    /// They are the same for all.
    Off,
}

/// How much the `Server` field and the error pages tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServerTokens {
    /// Name and version.
    #[default]
    On,
    /// The name only.
    Off,
}
