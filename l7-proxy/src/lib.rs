//! An HTTP proxy that is configured by nginx.conf. It takes nginx's place in front of application servers: it
//! serves files, forwards the rest to upstreams over kept connections, guards the source of `.jsp` pages, and
//! relays TCP ([`stream`]); with TLS on either side, if wanted ([`tls`]).
//!
//! A request is read in one way or refused: exactly one `Host`, a length or chunks and never both,
//! one normalised path that is matched *and* forwarded. It is given to a second server only where
//! that cannot make it happen twice. What a server broke off looks broken off to the client.
//!
//! # Four ways to use it
//!
//! | want | take |
//! |---|---|
//! | nginx's place | the binary `l7-proxy`: nginx's file, options and signals |
//! | the same inside a program, with threads of its own | [`daemon::Daemon`] |
//! | connections served on a runtime of yours | [`Proxy`] |
//! | requests that a program has already, as from axum | [`embed::Service`] |
//!
//! A configuration comes from a file ([`conf::load`]), from text ([`conf::parse`]), or is built by hand
//! ([`model`]).
//!
//! # What happens to a request
//!
//! ```text
//! accept → head → strict layer → Host, Target → Router → return | file | upstream → relay → log
//! ```
//!
//! 1. The connection's local address gives its virtual servers: [`route::Router::entry`].
//! 2. [`host::Host`] and [`uri::Target`] read the name and the path; what two readers could read
//!    differently is answered 400. The path is decoded and normalised once, and that one reading is
//!    matched, looked up and forwarded.
//! 3. [`route`] picks the server block and the location by nginx's precedence.
//! 4. The location answers: a `return` or a built-in page ([`pages`]), a file ([`static_file`]), or
//!    a server of an upstream, chosen by [`lvs_core`] and reached over a kept connection.
//! 5. Everything with a `$` in it is a [`variable::Value`], compiled when the file is read.
//!
//! What *decides* is pure: [`conf`], [`model`], [`route`], [`uri`], [`host`], [`variable`],
//! [`pages`], [`static_file`] and [`jsp`] open no socket and wait for nothing; they can be tested,
//! and used, without a runtime. What *waits* is built on top of them: [`Proxy`] is one worker's half
//! of it, and [`Site`] the configuration made ready to serve, shared by all workers and replaced
//! as a whole.
//!
//! ```
//! use l7_proxy::model::{Http, Listen, Location, Matcher, Return, ReturnBody, VirtualServer};
//! use l7_proxy::route::Router;
//! use l7_proxy::uri::Target;
//! use l7_proxy::variable::Captures;
//!
//! let mut maintenance = Location::new(Matcher::Prefix(b"/shop/".into()), Default::default());
//! maintenance.reply = Some(Return { status: 503, body: ReturnBody::Page });
//! let server = VirtualServer {
//!     listen: vec![Listen::new("127.0.0.1:8080".parse()?)],
//!     locations: vec![maintenance],
//!     ..Default::default()
//! };
//! let router = Router::new(Http { servers: vec![server], ..Default::default() })?;
//!
//! let target = Target::parse("/x/../shop//cart;jsessionid=1")?;
//! let route = router.servers()[0].locate(target.path(), &mut Captures::default()).route();
//! assert_eq!(route.reply.map(|reply| reply.status), Some(503));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where it differs from nginx
//!
//! - **`.jsp` is a boundary.** The source of a page is never sent as a file, however its path is
//!   written ([`jsp`]), and path parameters (`;jsessionid=1`) are no part of what is matched ([`uri`]).
//! - A path with dot segments or doubled slashes is forwarded normalised, not as it was sent.
//! - The framing of requests is stricter: what could smuggle a second request is answered 400, as is a
//!   name of a host that could be taken apart in two ways ([`host`]).
//! - A target with a fragment is answered 400; nginx matches what is before it and forwards all of it.
//! - A host named in the target takes the place of `Host`, which is rewritten with it; nginx leaves two names.
//! - A request's body is held in memory up to 1 MB, whatever `client_body_buffer_size` says, and in a file above
//!   that; where no file can be made, the rest goes on as it comes. Where the file is asked for
//!   (`client_body_in_file_only`, `$request_body_file`) that size decides, and there is an error without one. With `proxy_request_buffering off` all of it does, and
//!   a request of whose body more than 64 kB have gone to a server is not sent again, nor to where an error page
//!   leads. Answers stream.
//! - Workers are threads of one process, which stays in the foreground unless told `daemon on`. They share one count of
//!   requests, one turn and one verdict on health per server.
//! - `user` holds for the threads that serve: files are read and servers connected to with that user's rights. The
//!   thread that reads configurations keeps root's, in the same process: nginx has a process of its own for it.
//!   Without `user`, root stays root, where nginx becomes `nobody`. Names that are not in `/etc/passwd` or
//!   `/etc/group` are asked for by getent(1); further groups are those of `/etc/group`.
//! - A regular expression is matched in linear time where it can be, and otherwise in a bounded number of steps; when
//!   they do not suffice the answer is 500, as in nginx. `$` is the end of the text alone, not what is before a
//!   last line end.
//! - A mirrored request's body is kept in memory up to 1 MB, then in a file; its client's next request does not wait
//!   for the mirror, as it does in nginx.
//! - What `post_action` leads to has no such action itself, and its client's next request does not wait for it; the
//!   line in the access log, written when it is done, has the status that the client got.
//! - A reload keeps connections: a kept-alive one goes over to the new configuration between two
//!   requests.
//! - A directive that is not supported is an error that says so; some are accepted without effect,
//!   and [`conf::Loaded::notes`] names them.
//!
//! # From here
//!
//! | to | see |
//! |---|---|
//! | know what a directive becomes | [`model`] |
//! | see why a request is answered as it is | [`explain`] |
//! | write nginx's error log | [`error_log`] |
//! | see the upstreams as services | [`site::services`] |

pub mod charset;
pub mod conf;
pub mod daemon;
pub mod definition;
pub mod embed;
pub mod error_log;
pub mod explain;
mod fields;
pub mod host;
mod hostname;
pub mod jsp;
pub mod model;
pub mod pages;
pub mod route;
pub mod site;
pub mod spool;
pub mod static_file;
mod stored;
pub mod stream;
pub mod tls;
pub mod uri;
pub mod variable;

mod access_log;
mod affinity;
mod body;
mod cache;
mod check;
mod credentials;
mod date;
mod dns;
mod encoding;
mod forward;
mod handle;
mod identity;
mod leg;
mod limit;
pub mod map;
mod moment;
mod names;
mod outgoing;
mod peek;
mod proxied;
mod reached;
mod server;
mod short;
mod substitute;
mod syslog;
mod transaction;
mod unix;
mod upstream;
mod wire;
mod zone;

/// Crates whose types are in the signatures here.
pub use {http, lvs_core};

pub use access_log::{LogFiles, OpenError};
#[doc(hidden)]
pub use server::read_head;
pub use server::{Proxy, Shared};
pub use site::{Site, SiteError};
