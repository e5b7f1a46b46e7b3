//! Layer 4: the sidecar itself: streams that come in, routes that go out, and what they share.

mod accepted;
mod admission;
mod app;
mod backlog;
mod bucket;
mod checking;
mod counters;
mod dial;
mod embark;
mod expiry;
pub(crate) mod frames;
mod gate;
mod intake;
pub(crate) mod judge;
mod lanes;
mod listeners;
mod opened;
mod pieces;
mod places;
mod prover;
mod questions;
mod rates;
mod reached;
mod reasons;
mod route;
mod routes;
mod rules;
pub(crate) mod services;
mod sharing;

pub use app::{Addresses, App, AppError};
pub use listeners::ListenError;
pub use services::ServicesError;
