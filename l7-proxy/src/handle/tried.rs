//! `try_files`: the first path that is there is served.

use rustix::fs::FileType;

use super::{Step, exchange};
use crate::model::{Fallback, Root, Tried, TriedKind, TryFiles};
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
    for tried in &tried.paths {
        let mut text = Vec::new();
        tried.path.write(&exchange(transaction, server, route, target), &mut text);
        let Some(found) = find(transaction, server, route, target, &text, tried) else { continue };
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

/// Returns the path under which a location finds what is called `text`, if that is there.
fn find(
    transaction: &mut Transaction,
    server: &Server,
    route: &Route<'_>,
    target: &Target<'_>,
    text: &[u8],
    tried: &Tried,
) -> Option<Target<'static>> {
    let exchange = exchange(transaction, server, route, target);
    let (root, alias) = match &route.settings.files.root {
        Root::Root(root) => (root, None),
        Root::Alias { directory, replaces } => (directory, Some(*replaces)),
    };
    let mut name = Vec::new();
    root.write(&exchange, &mut name);
    let prefix = target.path().get(..alias.flatten().unwrap_or(0)).unwrap_or_default();
    // What variables make of it is a path if it begins like the location; anything else is a name under
    // the alias.
    let as_path = tried.path.as_literal().is_none().then(|| text.strip_prefix(prefix)).flatten();
    let rest = as_path.unwrap_or(text);
    name.extend_from_slice(rest);
    let found = Links::of(&exchange, &name).stat(&name).ok()?;
    let is_directory = FileType::from_raw_mode(found.st_mode).is_dir();
    if is_directory != (tried.kind == TriedKind::Directory) {
        return None;
    }
    // A directory that was asked for without its slash is found so, and the client is sent there.
    let slash = if text.starts_with(b"/") { &b""[..] } else { b"/" };
    let path = match alias {
        Some(Some(_)) => [prefix, rest].concat(),
        // It is a name below the alias from now on, and a path begins with a slash.
        Some(None) => [slash, text].concat(),
        None => text.to_vec(),
    };
    let next = Target::internal(&path, target.args()).ok()?;
    transaction.findings.below_alias = (alias == Some(None)).then_some(slash.len());
    Some(next)
}
