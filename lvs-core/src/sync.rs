//! What the counts are made of. `loom/` compiles the files that use it with loom's in their place,
//! which plays every order that threads could run in.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic;
