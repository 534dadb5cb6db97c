//! `$modern_browser`, `$ancient_browser` and `$msie`: what `User-Agent` says of a client.

use http::HeaderMap;
use http::header::USER_AGENT;
use memchr::memmem;

use crate::model::{Browser, Browsers, browser_version};

/// What a browser is, by what a configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Modern,
    Ancient,
}

/// Returns what the browser of a request is.
pub(super) fn age(headers: &HeaderMap, browsers: &Browsers) -> Age {
    let unlisted = if browsers.unlisted { Age::Modern } else { Age::Ancient };
    let Some(agent) = headers.get(USER_AGENT).map(|agent| agent.as_bytes()) else { return unlisted };
    if let Some((first, _)) = browsers.modern.first() {
        // What of Opera nobody has spoken is none of the others, though it says so.
        let opera = Some((Browser::Opera, u64::MAX)).filter(|_| *first != Browser::Opera);
        for (browser, least) in opera.into_iter().chain(browsers.modern.iter().copied()) {
            if let Some(found) = version_of(browser, agent) {
                return if found >= least { Age::Modern } else { Age::Ancient };
            }
        }
        if !browsers.unlisted {
            return Age::Ancient;
        }
    }
    let is_netscape4 = agent.len() > "Mozilla/4.72 ".len()
        && agent.starts_with(b"Mozilla/")
        && matches!(agent.get(8), Some(b'1'..=b'4'));
    let is_listed = || browsers.ancient.iter().any(|text| memmem::find(agent, text.as_bytes()).is_some());
    if (browsers.netscape4 && is_netscape4) || is_listed() { Age::Ancient } else { unlisted }
}

/// Returns the version of a browser, if it is of this family.
fn version_of(browser: Browser, agent: &[u8]) -> Option<u64> {
    // What stands in front of the name at least, the name, and how much of it, or behind it, is no version.
    let (before, name, length) = match browser {
        Browser::Opera => ("", "Opera", "Opera ".len()),
        Browser::Msie => ("Mozilla/4.0 (compatible; ", "MSIE ", "MSIE ".len()),
        Browser::Gecko => ("Mozilla/5.0 (", "rv:", "rv:".len()),
        Browser::Safari => ("Mozilla/5.0 (", "Safari/", "Safari/".len()),
        Browser::Konqueror => ("Mozilla/5.0 (compatible; ", "Konqueror/", "Konqueror/".len()),
    };
    let rest = agent.get(before.len()..)?;
    let version = rest.get(memmem::find(rest, name.as_bytes())? + length..)?;
    (!version.is_empty()).then(|| browser_version(version).0)
}

/// Whether the browser of a request is an Internet Explorer that calls itself so.
pub(super) fn is_msie(headers: &HeaderMap) -> bool {
    let Some(agent) = headers.get(USER_AGENT).map(|agent| agent.as_bytes()) else { return false };
    let found = memmem::find(agent, b"MSIE ").is_some_and(|at| at + 7 < agent.len());
    found && memmem::find(agent, b"Opera").is_none()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const OPERA: &str = "Mozilla/4.0 (compatible; MSIE 6.0; X11; FreeBSD i386) Opera 7.50  [en]";
    const MSIE: &str = "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)";
    const GECKO: &str = "Mozilla/5.0 (X11; U; Linux i686; en-US; rv:1.8.0.5) Gecko/20060729 Firefox/1.5.0.5";
    const SAFARI: &str = "Mozilla/5.0 (Macintosh; U) AppleWebKit/418.8 (KHTML, like Gecko) Safari/419.3";
    const NETSCAPE: &str = "Mozilla/4.72 [en] (X11; U; Linux)";

    fn of(agent: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static(agent))])
    }

    #[test]
    fn browser_is_modern_from_its_version_on() {
        let listed = |browser, version: &str| Browsers {
            modern: vec![(browser, browser_version(version.as_bytes()).0)],
            ..Browsers::default()
        };
        for (agent, browser, version, expected) in [
            (MSIE, Browser::Msie, "6.0", Age::Modern),
            (MSIE, Browser::Msie, "5.5", Age::Modern),
            (MSIE, Browser::Msie, "6.1", Age::Ancient),
            // It says that it is the other one.
            (OPERA, Browser::Msie, "5.0", Age::Ancient),
            (OPERA, Browser::Opera, "7.51", Age::Ancient),
            (OPERA, Browser::Opera, "7.50", Age::Modern),
            (GECKO, Browser::Gecko, "1.8.0.5", Age::Modern),
            (GECKO, Browser::Gecko, "1.8.0.6", Age::Ancient),
            (GECKO, Browser::Gecko, "1.10", Age::Ancient),
            (SAFARI, Browser::Safari, "419.3", Age::Modern),
            (SAFARI, Browser::Safari, "420", Age::Ancient),
            (SAFARI, Browser::Konqueror, "1", Age::Ancient),
        ] {
            assert_eq!(
                age(&of(agent), &listed(browser, version)),
                expected,
                "{browser:?} {version}: {agent}"
            );
        }
    }

    #[test]
    fn what_is_not_listed_is_ancient_unless_the_file_says_otherwise() {
        let unlisted = Browsers { unlisted: true, ..Browsers::default() };
        let texts = Browsers { ancient: vec!["Lynx".to_owned()], netscape4: true, ..unlisted.clone() };
        for (agent, browsers, expected) in [
            (MSIE, &Browsers::default(), Age::Ancient),
            (MSIE, &unlisted, Age::Modern),
            ("Lynx/2.8", &unlisted, Age::Modern),
            ("Lynx/2.8", &texts, Age::Ancient),
            (NETSCAPE, &texts, Age::Ancient),
            (GECKO, &texts, Age::Modern),
        ] {
            assert_eq!(age(&of(agent), browsers), expected, "{agent}");
        }
        assert_eq!(age(&HeaderMap::new(), &texts), Age::Modern);
        assert_eq!(age(&HeaderMap::new(), &Browsers::default()), Age::Ancient);
    }

    #[test]
    fn explorer_is_told_from_who_only_says_so() {
        for (agent, expected) in [(MSIE, true), (OPERA, false), (GECKO, false), ("MSIE 6", false)] {
            assert_eq!(is_msie(&of(agent)), expected, "{agent}");
        }
    }
}
