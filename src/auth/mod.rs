//! Layer 1: who may speak for which domain. Pure decisions.

pub mod pkix;
