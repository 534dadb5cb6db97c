//! The proxy from outside: what its parts promise together.

mod conf;
mod forward;
mod jsp;
mod pages;
mod peer;
mod route;
mod static_file;
mod support;
mod variable;
