//! lvsadm as a director's process runs it, and as the program that talks to one.

mod beyond;
mod director;
mod listings;
mod messages;
mod mutations;
mod properties;
mod restore;
mod rules;
mod socket;
