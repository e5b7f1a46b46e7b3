//! Layer 4: what operators ask at night, answered beside the running fedgate: why a domain does not
//! federate ([`check`]), what a domain has to publish ([`records`]), whom a new policy would refuse
//! ([`simulate`]), and whether all is well on this side ([`selfcheck`]).
//!
//! Everything is found out with the pieces that federation itself runs on, in the same order, so
//! that a report says what fedgate would do. Nothing is written but what was asked for and a trial
//! file, and no stanza is sent.

pub mod check;
pub mod records;
pub mod selfcheck;
pub mod simulate;
mod status;
mod text;

pub use status::Status;
