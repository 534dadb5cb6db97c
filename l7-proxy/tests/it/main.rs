//! The proxy from outside: what its parts promise together.

mod conf;
mod jsp;
mod pages;
mod route;
mod static_file;
mod support;
mod variable;
