//! Layer 3: the only layer that touches the world: sockets, DNS, TLS, files of keys.

pub mod certificates;
pub mod connector;
pub mod resolver;
pub mod roots;
pub mod tls;
