//! `fedgate check-config`.

use std::{path::Path, process::ExitCode};

use fedgate::config;

/// Prints every warning and error of the configuration.
pub(super) fn check(dir: &Path) -> ExitCode {
    match config::load(dir) {
        Ok(loaded) => {
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
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::FAILURE
        }
    }
}
