//! `SMTP_CHECK`: each host greets (220), takes a HELO (250) and lets go (221).

use lvs_core::Cause;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Report, origin, within};
use crate::keepalived::model::SmtpHost;
use crate::proxy::cause;

pub(super) async fn check(hosts: &[SmtpHost], helo: &str) -> Report {
    for host in hosts {
        let report = within(host.timeout, converse(host, helo)).await;
        if let Report::Failed(cause) = report {
            return Report::Failed(Cause::from(format!("SMTP at {}: {cause}", host.origin.target)));
        }
    }
    Report::Passed
}

async fn converse(host: &SmtpHost, helo: &str) -> Result<(), Cause> {
    let mut stream = origin::connect(&host.origin).await?;
    let mut unread = Vec::new();
    expect(&mut stream, &mut unread, "the greeting", "220").await?;
    say(&mut stream, &format!("HELO {helo}\r\n")).await?;
    expect(&mut stream, &mut unread, "HELO", "250").await?;
    say(&mut stream, "QUIT\r\n").await?;
    expect(&mut stream, &mut unread, "QUIT", "221").await
}

async fn say(stream: &mut TcpStream, line: &str) -> Result<(), Cause> {
    stream.write_all(line.as_bytes()).await.map_err(|error| cause(&error))
}

/// Reads an answer, of which each line but the last has a `-` after its code.
async fn expect(stream: &mut TcpStream, unread: &mut Vec<u8>, to: &str, code: &str) -> Result<(), Cause> {
    loop {
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            match (line.strip_prefix(code), line.as_bytes().get(3)) {
                (Some(_), Some(b'-')) => {}
                (Some(_), _) => return Ok(()),
                (None, _) => {
                    let shown: String =
                        line.chars().filter(|character| !character.is_control()).take(80).collect();
                    return Err(Cause::from(format!("{to} was answered with \"{shown}\"")));
                }
            }
        }
        if unread.len() > LINE_MAX {
            return Err(Cause::from(format!("the answer to {to} has no end")));
        }
        match stream.read_buf(unread).await {
            Ok(0) => return Err(Cause::from(format!("closed instead of answering {to}"))),
            Ok(_) => {}
            Err(error) => return Err(cause(&error)),
        }
    }
}

/// RFC 5321 allows 512 bytes; some servers write more.
const LINE_MAX: usize = 4096;
