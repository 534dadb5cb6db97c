//! A real nginx beside ours in a test.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use crate::peer::{Client, Proxy, Response, eventually, http};

/// nginx with a configuration, in a folder of its own; it ends with the value.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) addr: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts it with this content of `http`, given the address that it is to listen on. `None` where there
    /// is no nginx, after saying so.
    pub(crate) fn start(content: impl FnOnce(SocketAddr) -> String) -> Option<Nginx> {
        if !crate::secure::has("nginx") {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let addr = lab::free_port(Ipv4Addr::LOCALHOST.into());
        let content = content(addr);
        let text = format!(
            "daemon off; master_process off; error_log stderr emerg; pid {path}/pid; events {{ }}
             http {{ access_log off; client_body_temp_path {path}/b; proxy_temp_path {path}/p;
             fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s; {content} }}"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Nginx { child, addr, folder };
        eventually("nginx listens", || TcpStream::connect(addr).is_ok());
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks ours, and nginx with the same content of `server {}` and before it, and has ours answer as nginx
/// does: the status, the fields that have these names, and the body.
pub(crate) struct Beside {
    pub(crate) ours: Proxy,
    pub(crate) nginx: Option<Nginx>,
    /// The fields that are compared.
    fields: &'static [&'static str],
}

impl Beside {
    /// Starts both with `before` in `http {}` and `content` in its only server.
    pub(crate) fn start(before: &str, content: &str, fields: &'static [&'static str]) -> Beside {
        let whole = |listen: &str| {
            format!("{before} server {{ listen {listen}; root html; server_tokens off; {content} }}")
        };
        let ours = Proxy::start(&http(&whole("127.0.0.1:1")));
        let nginx = Nginx::start(|addr| whole(&addr.to_string()));
        Beside { ours, nginx, fields }
    }

    /// Puts a file below the roots of both, changed at the same moment.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        self.ours.file(&format!("html/{name}"), &content);
        let Some(nginx) = &self.nginx else { return };
        let path = nginx.folder.path().join("html").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &content).unwrap();
        let then = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for path in [path, self.ours.folder.path().join("html").join(name)] {
            std::fs::File::open(path).unwrap().set_modified(then).unwrap();
        }
    }

    /// Sends this request to both; returns our answer.
    #[track_caller]
    pub(crate) fn send(&self, request: &str) -> Response {
        let ask = |addr| {
            let mut client = Client::connect(addr);
            client.send(request);
            if request.starts_with("HEAD ") { client.response_to_head() } else { client.response() }
        };
        let ours = ask(self.ours.addr());
        if let Some(nginx) = &self.nginx {
            let theirs = ask(nginx.addr);
            let shown = |answer: &Response| {
                let fields: Vec<_> =
                    self.fields.iter().map(|name| answer.header(name).map(str::to_owned)).collect();
                let body = String::from_utf8_lossy(&answer.body).replace("l7-proxy", "nginx");
                (answer.status, fields, body)
            };
            assert_eq!(shown(&ours), shown(&theirs), "{request}");
        }
        ours
    }

    /// Asks both for a path.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: example.org\r\n\r\n"))
    }
}
