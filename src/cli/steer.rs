//! `fedgate steer`: bringing the legacy server's outbound streams to the gate.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use fedgate::{
    config,
    steer::nftables::{self, Deny, Redirect, User},
    xmpp::Direction,
};

use super::{ConfigDir, EXIT_USAGE};

/// The ways to steer that need a command; the DNS responder is part of `run`.
#[derive(Debug, Subcommand)]
pub(super) enum Steer {
    /// Print nftables rules that redirect outgoing port 5269 to the local listener; or, with
    /// --deny, such as drop connections from addresses that the rules refuse.
    Nftables(Nftables),
}

#[derive(Debug, Args)]
pub(super) struct Nftables {
    #[command(flatten)]
    dir: ConfigDir,
    /// The user that fedgate runs as; its own connections are let out.
    #[arg(long, value_name = "USER", default_value = "fedgate")]
    fedgate_user: User,
    /// The user that the legacy server runs as; without it, everyone's connections are redirected.
    #[arg(long, value_name = "USER")]
    legacy_user: Option<User>,
    /// The addresses that the configuration refuses to let in, in place of the redirect.
    #[arg(long, conflicts_with_all = ["fedgate_user", "legacy_user"])]
    deny: bool,
    /// Load the rules now, in place of earlier ones.
    #[arg(long, conflicts_with = "remove")]
    apply: bool,
    /// Take loaded rules away.
    #[arg(long)]
    remove: bool,
}

impl Steer {
    /// Does it.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Nftables(command) => command.execute(),
        }
    }
}

impl Nftables {
    fn execute(self) -> anyhow::Result<ExitCode> {
        if self.remove {
            if self.deny {
                nftables::remove_deny()?;
            } else {
                nftables::remove()?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let config = match config::load(&self.dir.config) {
            Ok(loaded) => loaded.config,
            Err(problems) => {
                eprintln!("{problems}");
                return Ok(ExitCode::from(EXIT_USAGE));
            }
        };
        let ruleset = if self.deny {
            let listeners = [config.listen.public, config.listen.direct_tls].concat();
            let addresses = config.policy.refused(Direction::Inbound);
            Deny { listeners, addresses, balancers: config.listen.proxy_protocol }.ruleset()?
        } else {
            let redirect = Redirect {
                listeners: config.listen.local,
                fedgate: self.fedgate_user,
                legacy: self.legacy_user,
            };
            redirect.ruleset()?
        };
        if self.apply {
            nftables::apply(&ruleset)?;
        } else {
            print(&ruleset);
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[expect(clippy::print_stdout, reason = "the ruleset is what the command is for")]
fn print(ruleset: &str) {
    print!("{ruleset}");
}
