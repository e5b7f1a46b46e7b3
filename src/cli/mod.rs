//! The commands, one file each.

mod admin;
mod check;
mod health;
mod run;
mod shell;
mod steer;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

/// Where the configuration is looked for when nothing is said.
const DEFAULT_CONFIG: &str = "/etc/fedgate/conf.d";

/// Bad usage or a bad configuration (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;

/// A federation gate for old XMPP servers.
///
/// Stands beside a server that speaks server-to-server XMPP as in 2004 (plain TCP and dialback),
/// and federates for it as today's servers want it: with TLS and proven identities. The old server
/// stays as it is.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "Start with: fedgate check-config --config conf.d\n\
                  What it really runs on: fedgate check-config --config conf.d --print"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate in the foreground; ends in order on SIGTERM, reloads on SIGHUP.
    Run(ConfigDir),
    /// Check the configuration and print every error at once; exit status 1 if there is any.
    ///
    /// Warnings and errors go to standard error.
    CheckConfig(check::CheckConfig),
    /// Ask the running gate for a stream; exit status 1 if it does not answer.
    Health(ConfigDir),
    /// Bring the legacy server's outbound streams to the gate.
    #[command(subcommand)]
    Steer(steer::Steer),
    #[command(flatten)]
    Admin(admin::Admin),
    /// Print a script by which a shell completes the commands.
    Completions(shell::Completions),
    /// Print the manual page, or write the pages of all commands.
    Man(shell::Man),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
struct ConfigDir {
    /// Directory of YAML files, merged in order of name.
    #[arg(short, long, value_name = "DIR", env = "FEDGATE_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

impl Cli {
    /// Does what the command line says.
    pub(crate) fn execute(self) -> ExitCode {
        let outcome = match self.command {
            Command::Run(dir) => run::run(&dir.config),
            Command::CheckConfig(command) => command.execute(),
            Command::Health(dir) => health::health(&dir.config),
            Command::Steer(steer) => steer.execute(),
            Command::Admin(admin) => return admin.execute(),
            Command::Completions(command) => command.execute(),
            Command::Man(command) => command.execute(),
        };
        match outcome {
            Ok(code) => code,
            Err(error) => {
                eprintln!("fedgate: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}
