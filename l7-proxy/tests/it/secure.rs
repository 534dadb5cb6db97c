//! TLS with clients and with servers, HTTP/2 with clients, as real peers see it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::peer::{Origin, PATIENCE, Proxy, field, http};

/// A file that was made for these tests.
pub(crate) fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(name)
}

/// `ssl_certificate` and its key.
pub(crate) fn certificate(name: &str) -> String {
    let (certificate, key) = (pem(&format!("{name}.pem")), pem(&format!("{name}.key")));
    format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display())
}

/// A client that trusts the authority of these tests, and shows this certificate.
fn config(own: Option<&str>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = vec![CertificateDer::from_pem_file(pem(&format!("{name}.pem"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(pem(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Begins a handshake, which goes on with the first read or write.
pub(crate) fn connect(addr: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Tls {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

/// Asks for `/` by the name and returns all that comes, or what is wrong with the handshake.
pub(crate) fn ask(
    addr: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> Result<String, std::io::Error> {
    let mut stream = connect(addr, name, config);
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Ok(_) => Ok(answer),
        Err(error) if !answer.is_empty() => panic!("{error} after {answer}"),
        Err(error) => Err(error),
    }
}

/// What a client says first that asks for this name.
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(anonymous(), name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

pub(crate) fn anonymous() -> Arc<ClientConfig> {
    Arc::new(config(None))
}

/// Whether a program is here; one that is missing is a fault where `REQUIRE_PEERS` is set.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found || std::env::var_os("REQUIRE_PEERS").is_none(), "{program} is missing");
    #[allow(clippy::print_stderr)] // Whoever reads the test's output must see it.
    if !found {
        eprintln!("{program} is missing: not tested");
    }
    found
}

#[test]
fn server_block_is_chosen_by_the_name_in_the_handshake() {
    let text = http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; server_name a.example; {} return 200 \"a $scheme $ssl_server_name\"; }}
         server {{ listen 127.0.0.1:1; server_name b.example; {} ssl_protocols TLSv1.2; return 200 \"b $ssl_protocol\"; }}",
        certificate("server"),
        certificate("other"),
    ));
    let proxy = Proxy::start(&text);
    let client = anonymous();
    assert!(ask(proxy.addr(), "a.example", &client).unwrap().ends_with("a https a.example"));
    assert!(ask(proxy.addr(), "b.example", &client).unwrap().ends_with("b TLSv1.2"));
    // The default server's certificate is no proof of this name.
    assert!(ask(proxy.addr(), "c.example", &client).is_err());
}

#[test]
fn handshake_is_refused_where_the_configuration_says_so() {
    let text = http(&format!(
        "server {{ listen 127.0.0.1:1 ssl default_server; ssl_reject_handshake on; }}
         server {{ listen 127.0.0.1:1; server_name a.example; {} return 200 a; }}",
        certificate("server"),
    ));
    let proxy = Proxy::start(&text);
    let refused = ask(proxy.addr(), "localhost", &anonymous()).unwrap_err();
    assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
    assert!(ask(proxy.addr(), "a.example", &anonymous()).unwrap().ends_with('a'));
}

#[test]
fn plain_http_on_a_port_of_https_is_told_so() {
    let text =
        http(&format!("server {{ listen 127.0.0.1:1 ssl; {} return 200 never; }}", certificate("server")));
    let proxy = Proxy::start(&text);
    let answer = proxy.get("/");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("The plain HTTP request was sent to HTTPS port"));
}

#[test]
fn certificate_of_a_client_is_judged_as_configured() {
    let server = |verify: &str, crl: &str| {
        let text = http(&format!(
            "server {{ listen 127.0.0.1:1 ssl; server_name localhost; {} ssl_verify_client {verify}; {crl}
               ssl_client_certificate {};
               return 200 \"<$ssl_client_verify $ssl_client_s_dn>\"; }}",
            certificate("server"),
            pem("ca.pem").display(),
        ));
        Proxy::start(&text)
    };
    let ask = |proxy: &Proxy, own: Option<&str>| {
        let answer = ask(proxy.addr(), "localhost", &Arc::new(config(own))).unwrap();
        let status = answer.split(' ').nth(1).unwrap().to_owned();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        match body.split_once('<') {
            Some(_) if status == "200" => format!("{status} {body}"),
            _ => status,
        }
    };
    let on = server("on", "");
    assert_eq!(ask(&on, None), "400");
    assert_eq!(ask(&on, Some("stranger")), "400");
    assert_eq!(ask(&on, Some("client")), "200 <SUCCESS CN=client,O=Test>");
    let optional = server("optional", "");
    assert_eq!(ask(&optional, None), "200 <NONE >");
    assert_eq!(ask(&optional, Some("stranger")), "400");
    let any = server("optional_no_ca", "");
    assert!(ask(&any, Some("stranger")).starts_with("200 <FAILED:"));
    let revoked = server("on", &format!("ssl_crl {};", pem("revoked.pem").display()));
    assert_eq!(ask(&revoked, Some("client")), "400");
}

#[test]
fn session_goes_on_where_the_configuration_lets_it() {
    for (settings, again) in [
        ("", "r"),
        ("ssl_protocols TLSv1.2;", "r"),
        ("ssl_session_tickets off; ssl_session_cache shared:x:1m;", "r"),
        ("ssl_session_tickets off; ssl_session_cache off;", "."),
        ("ssl_session_timeout 0;", "."),
    ] {
        let text = http(&format!(
            "server {{ listen 127.0.0.1:1 ssl; {} {settings} return 200 \"<$ssl_session_reused>\"; }}",
            certificate("server"),
        ));
        let proxy = Proxy::start(&text);
        let client = anonymous();
        assert!(ask(proxy.addr(), "localhost", &client).unwrap().ends_with("<.>"), "{settings}");
        // What a client knows of two sessions differs by nothing but time: a ticket of no time at
        // all must be older than that.
        std::thread::sleep(Duration::from_millis(2));
        let answer = ask(proxy.addr(), "localhost", &client).unwrap();
        assert!(answer.ends_with(&format!("<{again}>")), "{settings} {answer}");
    }
}

#[test]
fn session_that_goes_on_is_told_from_others() {
    let text = http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; {} return 200 \"<$ssl_session_id>\"; }}",
        certificate("server"),
    ));
    let proxy = Proxy::start(&text);
    let client = anonymous();
    let session = |client: &Arc<ClientConfig>| {
        let answer = ask(proxy.addr(), "localhost", client).unwrap();
        answer.rsplit_once('<').unwrap().1.to_owned()
    };
    let first = session(&client);
    assert_eq!(first.len(), 65, "{first}");
    assert_eq!(session(&client), first);
    assert_ne!(session(&anonymous()), first);
}

#[test]
fn server_is_reached_over_tls_and_must_be_who_it_should_be() {
    let origin = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; {} location / {{ return 200 \"<$ssl_server_name $http_host>\"; }} }}",
        certificate("server"),
    )));
    let text = http(&format!(
        "upstream app {{ server {}; }}
         server {{ listen 127.0.0.1:1; proxy_ssl_trusted_certificate {};
           location /any {{ proxy_pass https://app; }}
           location /good {{ proxy_pass https://app; proxy_ssl_verify on; proxy_ssl_server_name on;
             proxy_ssl_name a.example; }}
           location /bad {{ proxy_pass https://app; proxy_ssl_verify on; proxy_ssl_name b.example; }} }}",
        origin.addr(),
        pem("ca.pem").display(),
    ));
    let proxy = Proxy::start(&text);
    assert_eq!(proxy.get("/any").text(), "< app>");
    assert_eq!(proxy.get("/bad").status, 502);
    assert_eq!(proxy.get("/good").text(), "<a.example app>");
    // The connection of another name is not shared.
    assert_eq!(proxy.get("/any").text(), "< app>");
}

#[test]
fn large_bodies_pass_over_tls_on_both_sides() {
    let origin = Origin::start(|visit| {
        let request = visit.request()?;
        let body = visit.peer.exactly(field(&request, "Content-Length").unwrap().parse().unwrap())?;
        visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        visit.write(body)
    });
    let inner = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; {} client_max_body_size 0;
           location / {{ proxy_pass http://{}; }} }}",
        certificate("server"),
        origin.addr,
    )));
    let outer = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; {} client_max_body_size 0;
           location / {{ proxy_pass https://{}; }} }}",
        certificate("server"),
        inner.addr(),
    )));
    let mut stream = connect(outer.addr(), "localhost", &anonymous());
    let body: Vec<u8> = (0..3_000_000_u32).map(|place| (place % 251) as u8).collect();
    let head =
        format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let start = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert!(answer[start..] == body);
}

/// What curl prints for `path`; `args` come before it.
fn curl(addr: SocketAddr, scheme: &str, args: &[&str], path: &str) -> String {
    let resolve = format!("localhost:{}:{}", addr.port(), addr.ip());
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--resolve", &resolve])
        .arg("--cacert")
        .arg(pem("ca.pem"))
        .args(args)
        .arg(format!("{scheme}://localhost:{}{path}", addr.port()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const ABOUT: &str = "return 200 \"$server_protocol $http2 $host $http_cookie\";";

#[test]
fn http2_is_spoken_where_both_sides_want_it() {
    if !has("curl") {
        return;
    }
    let on =
        http(&format!("server {{ listen 127.0.0.1:1 ssl; http2 on; {} {ABOUT} }}", certificate("server")));
    let on = Proxy::start(&on);
    assert_eq!(
        curl(on.addr(), "https", &["--http2", "-b", "a=1; b=2"], "/"),
        "HTTP/2.0 h2 localhost a=1; b=2"
    );
    assert_eq!(curl(on.addr(), "https", &["--http1.1"], "/"), "HTTP/1.1  localhost ");
    let off = http(&format!("server {{ listen 127.0.0.1:1 ssl; {} {ABOUT} }}", certificate("server")));
    let off = Proxy::start(&off);
    assert_eq!(curl(off.addr(), "https", &["--http2"], "/"), "HTTP/1.1  localhost ");
}

#[test]
fn http2_without_tls_is_told_by_its_first_bytes() {
    if !has("curl") {
        return;
    }
    let proxy = Proxy::start(&http(&format!("server {{ listen 127.0.0.1:1; http2 on; {ABOUT} }}")));
    let prior = curl(proxy.addr(), "http", &["--http2-prior-knowledge"], "/");
    assert_eq!(prior, "HTTP/2.0 h2c localhost ");
    assert_eq!(curl(proxy.addr(), "http", &["--http1.1"], "/"), "HTTP/1.1  localhost ");
    let mut slow = proxy.client();
    for byte in "PRI".bytes() {
        slow.send([byte]);
    }
    slow.send("CE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(slow.response().text(), "HTTP/1.1  a ");
    // Who ends in between is not waited for.
    let mut ended = proxy.client();
    ended.send("P");
    ended.finish();
    ended.leave();
}

#[test]
fn request_of_http2_is_forwarded_as_one_of_http1() {
    if !has("curl") {
        return;
    }
    let origin = Origin::start(|visit| {
        let request = visit.request()?;
        let body = visit.body(&request)?;
        visit.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        visit.write(body)
    });
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; http2 on; location / {{ proxy_pass http://{}; proxy_request_buffering off; proxy_set_header Host $host; }} }}",
        origin.addr,
    )));
    let args = ["--http2-prior-knowledge", "-H", "Content-Length:", "-X", "POST", "-T", "-"];
    let output = {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "20"]).args(args).arg(format!("http://{}/up", proxy.addr()));
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"body of a stream").unwrap();
        child.wait_with_output().unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "body of a stream");
    let seen = origin.last_request();
    assert!(seen.starts_with("POST /up HTTP/1.1\r\n"), "{seen}");
    assert_eq!(field(&seen, "Host"), Some("127.0.0.1"));
}

#[test]
fn many_streams_at_once_are_all_answered() {
    if !has("h2load") {
        return;
    }
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; http2 on; {} location / {{ root html; }} }}",
        certificate("server")
    )));
    proxy.file("html/a", vec![b'x'; 100_000]);
    let output = Command::new("h2load")
        .args(["-n", "400", "-c", "4", "-m", "50"])
        .arg(format!("https://{}/a", proxy.addr()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("400 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
}

/// How long the records are that come from a server, the first of its answer among them.
fn records(addr: SocketAddr) -> Vec<usize> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(anonymous(), name).unwrap();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    client.writer().write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        while client.wants_write() {
            client.write_tls(&mut stream).unwrap();
        }
        let count = stream.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&piece[..count]);
        let mut left = &piece[..count];
        while !left.is_empty() {
            client.read_tls(&mut left).unwrap();
            client.process_new_packets().unwrap();
            // Nobody looks at it, and it is not to fill up.
            while client.reader().read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        }
    }
    let (mut lengths, mut left) = (Vec::new(), &*bytes);
    while let [_, _, _, high, low, rest @ ..] = left {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        lengths.push(length);
        left = &rest[length..];
    }
    lengths
}

#[test]
fn records_are_as_long_as_they_may_be() {
    let longest = |size: &str| {
        let proxy = Proxy::start(&http(&format!(
            "server {{ listen 127.0.0.1:1 ssl; {} {size} location / {{ root html; }} }}",
            certificate("server")
        )));
        proxy.file("html/large", vec![b'x'; 200_000]);
        records(proxy.addr()).into_iter().max().unwrap()
    };
    // What a record has beside its bytes.
    const BESIDE: usize = 64;
    let small = longest("ssl_buffer_size 4k;");
    assert!((4096 - BESIDE..=4096 + BESIDE).contains(&small), "{small}");
    let usual = longest("");
    assert!((16 * 1024 - BESIDE..=16 * 1024 + BESIDE).contains(&usual), "{usual}");
}
