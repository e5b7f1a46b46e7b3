//! Layer 4: the sidecar itself: streams that come in, routes that go out, and what they share.

mod accepted;
mod admission;
mod app;
mod checking;
mod dial;
mod embark;
mod events;
mod expiry;
mod failures;
pub(crate) mod frames;
mod gate;
mod intake;
pub(crate) mod judge;
mod lanes;
mod listeners;
mod lists;
mod live;
mod monitor;
mod opened;
mod pieces;
mod pinging;
mod pings;
mod prover;
mod questions;
mod reasons;
mod route;
mod routes;
pub(crate) mod rules;
pub(crate) mod services;
mod sharing;
mod steps;

pub use app::{Addresses, App, AppError};
pub use listeners::ListenError;
pub use monitor::Monitor;
pub use pinging::PingRefused;
pub use services::ServicesError;
