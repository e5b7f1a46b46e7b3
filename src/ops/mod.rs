//! What operators see.

pub mod daily;
pub mod log;
pub mod metrics;
pub mod report;
pub mod seldom;
