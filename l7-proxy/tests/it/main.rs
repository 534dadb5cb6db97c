//! The proxy from outside: what its parts promise together.

mod conf;
mod forward;
mod jsp;
mod pages;
mod peer;
mod retry;
mod route;
mod static_file;
mod strict;
mod support;
mod tunnel;
mod variable;
