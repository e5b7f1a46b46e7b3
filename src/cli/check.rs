//! `fedgate check`: why a domain does or does not federate.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use fedgate::{
    diagnose::{
        Status,
        check::{self, CheckError, Family, Options},
    },
    net::targets::TargetTls,
    xmpp::Domain,
};

use super::{ConfigDir, EXIT_USAGE, Format, load, runtime};

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    dir: ConfigDir,
    /// The remote domain.
    domain: Domain,
    /// The local domain to speak for; the first that is configured if none is given.
    #[arg(long, value_name = "LOCAL")]
    from: Option<Domain>,
    /// Send a dialback key too. The running fedgate has to answer for it: same state_dir.
    #[arg(long)]
    dialback: bool,
    /// Only addresses of IPv4.
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only addresses of IPv6.
    #[arg(short = '6')]
    ipv6: bool,
    /// Only targets for direct TLS.
    #[arg(long, conflicts_with = "starttls")]
    direct: bool,
    /// Only targets for STARTTLS.
    #[arg(long)]
    starttls: bool,
    #[command(flatten)]
    format: Format,
}

impl Check {
    /// Walks the way to the domain and prints each step.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let config = match load(&self.dir) {
            Ok(config) => config,
            Err(code) => return Ok(code),
        };
        let options = Options {
            domain: self.domain,
            from: self.from,
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Some(Family::V4),
                (_, true) => Some(Family::V6),
                _ => None,
            },
            tls: match (self.direct, self.starttls) {
                (true, _) => Some(TargetTls::Direct),
                (_, true) => Some(TargetTls::StartTls),
                _ => None,
            },
            dialback: self.dialback,
        };
        let report = match runtime()?.block_on(check::check(config, &options)) {
            Ok(report) => report,
            Err(error) => {
                let code = match error {
                    CheckError::Local(_) | CheckError::NotLocal(_) | CheckError::NoLocal => {
                        EXIT_USAGE
                    }
                    CheckError::Random(_) | CheckError::Secret(_) | CheckError::Services(_) => {
                        Status::Unknown.exit()
                    }
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
