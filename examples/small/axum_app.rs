//! An axum app that is a load balancer as well.
//!
//! `cargo run -p examples --example axum_app`
//!
//! One route is the app's own, everything else the proxy's: files under `/static/`, and the rest from
//! two origins in turns. Bodies pass through as they come, in both directions. The proxy listens
//! nowhere: its requests are those that axum hands it.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use l7_proxy::conf;
use l7_proxy::daemon::{Daemon, Entry, Options};
use l7_proxy::embed::Client;
use l7_proxy::variable::Scheme;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Fault = Box<dyn Error + Send + Sync>;

/// Says who asks, for logs, `allow` and `ip_hash`.
async fn name_client(
    ConnectInfo(addr): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(Client { addr, scheme: Scheme::Http });
    next.run(request).await
}

/// The proxy by itself: nginx's words, without a file.
fn proxy(origins: [SocketAddr; 2], folder: &Path) -> Result<Daemon, Fault> {
    let [one, two] = origins;
    let text = format!(
        "http {{
            access_log off;
            upstream origins {{ server {one}; server {two}; keepalive 8; }}
            server {{
                location / {{
                    proxy_pass http://origins;
                    proxy_http_version 1.1;
                    proxy_set_header Connection \"\";
                    proxy_set_header X-Real-IP $remote_addr;
                    proxy_request_buffering off;
                }}
                location /static/ {{ root .; }}
            }}
        }}"
    );
    let config = conf::parse(&text, folder)?.config;
    Ok(Daemon::start(config, Options { entry: Entry::Program, ..Options::default() })?)
}

/// An application server: says its name and whom it serves, and sends back what it is sent.
async fn origin(name: &'static str) -> Result<SocketAddr, Fault> {
    let named = move |request: Request| async move {
        let client = request.headers().get("x-real-ip").and_then(|value| value.to_str().ok());
        format!("{name} serves {}", client.unwrap_or("nobody"))
    };
    let echo = |request: Request| async { Response::new(request.into_body()) };
    let app: Router = Router::new().route("/name", get(named)).route("/echo", post(echo));
    serve(app).await
}

/// Serves an app on a port of its own.
async fn serve(app: Router) -> Result<SocketAddr, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(addr)
}

/// A client that sees when something comes, not only what.
struct Visitor {
    stream: TcpStream,
    seen: String,
}

impl Visitor {
    async fn send(addr: SocketAddr, text: &str) -> Result<Visitor, Fault> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(text.as_bytes()).await?;
        Ok(Visitor { stream, seen: String::new() })
    }

    /// Reads until this has come.
    async fn wait_for(&mut self, text: &str) -> Result<(), Fault> {
        while !self.seen.contains(text) {
            let mut piece = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut piece)).await??;
            if read == 0 {
                return Err(format!("ended without {text:?}: {}", self.seen).into());
            }
            self.seen.push_str(std::str::from_utf8(&piece[..read])?);
        }
        Ok(())
    }
}

/// Returns what is at a path.
async fn ask(addr: SocketAddr, path: &str) -> Result<String, Fault> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
    let mut visitor = Visitor::send(addr, &request).await?;
    tokio::time::timeout(PATIENCE, visitor.stream.read_to_string(&mut visitor.seen)).await??;
    let (head, body) = visitor.seen.split_once("\r\n\r\n").ok_or("no head")?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    Ok(body.to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("static"))?;
    std::fs::write(folder.path().join("static/hello.txt"), "hello from a file")?;

    let daemon = proxy([origin("one").await?, origin("two").await?], folder.path())?;
    let app: Router = Router::new()
        .route("/health", get(|| async { Body::from("the app is well") }))
        .fallback_service(daemon.service())
        .layer(from_fn(name_client));
    let addr = serve(app).await?;

    println!("{}", ask(addr, "/health").await?);
    println!("{}", ask(addr, "/static/hello.txt").await?);
    let mut names = [ask(addr, "/name").await?, ask(addr, "/name").await?];
    names.sort();
    assert_eq!(names, ["one serves 127.0.0.1", "two serves 127.0.0.1"]);
    println!("{}", names.join(", "));

    // Each piece is back before the next is sent: nobody on the way waits for the whole.
    let head = "POST /echo HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut visitor = Visitor::send(addr, head).await?;
    for piece in ["first", "second", "third"] {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        visitor.stream.write_all(chunk.as_bytes()).await?;
        visitor.wait_for(piece).await?;
    }
    visitor.stream.write_all(b"0\r\n\r\n").await?;
    visitor.wait_for("\r\n0\r\n\r\n").await?;
    println!("three pieces came back one by one");

    assert!(daemon.shutdown(PATIENCE).await, "nothing is left to be done");
    Ok(())
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);
