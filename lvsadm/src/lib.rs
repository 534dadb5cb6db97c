//! ipvsadm's command line for a director in userspace.
