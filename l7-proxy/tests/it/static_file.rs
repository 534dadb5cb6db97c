//! Answers from the file system.

use std::fs;
use std::future::{Future, poll_fn};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body::Body;
use l7_proxy::model::{IfModifiedSince, Root, Types};
use l7_proxy::static_file::{Cache, Describing, FileBody, Found, find};
use l7_proxy::variable::Value;

use crate::support::Request;

/// 0x6780 0000 seconds after the epoch.
const MODIFIED: &str = "Thu, 09 Jan 2025 16:57:36 GMT";
const ETAG: &str = "\"67800000-a\"";

/// A folder with `ten.txt`, which holds the ten digits.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "ten.txt", b"0123456789");
    folder
}

fn write(folder: &Path, name: &str, text: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(0x6780_0000);
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
}

/// Reads a body that never waits; `None` for one that breaks.
fn read(body: FileBody) -> Option<Vec<u8>> {
    let mut body = Box::pin(body);
    let mut read = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let mut next = Box::pin(poll_fn(|context| body.as_mut().poll_frame(context)));
        match Pin::new(&mut next).poll(&mut context) {
            Poll::Ready(Some(Ok(frame))) => read.extend_from_slice(&frame.into_data().unwrap() as &Bytes),
            Poll::Ready(Some(Err(_))) => return None,
            Poll::Ready(None) => return Some(read),
            Poll::Pending => unreachable!("reads do not wait"),
        }
    }
}

/// Status, head and body of an answer.
fn answer(request: &Request) -> (u16, HeaderMap, Vec<u8>) {
    match find(&request.exchange(None), Describing::Fields, &mut Vec::new(), &mut Cache::default()) {
        Found::File(file) => {
            let declared =
                file.headers.get("content-length").map(|length| length.to_str().unwrap().to_owned());
            let body = read(file.body).unwrap();
            if request.method == Method::GET
                && let Some(declared) = declared
            {
                assert_eq!(declared, body.len().to_string());
            }
            (file.status.as_u16(), file.headers, body)
        }
        Found::Status(status, headers) => (status, headers, Vec::new()),
        Found::Listing(_, page) => (200, HeaderMap::new(), page.to_vec()),
        Found::AddSlash => (301, HeaderMap::new(), Vec::new()),
        Found::Index(path) => (0, HeaderMap::new(), path),
    }
}

fn status(request: &Request) -> u16 {
    answer(request).0
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn file_is_described_as_nginx_does() {
    let folder = folder();
    let mut request = Request::get("/ten.txt").root(folder.path());
    let mut types = Types::none();
    types.insert("TXT", HeaderValue::from_static("text/x-ten"));
    request.settings.files.types = Arc::new(types);
    let (status, headers, body) = answer(&request);
    assert_eq!((status, &*body), (200, &b"0123456789"[..]));
    let mut fields: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    fields.sort_unstable();
    let expected = [
        ("accept-ranges", "bytes"),
        ("content-length", "10"),
        ("content-type", "text/x-ten"),
        ("etag", ETAG),
        ("last-modified", MODIFIED),
    ];
    assert_eq!(fields, expected);

    let (status, headers, body) = answer(&request.method(Method::HEAD));
    assert_eq!((status, &*text(&headers, "content-length"), body.len()), (200, "10", 0));
}

#[test]
fn type_is_the_default_where_the_extension_has_none() {
    let folder = folder();
    write(folder.path(), "dir.txt/noext", b"");
    let mut request = Request::get("/dir.txt/noext").root(folder.path());
    assert_eq!(text(&answer(&request).1, "content-type"), "text/plain");
    request.settings.files.default_type = None;
    assert!(!answer(&request).1.contains_key("content-type"));
}

#[test]
fn refusals_have_the_statuses_of_nginx() {
    let folder = folder();
    write(folder.path(), "dir/x", b"");
    write(folder.path(), "closed/x", b"");
    symlink("ten.txt", folder.path().join("link")).unwrap();
    symlink("loop", folder.path().join("loop")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let long = format!("/{}", "x".repeat(300));
    for (path, expected) in [
        ("/ten.txt", 200),
        ("/link", 200),
        ("/none", 404),
        ("/none/x", 404),
        ("/none/", 404),
        ("/ten.txt/", 404),
        ("/ten.txt/x", 404),
        ("/dir", 301),
        ("/dir/", 403),
        ("/dir/x", 200),
        ("/fifo", 404),
        ("/loop", 403),
        (&*long, 404),
    ] {
        assert_eq!(status(&Request::get(path).root(folder.path())), expected, "{path}");
    }
    // A user who may read everything is refused nothing.
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(folder.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(status(&Request::get("/closed/x").root(folder.path())), 403);
        fs::set_permissions(folder.path().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let with = |method, path| status(&Request::get(path).root(folder.path()).method(method));
    assert_eq!(with(Method::POST, "/ten.txt"), 405);
    assert_eq!(with(Method::POST, "/none"), 404);
    assert_eq!(with(Method::PUT, "/ten.txt"), 405);
    assert_eq!(with(Method::DELETE, "/none"), 405);
    assert_eq!(with(Method::HEAD, "/ten.txt"), 200);
}

#[test]
fn index_is_the_first_that_is_there_and_starts_the_request_anew() {
    let folder = folder();
    write(folder.path(), "dir/b.html", b"");
    write(folder.path(), "dir/index.jsp", b"");
    let index = |names: &[&str]| {
        let mut request = Request::get("/dir/").root(folder.path());
        request.settings.files.index = names.iter().map(|name| Value::literal(*name)).collect();
        let (status, _, path) = answer(&request);
        (status, String::from_utf8(path).unwrap())
    };
    assert_eq!(index(&["a.html", "b.html"]), (0, "/dir/b.html".into()));
    assert_eq!(index(&["index.jsp"]), (0, "/dir/index.jsp".into()));
    assert_eq!(index(&["a.html", "/other"]), (0, "/other".into()));
    assert_eq!(index(&["a.html"]), (403, String::new()));
}

#[test]
fn alias_takes_the_place_of_the_prefix() {
    let folder = folder();
    let directory = Value::literal(format!("{}/", folder.path().display()));
    let mut request = Request::get("/digits/ten.txt");
    request.settings.files.root = Root::Alias { directory, replaces: Some("/digits/".len()) };
    assert_eq!(status(&request), 200);
    let directory = Value::literal(folder.path().join("ten.txt").to_str().unwrap());
    request.settings.files.root = Root::Alias { directory, replaces: None };
    assert_eq!(status(&request), 200);
}

#[test]
fn validators_are_compared_as_nginx_does() {
    let folder = folder();
    let with = |fields: &[(&'static str, &str)]| {
        let request = Request::get("/ten.txt").root(folder.path());
        status(&fields.iter().fold(request, |request, (name, value)| request.field(name, value)))
    };
    let (since, none_match) = ("if-modified-since", "if-none-match");
    let (unmodified, if_match) = ("if-unmodified-since", "if-match");
    let (before, after) = ("Wed, 08 Jan 2025 16:57:36 GMT", "Fri, 10 Jan 2025 16:47:12 GMT");
    for (fields, expected) in [
        (&[(since, MODIFIED)][..], 304),
        (&[(since, before)], 200),
        // The time has to be the very one.
        (&[(since, after)], 200),
        (&[(since, "yesterday")], 200),
        (&[(none_match, ETAG)], 304),
        (&[(none_match, "W/\"67800000-a\"")], 304),
        (&[(none_match, "\"a,b\", \"67800000-a\"")], 304),
        (&[(none_match, "\"x\""), (none_match, ETAG)], 304),
        (&[(none_match, "*")], 304),
        (&[(none_match, "\"x\"")], 200),
        (&[(none_match, "67800000-a")], 200),
        (&[(none_match, "\"67800000-a")], 200),
        // Both have to say it.
        (&[(none_match, ETAG), (since, MODIFIED)], 304),
        (&[(none_match, ETAG), (since, before)], 200),
        (&[(none_match, "\"x\""), (since, MODIFIED)], 200),
        (&[(unmodified, MODIFIED)], 200),
        (&[(unmodified, after)], 200),
        (&[(unmodified, before)], 412),
        (&[(if_match, ETAG)], 200),
        (&[(if_match, "*")], 200),
        (&[(if_match, "W/\"67800000-a\"")], 412),
        (&[(if_match, "\"x\"")], 412),
        (&[(if_match, ETAG), (none_match, ETAG)], 304),
    ] {
        assert_eq!(with(fields), expected, "{fields:?}");
    }
}

#[test]
fn unmodified_answer_keeps_the_validators_and_nothing_else() {
    let folder = folder();
    let (_, headers, body) =
        answer(&Request::get("/ten.txt").root(folder.path()).field("if-none-match", "*"));
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["etag", "last-modified"]);
    assert!(body.is_empty());
}

#[test]
fn if_modified_since_follows_its_directive() {
    let folder = folder();
    let with = |rule, since| {
        let mut request = Request::get("/ten.txt").root(folder.path()).field("if-modified-since", since);
        request.settings.files.if_modified_since = rule;
        status(&request)
    };
    let after = "Fri, 10 Jan 2025 16:57:36 GMT";
    assert_eq!(with(IfModifiedSince::Off, MODIFIED), 200);
    assert_eq!(with(IfModifiedSince::Before, after), 304);
    assert_eq!(with(IfModifiedSince::Before, "Wed, 08 Jan 2025 16:57:36 GMT"), 200);
    let mut request = Request::get("/ten.txt").root(folder.path()).field("if-none-match", ETAG);
    request.settings.files.etag = false;
    let (status, headers, _) = answer(&request);
    assert_eq!((status, headers.contains_key("etag")), (200, false));
}

#[test]
fn one_range_is_sent_as_it_is() {
    let folder = folder();
    for (range, body, content_range) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=-20", "0123456789", "bytes 0-9/10"),
        ("bytes=9-99", "9", "bytes 9-9/10"),
        ("Bytes= 1 - 2 ", "12", "bytes 1-2/10"),
        ("bytes=4-4,20-30", "4", "bytes 4-4/10"),
    ] {
        let (status, headers, found) =
            answer(&Request::get("/ten.txt").root(folder.path()).field("range", range));
        assert_eq!(status, 206, "{range}");
        assert_eq!(String::from_utf8(found).unwrap(), body, "{range}");
        assert_eq!(text(&headers, "content-range"), content_range, "{range}");
        assert!(!headers.contains_key("accept-ranges"));
    }
}

#[test]
fn range_that_is_not_there_is_416() {
    let folder = folder();
    for range in
        ["bytes=10-", "bytes=20-30", "bytes=-0", "bytes=5-3", "bytes=-", "bytes=x-", "bytes=1", "bytes=1-2x"]
    {
        let (status, headers, _) =
            answer(&Request::get("/ten.txt").root(folder.path()).field("range", range));
        assert_eq!((status, &*text(&headers, "content-range")), (416, "bytes */10"), "{range}");
    }
}

#[test]
fn range_that_cannot_be_meant_is_ignored() {
    let folder = folder();
    write(folder.path(), "empty", b"");
    for range in ["lines=1-2", "bytes", "bytes=", "", "bytes=0-9,0-0", "bytes=0-,0-,0-"] {
        let request = Request::get("/ten.txt").root(folder.path()).field("range", range);
        assert_eq!(status(&request), 200, "{range}");
    }
    assert_eq!(status(&Request::get("/empty").root(folder.path()).field("range", "bytes=0-")), 200);
    assert_eq!(status(&Request::get("/empty").root(folder.path()).field("range", "bytes=-1")), 200);
    let limited = |max| {
        let mut request = Request::get("/ten.txt").root(folder.path()).field("range", "bytes=0-0,2-2");
        request.settings.files.max_ranges = max;
        status(&request)
    };
    assert_eq!((limited(None), limited(Some(2)), limited(Some(1)), limited(Some(0))), (206, 206, 200, 200));
}

#[test]
fn range_holds_only_for_the_file_that_if_range_names() {
    let folder = folder();
    for (validator, expected) in [
        (ETAG, 206),
        (MODIFIED, 206),
        ("\"x\"", 200),
        ("W/\"67800000-a\"", 200),
        ("Fri, 10 Jan 2025 16:57:36 GMT", 200),
        ("x", 200),
    ] {
        let request = Request::get("/ten.txt").root(folder.path()).field("range", "bytes=0-1");
        assert_eq!(status(&request.field("if-range", validator)), expected, "{validator}");
    }
}

#[test]
fn several_ranges_are_parts_of_one_body() {
    let folder = folder();
    let (status, headers, body) =
        answer(&Request::get("/ten.txt").root(folder.path()).field("range", "bytes=1-2,-3"));
    assert_eq!(status, 206);
    assert!(!headers.contains_key("content-range"));
    let content_type = text(&headers, "content-type");
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let expected = format!(
        "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 1-2/10\r\n\r\n12\
         \r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-9/10\r\n\r\n789\
         \r\n--{boundary}--\r\n"
    );
    assert_eq!(String::from_utf8(body).unwrap(), expected);
}

#[test]
fn large_file_is_sent_whole_in_pieces() {
    let folder = folder();
    let large: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    write(folder.path(), "large", &large);
    let (_, _, body) = answer(&Request::get("/large").root(folder.path()));
    assert!(body == large);
    let range = Request::get("/large").root(folder.path()).field("range", "bytes=65000-150000");
    assert!(answer(&range).2 == large[65_000..=150_000]);
}

#[test]
fn file_that_is_cut_short_breaks_the_answer() {
    let folder = folder();
    write(folder.path(), "large", &[7; 200_000]);
    let request = Request::get("/large").root(folder.path());
    let Found::File(file) =
        find(&request.exchange(None), Describing::Fields, &mut Vec::new(), &mut Cache::default())
    else {
        panic!("no file")
    };
    fs::File::options().write(true).open(folder.path().join("large")).unwrap().set_len(100_000).unwrap();
    assert_eq!(file.body.left(), 200_000);
    assert_eq!(read(file.body), None);
}
