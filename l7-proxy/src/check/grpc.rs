//! The question of gRPC's own health protocol (`grpc.health.v1.Health/Check`), and its answer.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Checked, exchange};
use crate::model::GrpcCheck;

/// Asks a server once, on a connection of its own.
///
/// # Errors
/// In words, why it did not pass.
pub(super) async fn ask(
    checked: &Checked,
    check: &GrpcCheck,
    authority: &str,
    server: SocketAddr,
) -> Result<(), String> {
    let stream = exchange::reach(checked, checked.target(server), Some(vec![b"h2".to_vec()])).await?;
    let patience = checked.read_timeout;
    let (mut sender, connection) = within(patience, h2::client::handshake(stream)).await?;
    let _frames = Frames(tokio::task::spawn_local(async move {
        // What goes wrong is told to whoever waits for an answer.
        let _ = connection.await;
    }));
    let scheme = if checked.tls.is_some() { "https" } else { "http" };
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(())
        .map_err(|error| error.to_string())?;
    let (response, mut body) = sender.send_request(request, false).map_err(|error| error.to_string())?;
    body.send_data(question(&check.service), true).map_err(|error| error.to_string())?;
    let (head, body) = within(patience, response).await?.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("HTTP {}", head.status.as_u16()));
    }
    let (message, trailers) = within(patience, whole(body)).await?;
    // An answer without a message has everything in its head.
    let status = grpc_status(&head.headers).or_else(|| trailers.as_ref().and_then(grpc_status));
    judge(check, status, &message)
}

/// The task that moves the frames of a connection; it ends when dropped.
struct Frames(JoinHandle<()>);

impl Drop for Frames {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn within<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, h2::Error>>,
) -> Result<T, String> {
    let answered = timeout(patience, answer).await;
    answered.map_err(|_| "the answer timed out".to_owned())?.map_err(|error| error.to_string())
}

/// The message that asks for a service, with the five bytes before it.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(SERVICE);
        // As long as the configuration allows: one byte says it.
        message.put_u8(u8::try_from(service.len()).unwrap_or(u8::MAX));
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

/// Reads an answer, as far as it is looked at.
async fn whole(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        message.extend_from_slice(&data[..data.len().min(MESSAGE_MAX - message.len())]);
    }
    Ok((message, body.trailers().await?))
}

fn grpc_status(fields: &HeaderMap) -> Option<u32> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn judge(check: &GrpcCheck, status: Option<u32>, message: &[u8]) -> Result<(), String> {
    match status {
        Some(status) if check.status == Some(status) => Ok(()),
        Some(0) if serving(message) => Ok(()),
        Some(0) => Err("not serving".to_owned()),
        Some(status) => Err(format!("gRPC status {status}")),
        None => Err("no gRPC status".to_owned()),
    }
}

/// Whether a message says that the service serves.
fn serving(message: &[u8]) -> bool {
    matches!(message, [0, _, _, _, _, STATUS, SERVING, ..])
}

/// The first field of the question, a text.
const SERVICE: u8 = 0x0a;

/// The first field of the answer, a number.
const STATUS: u8 = 0x08;

/// What the number says of a service that is well.
const SERVING: u8 = 1;

/// How much of an answer is read.
const MESSAGE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_names_the_service_if_there_is_one() {
        assert_eq!(question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    }

    #[test]
    fn server_is_well_that_serves_or_has_the_status_that_is_wanted() {
        let well = [0, 0, 0, 0, 2, 8, 1];
        let ill = [0, 0, 0, 0, 2, 8, 2];
        let any = GrpcCheck { service: String::new(), status: None };
        let unimplemented = GrpcCheck { status: Some(12), ..any.clone() };
        assert_eq!(judge(&any, Some(0), &well), Ok(()));
        assert_eq!(judge(&any, Some(0), &ill), Err("not serving".to_owned()));
        assert_eq!(judge(&any, Some(0), &[0, 0, 0, 0, 0]), Err("not serving".to_owned()));
        assert_eq!(judge(&any, Some(12), &[]), Err("gRPC status 12".to_owned()));
        assert_eq!(judge(&any, None, &well), Err("no gRPC status".to_owned()));
        assert_eq!(judge(&unimplemented, Some(12), &[]), Ok(()));
        assert_eq!(judge(&unimplemented, Some(0), &well), Ok(()));
    }
}
