//! What comes to be known of a request while it is answered, for variables that show it.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use bytes::Bytes;

use crate::model::LimitStatus;
use crate::spool::Spool;

use super::{Assigned, Cached};

/// What came to be known of a request beside its head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What `set` has assigned.
    pub assigned: Assigned,
    /// What variables of the configuration were found to be, as far as that holds for the whole request.
    pub looked_up: RefCell<Assigned>,
    /// The request's body, where it was read whole into memory.
    pub body: Option<Bytes>,
    /// The file that it was written to, if it was.
    pub body_file: Option<Rc<Spool>>,
    /// What tells the request from all others, once that was asked for; nothing without randomness.
    pub id: OnceCell<Option<[u8; 16]>>,
    /// What the cookie is set to that tells the client apart, once that was asked for.
    pub userid: OnceCell<Option<[u8; 16]>>,
    /// Behind so many bytes the path is a name below the `alias` of a location given by a regular
    /// expression, after a `try_files` has found it there.
    pub below_alias: Option<usize>,
    /// Bytes per second that `set $limit_rate` allows; 0 sets no limit, `None` says nothing.
    pub limit_rate: Option<u64>,
    /// The status of the error that is being answered (`error_page`).
    pub error_status: Option<u16>,
    /// What the cache has to do with the answer, where it was asked.
    pub cached: Option<Box<Cached>>,
    /// What `limit_conn` has said, once it was asked.
    pub limit_conn: Option<LimitStatus>,
    /// What `limit_req` has said, once it was asked.
    pub limit_req: Option<LimitStatus>,
    /// Which piece of an answer a server is asked for.
    pub slice: Cell<Slicing>,
}

impl Findings {
    /// The request has come to another location, which has pieces of its own.
    pub(crate) fn forget_slice(&self) {
        if let Slicing::From(_) = self.slice.get() {
            self.slice.set(Slicing::Unasked);
        }
    }
}

/// Which piece of an answer a server is asked for (`slice`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Slicing {
    /// Nobody has looked at that, which settles it.
    #[default]
    Unasked,
    /// The one that begins here.
    From(u64),
    /// None: the request is one of ours.
    Never,
}
