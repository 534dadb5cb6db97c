//! Micro-benchmarks of the schedulers.
