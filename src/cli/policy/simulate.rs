//! `fedgate policy simulate`: what another configuration would change for the domains seen lately.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use fedgate::{
    config::civil,
    diagnose::{Status, simulate},
    net::memory::MemoryFile,
};

use crate::cli::{ConfigDir, DEFAULT_CONFIG, Format, load};

#[derive(Debug, Args)]
pub(in crate::cli) struct Simulate {
    /// The directory of the new configuration.
    #[arg(short, long, value_name = "NEW")]
    config: PathBuf,
    /// That of the running one, whose memory is asked.
    #[arg(long, value_name = "DIR", env = "FEDGATE_CONFIG", default_value = DEFAULT_CONFIG)]
    running: PathBuf,
    /// How many days back a domain was seen lately.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    #[command(flatten)]
    format: Format,
}

impl Simulate {
    /// Prints what changes.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let load = |dir: &PathBuf| load(&ConfigDir { config: dir.clone() });
        let (running, new) = match (load(&self.running), load(&self.config)) {
            (Ok(running), Ok(new)) => (running, new),
            (Err(code), _) | (_, Err(code)) => return Ok(code),
        };
        let unknown = ExitCode::from(Status::Unknown.exit());
        let file = MemoryFile::of(&running.state_dir);
        let memory = match file.load() {
            Ok(Some(memory)) => memory,
            Ok(None) => {
                eprintln!("fedgate: no domain was seen yet: no {}", file.path().display());
                return Ok(unknown);
            }
            Err(error) => {
                eprintln!("fedgate: {:#}", anyhow::Error::from(error));
                return Ok(unknown);
            }
        };
        let lately = Duration::from_hours(24 * u64::from(self.days));
        let since = civil::Instant::now().seconds().saturating_sub(lately.as_secs());
        let report = simulate::simulate(&memory, &running.policy, &new.policy, since);
        let text = |_| report.to_text(self.days);
        self.format.print(&report, text).context("write to standard output")?;
        Ok(match (report.seen, report.refused.is_empty()) {
            (0, _) => unknown,
            (_, true) => ExitCode::SUCCESS,
            (_, false) => ExitCode::FAILURE,
        })
    }
}
