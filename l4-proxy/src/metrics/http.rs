//! Just enough of HTTP to be scraped: one `GET /metrics` a connection, bounded in time, size and number.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Names;

/// Answers until it is dropped.
pub(crate) async fn serve<F>(listener: TcpListener, render: F)
where
    F: Fn(Names) -> Option<String> + Clone + 'static,
{
    let places = Arc::new(Semaphore::new(SCRAPERS_MAX));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "cannot accept a scraper");
                sleep(PAUSE).await;
                continue;
            }
        };
        let render = render.clone();
        tokio::task::spawn_local(async move {
            let answered = timeout(TIME, answer(stream, render)).await;
            if !matches!(answered, Ok(Ok(()))) {
                debug!("a scraper went without its answer");
            }
            drop(place);
        });
    }
}

async fn answer(mut stream: TcpStream, render: impl Fn(Names) -> Option<String>) -> io::Result<()> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        let mut part = [0; 1024];
        let read = stream.read(&mut part).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&part[..read]);
        if head.len() > HEAD_MAX {
            return reply(&mut stream, "431 Request Header Fields Too Large", "", "the head is too long\n")
                .await;
        }
    };
    let line = head[..end].split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next().unwrap_or_default(), words.next());
    if !version.is_some_and(|version| version.starts_with("HTTP/1.")) || words.next().is_some() {
        return reply(&mut stream, "400 Bad Request", "", "this is no request of HTTP/1\n").await;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match (method, path) {
        (Some("GET" | "HEAD"), "/metrics") => {
            let compatible = query.split('&').any(|part| part == "compat=node_ipvs");
            let names = if compatible { Names::WithNodeExporters } else { Names::Own };
            match render(names) {
                Some(text) if method == Some("GET") => reply(&mut stream, "200 OK", "", &text).await,
                Some(_) => reply(&mut stream, "200 OK", "", "").await,
                None => reply(&mut stream, "503 Service Unavailable", "", "the director is ending\n").await,
            }
        }
        (Some("GET" | "HEAD"), _) => {
            reply(&mut stream, "404 Not Found", "", "there is only /metrics\n").await
        }
        _ => {
            reply(&mut stream, "405 Method Not Allowed", "Allow: GET, HEAD\r\n", "only GET is answered\n")
                .await
        }
    }
}

async fn reply(stream: &mut TcpStream, status: &str, more: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n{more}\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await?;
    // What the client has sent beyond its request would turn the end into a reset.
    let mut rest = [0; 1024];
    for _ in 0..16 {
        if stream.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

const SCRAPERS_MAX: usize = 16;

const HEAD_MAX: usize = 8 << 10;

/// For one request and its answer.
const TIME: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(100);
