//! Layer 5: the admin interface: HTTP over a Unix socket, and where the configuration says so over
//! TCP, for health checks, metrics, the commands and the status page.
//!
//! Who reaches the socket may do everything: its file says who does. Over TCP nothing changes unless
//! `admin.write` is set, what is not loopback needs a token, and no page of another site gets an
//! answer (`guard`). Everything is bounded: connections, requests, time, watchers; who does not
//! read an answer is not waited for.

mod api;
mod control;
mod guard;
mod page;
mod ping;
mod progress;
mod server;
mod watch;

pub use control::{Command, Control, Order};
pub use guard::TokenError;
pub use server::{AdminError, Bound, Server};
