//! Layer 4: the sidecar itself: streams that come in, routes that go out, and what they share.

mod accepted;
mod admission;
mod app;
mod checking;
mod dial;
mod events;
mod failures;
mod frames;
mod gate;
mod listeners;
mod live;
mod monitor;
mod pieces;
mod prover;
mod questions;
mod reasons;
mod route;
mod routes;
mod services;

pub use app::{Addresses, App, AppError};
pub use listeners::ListenError;
pub use monitor::Monitor;
pub use services::ServicesError;
