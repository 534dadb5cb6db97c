//! The proxy from outside: what its parts promise together.

mod conf;
mod route;
