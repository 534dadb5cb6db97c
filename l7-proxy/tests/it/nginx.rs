//! A real nginx beside ours in a test.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::peer::eventually;

/// nginx with a configuration, in a folder of its own; it ends with the value.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) addr: SocketAddr,
    _folder: tempfile::TempDir,
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
        let addr = free_port();
        let content = content(addr);
        let text = format!(
            "daemon off; master_process off; error_log stderr emerg; pid {path}/pid; events {{ }}
             http {{ access_log off; client_body_temp_path {path}/b; proxy_temp_path {path}/p;
             fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s; {content} }}"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let child = Command::new("nginx").arg("-c").arg(&file).stderr(Stdio::null()).spawn().unwrap();
        let nginx = Nginx { child, addr, _folder: folder };
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

/// A port that nobody has, and that the system gives to no connecting socket.
fn free_port() -> SocketAddr {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let place = (std::process::id() % u32::from(COUNT)) as u16 + NEXT.fetch_add(1, Ordering::Relaxed);
        let addr = SocketAddr::from(([127, 0, 0, 1], FIRST + place % COUNT));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}
