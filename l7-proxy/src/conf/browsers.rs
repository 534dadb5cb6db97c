//! `modern_browser`, `ancient_browser` and their values.

use std::sync::Arc;

use crate::model::{Browser, Browsers, Settings, browser_version};

use super::Scope;
use super::rules::{ANY, Context, Fault, Rule};
use super::tree::Directive;

/// What fills in the [`Browsers`] of [`Settings`].
pub(super) const RULES: &[Rule<Settings>] = &[
    Rule::new("modern_browser", Context::SETTINGS, 1..=2, modern).many(|settings| {
        let browsers = browsers(settings);
        (browsers.modern, browsers.unlisted) = (Vec::new(), false);
    }),
    Rule::new("ancient_browser", Context::SETTINGS, 1..=ANY, |_, settings, directive| {
        let browsers = browsers(settings);
        for word in &directive.args {
            match &**word {
                "netscape4" => browsers.netscape4 = true,
                word => browsers.ancient.push(word.to_owned()),
            }
        }
        Ok(())
    })
    .many(|settings| {
        let browsers = browsers(settings);
        (browsers.ancient, browsers.netscape4) = (Vec::new(), false);
    }),
    Rule::new("modern_browser_value", Context::SETTINGS, 1..=1, |_, settings: &mut Settings, directive| {
        directive.arg(0).clone_into(&mut browsers(settings).modern_value);
        Ok(())
    })
    .many(|_| {}),
    Rule::new("ancient_browser_value", Context::SETTINGS, 1..=1, |_, settings: &mut Settings, directive| {
        directive.arg(0).clone_into(&mut browsers(settings).ancient_value);
        Ok(())
    })
    .many(|_| {}),
];

fn browsers(settings: &mut Settings) -> &mut Browsers {
    Arc::make_mut(&mut settings.browsers)
}

fn modern(_: &mut Scope, settings: &mut Settings, directive: &Directive) -> Result<(), Fault> {
    let browsers = browsers(settings);
    let [name, least] = &*directive.args else {
        browsers.unlisted = true;
        return match directive.arg(0) {
            "unlisted" => Ok(()),
            word => Err(Fault::parameter(word)),
        };
    };
    let browser =
        Browser::named(name).ok_or_else(|| Fault::new(format!("unknown browser name \"{name}\"")))?;
    let (version, None) = browser_version(least.as_bytes()) else {
        return Err(Fault::new(format!("invalid browser version \"{least}\"")));
    };
    browsers.modern.push((browser, version));
    browsers.modern.sort_by_key(|&(browser, _)| browser);
    Ok(())
}
