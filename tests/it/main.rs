//! Whole gates in one process, between simulated neighbours on loopback sockets: hostile input on
//! each of the four legs, breaks, reloads, the end. Every test has a gate of its own, on ports that
//! the kernel chose; every wait has an end; and at the end of each the gate still relays an honest
//! message both ways.
//!
//! `A-…` are the rows of the attack table, `XML-…`, `DB-…`, `TLS-…` and the like the rules.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod admin;
mod attacks;
mod balancer;
mod bidi;
mod check;
mod claims;
mod downgrade;
mod endurance;
mod features;
mod l1_addresses;
mod l1_dialback;
mod l1_limits;
mod l1_streams;
mod l1_tls;
mod l1_xml;
mod l2_legacy;
mod l3_legacy;
mod l4_negotiation;
mod l4_proofs;
mod l4_streams;
mod life;
mod limits;
mod management;
mod ping;
mod posh;
mod relay;
mod resumption;
mod rules;
mod secrets;
mod selfcheck;
mod sharing;
mod workers;
mod world;
