//! A server's answer on its way into the cache, or into a file, and to its client at the same time.
//!
//! It is read as fast as its server sends it, whatever its client does: others may wait for it, and a client
//! that goes does not take the answer with it. The client gets what has been written so far. Should the file
//! fail, the answer goes on to the client alone.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tracing::error;

use super::pace::Pace;
use super::{Cut, Kind};
use crate::error_log::Errno;
use crate::forward::Breakage;
use crate::spool::Spool;

/// What an answer is written to; dropped before its end it leaves nothing.
pub(crate) trait Deposit {
    /// The file, and where the body begins in it.
    fn file(&self) -> (Rc<Spool>, u64);

    /// Writes a piece of the body.
    ///
    /// # Errors
    /// It cannot be written, or there is no room for so much.
    fn append(&mut self, piece: &[u8]) -> io::Result<()>;

    /// Shows it to everybody.
    ///
    /// # Errors
    /// It cannot be written, or not be moved to its place.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// What reads an answer and writes it.
pub(crate) struct Filling {
    /// `None` when it has ended, or goes to its client alone.
    inner: Option<Kind>,
    draft: Option<Box<dyn Deposit>>,
    /// What came behind the body.
    trailers: Option<HeaderMap>,
    /// `None` where nothing limits the rate.
    pace: Option<Pace>,
    shared: Rc<Shared>,
}

/// The same answer for its client.
pub(crate) struct Filled {
    shared: Rc<Shared>,
    /// How much of the body was taken, or is not wanted.
    at: u64,
    /// Where what is wanted ends.
    end: Option<u64>,
    /// How long the whole is, if that is known.
    size: Option<u64>,
    breakage: Option<Box<Breakage>>,
    has_ended: bool,
}

struct Shared {
    file: Rc<Spool>,
    /// Where the body begins in it.
    start: u64,
    progress: RefCell<Progress>,
}

/// How far it has come.
#[derive(Default)]
struct Progress {
    /// Bytes of the body that were written.
    written: u64,
    /// The last of them, or what follows them and could not be written.
    latest: Bytes,
    end: Option<End>,
    /// What is left of it, when it is not written any more.
    rest: Option<Kind>,
    reader: Option<Waker>,
    /// Bytes to the server and from it.
    traffic: (u64, u64),
    breakage: Option<Box<Breakage>>,
}

enum End {
    Whole(Option<HeaderMap>),
    Broken(Cut),
}

impl Filling {
    /// Writes an answer, and hands it to a reader, who knows from its head how long it is. It is read at no more
    /// than `rate` bytes per second; a rate of 0 sets no limit.
    pub(crate) fn new(
        inner: Kind,
        draft: Box<dyn Deposit>,
        size: Option<u64>,
        rate: u64,
    ) -> (Filling, Filled) {
        let (file, start) = draft.file();
        let traffic = inner.traffic().unwrap_or_default();
        let progress = RefCell::new(Progress { traffic, ..Progress::default() });
        let shared = Rc::new(Shared { file, start, progress });
        let pace = (rate > 0).then(|| Pace::new(rate, 0));
        let reader =
            Filled { shared: Rc::clone(&shared), at: 0, end: None, size, breakage: None, has_ended: false };
        (Filling { inner: Some(inner), draft: Some(draft), trailers: None, pace, shared }, reader)
    }

    /// Reads and writes until nothing more is to be written.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let frame = match &mut self.pace {
                Some(pace) if !pace.is_empty() => Some(Ok(Frame::data(ready!(pace.poll(cx))))),
                _ => {
                    let Some(inner) = &mut self.inner else { return Poll::Ready(()) };
                    let frame = ready!(inner.poll_piece(cx));
                    self.shared.progress.borrow_mut().traffic = inner.traffic().unwrap_or_default();
                    match (&mut self.pace, frame) {
                        (Some(pace), Some(Ok(frame))) if frame.is_data() => {
                            pace.hold(frame.into_data().unwrap_or_default());
                            continue;
                        }
                        (_, frame) => frame,
                    }
                }
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        if !self.write(piece) {
                            return Poll::Ready(());
                        }
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                None => {
                    self.finish();
                    return Poll::Ready(());
                }
                Some(Err(cut)) => {
                    let breakage = self.inner.take().and_then(Kind::into_breakage);
                    self.draft = None;
                    self.shared.tell(|progress| {
                        (progress.end, progress.breakage) = (Some(End::Broken(cut)), breakage);
                    });
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Writes a piece; `false` if there is nothing more to be done.
    fn write(&mut self, piece: Bytes) -> bool {
        let Some(draft) = &mut self.draft else { return false };
        if piece.is_empty() {
            return true;
        }
        match draft.append(&piece) {
            Ok(()) => {
                self.shared.tell(|progress| {
                    progress.written += piece.len() as u64;
                    progress.latest = piece;
                });
                true
            }
            Err(error) => {
                error!("an answer cannot be kept ({})", Errno(&error));
                self.give_up(piece);
                false
            }
        }
    }

    /// Leaves the rest to the client, behind this piece.
    pub(crate) fn give_up(&mut self, mut piece: Bytes) {
        self.draft = None;
        // What waits for its time lies between the piece and what has not been read.
        let held = self.pace.as_mut().map(Pace::release).unwrap_or_default();
        if !held.is_empty() {
            piece = [piece, held].concat().into();
        }
        let rest = self.inner.take();
        if Rc::strong_count(&self.shared) > 1 {
            self.shared.tell(|progress| (progress.latest, progress.rest) = (piece, rest));
        }
    }

    fn finish(&mut self) {
        self.inner = None;
        let trailers = self.trailers.take();
        if let Some(draft) = self.draft.take()
            && let Err(error) = draft.finish()
        {
            error!("an answer cannot be kept ({})", Errno(&error));
        }
        self.shared.tell(|progress| progress.end = Some(End::Whole(trailers)));
    }
}

impl Shared {
    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.borrow_mut();
        change(&mut progress);
        if let Some(reader) = progress.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Filling {
    /// Nobody waits for what does not come.
    fn drop(&mut self) {
        if self.inner.take().is_some() {
            self.shared.tell(|progress| progress.end = Some(End::Broken(Cut::Server)));
        }
    }
}

impl Filled {
    /// Takes a part of the body only.
    pub(crate) fn part(&mut self, start: u64, end: u64) {
        (self.at, self.end) = (start, Some(end));
    }

    /// How many bytes there are to come in all, if that is known.
    pub(super) fn exact_size(&self) -> Option<u64> {
        let progress = self.shared.progress.borrow();
        let whole = match progress.end {
            Some(End::Whole(_)) => Some(progress.written),
            _ => self.size,
        };
        self.end.or(whole).map(|end| end.saturating_sub(self.at))
    }

    /// Bytes to the server and from it.
    pub(super) fn traffic(&self) -> (u64, u64) {
        self.shared.progress.borrow().traffic
    }

    /// How the server broke it off.
    pub(super) fn breakage(&self) -> Option<&Breakage> {
        self.breakage.as_deref()
    }

    /// Whether the server may still break it off.
    pub(super) fn may_break_off(&self) -> bool {
        !matches!(self.shared.progress.borrow().end, Some(End::Whole(_)))
    }

    /// Whether all of it was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.has_ended || self.end.is_some_and(|end| self.at >= end) {
            self.has_ended = true;
            return Poll::Ready(None);
        }
        let mut progress = self.shared.progress.borrow_mut();
        let Progress { written, latest, end, rest, .. } = &mut *progress;
        if self.at < *written {
            let taken = take(&self.shared, self.at, *written, latest, rest.is_some());
            drop(progress);
            return Poll::Ready(Some(taken.map(|piece| self.emit(piece))));
        }
        if let Some(inner) = rest {
            // What could not be written, and what follows it.
            let piece = std::mem::take(latest);
            let frame = match piece.is_empty() {
                true => ready!(inner.poll_piece(cx)),
                false => Some(Ok(Frame::data(piece))),
            };
            let traffic = inner.traffic().unwrap_or_default();
            if let Some(Err(_)) = &frame {
                self.breakage = rest.take().and_then(Kind::into_breakage);
            }
            progress.traffic = traffic;
            let Some(Ok(frame)) = frame else {
                self.has_ended = frame.is_none();
                return Poll::Ready(frame);
            };
            return match frame.into_data() {
                Ok(piece) => {
                    let before = progress.written;
                    progress.written += piece.len() as u64;
                    drop(progress);
                    // What lies before the part that is wanted is passed over.
                    let skipped = usize::try_from(self.at - before).unwrap_or(usize::MAX).min(piece.len());
                    Poll::Ready(Some(Ok(self.emit(piece.slice(skipped..)))))
                }
                Err(frame) => {
                    self.has_ended = true;
                    Poll::Ready(Some(Ok(frame)))
                }
            };
        }
        match end.take() {
            Some(End::Whole(trailers)) => {
                *end = Some(End::Whole(None));
                drop(progress);
                self.has_ended = true;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Some(End::Broken(cut)) => {
                self.breakage = progress.breakage.take();
                progress.end = Some(End::Broken(cut));
                Poll::Ready(Some(Err(cut)))
            }
            None => {
                progress.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Passes a piece on, up to where what is wanted ends.
    fn emit(&mut self, mut piece: Bytes) -> Frame<Bytes> {
        if let Some(end) = self.end {
            piece.truncate(usize::try_from(end - self.at).unwrap_or(usize::MAX));
        }
        self.at += piece.len() as u64;
        let progress = self.shared.progress.borrow();
        let is_all = matches!(progress.end, Some(End::Whole(None))) && self.at >= progress.written;
        self.has_ended = is_all || self.end.is_some_and(|end| self.at >= end);
        Frame::data(piece)
    }
}

/// Returns what comes next of what was written.
fn take(shared: &Shared, at: u64, written: u64, latest: &Bytes, is_beyond: bool) -> Result<Bytes, Cut> {
    let latest_at = written.saturating_sub(latest.len() as u64);
    if at >= latest_at && !is_beyond {
        // Most readers keep up.
        return Ok(latest.slice(usize::try_from(at - latest_at).unwrap_or(0)..));
    }
    let most = usize::try_from(written - at).unwrap_or(PIECE).min(PIECE);
    shared.file.read(shared.start + at, most).map_err(|_| Cut::File)
}

/// How much is read at a time.
const PIECE: usize = 64 * 1024;
