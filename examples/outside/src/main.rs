//! A program of somebody else's that has all three crates in it: a balancer of its own, a director for
//! streams, and an HTTP proxy, both as a service and for connections that it has accepted itself.
//!
//! `examples/outside/run` builds it beside the workspace and not in it, as `.ci/run` does. It has no
//! configuration file, checks what it sees, and ends.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use l4_proxy::{Ended, Settings as Terms};
use l7_proxy::Proxy;
use l7_proxy::daemon::{Daemon, Entry, Options};
use l7_proxy::embed::{Body, Client, Scheme};
use l7_proxy::http::{Request, Response, StatusCode};
use l7_proxy::model::{
    AddHeader, Config, Handler, Http, Keepalive, Listen, Location, Matcher, ProxySettings, Return,
    ReturnBody, Server, SetHeader, Settings, Upstream, VirtualServer, When,
};
use lvs_core::{Algorithm, Director, Event, Flow, ServerConfig, ServiceConfig, ServiceKey, Weight};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

type Fault = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Fault> {
    // The runtime is the program's, of whatever kind it likes.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, everything()).await? })
}

async fn everything() -> Result<(), Fault> {
    choices()?;
    let origins = [origin("one").await?, origin("two").await?];
    service(origins).await?;
    // A proxy for connections stays on its thread; streams of any runtime may be handed to it there.
    let web = connections(origins)?;
    stream(web).await?;
    println!("all three are in one program");
    Ok(())
}

/// Chooses servers for something that is no proxy at all: this program has a clock and sockets of its own.
fn choices() -> Result<(), Fault> {
    let director = Director::new();
    let jobs = ServiceKey::name("jobs");
    let mut heavy = ServerConfig::new("10.0.0.1:80".parse()?);
    heavy.weight = Weight::new(2)?;
    let first = heavy.address.ip();
    let service = ServiceConfig::new(jobs.clone(), Algorithm::Wrr).server(heavy);
    director.add_service(service.server(ServerConfig::new("10.0.0.2:80".parse()?)))?;
    let now = l4_proxy::clock::now();
    let mut counts = [0; 2];
    for client in 0..6_u8 {
        let lease = director.schedule(&jobs, &Flow::new(([192, 0, 2, client], 4711).into()), now)?;
        counts[usize::from(lease.server().ip() != first)] += 1;
        director.report(&lease, Event::Succeeded, now);
    }
    assert_eq!(counts, [4, 2], "by weight");
    println!("six jobs: {counts:?}");
    Ok(())
}

/// What the proxy does, said in Rust: everything to the origins, but for one page.
fn site(origins: [SocketAddr; 2], listen: Vec<Listen>) -> Result<Http, Fault> {
    let mut http = Http::default();
    let mut upstream = Upstream::new("origins", origins.map(Server::new).to_vec());
    upstream.keepalive = Some(Keepalive::new(8));
    let pass = http.add_upstream(upstream);

    let mut proxy = ProxySettings::default();
    proxy.set_headers.push(SetHeader::new("X-Real-IP", "$remote_addr")?);
    let added = vec![AddHeader::new("X-Served-By", "$upstream_addr", When::Always)?];
    let settings = Settings { proxy: proxy.into(), add_headers: added, ..Settings::default() };
    let mut all = Location::new(Matcher::Prefix(b"/".into()), settings);
    all.handler = Handler::Proxy(pass);
    let mut closed = Location::new(Matcher::Exact(b"/closed".into()), Settings::default());
    closed.reply = Some(Return { status: 403, body: ReturnBody::Text("closed".into()) });

    http.servers.push(VirtualServer { listen, locations: vec![all, closed], ..VirtualServer::default() });
    Ok(http)
}

/// Answers requests that the program has already, whoever it has them from.
async fn service(origins: [SocketAddr; 2]) -> Result<(), Fault> {
    let config = Config { http: Some(site(origins, Vec::new())?), ..Config::default() };
    let daemon = Daemon::start(config, Options { entry: Entry::Program, ..Options::default() })?;
    let mut service = daemon.service();
    let mut names = [ask(&mut service, "/a").await?.1, ask(&mut service, "/b").await?.1];
    names.sort();
    assert_eq!(names, ["one serves 192.0.2.7", "two serves 192.0.2.7"], "in turns");
    assert_eq!(ask(&mut service, "/closed").await?, (StatusCode::FORBIDDEN, "closed".to_owned()));
    println!("as a service: {names:?}");
    assert!(daemon.shutdown(PATIENCE).await, "nothing is left to be done");
    Ok(())
}

/// Asks any service of tower's for a page.
async fn ask<S>(service: &mut S, path: &str) -> Result<(StatusCode, String), Fault>
where
    S: Service<Request<Empty<&'static [u8]>>, Response = Response<Body>, Error = Infallible>,
{
    let client = Client { addr: "192.0.2.7:4711".parse()?, scheme: Scheme::Https };
    let request = Request::get(format!("https://shop.example{path}")).extension(client).body(Empty::new())?;
    poll_fn(|cx| service.poll_ready(cx)).await?;
    let response = service.call(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec())?))
}

/// Has connections answered that somebody else accepts; returns where.
fn connections(origins: [SocketAddr; 2]) -> Result<SocketAddr, Fault> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let http = site(origins, vec![Listen::new(addr)])?;
    std::thread::spawn(move || -> Result<(), Fault> {
        let local =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
        local.block_on(async {
            let proxy = Proxy::new(http)?;
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, peer) = listener.accept().await?;
                let proxy = proxy.clone();
                tokio::task::spawn_local(async move { proxy.handle(stream, peer).await });
            }
        })
    });
    Ok(addr)
}

/// Carries a stream to one of several servers, and knows afterwards what became of it.
async fn stream(server: SocketAddr) -> Result<(), Fault> {
    let director = Arc::new(Director::new());
    let web = ServiceKey::name("web");
    let service = ServiceConfig::new(web.clone(), Algorithm::Wlc).server(ServerConfig::new(server));
    director.add_service(service)?;
    let proxy = l4_proxy::Proxy::new(Arc::clone(&director), web, Terms::default());

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let carried = tokio::spawn(async move {
        let (stream, peer) = listener.accept().await?;
        Ok::<_, std::io::Error>(proxy.handle(stream, peer).await)
    });
    let mut client = TcpStream::connect(addr).await?;
    client.write_all(b"GET /c HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nX-Served-By: 127.0.0.1:"), "{answer}");
    assert!(answer.ends_with(" serves 127.0.0.1"), "{answer}");
    drop(client);
    let outcome = carried.await??;
    assert!(matches!(outcome.ended, Ended::Relayed(..)), "{outcome:?}");
    assert_eq!(outcome.to_client, answer.len() as u64);
    let load = director.stats()[0].servers[0].load;
    assert_eq!((load.active, load.inactive), (0, 0), "the lease is given back");
    println!("as a stream: {} bytes to the client", outcome.to_client);
    Ok(())
}

/// An HTTP server that says its name and whom it serves.
async fn origin(name: &'static str) -> Result<SocketAddr, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, name));
        }
    });
    Ok(addr)
}

async fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    let mut client = String::new();
    while let Some(line) = lines.next_line().await? {
        if let Some(ip) = line.strip_prefix("X-Real-IP: ") {
            client = ip.to_owned();
        }
        if line.is_empty() {
            let body = format!("{name} serves {client}");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            write.write_all((head + &body).as_bytes()).await?;
        }
    }
    Ok(())
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
