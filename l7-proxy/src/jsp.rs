//! The `.jsp` boundary: the source of a page that a servlet container executes is never sent as a
//! file, however its path is written.
//!
//! The usual split is a regular expression, `location ~ \.jsp$`, beside a `root` that holds the
//! same application. Every spelling that the expression misses and the file system (or a later
//! reader of the name) accepts would then hand out the source, passwords and all. Three
//! fences stand in a row, and each holds alone:
//!
//! 1. [`crate::uri`] reads the path as the container does before anything is matched: `%2e`,
//!    `;jsessionid=1`, `/x/..;/`, `//` and `%00` are gone or refused.
//! 2. Only what was matched is forwarded, so that the container cannot see a page where the
//!    locations saw something else.
//! 3. This guard: the handler of files refuses a name that is a page's to any reader (other
//!    case, dots or blanks at the end, a backslash) with 404, like a file that is not there.
//!
//! There is no switch: who wants to show a page's source gives it another extension.

/// Returns whether a file name, with or without directories, is that of a page's source.
///
/// ```
/// # use l7_proxy::jsp::is_source;
/// assert!(is_source(b"/srv/app/Login.JSP. "));
/// assert!(!is_source(b"/srv/app/login.jsp.html"));
/// ```
pub fn is_source(file: &[u8]) -> bool {
    let name = last_name(file);
    let Some(dot) = memchr::memrchr(b'.', name) else { return false };
    let extension = leading_word(&name[dot + 1..]);
    SOURCES.iter().any(|source| extension.eq_ignore_ascii_case(source))
}

/// Returns whether a path leads into a directory that a servlet container keeps to itself.
pub fn is_private(path: &[u8]) -> bool {
    path.split(|&byte| is_separator(byte)).any(|segment| {
        let name = leading_word(segment);
        PRIVATE.iter().any(|private| name.eq_ignore_ascii_case(private))
    })
}

/// Extensions of pages, their fragments, and the older spellings that containers still execute.
const SOURCES: [&[u8]; 5] = [b"jsp", b"jspx", b"jspf", b"jsw", b"jsv"];

/// Directories of the servlet specification that are never served.
const PRIVATE: [&[u8]; 2] = [b"WEB-INF", b"META-INF"];

/// Returns the last name of a path, without what some reader of names ignores at the end of it.
fn last_name(path: &[u8]) -> &[u8] {
    let ignored = |byte: u8| is_separator(byte) || byte == b'.' || byte <= b' ' || byte == 0x7f;
    let end = path.iter().rposition(|&byte| !ignored(byte)).map_or(0, |last| last + 1);
    let start = path[..end].iter().rposition(|&byte| is_separator(byte)).map_or(0, |slash| slash + 1);
    &path[start..end]
}

/// Returns the letters, digits and hyphens that `text` begins with: what is left of `jsp;x`, `jsp~`
/// or `jsp::$DATA`.
fn leading_word(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|&byte| !byte.is_ascii_alphanumeric() && byte != b'-');
    &text[..end.unwrap_or(text.len())]
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::{is_private, is_source};

    #[test]
    fn page_is_recognised_in_every_spelling_of_its_name() {
        for name in [
            "/a.jsp",
            "/a.JSP",
            "/a.Jsp",
            "/a.jsp/",
            "/a.jsp//",
            "/a.jsp.",
            "/a.jsp..",
            "/a.jsp ",
            "/a.jsp. .",
            "/a.jsp\t",
            "/a.jsp\n",
            "/a.jsp\0",
            "/a.jsp\u{7f}",
            "/a.jsp\\",
            "/dir\\a.jsp",
            "/a.jspx",
            "/a.jspf",
            "/a.JSPX.",
            "/a.jsp;x",
            "/a.jsp;",
            "/a.jsp~",
            "/a.jsp::$DATA",
            "/a.jsp:",
            "/.jsp",
            "a.jsp",
            "/a.jsp#",
            "/a.jsp%20",
            "/x.html/a.jsp",
            "/a.jsw",
            "/a.jsv",
        ] {
            assert!(is_source(name.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        for name in [
            "/",
            "/a",
            "/jsp",
            "/ajsp",
            "/a.js",
            "/a.json",
            "/a.jspa",
            "/a.jsp.html",
            "/a.jsp/b.html",
            "/a.html",
            "",
            ".",
            "/...",
            "/a.jspxx",
            "/a.css;x",
        ] {
            assert!(!is_source(name.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn directories_of_the_container_are_private_in_every_spelling() {
        for path in [
            "/WEB-INF/web.xml",
            "/web-inf/web.xml",
            "/app/Web-Inf",
            "/META-INF/",
            "/app/META-INF/context.xml",
            "/WEB-INF./x",
            "/WEB-INF /x",
            "/WEB-INF;x/y",
            "/x\\WEB-INF\\y",
        ] {
            assert!(is_private(path.as_bytes()), "{path:?}");
        }
        for path in ["/", "/WEB-INFO/x", "/my-WEB-INF/x", "/web/inf", "/x.WEB-INF"] {
            assert!(!is_private(path.as_bytes()), "{path:?}");
        }
    }
}
