//! Two directors in one process, each with its own decisions, on a runtime of the program's.
//!
//! `cargo run -p examples --example two_directors`
//!
//! The first serves a listener until it is told to stop, and lets its connections end. The second is
//! handed a connection that the program accepted itself, and says what became of it. Neither knows
//! of the other, and neither has a thread, a signal handler or a global.

#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use l4_proxy::{Proxy, Settings};
use lvs_core::{Algorithm, Director, ServerConfig, ServiceConfig, ServiceKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A director of its own for one service, which every server listed takes part in.
fn proxy(name: &str, servers: &[SocketAddr]) -> Result<(Arc<Director>, Proxy), Box<dyn Error>> {
    let director = Arc::new(Director::new());
    let key = ServiceKey::name(name);
    let service = ServiceConfig::new(key.clone(), Algorithm::Wlc);
    let service = servers.iter().fold(service, |service, server| service.server(ServerConfig::new(*server)));
    director.add_service(service)?;
    Ok((Arc::clone(&director), Proxy::new(director, key, Settings::default())))
}

/// A server that says who it is and sends back what it hears.
async fn server(name: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = client.split();
                // A client that has gone is none of its business.
                let _ = to.write_all(name.as_bytes()).await;
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(address)
}

/// Says something and returns the answer.
async fn ask(mut stream: TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (web, mail) = (server("web: ").await?, server("mail: ").await?);
    let (web_director, web_proxy) = proxy("web", &[web])?;
    let (mail_director, mail_proxy) = proxy("mail", &[mail])?;

    let entrance = TcpListener::bind("127.0.0.1:0").await?;
    let address = entrance.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    // Spawned on a runtime of many threads: what a proxy returns is `Send`.
    let serving = tokio::spawn({
        let proxy = web_proxy.clone();
        async move {
            let stopped = async { drop(stopped.await) };
            proxy.serve(entrance, stopped).await;
        }
    });
    let kept = TcpStream::connect(address).await?;
    println!("{}", ask(TcpStream::connect(address).await?, "GET /").await?);

    let own = TcpListener::bind("127.0.0.1:0").await?;
    let client = tokio::spawn({
        let address = own.local_addr()?;
        async move { ask(TcpStream::connect(address).await?, "EHLO").await }
    });
    let (accepted, peer) = own.accept().await?;
    let outcome = mail_proxy.handle(accepted, peer).await;
    println!("{} ({} bytes in, {} out)", client.await??, outcome.to_server, outcome.to_client);

    stop.send(()).map_err(|()| "serving ended by itself")?;
    serving.await?;
    println!("web accepts no more, and lets its last client end");
    assert_eq!(ask(kept, "GET /last").await?, "web: GET /last");
    while web_proxy.connections().count() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    let counts = |director: &Director| director.stats()[0].servers[0].connections;
    assert_eq!((counts(&web_director), counts(&mail_director)), (2, 1));
    println!("web carried 2 connections, mail 1");
    Ok(())
}
