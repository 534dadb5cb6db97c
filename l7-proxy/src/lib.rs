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

pub mod site;

mod access_log;
mod body;
mod date;
mod forward;
mod handle;
mod server;
mod transaction;
mod upstream;
mod wire;

pub use access_log::{LogFiles, OpenError};
pub use server::{Proxy, Shared};
pub use site::{Site, SiteError};
