//! The proxy from outside: what its parts promise together.

mod answers;
mod balance;
mod client_addr;
mod command;
mod conf;
mod control;
mod explain;
mod forward;
mod guard;
mod health;
mod jsp;
mod life;
mod pages;
mod peer;
mod retry;
mod route;
mod script;
mod secure;
mod serve;
mod static_file;
mod stream;
mod strict;
mod support;
mod tunnel;
mod upstream;
mod variable;
