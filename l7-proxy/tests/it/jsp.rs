//! The `.jsp` boundary: from the request line to what is sent or forwarded.

use std::fs;
use std::path::Path;

use l7_proxy::model::Handler;
use l7_proxy::route::Router;
use l7_proxy::static_file::{Cache, Describing, Found, find};
use l7_proxy::uri::Target;
use l7_proxy::variable::Captures;

use crate::support::{Request, load_in};

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Refused with this status.
    Refused(u16),
    /// Forwarded under this path.
    Forwarded(String),
    /// A file is sent.
    Sent,
}

/// Files that a careless deployment leaves under the root of the static pages, every name that
/// some spelling could reach.
const FILES: [&str; 18] = [
    "a.jsp",
    "a.JSP",
    "a.Jsp",
    "a.jspx",
    "a.jspf",
    "a.jsp ",
    "a.jsp.",
    "a.jsp;x",
    "a.jsp;jsessionid=1",
    "a.jsp\\",
    "a.jsp~",
    "a.jsp\n",
    "d.jsp/index.jsp",
    "WEB-INF/web.xml",
    "META-INF/context.xml",
    "web-inf/web.xml",
    "x/..;/a.jsp",
    "page.html",
];

fn site(folder: &Path) -> Router {
    for name in FILES {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "<% secret %>").unwrap();
    }
    let text = "events {} http { server { listen 127.0.0.1:80; root FOLDER; index index.jsp index.html;
        location /admin/ { return 403; }
        location ~ \\.jsp$ { proxy_pass http://127.0.0.1:8080; } } }";
    let text = text.replace("FOLDER", folder.to_str().unwrap());
    Router::new(load_in(folder, &text).unwrap().config.http.unwrap()).unwrap()
}

fn fate(router: &Router, request_uri: &str) -> Fate {
    let Ok(mut target) = Target::parse(request_uri) else { return Fate::Refused(400) };
    loop {
        let route = router.servers()[0].locate(target.path(), &mut Captures::default()).route();
        if let Some(reply) = route.reply {
            return Fate::Refused(reply.status);
        }
        if let Handler::Proxy(_) = route.handler {
            return Fate::Forwarded(target.forwarded().into_owned());
        }
        let mut request = Request::get("/");
        request.target = target.into_owned();
        request.settings = route.settings.clone();
        match find(&request.exchange(None), Describing::Fields, &mut Vec::new(), &mut Cache::default()) {
            Found::File(_) => return Fate::Sent,
            Found::Status(status, _) => return Fate::Refused(status),
            Found::AddSlash => return Fate::Refused(301),
            Found::Listing(..) => return Fate::Sent,
            Found::Index(path) => target = Target::internal(&path, None).unwrap(),
        }
    }
}

#[test]
fn source_of_a_page_is_never_sent_however_its_path_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let router = site(folder.path());
    let forwarded = |path: &str| Fate::Forwarded(path.to_owned());
    for (request_uri, expected) in [
        ("/a.jsp", forwarded("/a.jsp")),
        ("/a.jsp?x=1", forwarded("/a.jsp")),
        ("/a.JSP", Fate::Refused(404)),
        ("/a.Jsp", Fate::Refused(404)),
        ("/a.j%53p", Fate::Refused(404)),
        ("/a%2ejsp", forwarded("/a%2ejsp")),
        ("/a%2Ejsp", forwarded("/a%2Ejsp")),
        ("/%61%2e%6a%73%70", forwarded("/%61%2e%6a%73%70")),
        ("/a.jsp/", Fate::Refused(404)),
        ("/a.jsp//", Fate::Refused(404)),
        ("/a.jsp/.", Fate::Refused(404)),
        ("/a.jsp/x/..", Fate::Refused(404)),
        ("/a.jsp;jsessionid=1", forwarded("/a.jsp;jsessionid=1")),
        ("/a.jsp;", forwarded("/a.jsp;")),
        ("/a.jsp;x/", Fate::Refused(404)),
        ("/a.jsp;x=/..", Fate::Refused(403)),
        ("/;x/a.jsp", forwarded("/a.jsp")),
        ("/a.jsp%3bx", Fate::Refused(404)),
        ("/a.jsp%3Bjsessionid=1", Fate::Refused(404)),
        ("/a.jsp%20", Fate::Refused(404)),
        ("/a.jsp%0a", Fate::Refused(404)),
        ("/a.jsp%00", Fate::Refused(400)),
        ("/a.jsp%00.html", Fate::Refused(400)),
        ("/a.jsp.", Fate::Refused(404)),
        ("/a.jsp%2e", Fate::Refused(404)),
        ("/a.jsp%2f", Fate::Refused(404)),
        ("/a.jsp%5c", Fate::Refused(404)),
        ("/a.jsp\\", Fate::Refused(404)),
        ("/x%5c..%5ca.jsp", forwarded("/x%5c..%5ca.jsp")),
        ("/a.jsp~", Fate::Refused(404)),
        ("/a.jspx", Fate::Refused(404)),
        ("/a.jspf", Fate::Refused(404)),
        ("//a.jsp", forwarded("/a.jsp")),
        ("/./a.jsp", forwarded("/a.jsp")),
        ("/x/../a.jsp", forwarded("/a.jsp")),
        ("/x/..;/a.jsp", forwarded("/a.jsp")),
        ("/x/..;y=z/a.jsp;s", forwarded("/a.jsp;s")),
        ("/x/%2e%2e/a.jsp", forwarded("/a.jsp")),
        ("/x/%2e%2e;/a.jsp", forwarded("/a.jsp")),
        ("/x/..%2fa.jsp", forwarded("/a.jsp")),
        ("/x/..%3b/a.jsp", Fate::Refused(400)),
        ("/../a.jsp", Fate::Refused(400)),
        ("/a.jsp%", Fate::Refused(400)),
        ("/a%252ejsp", Fate::Refused(404)),
        ("/d.jsp", forwarded("/d.jsp")),
        ("/d.jsp/", forwarded("/d.jsp/index.jsp")),
        ("/WEB-INF/web.xml", Fate::Refused(404)),
        ("/web-inf/web.xml", Fate::Refused(404)),
        ("/WEB-INF;x/web.xml", Fate::Refused(404)),
        ("/x/../WEB-INF/web.xml", Fate::Refused(404)),
        ("/%57EB-INF/web.xml", Fate::Refused(404)),
        ("/WEB-INF", Fate::Refused(404)),
        ("/META-INF/context.xml", Fate::Refused(404)),
        ("/page.html", Fate::Sent),
        ("/page.html;x", Fate::Sent),
    ] {
        assert_eq!(fate(&router, request_uri), expected, "{request_uri}");
    }
}

#[test]
fn guarded_path_is_not_walked_around() {
    let folder = tempfile::tempdir().unwrap();
    let router = site(folder.path());
    for request_uri in [
        "/admin/a.html",
        "/admin;x/a.html",
        "/admin;x=1;y/a.html",
        "//admin/a.html",
        "/x/../admin/a.html",
        "/x/..;/admin/a.html",
        "/%61dmin/a.html",
        "/admin%2fa.html",
        "/;/admin/a.html",
        "/./admin/a.html",
        "/admin/./",
        "/admin/x/..;/a.html",
    ] {
        assert_eq!(fate(&router, request_uri), Fate::Refused(403), "{request_uri}");
    }
}
