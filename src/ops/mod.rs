//! What operators see.

pub mod log;
pub mod metrics;
pub mod report;
