//! Layer 4: the sidecar itself: streams that come in, routes that go out, and what they share.

mod accepted;
mod admission;
mod alarm;
mod app;
mod backlog;
mod berths;
mod bucket;
mod checking;
mod daily;
mod delivery;
mod dial;
mod embark;
mod events;
mod expiry;
mod failures;
mod features;
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
mod places;
mod prover;
mod questions;
mod rates;
mod reached;
mod reasons;
mod receipts;
mod remembering;
mod route;
mod routes;
pub(crate) mod rules;
pub(crate) mod services;
mod sessions;
mod shared_task;
mod sharing;
mod signals;
mod steps;
mod workers;

use std::time::Duration;

pub use app::{Addresses, App, AppError};
pub use listeners::ListenError;
pub use monitor::Monitor;
pub use pinging::PingRefused;
pub use services::ServicesError;
pub use workers::Workers;

/// How long last words may take, and the other end to close its stream behind them.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// The same for the latter when fedgate ends.
const DRAIN_WAIT: Duration = Duration::from_secs(1);
