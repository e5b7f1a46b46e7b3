//! pkix
