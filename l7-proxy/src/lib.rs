//! An HTTP proxy that reads nginx.conf.

pub mod conf;
pub mod host;
pub mod jsp;
pub mod model;
pub mod pages;
pub mod route;
pub mod static_file;
pub mod uri;
pub mod variable;

mod date;
