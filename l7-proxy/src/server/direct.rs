//! Requests that come by no connection of ours: from a program, or to be explained.
//!
//! Each is treated as a stream of a connection of its own, so that everything behind
//! [`handle::answer`] knows one kind of request. Whoever hands it in sees to the client's time limits.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};

use super::session::{Protocol, Session};
use super::streams::Streams;
use super::{Proxy, Worker};
use crate::body::{Body, Cut, Received};
use crate::handle;
use crate::variable::Scheme;

/// Where a request comes from and goes to, without a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Direct {
    pub(crate) remote: SocketAddr,
    /// The address of the configuration that it counts as received at.
    pub(crate) local: SocketAddr,
    pub(crate) scheme: Scheme,
}

impl Proxy {
    /// Answers a request that comes by no connection; `None` if the configuration does not listen at
    /// its address.
    pub(crate) fn answer(
        &self,
        direct: Direct,
        request: Request<Received>,
    ) -> Option<impl Future<Output = Result<Response<Body>, Cut>> + use<>> {
        let worker: &Rc<Worker> = &self.worker;
        let generation = worker.current();
        let entry = generation.site.router.entry(direct.local)?;
        let streams = Protocol::Http2(Streams::new());
        let mut connection =
            Session::new(Rc::clone(worker), direct.remote, direct.local, generation, entry, streams, None);
        connection.scheme = direct.scheme;
        let request = plain(request);
        Some(handle::answer(Session::stream(&Rc::new(connection)), request))
    }

    /// Explains a request: what would be answered, and why.
    pub(crate) async fn explain(&self, parts: Parts, direct: Direct) -> String {
        let empty: Pin<Box<_>> = Box::pin(Empty::<Bytes>::new().map_err(|never| match never {}));
        let Some(answered) = self.answer(direct, Request::from_parts(parts, Received::Other(empty))) else {
            return "no server listens at this address\n".to_owned();
        };
        match answered.await {
            Ok(response) => {
                let bytes = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
                String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
            }
            Err(cut) => format!("{cut}\n"),
        }
    }
}

/// A name where a program may have left it in the URL, and no other protocol to change to: there is
/// no connection that could.
fn plain(mut request: Request<Received>) -> Request<Received> {
    let authority = request.uri().authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok());
    let headers = request.headers_mut();
    headers.remove(UPGRADE);
    headers.remove(CONNECTION);
    if let Some(authority) = authority
        && !headers.contains_key(HOST)
    {
        headers.insert(HOST, authority);
    }
    request
}
