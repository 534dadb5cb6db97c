//! The examples as a person would run them.

mod programs;
mod replay;
mod tomcat;
