//! An HTTP proxy that reads nginx.conf.
