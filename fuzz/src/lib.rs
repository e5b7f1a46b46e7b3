//! What the fuzz targets do with their input: drive one part of fedgate through its public
//! interface, and panic where something does not hold that always has to.
//!
//! `tests/corpora.rs` of fedgate includes this file and runs the corpora through it, without
//! libFuzzer and on a stable compiler.

#![allow(clippy::unwrap_used, reason = "a panic is how a finding shows")]

pub mod config;
pub mod evidence;
pub mod framer;
pub mod initiating;
pub mod receiving;

mod certificates;
mod chance;
mod conversation;
mod management;
#[path = "../../src/xml/oracle/reading.rs"]
mod reading;
