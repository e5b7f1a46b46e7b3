//! `fedgate records`: what the local domains have to publish.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use fedgate::{
    diagnose::{
        Status,
        records::{self, Options, RecordsError},
    },
    xmpp::Domain,
};

use super::{ConfigDir, EXIT_USAGE, Format, load, runtime};

#[derive(Debug, Args)]
pub(super) struct Records {
    #[command(flatten)]
    dir: ConfigDir,
    /// The local domain.
    #[arg(required_unless_present = "all")]
    domain: Option<Domain>,
    /// All local domains.
    #[arg(long, conflicts_with = "domain")]
    all: bool,
    /// The host that SRV records should name; those of the DNS if none is given.
    #[arg(long, value_name = "HOST")]
    target: Option<Domain>,
    /// The next certificate or key, PEM: what it needs is to be published before it is used. Can be
    /// given more than once.
    #[arg(long, value_name = "FILE")]
    next: Vec<PathBuf>,
    /// Write the POSH files below this directory, as DIR/DOMAIN/.well-known/posh/xmpp-server.json.
    #[arg(long, value_name = "DIR")]
    posh_dir: Option<PathBuf>,
    /// Print the records alone, as lines of a zone file.
    #[arg(long, conflicts_with = "json")]
    zone: bool,
    #[command(flatten)]
    format: Format,
}

impl Records {
    /// Prints what is to be published, and what of it is there.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let config = match load(&self.dir) {
            Ok(config) => config,
            Err(code) => return Ok(code),
        };
        let options = Options {
            domains: self.domain.into_iter().collect(),
            target: self.target,
            next: self.next,
            posh_dir: self.posh_dir,
        };
        let report = match runtime()?.block_on(records::records(config, &options)) {
            Ok(report) => report,
            Err(error) => {
                let code = match error {
                    RecordsError::NotLocal(_) => EXIT_USAGE,
                    _ => Status::Unknown.exit(),
                };
                eprintln!("fedgate: {:#}", anyhow::Error::from(error));
                return Ok(ExitCode::from(code));
            }
        };
        let text = |colour| if self.zone { report.to_zone() } else { report.to_text(colour) };
        self.format.print(&report, text).context("write to standard output")?;
        Ok(ExitCode::from(report.status.exit()))
    }
}
