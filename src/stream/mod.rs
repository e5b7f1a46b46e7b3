//! Layer 2: what is said on a stream, as state machines. No socket, no clock, no DNS: elements and
//! verdicts go in, bytes and challenges come out, so that a test drives them step by step.
//!
//! [`Receiving`] is the accepting end of a stream, [`Initiating`] the opening one. Both serve both
//! sides: towards the legacy server they speak the same protocol with another policy.

mod challenge;
mod dialback;
mod failure;
mod fault;
mod initiating;
mod limits;
mod management;
mod receiving;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod transcripts;
#[cfg(test)]
mod wire;

pub use challenge::{Challenge, Question, Refusal, Verdict};
pub use dialback::{Spelling, VerifyOutcome};
pub(crate) use failure::printable;
pub use failure::{Failure, FailureKind};
pub use fault::{Blame, Fault};
pub use initiating::{Initiating, Purpose, Setup, Step};
pub use management::{Former, Resumed, Resumption, Sent, TooHigh};
pub use receiving::{Action, Authentication, Full, Receiving, StreamIds};
