//! `fedgate check-config`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use fedgate::config;

use super::ConfigDir;

#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    dir: ConfigDir,
    /// Print the effective configuration on standard output if it is good: all files merged, all
    /// defaults filled in, as YAML that can be a configuration file itself.
    #[arg(long)]
    print: bool,
}

impl CheckConfig {
    /// Prints every warning and error of the configuration, and what it comes to if asked.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let dir = &self.dir.config;
        let loaded = match config::load(dir) {
            Ok(loaded) => loaded,
            Err(problems) => {
                eprintln!("{problems}");
                return Ok(ExitCode::FAILURE);
            }
        };
        for warning in &loaded.warnings {
            eprintln!("{warning}");
        }
        let config = &loaded.config;
        eprintln!(
            "{}: good: {} local domains behind {} legacy servers",
            dir.display(),
            config.local_domains.len(),
            config.legacy.len(),
        );
        if self.print {
            let text = config::dump(config)?;
            io::stdout().write_all(text.as_bytes()).context("write to standard output")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
