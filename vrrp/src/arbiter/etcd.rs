//! etcd as the arbiter: the addresses belong to whoever has a key, and the key hangs on a lease.
//!
//! etcd v3 is asked through its JSON gateway, which every member serves where it serves gRPC: plain HTTP
//! and a few short documents, with no code generated from protocol descriptions.
//!
//! A key is put only where there is none, in a transaction, so there is one holder whatever the network
//! does. Prolonging is the delicate part: members do not agree on it among each other as they do on
//! transactions, so one that lost its lead, and does not know it because it was stopped for a while, may
//! prolong a lease that the others let run out. So it is believed only when the same member, in the same
//! term, then reads the key back by quorum: had there been another leader meanwhile, the term would have
//! moved. In return nothing is written, and the history of keys, which etcd keeps until it is compacted,
//! does not grow.

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use super::base64::{base64, unbase64};
use super::http::Server;
use super::{Answer, Witness};

/// How etcd is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its members: `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoints: Vec<String>,
    /// The key that the holder has: the same for all that share the addresses.
    pub key: String,
    /// How others are told who holds it.
    pub name: String,
    /// How long a lease lasts, in whole seconds.
    pub ttl: Duration,
    /// Who signs its certificates; the system's list otherwise.
    pub ca_file: Option<PathBuf>,
    /// The certificate and its key that are shown to it.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Who asks, where etcd wants to know.
    pub login: Option<Login>,
}

/// A user of etcd's, who may read and write the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
}

/// Why etcd cannot be asked at all.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unusable {
    /// No endpoint, or one that is no `http://HOST:PORT`.
    Endpoint(String),
    /// A file with certificates or a key cannot be used.
    File(PathBuf, String),
}

/// A client of etcd that holds one key, or wants to.
pub struct Etcd {
    servers: Vec<Server>,
    /// The server that is asked first: the one that answered last.
    first: usize,
    key: String,
    /// How others are told who holds it.
    name: String,
    /// What no other process has.
    nonce: u64,
    /// How often a lease was given back. Words of giving back may arrive late; a key that was put
    /// before them is not taken for ours any more.
    tenure: u64,
    /// What ends the values that another process of this host, or this one before it, may have put.
    before: Vec<String>,
    ttl: Duration,
    lease: Option<String>,
    session: Option<Session>,
}

/// A login, and what etcd gave for it.
struct Session {
    login: Login,
    token: Option<String>,
}

impl Etcd {
    /// Makes one; nothing is asked yet.
    ///
    /// # Errors
    /// An endpoint is none, or a file cannot be read.
    pub fn new(settings: &Settings) -> Result<Etcd, Unusable> {
        let wants_tls = settings.endpoints.iter().any(|url| url.starts_with("https://"));
        let tls = Arc::new(tls(settings, wants_tls)?);
        let server = |url: &String| Server::new(url, &tls).ok_or_else(|| Unusable::Endpoint(url.clone()));
        let servers: Vec<Server> = settings.endpoints.iter().map(server).collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err(Unusable::Endpoint(String::new()));
        }
        Ok(Etcd {
            servers,
            first: 0,
            key: base64(settings.key.as_bytes()),
            name: settings.name.clone(),
            nonce: nonce(),
            tenure: 0,
            before: Vec::new(),
            ttl: settings.ttl,
            lease: None,
            session: settings.login.clone().map(|login| Session { login, token: None }),
        })
    }

    /// What the key says when it is ours.
    fn value(&self) -> String {
        base64(format!("{} {}", self.name, mark(self.nonce, self.tenure)).as_bytes())
    }

    /// Asks one member after the other, each for its part of the time.
    fn ask(
        &mut self,
        patience: Duration,
        question: impl Fn(&mut Etcd, &Connection<'_>) -> Result<Answer, String>,
    ) -> Answer {
        let count = self.servers.len();
        let began = Instant::now();
        let mut failures = Vec::new();
        for turn in 0..count {
            let place = (self.first + turn) % count;
            let server = self.servers[place].clone();
            let deadline = began + patience * (turn as u32 + 1) / count as u32;
            let session = RefCell::new(self.session.take());
            let connection = Connection { server: &server, deadline, session };
            let answer = question(self, &connection);
            self.session = connection.session.into_inner();
            match answer {
                Ok(answer) => {
                    self.first = place;
                    return answer;
                }
                Err(why) => failures.push(why),
            }
        }
        Answer::Silence(failures.join("; "))
    }

    /// The key, as the whole cluster has it now.
    fn look(&self, connection: &Connection<'_>) -> Result<(Holder, Standing), String> {
        let reply = connection.post("/v3/kv/range", &json!({ "key": self.key }))?;
        Ok((self.holder(&reply["kvs"][0]), Standing::of(&reply)?))
    }

    fn holder(&self, entry: &Value) -> Holder {
        match (text(entry, "value"), text(entry, "lease")) {
            (None, _) => Holder::Nobody,
            (Some(value), Some(lease)) if value == self.value() => Holder::Us(lease.to_owned()),
            (Some(value), _) if self.before.iter().any(|before| *before == parts(value).1) => {
                Holder::Before(value.to_owned())
            }
            (Some(value), _) => Holder::Another(name(value)),
        }
    }

    fn take(&mut self, connection: &Connection<'_>) -> Result<Answer, String> {
        let compare = match self.look(connection)?.0 {
            Holder::Another(name) => return Ok(Answer::Held(name)),
            // An earlier question did its work although no answer came.
            Holder::Us(lease) => {
                self.lease = Some(lease);
                return self.prolong(connection);
            }
            Holder::Nobody => {
                json!({ "key": self.key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" })
            }
            Holder::Before(value) => {
                json!({ "key": self.key, "target": "VALUE", "result": "EQUAL", "value": value })
            }
        };
        let seconds = self.ttl.as_secs().max(1);
        let granted = connection.post("/v3/lease/grant", &json!({ "TTL": seconds.to_string() }))?;
        let lease = text(&granted, "ID").ok_or("etcd granted a lease without a number")?.to_owned();
        let lasts: u64 = text(&granted, "TTL").and_then(|ttl| ttl.parse().ok()).unwrap_or_default();
        if lasts < seconds {
            return Err(format!("etcd grants leases of {lasts} s only"));
        }
        self.lease = Some(lease.clone());
        let reply = connection.post(
            "/v3/kv/txn",
            &json!({
                "compare": [compare],
                "success": [{ "request_put": { "key": self.key, "value": self.value(), "lease": lease } }],
                "failure": [{ "request_range": { "key": self.key } }],
            }),
        )?;
        if reply["succeeded"] == Value::Bool(true) {
            self.before.clear();
            return Ok(Answer::Yes);
        }
        match self.holder(&reply["responses"][0]["response_range"]["kvs"][0]) {
            Holder::Another(name) => {
                self.give_back(connection);
                Ok(Answer::Held(name))
            }
            _ => Err("etcd refused a key that nobody has".to_owned()),
        }
    }

    fn prolong(&mut self, connection: &Connection<'_>) -> Result<Answer, String> {
        let Some(lease) = self.lease.clone() else { return Ok(Answer::Gone) };
        let reply = connection.post("/v3/lease/keepalive", &json!({ "ID": lease }))?;
        let result = &reply["result"];
        let before = Standing::of(result)?;
        // A lease that is no more is answered without a time to live.
        if text(result, "TTL").and_then(|ttl| ttl.parse::<u64>().ok()).unwrap_or_default()
            < self.ttl.as_secs()
        {
            self.lease = None;
            return Ok(Answer::Gone);
        }
        let (holder, after) = self.look(connection)?;
        match holder {
            _ if before != after => Err("etcd is changing its leader".to_owned()),
            Holder::Us(ours) if ours == lease => Ok(Answer::Yes),
            Holder::Another(name) => Ok(Answer::Held(name)),
            Holder::Us(_) | Holder::Before(_) | Holder::Nobody => Ok(Answer::Gone),
        }
    }

    /// Best effort: a lease that is not given back ends by itself.
    fn give_back(&mut self, connection: &Connection<'_>) {
        if let Some(lease) = &self.lease
            && connection.post("/v3/lease/revoke", &json!({ "ID": lease })).is_ok()
        {
            self.lease = None;
        }
    }
}

impl Witness for Etcd {
    fn acquire(&mut self, patience: Duration) -> Answer {
        self.ask(patience, Etcd::take)
    }

    fn renew(&mut self, patience: Duration) -> Answer {
        self.ask(patience, Etcd::prolong)
    }

    fn whom(&self) -> String {
        format!("etcd {}", self.servers[self.first])
    }

    fn bequest(&self) -> String {
        mark(self.nonce, self.tenure)
    }

    /// The key is put anew under a lease of this process's, in a transaction that wants the other one's value
    /// to be there still. So there is one holder at any time, and one who is told of by etcd.
    fn inherit(&mut self, bequest: &str) {
        let known = bequest.split_once('-').and_then(|(nonce, tenure)| {
            Some((u64::from_str_radix(nonce, 16).ok()?, tenure.parse::<u64>().ok()?))
        });
        // Another arbiter's, or none: then it is waited for.
        let Some((nonce, tenure)) = known else { return };
        (self.nonce, self.tenure) = (nonce, tenure.wrapping_add(1));
        self.before = vec![bequest.to_owned()];
    }

    /// Under a mark of its own again: the heir may be there still, and may not take it for its own.
    fn recover(&mut self) {
        // What there was before may be in the key still, until something new is.
        let marks = [mark(self.nonce, self.tenure), mark(self.nonce, self.tenure.wrapping_add(1))];
        self.before.extend(marks);
        (self.nonce, self.tenure) = (nonce(), 0);
        self.lease = None;
    }

    fn revoke(&mut self, patience: Duration) {
        if self.lease.is_none() {
            return;
        }
        self.tenure += 1;
        self.ask(patience, |etcd, connection| {
            etcd.give_back(connection);
            if etcd.lease.is_none() { Ok(Answer::Gone) } else { Err(String::new()) }
        });
        self.lease = None;
    }
}

/// One member that is asked, until a moment.
struct Connection<'a> {
    server: &'a Server,
    deadline: Instant,
    session: RefCell<Option<Session>>,
}

impl Connection<'_> {
    fn post(&self, path: &str, question: &Value) -> Result<Value, String> {
        let mut session = self.session.borrow_mut();
        let Some(session) = &mut *session else {
            return self.exchange(path, question, None)?.map_err(|refusal| refusal.why);
        };
        if let Some(token) = &session.token {
            match self.exchange(path, question, Some(token))? {
                Ok(document) => return Ok(document),
                // It ended, or the member that knew it was started anew, or users were changed.
                Err(refusal) if refusal.is_of_login => session.token = None,
                Err(refusal) => return Err(refusal.why),
            }
        }
        let token = session.token.insert(self.log_in(&session.login)?);
        self.exchange(path, question, Some(token))?.map_err(|refusal| refusal.why)
    }

    fn log_in(&self, login: &Login) -> Result<String, String> {
        let question = json!({ "name": login.user, "password": login.password });
        let document = self.exchange("/v3/auth/authenticate", &question, None)?;
        let document = document.map_err(|refusal| refusal.why)?;
        let token = text(&document, "token").ok_or("etcd let somebody in without a token")?;
        // It goes into a header.
        if token.contains(|character: char| character.is_ascii_control()) {
            return Err("etcd gave a token that cannot be shown to it".to_owned());
        }
        Ok(token.to_owned())
    }

    /// One question and its answer, which may be a refusal; an error where there is none.
    fn exchange(
        &self,
        path: &str,
        question: &Value,
        token: Option<&str>,
    ) -> Result<Result<Value, Refusal>, String> {
        let reply = self.server.post(path, &question.to_string(), token, self.deadline);
        let reply = reply.map_err(|error| format!("{}: {error}", self.server))?;
        let document: Value = serde_json::from_slice(&reply.body)
            .map_err(|_| format!("{}: status {} and no JSON", self.server, reply.status))?;
        if reply.status == 200 {
            return Ok(Ok(document));
        }
        let why = text(&document, "message").or_else(|| text(&document, "error")).unwrap_or("refused");
        let is_of_login = reply.status == UNAUTHORIZED || why.contains(OLD_LOGIN);
        Ok(Err(Refusal { is_of_login, why: format!("{}: {why}", self.server) }))
    }
}

/// Why etcd did not do what it was asked.
struct Refusal {
    /// Whoever logs in anew may get another answer.
    is_of_login: bool,
    why: String,
}

/// Who has the key.
enum Holder {
    Nobody,
    /// With this lease.
    Us(String),
    /// Whoever has passed it on to this process, or was to take it over from this one; with this value.
    Before(String),
    Another(String),
}

/// Which member answered, and in which term.
#[derive(PartialEq, Eq)]
struct Standing {
    member: String,
    term: String,
}

impl Standing {
    fn of(reply: &Value) -> Result<Standing, String> {
        let field =
            |field| text(&reply["header"], field).map(str::to_owned).ok_or("an answer without a header");
        Ok(Standing { member: field("member_id")?, term: field("raft_term")? })
    }
}

fn text<'a>(document: &'a Value, field: &str) -> Option<&'a str> {
    document.get(field).and_then(Value::as_str)
}

/// The name of a holder, out of what the key says.
fn name(value: &str) -> String {
    parts(value).0
}

/// The name of a holder and its mark.
fn parts(value: &str) -> (String, String) {
    let plain = String::from_utf8_lossy(&unbase64(value)).into_owned();
    match plain.rsplit_once(' ') {
        Some((name, mark)) => (name.to_owned(), mark.to_owned()),
        None => (plain, String::new()),
    }
}

/// What makes a value one process's, for one tenure.
fn mark(nonce: u64, tenure: u64) -> String {
    format!("{nonce:016x}-{tenure}")
}

/// What no other process has.
fn nonce() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn tls(settings: &Settings, is_used: bool) -> Result<ClientConfig, Unusable> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let unusable = |path: &Path, why: &dyn fmt::Display| Unusable::File(path.to_owned(), why.to_string());
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, Unusable> {
        let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, &error))?;
        read.collect::<Result<_, _>>().map_err(|error| unusable(path, &error))
    };
    let mut roots = RootCertStore::empty();
    if is_used {
        let path = settings.ca_file.as_deref().unwrap_or(Path::new(SYSTEM_ROOTS));
        if roots.add_parsable_certificates(certificates(path)?).0 == 0 {
            return Err(unusable(path, &"no certificate in it"));
        }
    }
    let builder = builder.map_err(|error| unusable(Path::new(""), &error))?.with_root_certificates(roots);
    let Some((certificate, key)) = &settings.certificate else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    builder.with_client_auth_cert(chain, secret).map_err(|error| unusable(certificate, &error))
}

impl fmt::Debug for Login {
    /// Without the password, which does not belong into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Endpoint(url) => write!(f, "etcd: \"{url}\" is no http://HOST:PORT"),
            Unusable::File(path, why) => write!(f, "etcd: {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for Unusable {}

impl From<Unusable> for io::Error {
    fn from(unusable: Unusable) -> io::Error {
        io::Error::other(unusable)
    }
}

/// A token that is not known.
const UNAUTHORIZED: u16 = 401;

/// What etcd says when users or what they may do were changed since the login.
const OLD_LOGIN: &str = "revision of auth store is old";

/// Where Debian and its kin have the certificates that the system trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_named_without_what_makes_them_unique() {
        assert_eq!(name(&base64(b"lb 1 0123456789abcdef-0")), "lb 1");
        assert_eq!(name(&base64(b"someone")), "someone");
    }
}
