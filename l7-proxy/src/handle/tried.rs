//! `try_files`: the first path that is there is served.

use rustix::fs::FileType;

use super::{Step, exchange};
use crate::model::{Fallback, Root, TryFiles};
use crate::route::{Route, Server};
use crate::static_file::Links;
use crate::transaction::Transaction;
use crate::uri::Target;

/// Looks for the first path that is there and makes it the request's; else returns what is done.
pub(super) fn look(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &mut Target<'_>,
    tried: &TryFiles,
) -> Option<Step> {
    for path in &tried.paths {
        let mut text = Vec::new();
        path.write(&exchange(transaction, server, route, target), &mut text);
        let (text, wanted) = match text.strip_suffix(b"/") {
            Some(directory) => (directory, Wanted::Directory),
            None => (&*text, Wanted::File),
        };
        let Some(found) = find(transaction, server, route, target, text, wanted) else { continue };
        transaction.tell(|| format!("try_files: {} is there", found.path().escape_ascii()));
        transaction.redirected = Some(Box::new(found.clone()));
        *target = found;
        return None;
    }
    match &tried.last {
        Fallback::Status(444) => Some(Step::Close),
        Fallback::Status(status) => Some(Step::status(*status)),
        Fallback::Path(path) => {
            let mut text = Vec::new();
            path.write(&exchange(transaction, server, route, target), &mut text);
            Some(Step::Elsewhere(text))
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    File,
    Directory,
}

/// Returns the path under which a location finds what is called `text`, if that is there.
fn find(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    text: &[u8],
    wanted: Wanted,
) -> Option<Target<'static>> {
    let exchange = exchange(transaction, server, route, target);
    let (root, alias) = match &route.settings.files.root {
        Root::Root(root) => (root, None),
        Root::Alias { directory, replaces } => (directory, Some(*replaces)),
    };
    let mut name = Vec::new();
    root.write(&exchange, &mut name);
    let prefix = target.path().get(..alias.flatten().unwrap_or(0)).unwrap_or_default();
    // A text that begins like the location is meant as a path, any other as a name under the alias.
    let rest = text.strip_prefix(prefix).unwrap_or(text);
    name.extend_from_slice(rest);
    let found = Links::of(&exchange, &name).stat(&name).ok()?;
    let kind = FileType::from_raw_mode(found.st_mode);
    let fits = match wanted {
        Wanted::File => kind.is_file(),
        Wanted::Directory => kind.is_dir(),
    };
    if !fits {
        return None;
    }
    // A directory is found without its slash, so that the client is sent there.
    let path = match alias {
        Some(Some(_)) => [prefix, rest].concat(),
        _ => text.to_vec(),
    };
    let args = target.args();
    let next = Target::internal(&path, args).ok()?;
    // Under an alias of a regular expression the path is a name below it from now on.
    transaction.findings.below_alias = alias == Some(None);
    Some(next)
}
