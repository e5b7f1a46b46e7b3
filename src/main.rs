//! The command line of fedgate: arguments, configuration, log, runtime, signals, exit codes.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().execute()
}
