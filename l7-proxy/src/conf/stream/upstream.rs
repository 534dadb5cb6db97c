//! How an `upstream {}` of `stream {}` chooses a server.

use lvs_core::Algorithm;

use crate::conf::rules::{self, Context, Fault, Rule};
use crate::conf::tree::Directive;
use crate::conf::{Error, Scope};
use crate::model::StreamTimed;
use crate::stream::text::Text;

/// The choice while it is read.
pub(crate) struct Balance {
    pub(super) algorithm: Algorithm,
    /// What is hashed.
    pub(super) key: Option<Text>,
    pub(super) timed: Option<StreamTimed>,
}

impl Default for Balance {
    fn default() -> Self {
        Self { algorithm: Algorithm::Swrr, key: None, timed: None }
    }
}

/// What fills in a [`Balance`].
pub(crate) const BALANCE: &[Rule<Balance>] = &[
    Rule::new("least_conn", Context::STREAM_UPSTREAM, 0..=0, |scope, balance: &mut Balance, directive| {
        choose(scope, balance, directive, Algorithm::LeastConn);
        Ok(())
    })
    .many(|_| {}),
    Rule::new("random", Context::STREAM_UPSTREAM, 0..=2, |scope, balance: &mut Balance, directive| {
        let words: Vec<&str> = directive.args.iter().map(|word| &**word).collect();
        let algorithm = match *words {
            [] => Algorithm::Random,
            ["two"] | ["two", "least_conn"] => Algorithm::RandomTwo,
            // Of two drawn by weight, the one that answers sooner for its load.
            ["two", word] if let Some(word) = word.strip_prefix("least_time=") => {
                balance.timed = Some(timed(word)?);
                Algorithm::Ewma
            }
            ["two", word] | [word, ..] => return Err(Fault::parameter(word)),
        };
        choose(scope, balance, directive, algorithm);
        Ok(())
    })
    .many(|_| {}),
    Rule::new("least_time", Context::STREAM_UPSTREAM, 1..=2, |scope, balance: &mut Balance, directive| {
        choose(scope, balance, directive, Algorithm::LeastTime);
        balance.timed = Some(timed(directive.arg(0))?);
        match directive.arg(1) {
            // Connections that are there count in any case: a server's time is multiplied by them.
            "" | "inflight" => Ok(()),
            word => Err(Fault::parameter(word)),
        }
    })
    .many(|_| {}),
    Rule::new("hash", Context::STREAM_UPSTREAM, 1..=2, |scope, balance: &mut Balance, directive| {
        balance.key = Some(Text::parse(directive.arg(0), &scope.stream.names)?);
        let algorithm = match directive.arg(1) {
            "" => Algorithm::Hash,
            "consistent" => Algorithm::HashConsistent,
            word => return Err(Fault::parameter(word)),
        };
        choose(scope, balance, directive, algorithm);
        Ok(())
    })
    .many(|_| {}),
];

/// Takes a way to choose; one more is taken in its place.
fn choose(scope: &mut Scope, balance: &mut Balance, directive: &Directive, algorithm: Algorithm) {
    if balance.algorithm != Algorithm::Swrr {
        scope.note(directive, "load balancing method redefined");
    }
    balance.algorithm = algorithm;
}

/// Reads how an `upstream {}` chooses.
pub(super) fn balance(scope: &mut Scope, directive: &Directive) -> Result<Balance, Error> {
    let mut balance = Balance::default();
    rules::apply(scope, BALANCE, Context::STREAM_UPSTREAM, &directive.block, &mut balance)?;
    Ok(balance)
}

fn timed(word: &str) -> Result<StreamTimed, Fault> {
    match word {
        "connect" => Ok(StreamTimed::Connect),
        "first_byte" => Ok(StreamTimed::FirstByte),
        "last_byte" => Ok(StreamTimed::LastByte),
        word => Err(Fault::parameter(word)),
    }
}
