//! The proxy from outside: what its parts promise together.

mod route;
