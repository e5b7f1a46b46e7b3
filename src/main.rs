//! The command line of fedgate: arguments, configuration, log, runtime, signals, exit codes.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::read() {
        Ok(cli) => cli.execute(),
        Err(code) => code,
    }
}
