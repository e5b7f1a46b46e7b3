//! What operators see.

pub mod log;
pub mod metrics;
