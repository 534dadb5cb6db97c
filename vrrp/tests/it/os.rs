//! Virtual routers on real interfaces: hosts in network namespaces on one bridge, with keepalived and
//! tshark for company. Time is real here.

#![allow(clippy::disallowed_methods, reason = "these hosts live in real time")]

mod delays;
mod host;
mod keepalived;
pub(crate) mod lab;
mod partition;
mod probe;
mod vmac;
mod wire;
