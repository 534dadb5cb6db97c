//! How an `upstream {}` of `stream {}` chooses a server.

use lvs_core::Algorithm;

use crate::conf::rules::{self, Context, Fault, Rule};
use crate::conf::tree::Directive;
use crate::conf::{Error, Scope};
use crate::stream::text::Text;

/// The choice while it is read.
pub(crate) type Balance = (Algorithm, Option<Text>);

/// What fills in a [`Balance`].
pub(crate) const BALANCE: &[Rule<Balance>] = &[
    Rule::new("least_conn", Context::STREAM_UPSTREAM, 0..=0, |_, balance: &mut Balance, _| {
        balance.0 = Algorithm::LeastConn;
        Ok(())
    }),
    Rule::new("random", Context::STREAM_UPSTREAM, 0..=2, |_, balance, directive| {
        balance.0 = match (directive.arg(0), directive.arg(1)) {
            ("", _) => Algorithm::Random,
            ("two", "" | "least_conn") => Algorithm::RandomTwo,
            ("two", word) if word.starts_with("least_time") => {
                return Err(Fault::unsupported(word, directive));
            }
            ("two", word) | (word, _) => return Err(Fault::parameter(word)),
        };
        Ok(())
    }),
    Rule::new("hash", Context::STREAM_UPSTREAM, 1..=2, |scope, balance, directive| {
        balance.0 = match directive.arg(1) {
            "" => Algorithm::Hash,
            "consistent" => Algorithm::HashConsistent,
            word => return Err(Fault::parameter(word)),
        };
        balance.1 = Some(Text::parse(directive.arg(0), &scope.stream.names)?);
        Ok(())
    }),
];

/// Reads how an `upstream {}` chooses.
pub(super) fn balance(scope: &mut Scope, directive: &Directive) -> Result<Balance, Error> {
    let mut balance = (Algorithm::Swrr, None);
    rules::apply(scope, BALANCE, Context::STREAM_UPSTREAM, &directive.block, &mut balance)?;
    Ok(balance)
}
