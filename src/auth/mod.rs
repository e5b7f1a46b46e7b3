//! Layer 1: who may speak for which domain. Pure decisions.

pub mod dane;
pub mod dialback_key;
pub mod ledger;
pub mod memory;
pub mod pin;
pub(crate) mod ping;
pub mod pkix;
pub mod posh;
mod proof;
mod tls_facts;

pub use proof::{Proof, Prooftype, Strength};
pub use tls_facts::TlsFacts;
