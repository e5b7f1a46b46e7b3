//! Room for file descriptors.

use std::io;

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Resource, getrlimit},
};

/// Room for more is made when it is needed; this takes half a megabyte of the kernel's memory.
const MOST: u64 = 65_536;

/// Has the kernel make room for as many descriptors as the process may open. The kernel's table of them
/// doubles each time that it is full, and who accepts a connection then waits until all processors know
/// of it: some 10 ms, for all streams of the thread. While there is one thread only, nobody waits.
///
/// # Errors
/// No descriptor can be had.
pub(super) fn make_room() -> io::Result<()> {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(MOST).min(MOST);
    let last = i32::try_from(most.saturating_sub(1)).unwrap_or_default();
    // The table stays as large when this is closed.
    fcntl_dupfd_cloexec(io::stderr(), last)?;
    Ok(())
}
