//! What would be sent to whom, for an explanation.

use std::rc::Rc;

use lvs_core::Explanation;

use super::{Journey, exchange, headers, request_target, secure};
use crate::model::ProxyPass;
use crate::moment::Moment;
use crate::route::{Route, Server};
use crate::transaction::Transaction;
use crate::unix;
use crate::upstream::Pool;
use crate::uri::Target;

/// Says which server would get the request, why, and as what.
pub(crate) fn explain(
    transaction: &Transaction,
    server: &Server,
    route: &Route<'_>,
    (pass, pool): (&ProxyPass, Rc<Pool>),
    target: &Target<'_>,
) -> String {
    let settings = route.proxy();
    let Some(path) = request_target(transaction, server, route, pass, target) else {
        return format!("proxy_pass {}: its path cannot be written, so the answer is 500", pass.url);
    };
    let secure = match pass.tls {
        true => secure(transaction, server, route, target, settings).ok(),
        false => None,
    };
    let (is_told, traffic) = (false, std::cell::Cell::default());
    let journey = Journey {
        scheme: pass.scheme(),
        secure,
        server,
        route,
        target,
        settings,
        is_told,
        traffic,
        path,
        source: None,
        origin: None,
        pool,
    };
    let flow = journey.flow(transaction);
    let director = journey.pool.director(transaction.session.worker.director());
    let binding = journey.pool.bound.as_ref().map(|bound| {
        let exchange = exchange(transaction, server, route, target);
        bound.explain(&exchange, director, &journey.pool.key)
    });
    let chosen = match binding.as_ref().and_then(|binding| binding.server) {
        Some(server) => format!("upstream {}: {} (sticky)", journey.pool.key, unix::shown(server)),
        None => match director.explain(&journey.pool.key, &flow, Moment::now().as_time()) {
            Ok(explanation) => words(&explanation),
            Err(refusal) => refusal.to_string(),
        },
    };
    let binding = binding.map(|binding| binding.words + "\n").unwrap_or_default();
    let head = journey.head(transaction, headers::Reuse::of(settings, headers::Reuse::Kept));
    let head = String::from_utf8_lossy(&head).trim_end().replace("\r\n", "\n  ");
    format!("{binding}proxy_pass {}: {chosen}\nit would be asked\n  {head}", pass.url)
}

/// The upstream's name is known; the first line of an explanation begins with it.
fn words(explanation: &Explanation) -> String {
    format!("upstream {explanation}")
}
