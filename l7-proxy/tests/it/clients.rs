//! Clients and servers that others wrote: gRPC and WebSocket of Python, Java's HttpClient, curl, h2load.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::peer::{Origin, Proxy, http};
use crate::secure::certificate;

/// Debian's Python, whatever else is in the path.
const PYTHON: &str = "/usr/bin/python3";

/// Whether a program runs like this; one that is missing is a fault where `REQUIRE_PEERS` is set.
fn runs(program: &str, args: &[&str]) -> bool {
    let found = Command::new(program).args(args).output().is_ok_and(|output| output.status.success());
    assert!(found || std::env::var_os("REQUIRE_PEERS").is_none(), "{program} {args:?} does not run");
    #[allow(clippy::print_stderr)] // Whoever reads the test's output must see it.
    if !found {
        eprintln!("{program} {args:?} does not run: not tested");
    }
    found
}

/// A server in Python, which ends with its standard input.
struct Server {
    child: Child,
    port: u16,
}

fn script(name: &str) -> Command {
    let mut command = Command::new(PYTHON);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients").join(name));
    command.env_remove("http_proxy").env_remove("https_proxy");
    command
}

impl Server {
    fn start(name: &str) -> Server {
        let mut command = script(name);
        command.arg("server").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Runs the client of a script, for a minute at most; returns what it prints.
fn client(name: &str, proxy: &Proxy) -> String {
    let script = script(name);
    let mut command = Command::new("timeout");
    command.arg("60").arg(script.get_program()).args(script.get_args());
    let output = command.arg("client").arg(proxy.addr().to_string()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn grpc_of_others_passes_in_every_form() {
    if !runs(PYTHON, &["-c", "import grpc"]) {
        return;
    }
    let server = Server::start("grpc_peer.py");
    let proxy = Proxy::start(&http(&format!(
        "upstream app {{ server 127.0.0.1:{}; }} client_max_body_size 10m;
         server {{ listen 127.0.0.1:1; http2 on; location / {{ grpc_pass grpc://app; }} }}",
        server.port
    )));
    let expected = "echo one trailer\nlarge True\nfail NOT_FOUND none: \u{e9}\n\
                    missing UNIMPLEMENTED Method not found!\ncount 499500\ntotal 499500\nconverse A B\n\
                    many 44850\n";
    assert_eq!(client("grpc_peer.py", &proxy), expected);
}

#[test]
fn websocket_of_others_passes() {
    if !runs(PYTHON, &["-c", "import websockets"]) {
        return;
    }
    let server = Server::start("websocket_peer.py");
    let proxy = chatting(&server);
    assert_eq!(client("websocket_peer.py", &proxy), "messages\nping\nclosed 4001 as you say\n");
}

/// A proxy of a server of WebSocket.
fn chatting(server: &Server) -> Proxy {
    Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1; location /chat {{
             proxy_pass http://127.0.0.1:{};
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
             proxy_set_header Host $http_host;
         }} }}",
        server.port
    )))
}

#[test]
fn curl_is_let_into_a_websocket() {
    if !runs(PYTHON, &["-c", "import websockets"]) || !runs("curl", &["--version"]) {
        return;
    }
    let server = Server::start("websocket_peer.py");
    let proxy = chatting(&server);
    let mut curl = Command::new("curl");
    // The example of RFC 6455, section 1.3. It waits for more when the head is there.
    curl.args([
        "-s",
        "-N",
        "-i",
        "-m",
        "3",
        "--http1.1",
        "-H",
        "Connection: Upgrade",
        "-H",
        "Upgrade: websocket",
    ]);
    curl.args(["-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]);
    let output = curl.arg(format!("http://{}/chat", proxy.addr())).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{said}");
    assert!(said.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{said}");
}

#[test]
fn javas_client_speaks_http2_and_http1_and_websocket() {
    if !runs("javac", &["--version"]) || !runs(PYTHON, &["-c", "import websockets"]) {
        return;
    }
    let chat = Server::start("websocket_peer.py");
    let origin = Origin::start(|visit| {
        loop {
            let head = visit.request()?;
            let size = visit.body(&head)?.len();
            visit.reply("", &size.to_string())?;
        }
    });
    let proxy = Proxy::start(&http(&format!(
        "server {{ listen 127.0.0.1:1 ssl; http2 on; {} location / {{ proxy_pass http://{}; }} }}",
        certificate("server"),
        origin.addr
    )));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/JavaPeer.java");
    let mut java = Command::new("timeout");
    java.args(["60", "java", "-Xmx128m", "-Djdk.internal.httpclient.disableHostnameVerification=true"])
        .arg(source);
    let chatting = chatting(&chat);
    let output = java.args([proxy.addr(), chatting.addr()].map(|addr| addr.to_string())).output().unwrap();
    let expected = "{HTTP_2 200 0=100}\nHTTP_1_1 200 900000\nHTTP_1_1 200 900000\nHTTP_2 200 900000\n\
                    HTTP_2 200 900000\nenough, closed 4001 as you say\n";
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn h2load_gets_every_answer() {
    if !runs("h2load", &["--version"]) {
        return;
    }
    let origin = Origin::named("app");
    let inner = Proxy::start(&http(&format!(
        "upstream app {{ server {}; }}
         server {{ listen 127.0.0.1:1; http2 on; location / {{ proxy_pass http://app; }} }}",
        origin.addr
    )));
    let outer = Proxy::start(&http(&format!(
        "upstream app {{ server {}; }} keepalive_requests 100000;
         server {{ listen 127.0.0.1:1; http2 on; location / {{ proxy_http_version 2; proxy_pass http://app; }} }}",
        inner.addr()
    )));
    for protocol in [&[][..], &["--h1"]] {
        let mut h2load = Command::new("timeout");
        h2load.args(["60", "h2load", "-n", "1000", "-c", "4", "-m", "25"]).args(protocol);
        let output = h2load.arg(format!("http://{}/", outer.addr())).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("1000 2xx"), "{protocol:?}: {text}");
    }
}
