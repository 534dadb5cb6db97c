//! The command line, which is nginx's.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use http::{HeaderName, HeaderValue, Method};
use l7_proxy::explain::Question;
use lexopt::prelude::*;
use rustix::process::Signal;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) task: Task,
    /// The configuration file; a relative one is under the prefix.
    pub(crate) file: PathBuf,
    /// The folder that relative paths belong to.
    pub(crate) prefix: PathBuf,
    /// Directives outside of the file.
    pub(crate) globals: String,
    /// Where errors go until the configuration says otherwise; `None` is standard error.
    pub(crate) error_log: Option<PathBuf>,
    pub(crate) voice: Voice,
    /// Where `lvsadm` finds the upstreams, in place of what the configuration says.
    pub(crate) control: Option<PathBuf>,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Serve.
    Run,
    /// Check the configuration.
    Test,
    /// Check the configuration and print it.
    Dump,
    /// Say why a request would be answered as it would be.
    Explain(Box<Question>),
    /// Send a signal to the running process.
    Signal(Signal),
    /// Print this.
    Say(String),
}

/// How much is said while a configuration is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    Normal,
    /// Errors only.
    Quiet,
}

/// Why a command line cannot be understood.
#[derive(Debug)]
pub(crate) struct UsageError(String);

/// Reads a command line, the program's name first.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, UsageError> {
    let mut options = Options {
        task: Task::Run,
        file: PathBuf::from(FILE),
        prefix: PathBuf::from(PREFIX),
        globals: String::new(),
        error_log: None,
        voice: Voice::Normal,
        control: None,
    };
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut say = None;
    let mut question = Asked::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('c') => options.file = parser.value()?.into(),
            Short('p') => options.prefix = parser.value()?.into(),
            Short('g') => options.globals = parser.value()?.string()?,
            Short('e') => options.error_log = Some(parser.value()?.into()).filter(|path| path != "stderr"),
            Short('t') if !matches!(options.task, Task::Dump) => options.task = Task::Test,
            Short('t') => {}
            Short('T') => options.task = Task::Dump,
            Short('q') => options.voice = Voice::Quiet,
            Short('s') => options.task = Task::Signal(signal(&parser.value()?.string()?)?),
            Short('v') => say = say.or(Some(VERSION.to_owned())),
            Short('V') => say = Some(format!("{VERSION}\n{FEATURES}")),
            Short('h' | '?') | Long("help") => say = Some(HELP.to_owned()),
            Long("explain") => question.url = Some(parser.value()?.string()?),
            Long("from") => question.from = Some(parser.value()?.parse()?),
            Long("method") => question.method = Some(parser.value()?.parse()?),
            Short('H') => question.fields.push(field(&parser.value()?.string()?)?),
            Long("control") => options.control = Some(parser.value()?.into()),
            Long("version") => say = say.or(Some(VERSION.to_owned())),
            Short(letter) => return Err(UsageError(format!("invalid option: \"{letter}\""))),
            Long(name) => return Err(UsageError(format!("invalid option: \"--{name}\""))),
            Value(value) => {
                return Err(UsageError(format!("invalid option: \"{}\"", value.to_string_lossy())));
            }
        }
    }
    if let Some(question) = question.whole()? {
        options.task = Task::Explain(Box::new(question));
    }
    if let Some(text) = say {
        options.task = Task::Say(text);
    }
    // Files are named in messages, and a message is read in another folder.
    if options.prefix.is_relative()
        && let Ok(folder) = std::env::current_dir()
    {
        options.prefix = folder.join(options.prefix);
    }
    Ok(options)
}

/// What is said of a request to be explained.
#[derive(Default)]
struct Asked {
    url: Option<String>,
    method: Option<Method>,
    fields: Vec<(HeaderName, HeaderValue)>,
    from: Option<IpAddr>,
}

impl Asked {
    fn whole(self) -> Result<Option<Question>, UsageError> {
        let Some(url) = self.url else {
            let is_idle = self.method.is_none() && self.fields.is_empty() && self.from.is_none();
            let why = "-H, --from and --method go with --explain URL";
            return if is_idle { Ok(None) } else { Err(UsageError(why.to_owned())) };
        };
        let url = url.parse().map_err(|error| UsageError(format!("invalid URL \"{url}\": {error}")))?;
        let from = self.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let method = self.method.unwrap_or(Method::GET);
        Ok(Some(Question { method, url, fields: self.fields, from }))
    }
}

/// Reads `Name: value`.
fn field(text: &str) -> Result<(HeaderName, HeaderValue), UsageError> {
    let field = text.split_once(':').and_then(|(name, value)| {
        Some((name.trim().parse().ok()?, HeaderValue::from_str(value.trim()).ok()?))
    });
    field.ok_or_else(|| UsageError(format!("invalid field \"{text}\": \"Name: value\" is wanted")))
}

fn signal(name: &str) -> Result<Signal, UsageError> {
    match name {
        "stop" => Ok(Signal::TERM),
        "quit" => Ok(Signal::QUIT),
        "reload" => Ok(Signal::HUP),
        "reopen" => Ok(Signal::USR1),
        name => Err(UsageError(format!("invalid option: \"-s {name}\""))),
    }
}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> UsageError {
        UsageError(match error {
            lexopt::Error::MissingValue { option: Some(option) } => {
                let wanted = match &*option {
                    "-p" => "directory name",
                    "-c" | "-e" => "file name",
                    _ => "parameter",
                };
                format!("option \"{option}\" requires {wanted}")
            }
            error => error.to_string(),
        })
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the configuration is looked for, under the prefix.
const FILE: &str = "nginx.conf";

/// Where relative paths belong.
const PREFIX: &str = "/etc/l7-proxy/";

const VERSION: &str = concat!("l7-proxy version: l7-proxy/", env!("CARGO_PKG_VERSION"));

/// What scripts look for in the output of `nginx -V`: which modules are there, and which are not.
const FEATURES: &str = "\
follows the behaviour of nginx/1.31.5
TLS SNI support enabled
configure arguments: --with-stream --with-http_ssl_module --with-http_v2_module --with-http_realip_module \
--with-http_addition_module --with-http_gzip_static_module --with-http_gunzip_module --with-http_auth_request_module \
--with-http_random_index_module --with-http_secure_link_module --with-http_slice_module --with-http_stub_status_module \
--with-http_sub_module --with-stream_ssl_module --with-stream_ssl_preread_module --with-stream_realip_module \
--without-http_fastcgi_module --without-http_memcached_module \
--without-http_scgi_module --without-http_ssi_module --without-http_tunnel_module --without-http_uwsgi_module";

const HELP: &str = concat!(
    "l7-proxy version: l7-proxy/",
    env!("CARGO_PKG_VERSION"),
    "
Usage: l7-proxy [-?hvVtTq] [-s signal] [-p prefix]
                [-e filename] [-c filename] [-g directives]

Options:
  -?,-h         : this help
  -v            : show version and exit
  -V            : show version and features then exit
  -t            : test configuration and exit
  -T            : test configuration, dump it and exit
  -q            : suppress non-error messages during configuration testing
  -s signal     : send signal to the running process: stop, quit, reopen, reload
  -p prefix     : set prefix path (default: /etc/l7-proxy/)
  -e filename   : set error log file (default: stderr)
  -c filename   : set configuration file (default: nginx.conf under the prefix)
  -g directives : set global directives out of configuration file
  --explain url : say why a request for url would be answered as it would be, and exit;
                  with -H 'Name: value', --method, --from address
  --control path: socket for lvsadm, relative to the prefix (default: as lvs_control
                  in the file says, or none)

The proxy stays in the foreground unless the file says \"daemon on\". Signals: TERM, INT
stop at once; QUIT finishes what is at hand; HUP reloads the configuration; USR1 reopens
the logs; USR2 starts the program anew beside this process, with its sockets; WINCH accepts
no more, until HUP."
);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Options, UsageError> {
        parse(std::iter::once("l7-proxy").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn options_are_read_as_nginx_reads_them() {
        let options = parse_line("-p /srv/site/ -c my.conf -e error.log -tq").unwrap();
        assert_eq!(options.file, PathBuf::from("my.conf"));
        assert_eq!(options.prefix, PathBuf::from("/srv/site/"));
        assert_eq!(options.error_log, Some(PathBuf::from("error.log")));
        assert!(matches!((options.task, options.voice), (Task::Test, Voice::Quiet)));
        assert!(matches!(parse_line("-s quit").unwrap().task, Task::Signal(Signal::QUIT)));
        assert!(matches!(parse_line("-T -t").unwrap().task, Task::Dump));
        assert!(matches!(parse_line("-t -v").unwrap().task, Task::Say(_)));
    }

    #[test]
    fn option_that_is_not_known_is_named() {
        let error = |line| parse_line(line).unwrap_err().to_string();
        assert_eq!(error("-x"), "invalid option: \"x\"");
        assert_eq!(error("-s pause"), "invalid option: \"-s pause\"");
        assert_eq!(error("-c"), "option \"-c\" requires file name");
        assert_eq!(error("-p"), "option \"-p\" requires directory name");
        assert_eq!(error("-s"), "option \"-s\" requires parameter");
        assert_eq!(error("stop"), "invalid option: \"stop\"");
    }
}
