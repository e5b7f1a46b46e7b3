//! Layer 1: who may speak for which domain. Pure decisions.

pub mod dialback_key;
pub mod pkix;
