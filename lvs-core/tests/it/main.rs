//! The crate through its public door: one binary, a module per promise.

mod amend;
mod concurrency;
mod docs;
mod explain;
mod fuzz;
mod health;
mod persistence;
mod plan;
mod rates;
mod reload;
mod schedulers;
#[cfg(feature = "serde")]
mod serial;
mod sessions;
mod setup;
mod simulation;
mod succession;
mod turns;
mod twins;
mod vectors;
