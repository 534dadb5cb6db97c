//! From the tree to checks, with keepalived's defaults and what they inherit.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::NumberFile;
use super::build::{Build, address, count, duration, integer, switched_on, text, weight};
use super::check::{
    Body, Checker, Kind, Match, Method, Origin, Protocol, Query, Rhythm, SmtpHost, StatusCodes, Url, Wildcard,
};
use crate::keepalived::complaint::Word;
use crate::keepalived::tree::Node;

/// What a checker takes over from its server and service where it says nothing itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Inherited {
    pub(super) delay_loop: Option<Duration>,
    pub(super) retry: Option<u32>,
    pub(super) delay_before_retry: Option<Duration>,
    pub(super) warmup: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) alpha: Option<bool>,
    pub(super) log_all_failures: bool,
    pub(super) virtual_host: Option<String>,
    pub(super) server: Option<SocketAddr>,
}

impl Inherited {
    /// Takes in a statement about timing; says whether it was one.
    pub(super) fn take(&mut self, node: &Node) -> bool {
        match node.name() {
            "delay_loop" => self.delay_loop = duration(node),
            "retry" | "nb_get_retry" => self.retry = count(node, 1),
            "delay_before_retry" => self.delay_before_retry = duration(node),
            "warmup" => self.warmup = duration(node),
            "connect_timeout" => self.connect_timeout = duration(node),
            "alpha" => self.alpha = Some(switched_on(node)),
            "log_all_failures" => self.log_all_failures = switched_on(node),
            "virtualhost" => self.virtual_host = text(node),
            _ => return false,
        }
        true
    }
}

impl Build<'_> {
    /// The checker of a block, with what it inherits; none if something needed is missing.
    pub(super) fn checker(
        &mut self,
        node: &Node,
        inherited: &Inherited,
        files: &[(String, NumberFile)],
    ) -> Option<Checker> {
        let mut timing = inherited.clone();
        for child in node.children() {
            timing.take(child);
            // keepalived reads what a host says of the check as if it stood beside it.
            for word in child.children().iter().filter(|_| child.name() == "host") {
                if word.name() != "connect_timeout" {
                    timing.take(word);
                }
            }
        }
        let server = inherited.server?;
        let origin = self.origin(node, Origin { target: server, bind: None, interface: None, mark: None });
        let delay_loop = timing.delay_loop.unwrap_or(DELAY_LOOP);
        let mut timeout = timing.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        // Retries, and the pause before them, where nobody says anything.
        let (mut retry, mut pause) = (1, Duration::from_secs(1));
        let kind = match node.name() {
            "HTTP_GET" | "SSL_GET" => {
                pause = Duration::from_secs(3);
                Kind::Http(origin, self.method(node, &timing)?)
            }
            "SMTP_CHECK" => self.smtp(node, origin, timeout),
            "DNS_CHECK" => {
                (retry, pause) = (3, delay_loop);
                Kind::Dns(origin, self.query(node)?)
            }
            "UDP_CHECK" => Kind::Udp(origin, self.datagram(node)?),
            "PING_CHECK" => Kind::Ping(origin),
            "MISC_CHECK" => {
                retry = 0;
                timeout = node.child("misc_timeout").and_then(duration).unwrap_or(delay_loop);
                self.misc(node)?
            }
            "FILE_CHECK" => self.file(node, files)?,
            "BFD_CHECK" => {
                self.complain(node.blame("BFD_CHECK is not supported: this director speaks no BFD"));
                return None;
            }
            _ => Kind::Tcp(origin),
        };
        if let Kind::File { .. } = kind {
            // keepalived is told of changes; looking is as good, and files are cheap to look at.
            let rhythm = Rhythm {
                delay_loop: FILE_LOOP,
                retry: 0,
                delay_before_retry: FILE_LOOP,
                warmup: Duration::ZERO,
                timeout,
            };
            return Some(Checker { kind, rhythm, alpha: false, log_all_failures: false });
        }
        let rhythm = Rhythm {
            delay_loop,
            retry: timing.retry.unwrap_or(retry),
            delay_before_retry: timing.delay_before_retry.unwrap_or(pause),
            warmup: timing.warmup.unwrap_or(delay_loop),
            timeout,
        };
        let alpha = timing.alpha.unwrap_or(false);
        Some(Checker { kind, rhythm, alpha, log_all_failures: timing.log_all_failures })
    }

    fn origin(&mut self, node: &Node, mut origin: Origin) -> Origin {
        let (mut from, mut port) = (None, None);
        for child in node.children() {
            match child.name() {
                "connect_ip" => {
                    if let Some(ip) = address(child, 1) {
                        origin.target.set_ip(ip);
                    }
                }
                "connect_port" => {
                    if let Some(port) = integer(child, 1) {
                        origin.target.set_port(port as u16);
                    }
                }
                "bindto" => from = address(child, 1).map(|address| (child, address)),
                "bind_port" => port = integer(child, 1).map(|port| port as u16),
                "bind_if" => origin.interface = text(child),
                "fwmark" => origin.mark = count(child, 1),
                _ => {}
            }
        }
        if let Some((child, from)) = from
            && from.is_ipv4() != origin.target.is_ipv4()
        {
            self.complain(child.blame("bindto and the address to connect to are of different families"));
            return origin;
        }
        if from.is_some() || port.is_some() {
            let any = || match origin.target {
                SocketAddr::V4(_) => IpAddr::from([0; 4]),
                SocketAddr::V6(_) => IpAddr::from([0; 16]),
            };
            let from = from.map_or_else(any, |(_, from)| from);
            origin.bind = Some(SocketAddr::new(from, port.unwrap_or_default()));
        }
        origin
    }

    fn method(&mut self, node: &Node, timing: &Inherited) -> Option<Method> {
        let tls = node.name() == "SSL_GET";
        let mut method =
            Method { tls, sni: None, protocol: Protocol::default(), fast_recovery: false, urls: Vec::new() };
        for child in node.children() {
            match child.name() {
                "url" => method.urls.extend(self.url(child, timing)),
                "fast_recovery" => method.fast_recovery = switched_on(child),
                "enable_sni" => _ = method.sni.get_or_insert_default(),
                "sni_name" => method.sni = Some(text(child)),
                "http_protocol" => {
                    method.protocol = match child.text(1).map(str::to_ascii_uppercase).as_deref() {
                        Some("1.0C") => Protocol::Http10Close,
                        Some("1.0K") => Protocol::Http10KeepAlive,
                        Some("1.1") => Protocol::Http11,
                        Some("1.1K") => Protocol::Http11KeepAlive,
                        _ => Protocol::Http10,
                    };
                }
                _ => {}
            }
        }
        if method.urls.is_empty() {
            self.complain(node.blame(format!("{} has no url that could be checked", node.name())));
            return None;
        }
        Some(method)
    }

    fn url(&mut self, node: &Node, timing: &Inherited) -> Option<Url> {
        let (mut path, mut host) = (None, timing.virtual_host.clone());
        let (mut codes, mut digest, mut pattern, mut options) = (Vec::new(), None, None, String::new());
        let (mut inverted, mut offsets) = (false, (0, usize::MAX));
        for child in node.children() {
            match child.name() {
                "path" => path = text(child),
                "virtualhost" => host = text(child),
                "digest" => digest = self.digest(&child.words[1]),
                "status_code" => {
                    codes.extend(child.words[1..].iter().filter_map(|word| self.status_codes(word)));
                }
                "regex" => pattern = Some(child.words[1].clone()),
                "regex_no_match" => inverted = true,
                "regex_options" => options = self.regex_options(child),
                "regex_min_offset" => offsets.0 = count(child, 1).unwrap_or_default() as usize,
                "regex_max_offset" => offsets.1 = count(child, 1).unwrap_or_default() as usize,
                _ => {}
            }
        }
        let Some(path) = path else {
            self.complain(node.blame("the url has no path"));
            return None;
        };
        if codes.is_empty() {
            codes.push((200, 299));
        }
        let regex = pattern.and_then(|pattern| self.pattern(&pattern, &options, inverted, offsets));
        Some(Url { path, host, status: StatusCodes(codes), digest, regex })
    }

    fn digest(&mut self, word: &Word) -> Option<[u8; 16]> {
        let text = &word.text;
        let mut digest = [0; 16];
        let good = text.len() == 32 && text.is_ascii();
        for (index, byte) in digest.iter_mut().enumerate().filter(|_| good) {
            match u8::from_str_radix(&text[2 * index..2 * index + 2], 16) {
                Ok(value) => *byte = value,
                Err(_) => {
                    self.complain(word.blame("the digest is not made of hexadecimal digits"));
                    return None;
                }
            }
        }
        if !good {
            self.complain(word.blame("a digest has 32 hexadecimal digits"));
        }
        good.then_some(digest)
    }

    /// `200` or `200-299`
    fn status_codes(&mut self, word: &Word) -> Option<(u16, u16)> {
        let (first, last) = word.text.split_once('-').unwrap_or((&word.text, &word.text));
        let code = |text: &str| text.parse::<u16>().ok().filter(|code| (100..=999).contains(code));
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => Some((first, last)),
            _ => {
                self.complain(word.blame("wanted a status code from 100 to 999, or a range of them"));
                None
            }
        }
    }

    /// The flags of the pattern that PCRE's options stand for.
    fn regex_options(&mut self, node: &Node) -> String {
        let mut flags = String::new();
        for word in &node.words[1..] {
            match word.text.as_str() {
                "caseless" => flags.push('i'),
                "dotall" => flags.push('s'),
                "multiline" => flags.push('m'),
                "extended" => flags.push('x'),
                "ungreedy" => flags.push('U'),
                "ucp" | "utf" => {}
                name if IDLE_REGEX_OPTIONS.contains(&name) => {}
                name => {
                    let complaint = word.blame(format!("unsupported regex option \"{name}\""));
                    self.complain(complaint);
                }
            }
        }
        flags
    }

    fn pattern(
        &mut self,
        word: &Word,
        options: &str,
        inverted: bool,
        offsets: (usize, usize),
    ) -> Option<Match> {
        let flags = if options.is_empty() { String::new() } else { format!("(?{options})") };
        let pattern = format!("{flags}{}", word.text);
        if let Err(error) = regex::bytes::Regex::new(&pattern) {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            self.complain(word.blame(format!("the pattern cannot be used: {reason}")));
            return None;
        }
        Some(Match { pattern, inverted, offsets })
    }

    fn smtp(&mut self, node: &Node, origin: Origin, timeout: Duration) -> Kind {
        let helo = node.child("helo_name").and_then(text).unwrap_or_else(host_name);
        let mut hosts: Vec<SmtpHost> = Vec::new();
        for host in node.children().iter().filter(|child| child.name() == "host") {
            let timeout = host.child("connect_timeout").and_then(duration).unwrap_or(timeout);
            hosts.push(SmtpHost { origin: self.origin(host, origin.clone()), timeout });
        }
        if hosts.is_empty() {
            hosts.push(SmtpHost { origin, timeout });
        }
        Kind::Smtp(hosts, helo)
    }

    fn query(&mut self, node: &Node) -> Option<Query> {
        let record = node.child("type").and_then(|child| child.text(1)).unwrap_or("SOA").to_ascii_uppercase();
        let record = match record.as_str() {
            "A" => 1,
            "NS" => 2,
            "CNAME" => 5,
            "MX" => 15,
            "TXT" => 16,
            "AAAA" => 28,
            _ => 6,
        };
        let name = node.child("name").and_then(text).unwrap_or_else(|| ".".to_owned());
        let labels_fit = name.trim_end_matches('.').split('.').all(|label| label.len() <= 63);
        let empty_label = name.trim_end_matches('.').split('.').any(str::is_empty);
        if !labels_fit || name.len() > 253 || (empty_label && name != ".") {
            self.complain(node.blame(format!("\"{name}\" is no domain name")));
            return None;
        }
        Some(Query { record, name })
    }

    fn datagram(&mut self, node: &Node) -> Option<Body> {
        let mut body = Body { payload: None, reply: None, reply_length: (0, 255) };
        for child in node.children() {
            let hex: Vec<&str> = child.words[1..].iter().map(|word| word.text.as_str()).collect();
            match child.name() {
                "payload" => {
                    let bytes = hexadecimal(&hex).filter(|bytes| bytes.iter().all(|byte| byte.mask == 0xff));
                    if bytes.is_none() {
                        self.complain(child.blame("the payload is not made of hexadecimal digits"));
                    }
                    body.payload = Some(bytes?.iter().map(|byte| byte.byte).collect());
                }
                "require_reply" => {
                    let bytes = hexadecimal(&hex);
                    if bytes.is_none() {
                        self.complain(child.blame("the reply is not made of hexadecimal digits and x"));
                    }
                    body.reply = Some(bytes?);
                }
                "min_reply_length" => body.reply_length.0 = count(child, 1)? as usize,
                "max_reply_length" => body.reply_length.1 = count(child, 1)? as usize,
                _ => {}
            }
        }
        if body.reply_length.0 > body.reply_length.1 {
            self.complain(node.blame("min_reply_length lies above max_reply_length"));
            return None;
        }
        Some(body)
    }

    fn misc(&mut self, node: &Node) -> Option<Kind> {
        let Some(path) = node.child("misc_path") else {
            self.complain(node.blame("MISC_CHECK has no misc_path"));
            return None;
        };
        let user = node.child("user").and_then(|word| self.user(word, 1));
        let script = self.script_of(path, user)?;
        Some(Kind::Misc { script, dynamic: node.child("misc_dynamic").is_some() })
    }

    fn file(&mut self, node: &Node, files: &[(String, NumberFile)]) -> Option<Kind> {
        let name = node.child("track_file");
        let Some(wanted) = name.and_then(|name| name.text(1)) else {
            self.complain(node.blame("FILE_CHECK has no track_file"));
            return None;
        };
        let Some((_, file)) = files.iter().find(|(name, _)| name == wanted) else {
            self.complain(name.unwrap_or(node).blame(format!("there is no track_file {wanted}")));
            return None;
        };
        let weight = node.child("weight").map_or(file.weight, weight);
        let file = NumberFile { path: file.path.clone(), weight };
        Some(Kind::File { file, dynamic: node.child("dynamic").is_some() })
    }
}

/// Digits to bytes: each word begins a new byte, and one digit alone is a byte too.
fn hexadecimal(words: &[&str]) -> Option<Vec<Wildcard>> {
    let mut bytes = Vec::new();
    for word in words.iter().flat_map(|word| word.split_whitespace()) {
        let nibbles: Vec<(u8, u8)> = word
            .chars()
            .map(|digit| match digit {
                'x' | 'X' => Some((0, 0)),
                _ => digit.to_digit(16).map(|digit| (digit as u8, 0xf)),
            })
            .collect::<Option<_>>()?;
        bytes.extend(nibbles.chunks(2).map(|pair| match *pair {
            [(high, high_mask), (low, low_mask)] => {
                Wildcard { byte: high << 4 | low, mask: high_mask << 4 | low_mask }
            }
            [(low, mask)] => Wildcard { byte: low, mask: 0xf0 | mask },
            _ => Wildcard { byte: 0, mask: 0 },
        }));
    }
    Some(bytes)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Options that make PCRE faster or slower, or mean what is so here anyway.
const IDLE_REGEX_OPTIONS: [&str; 8] = [
    "auto_callout",
    "no_auto_capture",
    "no_auto_possess",
    "no_dotstar_anchor",
    "no_start_optimize",
    "never_backslash_c",
    "use_offset_limit",
    "dollar_endonly",
];

/// How often a file is looked at.
const FILE_LOOP: Duration = Duration::from_secs(1);

const DELAY_LOOP: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
