//! The Linux Virtual Server's scheduling, persistence and health tracking as a library without sockets, runtime or clock.
