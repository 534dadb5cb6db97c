//! Diagnostics of a request go to the logs of its location (`error_log`).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project::pin_project;

use crate::error_log;
use crate::server::Session;

/// Something that is done for a request.
#[pin_project]
pub(super) struct Logged<F> {
    #[pin]
    inner: F,
    session: Rc<Session>,
}

impl<F> Logged<F> {
    pub(super) fn new(session: Rc<Session>, inner: F) -> Logged<F> {
        Logged { inner, session }
    }
}

impl<F: Future> Future for Logged<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _within = error_log::within(this.session.places());
        this.inner.poll(cx)
    }
}
