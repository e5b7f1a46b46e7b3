//! `fedgate run`: the process around the gate.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use fedgate::{
    config::{self, watch::Watcher},
    ops::log::{self, LogHandle},
    proxy::App,
};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::EXIT_USAGE;

/// Runs until a signal ends it.
pub(super) fn run(dir: &Path) -> anyhow::Result<ExitCode> {
    let loaded = match config::load(dir) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let log = log::init(&loaded.config.log)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(serve(dir, loaded.config, &log))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(dir: &Path, config: config::model::Config, log: &LogHandle) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("wait for SIGHUP")?;
    let mut app = App::start(config)?;
    let (mut watcher, mut changed) =
        Watcher::new(dir, &app.files()).context("watch the configuration")?;
    notify(&[NotifyState::Ready]);
    info!(version = env!("CARGO_PKG_VERSION"), config = %dir.display(), "running");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(dir, &mut app, log),
            Some(()) = changed.recv() => reload(dir, &mut app, log),
        }
        watcher.set_files(&app.files());
    }
    info!("ending");
    notify(&[NotifyState::Stopping]);
    app.shutdown().await;
    Ok(())
}

/// All or nothing: with any error everything runs on as before.
fn reload(dir: &Path, app: &mut App, log: &LogHandle) {
    let loaded = match config::load(dir) {
        Ok(loaded) => loaded,
        Err(problems) => {
            error!(problems = %problems, "configuration not reloaded");
            return;
        }
    };
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    if let Err(error) = log.set_level(&loaded.config.log.level) {
        error!(%error, "configuration not reloaded");
        return;
    }
    match app.reload(loaded.config) {
        Ok(()) => info!("configuration reloaded"),
        Err(error) => {
            error!(error = format!("{:#}", anyhow::Error::from(error)), "configuration not reloaded");
        }
    }
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "tell the service manager");
    }
}
