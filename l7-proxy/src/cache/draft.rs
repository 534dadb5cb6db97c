//! An answer that is being written: nobody sees it until it is whole.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::HeaderMap;

use super::entry::{Extent, Facts, PREFACE_MAX, Preface};
use super::validity::{Said, Seconds};
use super::{Claim, create_folder, on_disk, temporary_folder};
use crate::body::Deposit;
use crate::spool::{Afterwards, Spool};

/// What is to be kept of an answer.
pub(crate) struct Keeping<'a> {
    /// What it is kept under.
    pub(crate) key: &'a Bytes,
    /// The fields of the request.
    pub(crate) request: &'a HeaderMap,
    pub(crate) said: Said,
    pub(crate) modified: Option<Seconds>,
    pub(crate) etag: Bytes,
    pub(crate) extent: Extent,
    /// The head, as text.
    pub(crate) head: Vec<u8>,
    /// Where an answer is while it comes, unless the zone says otherwise.
    pub(crate) temporary: &'a Path,
}

/// An answer that is being written; dropped before its end it leaves nothing.
pub(crate) struct Draft {
    file: Rc<Spool>,
    preface: Preface,
    /// Where the body begins.
    start: u64,
    claim: Claim,
    /// The most bytes that the zone has room for.
    most: u64,
}

impl Draft {
    /// Begins to write an answer into the entry of a claim; `None` if there is more to be said of it than
    /// a file may have.
    ///
    /// # Errors
    /// There can be no file.
    pub(crate) fn begin(mut claim: Claim, keeping: Keeping<'_>) -> io::Result<Option<Draft>> {
        let Keeping { key, request, said, modified, etag, extent, head, temporary } = keeping;
        let variant = claim.main.variant(&said.vary, request);
        // A variant's place is for what varies as the entry does that has led to it.
        if claim.key != claim.main && (said.vary.is_empty() || claim.key != variant) {
            let main = claim.main;
            if claim.move_to(main).is_err() {
                return Ok(None);
            }
        }
        // A tag of this size is none that anybody wants back.
        let etag = if etag.len() > TAG_MAX { Bytes::new() } else { etag };
        let facts =
            Facts { validity: said.validity, modified, etag, vary: said.vary.into(), variant, extent };
        let preface = Preface { facts, key: key.clone(), head: head.into(), body_length: 0 };
        if preface.length() > PREFACE_MAX {
            return Ok(None);
        }
        let zone = claim.store.zone();
        let file = Spool::create(temporary_folder(&zone, temporary), Afterwards::Removed)?;
        let start = preface.length() as u64;
        let most = zone.max_size.unwrap_or(u64::MAX);
        Ok(Some(Draft { file: Rc::new(file), preface, start, claim, most }))
    }
}

impl Deposit for Draft {
    fn file(&self) -> (Rc<Spool>, u64) {
        (Rc::clone(&self.file), self.start)
    }

    fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        let length = self.preface.body_length + piece.len() as u64;
        if self.start + length > self.most {
            return Err(io::Error::other("it is larger than its zone"));
        }
        self.file.write(self.start + self.preface.body_length, piece)?;
        self.preface.body_length = length;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let Draft { file, preface, start, claim, .. } = *self;
        let bytes = preface.write().ok_or_else(|| io::Error::other("it has too long a key"))?;
        file.write(0, &bytes)?;
        let store = Arc::clone(&claim.store);
        let path = store.path_of(claim.key);
        match file.move_to(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), create_folder)?;
                file.move_to(&path)?;
            }
            moved => moved?,
        }
        let (most, size) = {
            let mut state = store.state();
            state.index.store(claim.key, on_disk(start + preface.body_length));
            (state.zone.max_size, state.index.extent().1)
        };
        if most.is_some_and(|most| size > most) {
            store.crowded.notify_one();
        }
        store.counts.bytes_stored.fetch_add(preface.body_length, Ordering::Relaxed);
        Ok(())
    }
}

/// A longer tag is not remembered, as in nginx.
const TAG_MAX: usize = 128;
