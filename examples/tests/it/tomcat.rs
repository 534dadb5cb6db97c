//! The seed's experiment with real programs: director, two HTTP proxies, two Tomcats, curl.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::programs::{Program, accepts, binary, eventually, free_ports, output, peer};

pub(crate) const CATALINA: &str = "/usr/share/tomcat10/bin/catalina.sh";

/// Starts the Tomcat that is configured in this folder.
pub(crate) fn start(base: &Path) -> Program {
    let log = fs::File::create(base.join("logs/out.log")).expect("a file");
    let mut tomcat = Command::new(CATALINA);
    tomcat.arg("run").env("CATALINA_HOME", "/usr/share/tomcat10").env("CATALINA_BASE", base);
    tomcat.env("CATALINA_OPTS", "-Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1");
    tomcat.stdout(log.try_clone().expect("a descriptor")).stderr(log);
    Program::start(&mut tomcat)
}

/// The folder `examples/tomcat` at work, on ports of its own.
struct Split {
    work: tempfile::TempDir,
    /// Director, proxies, Tomcats: in place of 8080 to 8084 in the files.
    ports: [u16; 5],
    tomcats: [Option<Program>; 2],
    proxies: [Option<Program>; 2],
    director: Option<Program>,
}

impl Split {
    fn start() -> Split {
        let work = tempfile::tempdir().expect("a temporary folder");
        let mut split =
            Split { work, ports: free_ports(), tomcats: [None, None], proxies: [None, None], director: None };
        fs::create_dir(split.path("logs")).expect("a folder");
        for name in ["director.rules", "nginx1.conf", "nginx2.conf", "mime.types"] {
            split.install(name, name);
        }
        for n in [1, 2] {
            split.install(&format!("html{n}/index.html"), &format!("html{n}/index.html"));
            let base = format!("tomcat{n}");
            split.install(&format!("server{n}.xml"), &format!("{base}/conf/server.xml"));
            split.install(&format!("index{n}.jsp"), &format!("{base}/webapps/ROOT/index.jsp"));
            fs::copy("/etc/tomcat10/web.xml", split.path(&format!("{base}/conf/web.xml"))).expect("tomcat's");
            for folder in ["logs", "temp", "work"] {
                fs::create_dir(split.path(&format!("{base}/{folder}"))).expect("a folder");
            }
        }
        for index in [0, 1] {
            split.start_tomcat(index);
        }
        for index in [0, 1] {
            split.await_tomcat(index);
            split.start_proxy(index);
        }
        let mut director = Command::new(binary("l4-proxy"));
        director.arg("--rules").arg(split.path("director.rules"));
        director.arg("--control").arg(split.path("director.sock"));
        director.args(["--workers", "2", "--probe-interval", "0.3"]);
        director.stderr(fs::File::create(split.path("logs/director.log")).expect("a file"));
        split.director = Some(Program::start(&mut director));
        eventually("the director accepts", || accepts(split.ports[0]));
        split
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Copies a file of the example, its ports replaced.
    fn install(&self, from: &str, to: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tomcat").join(from);
        let mut text =
            fs::read_to_string(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        // In two steps: a new port may be one of those still to be replaced.
        for index in 0..self.ports.len() {
            text = text.replace(&format!("{}", 8080 + index), &format!("@{index}@"));
        }
        for (index, port) in self.ports.iter().enumerate() {
            text = text.replace(&format!("@{index}@"), &port.to_string());
        }
        let to = self.path(to);
        fs::create_dir_all(to.parent().expect("in the folder")).expect("a folder");
        fs::write(to, text).expect("a file");
    }

    fn start_tomcat(&mut self, index: usize) {
        let base = self.path(&format!("tomcat{}", index + 1));
        self.tomcats[index] = Some(start(&base));
    }

    /// Waits for the page, not the port: the first request compiles it.
    fn await_tomcat(&self, index: usize) {
        let url = format!("http://127.0.0.1:{}/index.jsp", self.ports[3 + index]);
        eventually(&format!("Tomcat {} answers", index + 1), || {
            let mut curl = Command::new("curl");
            let page = curl.args(["-s", "-m", "10", &url]).output().expect("curl runs");
            String::from_utf8_lossy(&page.stdout).contains("Dynamic page")
        });
    }

    fn start_proxy(&mut self, index: usize) {
        let mut proxy = Command::new(binary("l7-proxy"));
        proxy.arg("-p").arg(self.work.path()).arg("-c").arg(format!("nginx{}.conf", index + 1));
        proxy.stderr(Stdio::inherit());
        self.proxies[index] = Some(Program::start(&mut proxy));
        let port = self.ports[1 + index];
        eventually("the HTTP proxy accepts", || accepts(port));
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[0])
    }

    /// The page at `path` on a connection of its own.
    fn page(&self, path: &str) -> String {
        output(Command::new("curl").args(["-s", "-S", "-f", "-m", "10", &self.url(path)]))
    }

    /// The headings of this many pages, and how often each came.
    fn headings(&self, path: &str, count: usize) -> BTreeMap<String, usize> {
        let mut headings = BTreeMap::new();
        for _ in 0..count {
            let page = self.page(path);
            let heading = page.split("<h1>").nth(1).and_then(|rest| rest.split("</h1>").next());
            let heading = heading.unwrap_or_else(|| panic!("no heading in\n{page}"));
            *headings.entry(heading.trim().to_owned()).or_default() += 1;
        }
        headings
    }

    /// 1,000 requests by four curls, `event` after the first hundred or so. Returns how each
    /// request ended: a status, or 0 for none.
    fn load(&self, path: &str, keep_alive: bool, event: impl FnOnce()) -> Vec<u16> {
        let curls: Vec<_> = (0..4)
            .map(|_| {
                let mut curl = Command::new("curl");
                curl.args(["-s", "-m", "120", "-o", "/dev/null", "-w", "%{http_code}\\n", "--rate", "100/s"]);
                if !keep_alive {
                    curl.args(["-H", "Connection: close"]);
                }
                curl.arg(format!("{}?[1-250]", self.url(path)));
                curl.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("curl runs")
            })
            .collect();
        thread::sleep(Duration::from_millis(600));
        event();
        let mut statuses = Vec::new();
        for curl in curls {
            let printed = curl.wait_with_output().expect("curl ends").stdout;
            let printed = String::from_utf8(printed).expect("digits");
            statuses.extend(printed.lines().map(|line| line.parse::<u16>().expect("a status")));
        }
        assert_eq!(statuses.len(), 1000);
        statuses
    }

    fn director_table(&self) -> String {
        let socket = self.path("director.sock");
        output(Command::new(binary("lvsadm")).arg("--control").arg(socket).arg("-Ln"))
    }
}

#[test]
fn split_with_real_tomcats_loses_nothing_when_its_parts_die() {
    if !peer("Tomcat 10", CATALINA) || !peer("curl", "/usr/bin/curl") {
        return;
    }
    let mut split = Split::start();

    let both = |of: &str| BTreeMap::from([(format!("{of} 1"), 10), (format!("{of} 2"), 10)]);
    let statics =
        BTreeMap::from([("Static page, nginx1".to_owned(), 10), ("Static page, nginx2".to_owned(), 10)]);
    assert_eq!(split.headings("/", 20), statics);
    assert_eq!(split.headings("/index.jsp", 20), both("Dynamic page"));

    let page = split.page("/index.jsp");
    for header in ["host: 127.0.0.1", "x-real-ip: 127.0.0.1", "x-forwarded-for: 127.0.0.1"] {
        assert!(page.contains(header), "Tomcat did not see {header} but\n{page}");
    }
    if peer("a Java compiler", "/usr/bin/javac") {
        // Java's own client, which offers to go over to HTTP/2.
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/HttpClientPeer.java");
        let mut java = Command::new("timeout");
        java.args(["60", "java", "-Xmx96m"]).arg(source).args([&split.url("/index.jsp"), "Dynamic page"]);
        assert_eq!(output(&mut java).trim(), "{HTTP_1_1 200 page=100}");
    }

    let table = split.director_table();
    assert!(table.contains(&format!("TCP  127.0.0.1:{} rr\n", split.ports[0])), "{table}");

    // A Tomcat dies under load: the proxies go to the other one, and no client sees it.
    let tomcat = split.tomcats[0].take().expect("running");
    let statuses = split.load("/index.jsp", true, || tomcat.kill());
    assert!(statuses.iter().all(|status| *status == 200), "{:?}", tally(&statuses));
    split.start_tomcat(0);
    split.await_tomcat(0);
    eventually("Tomcat 1 serves again", || split.page("/index.jsp").contains("Dynamic page 1"));

    // A proxy dies under load: what was open on it is lost, nothing else.
    let proxy = split.proxies[0].take().expect("running");
    let statuses = split.load("/", false, || proxy.kill());
    let lost = statuses.iter().filter(|status| **status != 200).count();
    assert!(lost <= 4, "four clients had a connection each, lost: {:?}", tally(&statuses));
    eventually("the director has seen it", || !split.headings("/", 4).contains_key("Static page, nginx1"));
    split.start_proxy(0);
    eventually("nginx1 serves again", || split.headings("/", 4).contains_key("Static page, nginx1"));
    assert_eq!(split.headings("/", 20), statics);
}

fn tally(statuses: &[u16]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(*status).or_default() += 1;
    }
    counts
}
