//! `fedgate selfcheck`: whether all is well on this side.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use fedgate::{
    config::model::Config,
    diagnose::{
        Status,
        selfcheck::{self, Options, SelfcheckError},
    },
    ops::report::Check,
    xmpp::Domain,
};

use super::{ConfigDir, EXIT_USAGE, Format, admin, load, runtime};

#[derive(Debug, Args)]
pub(super) struct Selfcheck {
    #[command(flatten)]
    dir: ConfigDir,
    /// The local domain, with those below it such as rooms; all if none is given.
    local: Option<Domain>,
    #[command(flatten)]
    format: Format,
}

impl Selfcheck {
    /// Looks at everything and prints a line for each thing.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let config = match load(&self.dir) {
            Ok(config) => config,
            Err(code) => return Ok(code),
        };
        let options = Options { domain: self.local, running: running(&config) };
        let report = match runtime()?.block_on(selfcheck::selfcheck(config, &options)) {
            Ok(report) => report,
            Err(error) => {
                let code = match error {
                    SelfcheckError::NotLocal(_) | SelfcheckError::NoLocal => EXIT_USAGE,
                    _ => Status::Unknown.exit(),
                };
                eprintln!("fedgate: {:#}", anyhow::Error::from(error));
                return Ok(ExitCode::from(code));
            }
        };
        self.format
            .print(&report, |colour| report.to_text(colour))
            .context("write to standard output")?;
        Ok(ExitCode::from(report.status.exit()))
    }
}

/// What the running fedgate says of itself; nothing without an admin socket.
fn running(config: &Config) -> Option<Result<Vec<Check>, String>> {
    let socket = config.admin.socket.clone()?;
    Some(admin::ready(socket).map_err(|error| format!("{error:#}")))
}
