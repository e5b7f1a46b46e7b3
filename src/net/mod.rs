//! Layer 3: the only layer that touches the world: sockets, DNS, TLS, files of keys.

pub mod ahead;
mod cache;
pub mod certificates;
pub mod connector;
#[cfg(test)]
pub(crate) mod fake_dns;
#[cfg(test)]
pub(crate) mod fake_https;
pub mod fetch;
pub mod handover;
pub mod memory;
pub mod own;
pub mod posh;
pub mod proxy_header;
pub mod resolver;
pub mod roots;
pub mod secret;
pub mod targets;
pub mod tls;
pub mod tune;
pub(crate) mod whole_file;
pub mod wire;
