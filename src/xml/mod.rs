//! Layer 1: XML as XMPP restricts it (RFC 6120 §4.8, §11; Namespaces in XML 1.0).
//!
//! Bytes come in through the [`Framer`], which checks every one of them and says where each
//! first-level element ends; stanzas go out as the bytes they came in, by [`relay`]; what fedgate
//! says itself is built by [`writer`] and [`bounce`]. No I/O, no clock, no logging.

pub mod bounce;
mod element;
mod fault;
mod framer;
#[cfg(test)]
mod oracle;
pub mod relay;
mod scan;
mod token;
pub mod walk;
pub mod writer;

pub use element::{Element, ElementError};
pub use fault::Fault;
pub use framer::{Framer, Limits};
pub use token::{DefaultNamespace, ElementName, Header, Span, Tag, Token, TokenKind, Version};
