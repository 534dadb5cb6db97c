//! Pages that requests may come from (`valid_referers`), for `$invalid_referer`.

use crate::map::Rows;
use crate::variable::Captures;

use super::pattern::Pattern;

/// Pages that requests may come from.
#[derive(Debug, Clone)]
pub struct Referers {
    /// Whether a request need not say where it comes from (`none`).
    pub none: bool,
    /// Whether it may say something that is no URL, such as what a firewall has left of it (`blocked`).
    pub blocked: bool,
    /// By the host, whose pages are welcome.
    pub hosts: Rows<Pages>,
    /// Expressions for the host alone, from names of the server (`server_names`).
    pub names: Vec<Pattern>,
    /// Expressions for the URL without its scheme.
    pub patterns: Vec<Pattern>,
}

/// Which pages of a host are welcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pages {
    /// None.
    None,
    /// Those whose path begins like this; all if it is empty.
    Below(Box<[u8]>),
}

impl Default for Referers {
    fn default() -> Self {
        let hosts = Rows::new(Pages::None);
        Self { none: false, blocked: false, hosts, names: Vec::new(), patterns: Vec::new() }
    }
}

impl Referers {
    /// Returns whether no page is named.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.names.is_empty() && self.patterns.is_empty()
    }

    /// Returns whether a request may say that it comes from here.
    pub fn admit(&self, said: Option<&[u8]>) -> bool {
        let Some(said) = said else { return self.none };
        let Some(url) = without_scheme(said) else { return self.blocked };
        let end = url.iter().position(|byte| matches!(byte, b'/' | b':')).unwrap_or(url.len());
        let host = &url[..end];
        if host.len() > HOST_MAX {
            return false;
        }
        if let Pages::Below(start) = self.hosts.look_up(host, &Captures::default()) {
            let path = memchr::memchr(b'/', url).map_or(&b""[..], |slash| &url[slash..]);
            return path.starts_with(start);
        }
        let host = host.to_ascii_lowercase();
        self.names.iter().any(|name| name.is_match(&host))
            || self.patterns.iter().any(|pattern| pattern.is_match(url))
    }
}

/// Returns a URL of HTTP without its scheme; `None` for what is none.
fn without_scheme(url: &[u8]) -> Option<&[u8]> {
    // What is shorter can name no host, for nginx.
    if url.len() < "http://i.ru".len() {
        return None;
    }
    let strip = |scheme: &str| {
        let start = url.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then(|| &url[scheme.len()..])
    };
    strip("http://").or_else(|| strip("https://"))
}

/// The longest host that is looked up.
const HOST_MAX: usize = 256;
