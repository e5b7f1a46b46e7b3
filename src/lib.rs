//! skeleton
pub mod xmpp;
pub mod xml;
pub mod auth;
pub mod stream;
pub mod config;
pub mod net;
pub mod ops;
pub mod steer;
pub mod proxy;
