//! `fedgate run`: the process around the gate.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use fedgate::{
    config::{self, civil, model::Config, watch::Watcher},
    ops::log::{self, LogHandle},
    proxy::App,
};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use super::EXIT_USAGE;

/// Rules that expire later are looked at sooner.
const YEAR: Duration = Duration::from_hours(365 * 24);
/// When a configuration that has an expired rule could not be loaded.
const EXPIRY_AGAIN: Duration = Duration::from_mins(10);

/// Runs until a signal ends it.
pub(super) fn run(dir: &Path) -> anyhow::Result<ExitCode> {
    let watcher = Watcher::new(dir, []);
    let loaded = match config::load(dir) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let log = log::init(&loaded.config.log)?;
    warn_of(&loaded.warnings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(serve(dir, loaded.config, watcher, &log))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    dir: &Path,
    config: Config,
    mut watcher: Watcher,
    log: &LogHandle,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("wait for SIGHUP")?;
    watcher.set_files(config.files());
    let mut expiry = next_expiry(&config);
    let mut app = App::start(config)?;
    notify(&[NotifyState::Ready]);
    info!(version = env!("CARGO_PKG_VERSION"), config = %dir.display(), "running");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {}
            () = watcher.changed() => {}
            () = sleep_until(expiry) => {}
        }
        // Files are read: other streams must not wait for it.
        if let Some(next) = tokio::task::block_in_place(|| reload(dir, &mut app, &mut watcher, log))
        {
            expiry = next;
        } else if expiry <= Instant::now() {
            expiry = Instant::now() + EXPIRY_AGAIN;
        }
    }
    info!("ending");
    notify(&[NotifyState::Stopping]);
    app.shutdown().await;
    Ok(())
}

/// When the rules are to be looked at because one expires.
fn next_expiry(config: &Config) -> Instant {
    let next = config.policy.next_expiry(civil::Instant::now()).unwrap_or(YEAR);
    Instant::now() + next.min(YEAR)
}

/// All or nothing: with any error everything runs on as before. Says when a rule expires, if it
/// was done.
fn reload(dir: &Path, app: &mut App, watcher: &mut Watcher, log: &LogHandle) -> Option<Instant> {
    let loaded = match config::load(dir) {
        Ok(loaded) => loaded,
        Err(problems) => {
            error!(error = problems.summary(), "configuration not reloaded: the old one stays");
            return None;
        }
    };
    warn_of(&loaded.warnings);
    let level = loaded.config.log.level.clone();
    let expiry = next_expiry(&loaded.config);
    watcher.set_files(loaded.config.files());
    match app.reload(loaded.config) {
        Ok(()) => {
            if let Err(error) = log.set_level(&level) {
                error!(%error, "log level not changed");
            }
            info!("configuration reloaded");
            Some(expiry)
        }
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            error!(error, "configuration not reloaded: the old one stays");
            None
        }
    }
}

fn warn_of(warnings: &[config::Problem]) {
    for warning in warnings {
        warn!(warning = warning.headline(), "configuration");
    }
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "tell the service manager");
    }
}
