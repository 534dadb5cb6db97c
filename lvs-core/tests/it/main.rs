//! The crate through its public door: one binary, a module per promise.

mod concurrency;
mod health;
mod persistence;
mod reload;
mod setup;
mod turns;
mod twins;
mod vectors;
