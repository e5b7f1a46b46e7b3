//! The command line of fedgate: arguments, configuration, log, runtime, signals, exit codes.

mod cli;

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// The buffers of a busy stream come and go by the thousand: glibc gives each back to the kernel
/// and faults it in again.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    match cli::Cli::read() {
        Ok(cli) => cli.execute(),
        Err(code) => code,
    }
}
