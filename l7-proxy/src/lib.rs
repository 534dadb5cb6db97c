//! An HTTP proxy that reads nginx.conf.

pub mod host;
pub mod model;
pub mod route;
pub mod uri;
pub mod variable;

mod date;
