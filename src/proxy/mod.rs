//! Layer 4: the sidecar itself: streams that come in, routes that go out, and what they share.

mod accepted;
mod admission;
mod app;
mod checking;
mod counters;
mod dial;
pub(crate) mod frames;
mod gate;
pub(crate) mod judge;
mod listeners;
mod pieces;
mod prover;
mod questions;
mod reasons;
mod route;
mod routes;
pub(crate) mod services;

pub use app::{Addresses, App, AppError};
pub use listeners::ListenError;
pub use services::ServicesError;
