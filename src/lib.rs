#![doc = include_str!("../ARCHITECTURE.md")]
#![deny(rustdoc::broken_intra_doc_links)]

pub mod admin;
pub mod auth;
pub mod config;
pub mod diagnose;
pub mod features;
pub mod net;
pub mod ops;
pub mod proxy;
pub mod steer;
pub mod stream;
pub mod xml;
pub mod xmpp;
