//! The `.jsp` boundary with a real Tomcat behind the real proxy: however a path is written, no page's source
//! is sent, and no page runs that a location denies.
//!
//! Tomcat listens twice, once as it is and once as lenient as it can be made. Before it stands each of the
//! two usual configurations: files here and pages there out of the same folder, and everything there
//! but what a location denies.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::programs::{Program, accepts, binary, eventually, free_ports, peer};
use crate::tomcat;

/// In the source of every page and private file, and in nothing that a page prints.
const SOURCE: &str = "password-in-the-source";

/// What the denied page prints.
const DENIED: &str = "denied page ran";

/// What the other one prints.
const ALLOWED: &str = "page ran";

#[test]
fn no_spelling_of_a_path_shows_the_source_of_a_page_or_runs_one_that_is_denied() {
    if !peer("Tomcat 10", tomcat::CATALINA) {
        return;
    }
    let work = tempfile::tempdir().expect("a temporary folder");
    let [strict, lenient, split_strict, split_lenient, all_strict, all_lenient] = free_ports();
    let base = work.path().join("tomcat");
    let application = base.join("webapps/ROOT");
    install(&base, &application, strict, lenient);
    let _tomcat = tomcat::start(&base);
    for port in [strict, lenient] {
        eventually("Tomcat runs the page", || ask(port, "/page.jsp").contains(ALLOWED));
    }

    let mut servers = String::new();
    for (split, all, tomcat) in [(split_strict, all_strict, strict), (split_lenient, all_lenient, lenient)] {
        let root = application.display();
        write!(
            servers,
            "server {{
                listen 127.0.0.1:{split};
                root {root};
                location ^~ /admin/ {{ deny all; }}
                location ~ \\.jsp$ {{ proxy_pass http://127.0.0.1:{tomcat}; }}
            }}
            server {{
                listen 127.0.0.1:{all};
                location /admin/ {{ deny all; }}
                location / {{ proxy_pass http://127.0.0.1:{tomcat}; }}
            }}\n"
        )
        .expect("a string takes it");
    }
    let conf = work.path().join("nginx.conf");
    let text = format!(
        "daemon off; error_log stderr crit; pid nginx.pid; events {{}} http {{ access_log off; {servers} }}"
    );
    fs::write(&conf, text).expect("a file");
    let mut proxy = Command::new(binary("l7-proxy"));
    proxy.arg("-p").arg(work.path()).arg("-c").arg(&conf).stderr(Stdio::inherit());
    let _proxy = Program::start(&mut proxy);
    eventually("the proxy accepts", || accepts(all_lenient));

    // Where the proxy lets everything through, nothing of what follows would hold.
    let fronts = [split_strict, split_lenient, all_strict, all_lenient];
    for front in fronts {
        assert!(ask(front, "/page.jsp").contains(ALLOWED), "the page is there for those who may");
        assert!(ask(front, "/admin/page.jsp").starts_with("HTTP/1.1 403"));
    }

    let mut reached = 0;
    for path in spellings() {
        let to_tomcat = [strict, lenient].map(|port| ask(port, &path));
        reached += usize::from(to_tomcat.iter().any(|answer| answer.contains(DENIED)));
        for front in fronts {
            let answer = ask(front, &path);
            assert!(!answer.contains(SOURCE), "{path} shows the source:\n{answer}");
            assert!(!answer.contains(DENIED), "{path} runs the denied page:\n{answer}");
        }
    }
    // The other half of the proof: Tomcat itself takes many of these for the denied page.
    assert!(reached >= 40, "only {reached} spellings mean anything to Tomcat");
}

/// A Tomcat with two connectors and one application of two pages.
fn install(base: &Path, application: &Path, strict: u16, lenient: u16) {
    for folder in ["conf", "logs", "temp", "work", "webapps/ROOT/admin", "webapps/ROOT/WEB-INF"] {
        fs::create_dir_all(base.join(folder)).expect("a folder");
    }
    fs::copy("/etc/tomcat10/web.xml", base.join("conf/web.xml")).expect("tomcat's");
    let server = format!(
        r#"<Server port="-1"><Service name="Catalina">
             <Connector port="{strict}" address="127.0.0.1" maxThreads="8"/>
             <Connector port="{lenient}" address="127.0.0.1" maxThreads="8" allowBackslash="true"
                        encodedSolidusHandling="decode" relaxedPathChars="&quot;&lt;&gt;[\]^`{{|}}"
                        rejectIllegalHeader="false"/>
             <Engine name="Catalina" defaultHost="localhost">
               <Host name="localhost" appBase="webapps" unpackWARs="false" autoDeploy="false"/>
             </Engine>
           </Service></Server>"#
    );
    fs::write(base.join("conf/server.xml"), server).expect("a file");
    let page = |prints: &str| format!("<%-- {SOURCE} --%><%= \"{}\" + \" ran\" %>\n", prints);
    fs::write(application.join("page.jsp"), page("page")).expect("a file");
    fs::write(application.join("admin/page.jsp"), page("denied page")).expect("a file");
    let private = format!("<web-app><!-- {SOURCE} --></web-app>");
    fs::write(application.join("WEB-INF/web.xml"), private).expect("a file");
    fs::write(application.join("WEB-INF/part.jspf"), page("part")).expect("a file");
}

/// Everything that somebody might take for one of the pages, or for a private file.
fn spellings() -> Vec<String> {
    // What may stand before a name, ...
    let ways = [
        "/",
        "//",
        "///",
        "/./",
        "/%2e/",
        "/.;/",
        "/.;x=y/",
        "/;/",
        "/;x=y/",
        "/;x=y;z/",
        "/x/../",
        "/x/..;/",
        "/x/..;x=y/",
        "/x/%2e%2e/",
        "/x/%2E./",
        "/x/.%2e/",
        "/x/%2e%2e;/",
        "/x/%2e%2e%3b/",
        "/x;/../",
        "/x/;/../../",
        "/x/y/../../",
        "/x/y/..;/..;/",
        "/x%2f../",
        "/x%2f..%2f",
        "/x/..%2f",
        "/x/..%252f",
        "/x%5c..%5c",
        "/x\\..\\",
        "/x/..\\",
        "/\\",
        "/%5c",
        "/%2f",
        "/%252e%252e/",
        "/../",
        "/..;/",
        "/%2e%2e/",
        "/page.jsp/../",
        "/page.jsp/..;/",
        "/page.jsp;/../",
        "/page.jsp/%2e%2e/",
        "/page.jsp%2f..%2f",
        "/static/..;/",
        "/admin/..;/",
        "/admin/../",
        "/x/..%00/",
        "/%c0%ae%c0%ae/",
        "/x/..%c0%af",
        "/%00/",
        "/%20/../",
        "/%09/",
        "/x/..%01/",
    ];
    // ... after it, ...
    let ends = [
        "",
        "/",
        "//",
        "/.",
        "/..",
        "/x",
        "/x/..",
        "/x/..;",
        ";",
        ";jsessionid=1",
        ";jsessionid=1.jsp",
        ";x=/y",
        ";/",
        ";/x.html",
        "%3b",
        "%3bjsessionid=1",
        ".",
        "..",
        "%2e",
        "%20",
        "%20%20",
        "%09",
        "%0a",
        "%0d%0a",
        "%00",
        "%00.html",
        "%00.jsp",
        "%01",
        "%7f",
        "%2f",
        "%2f.",
        "%5c",
        "\\",
        "::$DATA",
        "%3a%3a$DATA",
        ":1",
        "~",
        "%7e",
        ".html",
        "%2ehtml",
        ";.html",
        "?x",
        "?.html",
        "#.html",
        "%23",
        "%3f",
        "%3f.html",
        "%c0%af",
        "%e2%80%8b",
        "%ef%bc%8f",
        "%c2%a0",
        "%252f",
        "%2500",
        "+",
        "%2b",
        "$",
        "!",
        "'",
        "%22",
        "%27",
    ];
    // ... and be in it.
    let names = [
        "page.jsp",
        "page.JSP",
        "Page.jsp",
        "PAGE.JSP",
        "page%2ejsp",
        "page%2Ejsp",
        "page.%6asp",
        "page.j%73p",
        "page.%6A%73%70",
        "%70age.jsp",
        "%70%61%67%65%2e%6a%73%70",
        "page%252ejsp",
        "page.%256asp",
        "page;.jsp",
        "page;x.jsp",
        "page.jsp;a;b",
        "page%c0%aejsp",
        "page%u002ejsp",
        "page.jspx",
        "page.jsp%%",
        "page.%jsp",
        "page..jsp",
        "page.jsp.jsp",
        "./page.jsp",
        ";x/page.jsp",
        "./;/page.jsp",
    ];
    let folders = [
        "",
        "admin/",
        "%61dmin/",
        "admin;/",
        "admin;x=y/",
        "admin/;/",
        "admin/;x=y/",
        "admin//",
        "admin/./",
        "admin/x/../",
        "admin/x/..;/",
        "admin/%2e/",
        "admin%2f",
        "admin%5c",
        "admin\\",
        "Admin/",
        "ADMIN/",
        "admin%20/",
        "admin./",
        "admin%2e/",
        "admin%00/",
        "admin%3b/",
        "admin/..;/admin/",
        "%61%64%6d%69%6e/",
        "admin%252f",
        "admin/%2f",
        "admin;%2f",
    ];
    let mut paths = Vec::new();
    for folder in folders {
        paths.extend(ways.map(|way| format!("{way}{folder}page.jsp")));
        paths.extend(names.map(|name| format!("/{folder}{name}")));
        paths.extend(ends.map(|end| format!("/{folder}page.jsp{end}")));
    }
    for way in ways {
        paths.push(format!("{way}admin/page.jsp;x"));
        paths.push(format!("{way}admin;x/page.jsp"));
        for private in ["WEB-INF/web.xml", "WEB-INF/part.jspf", "web-inf/web.xml", "%57EB-INF/web.xml"] {
            paths.push(format!("{way}{private}"));
        }
    }
    for private in
        ["WEB-INF;/", "WEB-INF/./", "WEB-INF//", "WEB-INF%2f", "WEB-INF\\", "WEB-INF./", "WEB-INF%20/"]
    {
        paths.extend(ends.map(|end| format!("/{private}web.xml{end}")));
        paths.push(format!("/admin/..;/{private}web.xml"));
    }
    for absolute in
        ["/page.jsp", "/admin/page.jsp", "/x/..;/admin/page.jsp", "/admin;x/page.jsp", "/page.JSP"]
    {
        paths.push(format!("http://localhost{absolute}"));
        paths.push(format!("HTTP://localhost:80{absolute}"));
    }
    paths
}

/// The whole answer to a request for exactly this path, which curl would tidy.
fn ask(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a timeout");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    // Who refuses a request early may have closed.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
