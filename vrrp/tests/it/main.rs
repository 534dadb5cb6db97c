//! The crate through its public door: one binary, a module per promise.

mod arbitration;
mod consent;
mod etcd;
mod fuzz;
mod machine;
mod os;
mod simulation;
