//! Each kind of check against a server that is well, and against servers that are not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use l4_proxy::check::{self, Report, Thoroughness, Weighs};
use l4_proxy::keepalived;
use l4_proxy::script::Account;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::{free_port, listener};

/// Makes the check in these lines once, of a server at this address.
fn once(server: SocketAddr, lines: &str) -> Report {
    let (ip, port) = (server.ip(), server.port());
    let text = format!(
        "track_file load {{\nfile /nonexistent/load\n}}\nvirtual_server 192.0.2.1 80 {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n\
         connect_timeout 2\nreal_server {ip} {port} {{\nweight 10\n{lines}\n}}\n}}"
    );
    run(&text)
}

fn run(text: &str) -> Report {
    let loaded = keepalived::read(Path::new("lb.conf"), text, "node");
    assert!(loaded.complaints.is_empty(), "{text}: {:?}", loaded.complaints);
    let account = Account::of(&loaded.model.global);
    let checker = &loaded.model.services[0].servers[0].checkers[0];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(check::once(checker, Thoroughness::All, &account))
}

/// Why the check failed, if it did.
fn failure(report: Report) -> String {
    match report {
        Report::Failed(cause) => cause.to_string(),
        passed => format!("{passed:?}"),
    }
}

/// A server that takes connections and answers each with what `answer` makes of the request.
fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> SocketAddr {
    let (listener, address) = listener();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match stream.read(&mut byte) {
                    Ok(1) => request.push(byte[0]),
                    _ => break,
                }
            }
            // Whoever has gone does not mind.
            let _ = stream.write_all(answer(&String::from_utf8_lossy(&request)).as_bytes());
        }
    });
    address
}

#[test]
fn tcp_check_asks_whether_a_connection_is_accepted() {
    let (listener, address) = listener();
    assert_eq!(once(address, "TCP_CHECK {\n}"), Report::Passed);
    drop(listener);
    assert_eq!(failure(once(address, "TCP_CHECK {\n}")), "connect refused");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("bound").port();
    let lines = format!("TCP_CHECK {{\nconnect_port {port}\nbindto 127.0.0.9\n}}");
    assert_eq!(once(address, &lines), Report::Passed);
    let (_, from) = other.accept().expect("the check");
    assert_eq!(from.ip().to_string(), "127.0.0.9");
}

#[test]
fn tcp_check_ends_in_time() {
    // An address for documentation, which nobody answers for.
    let nobody = "192.0.2.77:9".parse().expect("an address");
    let said = failure(once(nobody, "TCP_CHECK {\nconnect_timeout 0.2\n}"));
    assert!(["timed out", "unreachable"].iter().any(|words| said.contains(words)), "{said}");
}

#[test]
fn http_get_judges_status_digest_and_pattern() {
    let address = serve(|request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let host = request.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default();
        match path {
            "/ok" => "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
            "/host" => format!("HTTP/1.0 200 OK\r\n\r\n{host}"),
            "/chunks" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
                .to_owned(),
            "/short" => "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nok".to_owned(),
            "/odd" => "ICY 200 OK\r\n\r\n".to_owned(),
            _ => "HTTP/1.1 503 Busy\r\n\r\n".to_owned(),
        }
    });
    let ok = "444bcb3a3fcf8389296c49467f27e1d6";
    for (url, expected) in [
        ("path /ok", "Passed"),
        (&format!("path /ok\ndigest {ok}"), "Passed"),
        (&format!("path /chunks\ndigest {ok}"), "Passed"),
        (&format!("path /host\ndigest {ok}\n"), "GET /host: the body has the digest "),
        ("path /host\nvirtualhost a.example\nregex ^a\\.example$", "Passed"),
        ("path /ok\nregex OK", "GET /ok: the body does not match the pattern"),
        ("path /ok\nregex OK\nregex_options caseless", "Passed"),
        ("path /ok\nregex ok\nregex_no_match", "GET /ok: the body matches the pattern it must not match"),
        ("path /ok\nregex k\nregex_min_offset 2", "GET /ok: the body does not match the pattern"),
        ("path /busy", "GET /busy: HTTP 503"),
        ("path /busy\nstatus_code 200 500-503", "Passed"),
        ("path /short", "GET /short: the body ended after 2 of 9 bytes"),
        ("path /odd", "GET /odd: the answer is no HTTP"),
    ] {
        let said = failure(once(address, &format!("HTTP_GET {{\nurl {{\n{url}\n}}\n}}")));
        assert!(said.starts_with(expected), "{url}: {said}");
    }
    let two = "HTTP_GET {\nurl {\npath /ok\n}\nurl {\npath /busy\n}\n}";
    assert_eq!(failure(once(address, two)), "GET /busy: HTTP 503");
    let refused = failure(once(free_port(), "HTTP_GET {\nurl {\npath /ok\n}\n}"));
    assert_eq!(refused, "GET /ok: connect refused");
}

#[test]
fn server_that_accepts_and_says_nothing_is_told_from_one_that_does_not_accept() {
    let (_listener, address) = listener();
    let silent = |check: &str| failure(once(address, check));
    for (check, said) in [
        ("HTTP_GET {\nconnect_timeout 0.2\nurl {\npath /\n}\n}", "GET /: no whole answer in time"),
        ("SSL_GET {\nconnect_timeout 0.2\nurl {\npath /\n}\n}", "GET /: no TLS handshake in time"),
        ("SMTP_CHECK {\nconnect_timeout 0.2\n}", &format!("SMTP at {address}: no greeting in time")),
    ] {
        assert_eq!(silent(check), said);
    }
}

#[test]
fn ssl_get_speaks_tls_and_asks_for_no_certificate_that_is_good() {
    // One of version 1 is good enough, which webpki cannot read.
    for pem in [&include_bytes!("tls/somebody.pem")[..], include_bytes!("tls/version1.pem")] {
        let address = serve_tls(pem);
        let url = |regex: &str| format!("url {{\npath /\nvirtualhost a.example\nregex {regex}\n}}");
        assert_eq!(once(address, &format!("SSL_GET {{\n{}\n}}", url("^nobody$"))), Report::Passed);
        let named = format!("SSL_GET {{\nenable_sni\n{}\n}}", url("^a.example$"));
        assert_eq!(once(address, &named), Report::Passed);
    }
    let plain = serve(|_| "HTTP/1.0 400 Bad\r\n\r\n".to_owned());
    let said = failure(once(plain, "SSL_GET {\nconnect_timeout 0.5\nurl {\npath /\n}\n}"));
    assert!(said.starts_with("GET /: "), "{said}");
}

/// A server of TLS with the certificate and the key in this text, which answers with the name that it
/// was told.
fn serve_tls(pem: &[u8]) -> SocketAddr {
    let provider = rustls::crypto::ring::default_provider();
    let chain = vec![CertificateDer::from_pem_slice(pem).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(pem).expect("a key");
    let key = provider.key_provider.load_private_key(key).expect("a key that can sign");
    // Not `with_single_cert`, which wants to read the certificate.
    let own = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key));
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(std::sync::Arc::new(own));
    let config = std::sync::Arc::new(config);
    let (listener, address) = listener();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut session = rustls::ServerConnection::new(config.clone()).expect("a session");
            let mut tls = rustls::Stream::new(&mut session, &mut stream);
            let mut request = [0; 1024];
            let read = tls.read(&mut request).unwrap_or_default();
            if read > 0 {
                let name = tls.conn.server_name().unwrap_or("nobody").to_owned();
                let _ = write!(tls, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            }
        }
    });
    address
}

#[test]
fn smtp_check_holds_the_whole_dialogue() {
    let server = |greeting: &'static str, helo: &'static str, quit: &'static str| {
        let (listener, address) = listener();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                for answer in [greeting, helo, quit] {
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                    let mut line = [0; 256];
                    let _ = stream.read(&mut line);
                }
            }
        });
        address
    };
    let lines = "SMTP_CHECK {\nhelo_name lb.example\n}";
    let good = server("220-hello\r\n220 there\r\n", "250 lb\r\n", "221 bye\r\n");
    assert_eq!(once(good, lines), Report::Passed);
    let busy = server("421 busy\r\n", "", "");
    let said = failure(once(busy, lines));
    assert!(said.ends_with("the greeting was answered with \"421 busy\""), "{said}");
    let both = format!(
        "SMTP_CHECK {{\nhost {{\nconnect_port {}\n}}\nhost {{\nconnect_port {}\n}}\n}}",
        good.port(),
        busy.port()
    );
    assert!(failure(once(good, &both)).contains("421 busy"));
}

/// A UDP server that answers each datagram with what `answer` makes of it.
fn answer(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            if let Some(reply) = answer(&datagram[..length]) {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    address
}

#[test]
fn dns_check_wants_an_answer_without_an_error() {
    let server = |code: u8| {
        answer(move |question| {
            let mut reply = question.to_vec();
            (reply[2], reply[3]) = (0x81, 0x80 | code);
            Some(reply)
        })
    };
    let lines = "DNS_CHECK {\ntype A\nname www.example.net\n}";
    assert_eq!(once(server(0), lines), Report::Passed);
    assert_eq!(failure(once(server(3), lines)), "DNS NXDOMAIN");
    assert_eq!(failure(once(server(2), lines)), "DNS SERVFAIL");
    assert_eq!(failure(once(answer(|_| None), "DNS_CHECK {\nconnect_timeout 0.2\n}")), "no answer in time");
    let nobody = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    assert_eq!(failure(once(nobody, lines)), "connect refused");
}

#[test]
fn udp_check_wants_no_error_or_a_reply_that_fits() {
    let echo = answer(|datagram| Some(datagram.to_vec()));
    let silent = answer(|_| None);
    let check =
        |address, own: &str| failure(once(address, &format!("UDP_CHECK {{\nconnect_timeout 0.3\n{own}\n}}")));
    assert_eq!(check(silent, ""), "Passed");
    assert_eq!(check(silent, "require_reply"), "no reply");
    assert_eq!(check(echo, "payload ab 1\nrequire_reply ax 01"), "Passed");
    assert_eq!(check(echo, "payload ab 1\nrequire_reply ab 02"), "the reply differs at byte 1");
    assert_eq!(
        check(echo, "payload ab 1\nrequire_reply\nmin_reply_length 3"),
        "the reply has 2 bytes, wanted 3 to 255"
    );
    let nobody = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    assert_eq!(check(nobody, ""), "connect refused");
}

#[test]
fn ping_check_wants_an_echo() {
    let report = once("127.0.0.1:80".parse().expect("an address"), "PING_CHECK {\n}");
    if failure(report.clone()).contains("no socket for a ping") {
        return crate::support::skip("the right to ping");
    }
    assert_eq!(report, Report::Passed);
    let report = once("192.0.2.77:80".parse().expect("an address"), "PING_CHECK {\nconnect_timeout 0.2\n}");
    assert!(matches!(report, Report::Failed(_)), "{report:?}");
}

#[test]
fn misc_check_goes_by_the_exit_code() {
    let check = |command: &str, own: &str| {
        once(free_port(), &format!("MISC_CHECK {{\nmisc_path \"{command}\"\n{own}\n}}"))
    };
    assert_eq!(check("/bin/true", ""), Report::Passed);
    assert_eq!(failure(check("/bin/false", "")), "/bin/false exited with 1");
    assert_eq!(failure(check("/bin/sh -c 'exit 7'", "")), "/bin/sh exited with 7");
    assert_eq!(check("/bin/sh -c 'exit 7'", "misc_dynamic"), Report::Weighs(Weighs::Is(5)));
    assert_eq!(check("/bin/sh -c 'exit 0'", "misc_dynamic"), Report::Passed);
    assert!(failure(check("/nonexistent/x", "")).contains("cannot be run"));
    assert!(
        failure(check("/bin/true", "user nosuchuser")).contains("there is no user nosuchuser") || !is_root()
    );
    // No shell: the words are the program's own.
    assert_eq!(check("/usr/bin/test ';' = ';'", ""), Report::Passed);
    let slow = failure(check("/bin/sleep 60", "misc_timeout 0.2"));
    assert_eq!(slow, "/bin/sleep took longer than 0.2 s");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn programs_run_as_the_user_who_is_named_and_not_where_others_could_change_them() {
    if !is_root() {
        return crate::support::skip("the right to become somebody else");
    }
    let text = |global: &str, command: &str| {
        format!(
            "global_defs {{\n{global}\n}}\nvirtual_server 192.0.2.1 80 {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n\
             real_server 10.0.0.1 80 {{\nMISC_CHECK {{\nmisc_path \"{command}\"\n}}\n}}\n}}"
        )
    };
    let is_nobody = "/bin/sh -c 'test $(id -un) = nobody'";
    assert_eq!(run(&text("script_user nobody", is_nobody)), Report::Passed);
    assert_eq!(failure(run(&text("script_user root", is_nobody))), "/bin/sh exited with 1");
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("check");
    std::fs::copy("/bin/true", &program).expect("a copy");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&program, open).expect("a file of ours");
    let named = program.display().to_string();
    assert_eq!(run(&text("script_user root", &named)), Report::Passed);
    let said = failure(run(&text("script_user root\nenable_script_security", &named)));
    assert!(said.contains("others than root can change"), "{said}");
}

#[test]
fn file_check_goes_by_the_number_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("load");
    let check = |content: &str, weight: &str, own: &str| {
        std::fs::write(&path, content).expect("a file");
        run(&format!(
            "track_file load {{\nfile {}\n{weight}\n}}\nvirtual_server 192.0.2.1 80 {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n\
             real_server 10.0.0.1 80 {{\nFILE_CHECK {{\ntrack_file load\n{own}\n}}\n}}\n}}",
            path.display()
        ))
    };
    assert_eq!(check("0\n", "weight 0", ""), Report::Passed);
    assert!(failure(check("1\n", "weight 0", "")).ends_with("says 1"));
    assert_eq!(check("7", "", "dynamic"), Report::Weighs(Weighs::Adds(7)));
    assert_eq!(check("7", "weight 3", "dynamic"), Report::Weighs(Weighs::Adds(21)));
    assert_eq!(check("7", "weight 3", "dynamic\nweight 2 reverse"), Report::Weighs(Weighs::Adds(-14)));
    assert!(failure(check("-2147483648", "", "dynamic")).contains("says"));
    assert!(failure(check("seven", "", "")).contains("which is no number"));
    std::fs::remove_file(&path).expect("a file");
}
