//! The commands, one file each.

mod admin;
mod check;
mod check_config;
mod descriptors;
mod health;
mod policy;
mod privileges;
mod records;
mod run;
mod selfcheck;
mod shell;
mod steer;
mod threads;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use fedgate::config::{self, model::Config};
use serde::Serialize;

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
    Run(run::Run),
    /// Check the configuration and print every error at once; exit status 1 if there is any.
    ///
    /// Warnings and errors go to standard error.
    CheckConfig(check_config::CheckConfig),
    /// Walk the whole way to a remote domain and say why it does or does not federate.
    ///
    /// Opens a stream as the gate would, up to where it would speak for the local domain, and sends
    /// no stanza. Exit status: 0 good, 1 with a warning, 2 would not federate, 3 could not be found
    /// out, 64 with wrong arguments or a wrong configuration.
    Check(check::Check),
    /// Print what a local domain has to publish (SRV, TLSA, POSH), and what of it is there.
    ///
    /// Exit status: 0 all is there, 1 something is missing, 2 something is wrong, 3 could not be
    /// found out, 64 with wrong arguments or a wrong configuration.
    Records(records::Records),
    /// Look at everything on this side: DNS, certificates, reachability, the legacy server behind.
    ///
    /// Exit status: 0 good, 1 with a warning, 2 something is wrong, 3 something could not be found
    /// out, 64 with wrong arguments or a wrong configuration.
    Selfcheck(selfcheck::Selfcheck),
    /// Ask the running gate for a stream, as a peer would; for health checks of containers.
    ///
    /// Where it listens it says itself, by its admin socket; only if it cannot be asked does the
    /// configuration. So a broken one, which the running gate does not take, changes nothing. Exit
    /// status: 0 it answers, or drains; 1 it does not; 64 if neither says where to ask.
    Health(health::Health),
    /// Show what the rules come to.
    #[command(subcommand)]
    Policy(policy::Policy),
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

/// How a report is printed.
#[derive(Clone, Copy, Debug, Args)]
struct Format {
    /// Print JSON in place of text.
    #[arg(long)]
    json: bool,
}

impl Format {
    /// Prints a report on standard output; as text in colours, if that is a terminal and nobody
    /// asked for none (no-color.org).
    fn print(self, report: &impl Serialize, text: impl FnOnce(bool) -> String) -> io::Result<()> {
        let mut out = io::stdout();
        if self.json {
            serde_json::to_writer_pretty(&mut out, report)?;
            return out.write_all(b"\n");
        }
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        out.write_all(text(wanted && out.is_terminal()).as_bytes())
    }
}

/// Loads the configuration; prints what is wrong with it, and says how to exit then.
fn load(dir: &ConfigDir) -> Result<Config, ExitCode> {
    config::load(&dir.config).map(|loaded| loaded.config).map_err(|problems| {
        eprintln!("{problems}");
        ExitCode::from(EXIT_USAGE)
    })
}

/// For commands that ask the network one thing after another.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("start the runtime")
}

impl Cli {
    /// Reads the command line; prints what is wrong with it, or the help that was asked for, and
    /// says how to exit then. Not with clap's own status, which means something else here.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            // where the terminal is gone nobody reads it
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
        })
    }

    /// Does what the command line says.
    pub(crate) fn execute(self) -> ExitCode {
        let outcome = match self.command {
            Command::Run(command) => command.execute(),
            Command::CheckConfig(command) => command.execute(),
            Command::Check(command) => command.execute(),
            Command::Records(command) => command.execute(),
            Command::Selfcheck(command) => command.execute(),
            Command::Health(command) => command.execute(),
            Command::Policy(policy) => policy.execute(),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_option_of_any_command_is_in_the_way_of_another() {
        Cli::command().debug_assert();
    }
}
