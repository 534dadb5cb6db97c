//! `keepalived.conf`: read, checked as a whole, and turned into a [`Model`].
//!
//! Three steps, each pure but for the files that are included: `source` makes lines of files,
//! `tree` makes statements of lines, and `model` makes plain data of statements that fit their
//! `tables`. Whatever does not fit is a [`Complaint`] with its place, and all of them are
//! found in one run.
//!
//! keepalived warns of a line that it does not understand, leaves it out and goes on. That is
//! [`Dialect::Lenient`]. A typing error in a director is an outage, so [`Dialect::Strict`] refuses.

mod complaint;
mod expand;
mod glob;
pub(crate) mod keeper;
mod lexer;
pub mod model;
pub mod pool;
mod schema;
mod source;
mod tables;
mod tree;

use std::path::Path;

use lvs_core::{Forwarding, ServiceConfig};
use lvsadm::{CommitError, Edit};

pub use self::complaint::{Complaint, Place, Severity};
pub use self::keeper::services;
pub use self::model::Model;

/// What becomes of lines that cannot be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// They are errors.
    #[default]
    Strict,
    /// They are left out with a warning, as keepalived does.
    Lenient,
}

/// A configuration as it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it asks for, without what could not be understood.
    pub model: Model,
    /// What could not be understood, and what is odd; in the order of the text.
    pub complaints: Vec<Complaint>,
    /// What it says, whatever comes of it: two texts with the same ask for the same. It may hold secrets.
    pub statements: String,
    /// What this director does not do although it is well written; [`Loaded::fit`] complains of it.
    unfit: Vec<Complaint>,
}

/// Reads a configuration from its file. `id` is what lines that begin with `@id` go by.
///
/// # Errors
/// The file cannot be read. What is in it is judged by [`Loaded::accept`].
pub fn load(file: &Path, id: &str) -> std::io::Result<Loaded> {
    Ok(read(file, &std::fs::read_to_string(file)?, id))
}

/// Reads a configuration from a text, which messages and relative names take to be in `file`.
///
/// ```
/// use std::path::Path;
///
/// use l4_proxy::keepalived;
///
/// let text = "virtual_server 192.0.2.1 80 {
///     lb_algo rr
///     lb_kind NAT
///     protocol TCP
///     real_server 10.0.0.1 80 {
///         wieght 2
///     }
/// }";
/// let loaded = keepalived::read(Path::new("keepalived.conf"), text, "node");
/// assert_eq!(
///     loaded.complaints[0].to_string(),
///     "keepalived.conf:6: unknown keyword \"wieght\" in real_server; did you mean \"weight\"?
///     wieght 2
///     ^^^^^^"
/// );
/// ```
pub fn read(file: &Path, text: &str, id: &str) -> Loaded {
    let (lines, mut complaints) = source::lines(file, text, id);
    let nodes = tree::statements(&lines, &mut complaints);
    let nodes = schema::check(nodes, &tables::FILE, &mut complaints);
    let mut unfit = Vec::new();
    let model = model::build(&nodes, &mut complaints, &mut unfit);
    let mut loaded = Loaded { model, complaints, statements: tree::plain(&nodes), unfit };
    loaded.sort();
    loaded
}

impl Loaded {
    /// Complains of what a director cannot carry out, as `accepts` says, and takes it from the model.
    ///
    /// Only masquerading can be done by a proxy. Where the file asks for another method, that is an
    /// error; who is lenient gets masquerading.
    pub fn fit(&mut self, accepts: impl Fn(&Edit) -> Result<(), CommitError>) {
        self.complaints.append(&mut self.unfit);
        let complaints = &mut self.complaints;
        self.model.services.retain_mut(|service| {
            let servers = service.servers.iter_mut().map(|server| &mut server.forwarding);
            let all = servers.chain(service.sorry.as_mut().map(|sorry| &mut sorry.forwarding));
            let mut others = 0;
            for forwarding in all.filter(|forwarding| **forwarding != Forwarding::Masquerading) {
                others += 1;
                *forwarding = Forwarding::Masquerading;
            }
            if others > 0 {
                let message = "a proxy forwards by NAT only, not by DR or TUN: its servers see its address and answer to it";
                complaints.push(service.place.blame(message));
            }
            service.keys.retain(|key| {
                let mut config = ServiceConfig::new(key.clone(), service.algorithm);
                (config.one_packet, config.persistence) = (service.one_packet, service.persistence);
                let refused = accepts(&Edit::AddService(config)).err();
                complaints.extend(refused.as_ref().map(|reason| service.place.blame(reason.to_string())));
                refused.is_none()
            });
            !service.keys.is_empty()
        });
        self.sort();
    }

    /// What each step found comes together by place.
    fn sort(&mut self) {
        self.complaints.sort_by(|one, other| (one.file(), one.line()).cmp(&(other.file(), other.line())));
    }

    /// The model, and what to warn of; an error makes a strict reader refuse.
    ///
    /// # Errors
    /// All complaints, if one of them is an error and the dialect is strict.
    pub fn accept(self, dialect: Dialect) -> Result<(Model, Vec<Complaint>), Vec<Complaint>> {
        let wrong = self.complaints.iter().any(|complaint| complaint.severity == Severity::Error);
        if wrong && dialect == Dialect::Strict {
            return Err(self.complaints);
        }
        let complaints = self.complaints.into_iter().map(Complaint::only_warns);
        Ok((self.model, complaints.collect()))
    }
}

/// The name of this machine up to the first dot: what `@id` goes by if nobody says otherwise.
pub fn default_id() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split('.').next().unwrap_or_default().to_owned()
}
