//! Layer 0: the words of the field as values. No I/O, no clock, no logging.

mod condition;
mod domain;
pub mod jid;
pub mod ns;
mod pair;

pub use condition::{StanzaCondition, StreamCondition};
pub use domain::{Domain, DomainError};
pub use pair::{Direction, DomainPair, Side};
