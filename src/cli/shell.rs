//! `fedgate completions` and `fedgate man`, from the same definitions as `--help`.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell that is to complete.
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write a page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Completions {
    /// Prints the script.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "fedgate", &mut script);
        io::stdout().write_all(&script).context("write to standard output")?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Man {
    /// Prints the page of the program, or writes all pages.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.dir {
            Some(dir) => {
                fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
                clap_mangen::generate_to(Cli::command(), &dir)
                    .with_context(|| format!("write to {}", dir.display()))?;
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(Cli::command()).render(&mut page).context("make the page")?;
                io::stdout().write_all(&page).context("write to standard output")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
