//! Scripts of servers and locations, with the places of what their `if`s switch to.

use crate::model::{Condition, If, Instruction, Return, Rewrite, Settable, Upstream};
use crate::variable::Value;

use super::locations::Level;
use super::{Location, RouteError};

/// One step of a script.
#[derive(Debug)]
pub enum Order {
    /// Gives a variable a value.
    Set(Settable, Value),
    /// Changes the path.
    Rewrite(Rewrite),
    /// Does more where a condition holds.
    If(Branch),
    /// Leaves out the rest.
    Break,
}

/// An `if`.
#[derive(Debug)]
pub struct Branch {
    /// When it holds.
    pub condition: Condition,
    /// What is done then.
    pub script: Box<[Order]>,
    /// A `return` that ends the script.
    pub reply: Option<Return>,
    /// The location that holds then.
    pub(super) place: Option<usize>,
}

/// Compiles a script; the locations of its `if`s are appended to `all`.
pub(super) fn compile(
    script: Vec<Instruction>,
    upstreams: &[Upstream],
    all: &mut Vec<Location>,
) -> Result<Box<[Order]>, RouteError> {
    script.into_iter().map(|instruction| order(instruction, upstreams, all)).collect()
}

fn order(
    instruction: Instruction,
    upstreams: &[Upstream],
    all: &mut Vec<Location>,
) -> Result<Order, RouteError> {
    Ok(match instruction {
        Instruction::Set { variable, value } => Order::Set(variable, value),
        Instruction::Rewrite(rewrite) => Order::Rewrite(rewrite),
        Instruction::Break => Order::Break,
        Instruction::If(If { condition, script, reply, location }) => {
            let script = compile(script, upstreams, all)?;
            let place = match location {
                Some(location) => Some(Location::push(*location, Level::default(), upstreams, all)?),
                None => None,
            };
            Order::If(Branch { condition, script, reply, place })
        }
    })
}
