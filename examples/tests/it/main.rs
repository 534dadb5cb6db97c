//! The examples as a person would run them.

mod boundary;
mod nginx_hashes;
mod programs;
mod replay;
mod simulate;
mod small;
mod tomcat;
