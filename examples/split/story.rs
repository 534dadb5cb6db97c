//! The whole story, played by the program itself: `--check`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::site::{Site, say};

/// Plays it; says what went wrong first.
pub(crate) fn play(site: &mut Site) -> Result<(), String> {
    let (web, sticky) = (site.ports().web(), site.ports().sticky());

    let pages = titles(web, "/", 10)?;
    expect_even(&pages, ["Static page, nginx1", "Static page, nginx2"])?;
    say(&format!("ok    static pages alternate: {}", counted(&pages)));

    let pages = titles(web, "/index.jsp", 20)?;
    expect_even(&pages, ["Dynamic page 1", "Dynamic page 2"])?;
    say(&format!("ok    dynamic pages alternate: {}", counted(&pages)));

    let page = get(web, "/index.jsp")?.1;
    for wanted in ["host: 127.0.0.1", "x-real-ip: 127.0.0.1", "x-forwarded-for: 127.0.0.1"] {
        if !page.to_lowercase().contains(wanted) {
            return Err(format!("the origin did not see {wanted} but\n{page}"));
        }
    }
    say("ok    the origins see Host, X-Real-IP and X-Forwarded-For");

    for path in [
        "/source.jsp",
        "/source.JSP",
        "/source%2ejsp",
        "/source.jsp/",
        "/source.jsp;jsessionid=1",
        "/source.jsp%20",
    ] {
        if get(web, path)?.1.contains("<%") {
            return Err(format!("{path}: JSP source left as a static file"));
        }
    }
    say("ok    JSP source in the static folder does not leave it, however it is spelled");

    let pages = titles(sticky, "/", 10)?;
    if counts(&pages).len() != 1 {
        return Err(format!("a persistent client was moved: {}", counted(&pages)));
    }
    say(&format!("ok    a persistent client stays: {}", counted(&pages)));

    let pages = under_load(web, "/index.jsp", Moment::During, || site.kill_origin(0))?;
    say(&format!("ok    origin 1 killed in the middle of requests, nothing lost: {}", counted(&pages)));
    expect_only(&titles(web, "/index.jsp", 4)?, "Dynamic page 2")?;

    site.revive_origin(0)?;
    wait_for(web, "/index.jsp", "Dynamic page 1")?;
    say("ok    origin 1 revived and back");

    // What is open on a proxy when it dies, dies with it: so it dies when nothing is.
    let pages = under_load(web, "/", Moment::Between, || site.kill_proxy(0))?;
    say(&format!("ok    nginx1 killed between requests, nothing lost: {}", counted(&pages)));
    expect_only(&titles(web, "/", 4)?, "Static page, nginx2")?;

    site.revive_proxy(0)?;
    wait_for(web, "/", "Static page, nginx1")?;
    say("ok    nginx1 revived and back");

    let pages = titles(web, "/", 10)?;
    expect_even(&pages, ["Static page, nginx1", "Static page, nginx2"])?;
    say(&format!("ok    static pages alternate again: {}", counted(&pages)));
    Ok(())
}

/// The headings of this many answers, one connection each; all must be 200.
fn titles(address: SocketAddr, path: &str, count: usize) -> Result<Vec<String>, String> {
    (0..count).map(|_| title(address, path)).collect()
}

fn title(address: SocketAddr, path: &str) -> Result<String, String> {
    let (status, page) = get(address, path)?;
    let title = page.split_once("<h1>").and_then(|(_, rest)| rest.split_once("</h1>"));
    match title {
        Some((title, _)) if status == 200 => Ok(title.to_owned()),
        _ => Err(format!("http://{address}{path} answered {status}:\n{page}")),
    }
}

/// Status and body of one request on a connection of its own.
fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let ask = || -> io::Result<String> {
        let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("http://{address}{path}: {error}"))?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| format!("http://{address}{path} gave no whole answer:\n{answer}"))
}

/// When something happens under load.
enum Moment {
    /// While requests are on their way.
    During,
    /// When every request that was begun has been answered.
    Between,
}

/// Asks from several threads while `event` happens, and a while longer. Every answer must be 200.
fn under_load(
    address: SocketAddr,
    path: &str,
    moment: Moment,
    event: impl FnOnce(),
) -> Result<Vec<String>, String> {
    let (over, asked, asking) = (AtomicBool::new(false), AtomicUsize::new(0), RwLock::new(()));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut pages = Vec::new();
                    while !over.load(Ordering::Relaxed) && pages.len() < REQUESTS_MAX {
                        let _asking = asking.read();
                        pages.push(title(address, path)?);
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<_, String>(pages)
                })
            })
            .collect();
        let enough = |count| {
            let began = Instant::now();
            while asked.load(Ordering::Relaxed) < count && began.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(5));
            }
        };
        enough(LOAD_BEFORE);
        {
            let _nobody_asks = matches!(moment, Moment::Between).then(|| asking.write());
            event();
        }
        enough(asked.load(Ordering::Relaxed) + LOAD_AFTER);
        over.store(true, Ordering::Relaxed);
        let mut pages = Vec::new();
        for client in clients {
            pages.extend(client.join().map_err(|_| "a client panicked".to_owned())??);
        }
        Ok(pages)
    })
}

fn wait_for(address: SocketAddr, path: &str, wanted: &str) -> Result<(), String> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if title(address, path)? == wanted {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("\"{wanted}\" did not come back"))
}

fn counts(pages: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for page in pages {
        *counts.entry(page.as_str()).or_default() += 1;
    }
    counts
}

fn counted(pages: &[String]) -> String {
    counts(pages).iter().map(|(page, count)| format!("{page} × {count}")).collect::<Vec<_>>().join(", ")
}

fn expect_even(pages: &[String], wanted: [&str; 2]) -> Result<(), String> {
    let counts = counts(pages);
    if counts.len() == 2 && wanted.iter().all(|page| counts.get(page) == Some(&(pages.len() / 2))) {
        return Ok(());
    }
    Err(format!("wanted {} in turn, got {}", wanted.join(" and "), counted(pages)))
}

fn expect_only(pages: &[String], wanted: &str) -> Result<(), String> {
    if counts(pages).keys().eq([&wanted]) {
        Ok(())
    } else {
        Err(format!("wanted {wanted}, got {}", counted(pages)))
    }
}

const PATIENCE: Duration = Duration::from_secs(15);

const CLIENTS: usize = 4;

/// Requests before something is killed under load.
const LOAD_BEFORE: usize = 100;

/// Requests after it.
const LOAD_AFTER: usize = 200;

const REQUESTS_MAX: usize = 100_000;
