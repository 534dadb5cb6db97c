//! From nginx.conf to the [model](crate::model): nginx's grammar, nginx's rules, nginx's errors.
//!
//! Reading goes in two steps. The file and what it includes become a tree of directives, each
//! checked for its name, its place and its number of arguments against one set of tables; then each
//! block's directives are applied to the value that they describe. Nothing that the model cannot
//! express is taken silently: a directive is either understood, or on the list of those that are
//! [accepted without effect](Loaded::notes), or an error that names file, line and word.
//!
//! To add a directive, add a `Rule` to the table of the module that it belongs to (`core`,
//! `settings`, `proxy`, `log`, `server`, `location`, `upstream`, `stream`) and take its name off
//! `unsupported`.

mod addition;
mod address;
mod answer;
mod auth;
mod body;
mod browsers;
mod buffers;
mod cache;
mod charset;
mod check;
mod client_addr;
mod compress;
mod core;
mod definition;
mod effectless;
mod file_cache;
mod glob;
mod grpc;
mod http;
mod lexer;
mod limit;
mod listing;
mod location;
mod log;
mod mirror;
mod proxy;
mod referers;
mod resolver;
mod rewrite;
mod rules;
mod secure_link;
mod server;
mod settings;
mod sticky;
mod stream;
mod substitution;
mod symlinks;
mod syslog;
mod tables;
mod tls;
mod tree;
mod unsupported;
mod upstream;
mod userid;
mod value;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{
    CacheZone, Config, Expected, Gathering, LogFormat, Memory, Pattern, Resolving, ServerName, Settings,
    Transport, UpstreamId, Zone,
};
use crate::variable::{Names, Variable};

pub(crate) use self::address::split as split_address;
use self::rules::Context;
use self::tree::Directive;
use self::upstream::Upstreams;

pub(crate) use self::answer::parse_expires;
pub(crate) use self::proxy::own_address;
pub use self::tree::{Place, SourceFile};
pub(crate) use self::value::parse_size;

/// Where a configuration comes from, as on nginx's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file (`-c`); a relative one is looked for under the prefix.
    pub file: PathBuf,
    /// The folder that relative paths in the file belong to (`-p`).
    pub prefix: PathBuf,
    /// Directives outside of the file (`-g`).
    pub globals: String,
}

/// A configuration that can be run.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What a person should know who wrote it: directives without effect, names given twice.
    pub notes: Vec<Note>,
    /// The file and those that it includes, each once, in the order of reading.
    pub files: Vec<SourceFile>,
}

/// Something that is odd about a configuration and does not keep it from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What is odd.
    pub message: String,
    /// Where.
    pub place: Place,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.message, self.place)
    }
}

/// Why a configuration cannot be used: one sentence in nginx's words, and the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
    place: Option<Place>,
}

impl Error {
    /// Returns the sentence without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the place; `None` if the fault is the file's as a whole.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    fn at(place: &Place, message: impl Into<String>) -> Self {
        Self { message: message.into(), place: Some(place.clone()) }
    }

    fn general(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{} in {place}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

/// Reads and checks a configuration. Names of servers are resolved, which may take time.
///
/// # Errors
/// For the first thing in it that is wrong; nothing is half taken.
pub fn load(source: &Source) -> Result<Loaded, Error> {
    let mut directives = tree::read_text(&source.globals)?;
    let (from_file, files) = tree::read_file(&source.prefix.join(&source.file))?;
    directives.extend(from_file);
    let mut scope = Scope::new(source.prefix.clone());
    let config = read(&mut scope, &directives, Events::Required)?;
    Ok(Loaded { config, notes: scope.notes, files })
}

/// Reads and checks a configuration that a program has as text, by the same grammar; `prefix` is the
/// folder that relative paths in it belong to, and files that it includes.
///
/// Places in it are written `configuration:LINE`. `events {}` may be left out.
///
/// ```
/// use l7_proxy::conf;
///
/// let text = "http {\n    server { listen 8080; lokation / {} }\n}";
/// let error = conf::parse(text, "/srv/shop".as_ref()).unwrap_err();
/// assert_eq!(error.to_string(), "unknown directive \"lokation\" in configuration:2");
/// ```
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, prefix: &Path) -> Result<Loaded, Error> {
    let (directives, files) = tree::read_named(text, "configuration".as_ref(), prefix)?;
    let mut scope = Scope::new(prefix.to_owned());
    let config = read(&mut scope, &directives, Events::MayBeAbsent)?;
    Ok(Loaded { config, notes: scope.notes, files })
}

/// Whether there has to be an `events {}`, as in nginx's file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Events {
    Required,
    MayBeAbsent,
}

fn read(scope: &mut Scope, directives: &[Directive], events: Events) -> Result<Config, Error> {
    scope.note_effectless(directives, Context::MAIN)?;
    let mut config = Config::default();
    config.process.pid = scope.path("logs/nginx.pid");
    rules::apply(scope, core::PROCESS, Context::MAIN, directives, &mut config.process)?;
    scope.log_memory =
        config.process.error_log.iter().filter_map(|log| log.target.memory()).cloned().collect();
    match only(directives, "events")? {
        Some(block) => {
            rules::apply(scope, core::EVENTS, Context::EVENTS, &block.block, &mut config.events)?;
        }
        None if events == Events::MayBeAbsent => {}
        None => return Err(Error::general("no \"events\" section in configuration")),
    }
    if let Some(http) = only(directives, "http")? {
        config.http = Some(http::read(scope, http)?);
    }
    if let Some(stream) = only(directives, "stream")? {
        config.stream = Some(stream::read(scope, stream)?);
    }
    Ok(config)
}

/// Returns the block of that name, of which there may be one.
fn only<'d>(directives: &'d [Directive], name: &str) -> Result<Option<&'d Directive>, Error> {
    let mut found = directives.iter().filter(|directive| directive.name == name);
    let first = found.next();
    match found.next() {
        Some(second) => Err(rules::Fault::directive("is duplicate").at(second)),
        None => Ok(first),
    }
}

/// Applies everything that `http`, `server` and `location` have in common.
fn settings_of(
    scope: &mut Scope,
    context: Context,
    block: &[Directive],
    settings: &mut Settings,
) -> Result<(), Error> {
    rules::apply(scope, settings::RULES, context, block, settings)?;
    rules::apply(scope, answer::INHERITANCE, context, block, settings)?;
    answer::check_rewrites(block)?;
    answer::disinherit(settings, block);
    rules::apply(scope, answer::RULES, context, block, settings)?;
    client_addr::disinherit(settings, block);
    rules::apply(scope, client_addr::RULES, context, block, settings)?;
    rules::apply(scope, file_cache::RULES, context, block, settings)?;
    rules::apply(scope, symlinks::RULES, context, block, settings)?;
    rules::apply(scope, listing::RULES, context, block, settings)?;
    rules::apply(scope, compress::RULES, context, block, settings)?;
    rules::apply(scope, addition::RULES, context, block, settings)?;
    rules::apply(scope, substitution::RULES, context, block, settings)?;
    rules::apply(scope, limit::RULES, context, block, settings)?;
    rules::apply(scope, auth::RULES, context, block, settings)?;
    referers::apply(scope, context, block, settings)?;
    secure_link::apply(scope, context, block, settings)?;
    mirror::apply(scope, context, block, settings)?;
    rules::apply(scope, userid::RULES, context, block, settings)?;
    rules::apply(scope, browsers::RULES, context, block, settings)?;
    rules::apply(scope, charset::RULES, context, block, settings)?;
    if context != Context::HTTP {
        scope.charsets.want(settings);
    }
    rules::apply(scope, body::RULES, context, block, settings)?;
    rules::apply(scope, proxy::RULES, context, block, settings)?;
    buffers::check(scope, context, block, settings)?;
    cache::check_store(block)?;
    rules::apply(scope, cache::RULES, context, block, settings)?;
    rules::apply(scope, grpc::RULES, context, block, settings)?;
    rules::apply(scope, tls::HTTP, context, block, settings)?;
    rules::apply(scope, tls::HTTP_ONLY, context, block, settings)?;
    rules::apply(scope, tls::HTTP_PROXY, context, block, settings)?;
    rules::apply(scope, tls::HTTP_PROXY_NAME, context, block, settings)?;
    rules::apply(scope, resolver::RULES, context, block, settings)?;
    rules::apply(scope, log::RULES, context, block, settings)
}

/// What directives share while a configuration is read.
#[derive(Debug)]
struct Scope {
    prefix: PathBuf,
    /// Named groups of all regular expressions: variables wherever they stand.
    names: Names,
    formats: HashMap<String, Arc<LogFormat>>,
    /// The memory of the process's logs of errors.
    log_memory: Vec<Arc<Memory>>,
    /// Log files whose lines are gathered.
    gathered: HashMap<PathBuf, Gathering>,
    /// What limits of `http {}` count by.
    zones: Vec<Zone>,
    /// Where answers are kept.
    caches: Vec<CacheZone>,
    /// Where buffers for answers were last spoken of.
    buffers: Option<Place>,
    /// Character sets and the maps between them.
    charsets: charset::Shared,
    upstreams: Upstreams,
    /// Who upstreams ask for names, unless they say otherwise.
    resolving: Resolving,
    default_servers: HashSet<SocketAddr>,
    socket_options: HashSet<SocketAddr>,
    stream_addresses: HashSet<(Transport, SocketAddr)>,
    /// What `stream {}` has defined so far.
    stream: stream::Shared,
    /// The names of the server that is being read.
    server_names: Vec<ServerName>,
    /// Names of virtual servers that are taken, per address.
    claimed: HashSet<(SocketAddr, String)>,
    /// What answers are checked against, by name.
    matches: HashMap<String, Arc<Expected>>,
    /// Upstreams whose servers are checked.
    checked: HashSet<UpstreamId>,
    notes: Vec<Note>,
}

impl Scope {
    fn new(prefix: PathBuf) -> Self {
        Self {
            prefix,
            names: Names::default(),
            log_memory: Vec::new(),
            formats: HashMap::new(),
            gathered: HashMap::new(),
            zones: Vec::new(),
            caches: Vec::new(),
            buffers: None,
            charsets: charset::Shared::default(),
            upstreams: Upstreams::default(),
            resolving: Resolving::default(),
            default_servers: HashSet::new(),
            socket_options: HashSet::new(),
            stream_addresses: HashSet::new(),
            stream: stream::Shared::default(),
            server_names: Vec::new(),
            claimed: HashSet::new(),
            matches: HashMap::new(),
            checked: HashSet::new(),
            notes: Vec::new(),
        }
    }

    /// Returns a path of the file as it is meant: relative to the prefix.
    fn path(&self, written: &str) -> PathBuf {
        self.prefix.join(Path::new(written))
    }

    fn note(&mut self, directive: &Directive, message: &str) {
        let place = directive.place.clone();
        self.notes.push(Note { message: message.to_owned(), place });
    }

    /// Notes the words that a directive has more than once, whatever their case.
    fn note_repeated(&mut self, directive: &Directive) {
        for (place, word) in directive.args.iter().enumerate() {
            if directive.args[..place].iter().any(|other| other.eq_ignore_ascii_case(word)) {
                self.note(directive, &format!("duplicate value \"{word}\""));
            }
        }
    }

    /// Notes the directives that are accepted without effect.
    fn note_effectless(&mut self, block: &[Directive], context: Context) -> Result<(), Error> {
        for (place, directive) in block.iter().enumerate() {
            if let tables::Standing::Here(syntax) = tables::look_up(&directive.name, context)
                && let Some(inside) = syntax.block
            {
                self.note_effectless(&directive.block, inside)?;
            }
            if let Some(entry) = tables::effectless(&directive.name, context) {
                let again = || block[..place].iter().any(|other| other.name == directive.name);
                if entry.times == effectless::Times::Once && again() {
                    return Err(rules::Fault::directive("is duplicate").at(directive));
                }
                entry.check(directive).map_err(|fault| fault.at(directive))?;
                self.note(directive, &entry.note());
            }
        }
        Ok(())
    }

    /// Refuses a named group that would hide a variable.
    fn check_names(pattern: &Pattern) -> Result<(), rules::Fault> {
        match pattern.names().find(|name| Variable::named(name).is_some()) {
            Some(name) => Err(rules::Fault::new(format!("the duplicate \"{name}\" variable"))),
            None => Ok(()),
        }
    }

    /// Makes the named groups of all regular expressions in a block known as variables.
    ///
    /// An expression that cannot be compiled is told where it is used.
    fn collect_names(&mut self, block: &[Directive]) {
        for directive in block {
            match &*directive.name {
                "location" | "server_name" | "if" => self.collect_groups(&directive.args),
                "rewrite" | "proxy_redirect" | "proxy_cookie_domain" | "proxy_cookie_path" => {
                    self.collect_groups(&directive.args[..directive.args.len().min(1)]);
                }
                "set" | "auth_request_set" => self.define(directive.arg(0)),
                "map" => {
                    for row in &directive.block {
                        self.collect_groups(std::slice::from_ref(&row.name));
                    }
                }
                _ => {}
            }
            if let Some(word) = definition::name(directive) {
                self.define(word);
            }
            self.collect_names(&directive.block);
        }
    }

    fn collect_groups(&mut self, words: &[String]) {
        let sources = words.iter().map(|word| word.trim_start_matches(['!', '~', '*']).trim_end_matches(')'));
        // An expression in the brackets of an `if` may have lost one of its own.
        let sources = sources.flat_map(|source| [source.to_owned(), format!("{source})")]);
        for pattern in sources.filter_map(|source| Pattern::new(&source).ok()) {
            pattern.names().for_each(|name| self.names.insert(name));
        }
    }

    /// Makes a variable known; one that nginx has already is refused where it is defined.
    fn define(&mut self, word: &str) {
        if let Some(name) = word.strip_prefix('$')
            && (Variable::named(name).is_none() || Variable::is_of_a_family(name))
        {
            let _ = self.names.define(name);
        }
    }

    /// Takes a name at an address; returns whether it was free.
    fn claim(&mut self, addr: SocketAddr, name: &str) -> bool {
        self.claimed.insert((addr, name.to_owned()))
    }
}
