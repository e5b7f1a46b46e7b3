//! Steering the legacy server towards fedgate: DNS answers and nftables rules.

pub mod dns;
pub mod nftables;
