//! Diagnostics of a request go to the logs of its location (`error_log`).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::error_log;
use crate::server::Session;

/// Something that is done for a request, in a place of its own.
pub(super) struct Logged<F: ?Sized> {
    inner: Pin<Box<F>>,
    session: Rc<Session>,
}

impl<F: ?Sized> Logged<F> {
    pub(super) fn new(session: Rc<Session>, inner: Pin<Box<F>>) -> Logged<F> {
        Logged { inner, session }
    }
}

impl<F: Future + ?Sized> Future for Logged<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _within = error_log::within(self.session.places());
        self.inner.as_mut().poll(cx)
    }
}
