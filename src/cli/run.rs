//! `fedgate run`: the process around the gate.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use clap::Args;
use fedgate::{
    admin::{AdminError, Bound, Command, Control, Order, Server},
    config::{
        self, Loaded, NotLoaded, civil,
        model::{self, Config},
        watch::Watcher,
    },
    ops::{
        log::{self, LogHandle},
        report::Done,
    },
    proxy::{App, Workers},
};
use sd_notify::NotifyState;
use tikv_jemalloc_ctl::background_thread;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use super::{
    ConfigDir, EXIT_USAGE, descriptors,
    privileges::{self, Account, Left},
    runtime,
    threads::Threads,
};

/// The clock may be set, or the machine sleep, so it is read this often at least.
const LATE: Duration = Duration::from_hours(1);
/// When a configuration that has an expired rule could not be loaded.
const EXPIRY_AGAIN: Duration = Duration::from_mins(10);

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    dir: ConfigDir,
    /// Become this user before anything is read; for root, where no service manager does it. Of root's
    /// privileges one is kept: to listen on ports below 1024.
    #[arg(long, value_name = "USER[:GROUP]", env = "FEDGATE_USER")]
    user: Option<Account>,
    /// Threads that carry streams; by default one for two processors. More carry more, cost more for the
    /// same streams, and leave less to the server beside it.
    #[arg(long, value_name = "COUNT", env = "FEDGATE_WORKERS")]
    workers: Option<NonZeroUsize>,
}

impl Run {
    /// Runs until a signal ends it.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let left = privileges::settle(self.user.as_ref())?;
        run(&self.dir.config, left, self.workers)
    }
}

fn run(dir: &Path, left: Left, workers: Option<NonZeroUsize>) -> anyhow::Result<ExitCode> {
    // Before there is a second thread.
    let room = descriptors::make_room();
    let watcher = Watcher::new(dir, []);
    let loaded = match config::load(dir) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let log = log::init(&loaded.config.log)?;
    // A thread of its own, so not before privileges were given up.
    if let Err(error) = background_thread::write(true) {
        warn!(%error, "memory is given back only while something happens");
    }
    if let Err(error) = room {
        warn!(%error, "streams may pause when many more connections come");
    }
    warn_of(&loaded.warnings);
    if left == Left::Root {
        warn!("runs as root, which it does not need: name another user by --user");
    }
    let threads = Threads::start(workers).context("start threads")?;
    let workers = Workers::new(threads.runtimes());
    runtime()?.block_on(serve(dir, loaded, workers, watcher, &log))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    dir: &Path,
    loaded: Loaded,
    workers: Workers,
    mut watcher: Watcher,
    log: &LogHandle,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("wait for SIGHUP")?;
    let Loaded { config, seen, .. } = loaded;
    watcher.set_files(config.files(), &seen);
    let expiry = Expiry::next(&config);
    let admin_config = config.admin.clone();
    let state_dir = config.state_dir.clone();
    let app = App::start(config, workers)?;
    let (control, mut orders) = Control::new();
    let mut admin = Server::new(app.monitor().clone(), control);
    let bound = bind(&admin, &admin_config)?;
    admin.serve(bound);
    notify(&[NotifyState::Ready]);
    let mut process = Process { dir, state_dir, app, admin, watcher, log, expiry };
    info!(version = env!("CARGO_PKG_VERSION"), config = %dir.display(), "running");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => drop(process.reload()),
            () = process.watcher.changed() => drop(process.reload()),
            () = sleep_until(process.expiry.look) => process.look(),
            Some(order) = orders.recv() => process.carry_out(order),
        }
    }
    info!("ending");
    notify(&[NotifyState::Stopping]);
    let Process { app, admin, .. } = process;
    app.shutdown().await;
    admin.stop().await;
    Ok(())
}

/// When a rule expires, so that all are read again.
#[derive(Clone, Copy, Debug)]
struct Expiry {
    due: Option<SystemTime>,
    /// When the clock is to be looked at.
    look: Instant,
}

impl Expiry {
    fn next(config: &Config) -> Self {
        let left = config.policy.next_expiry(civil::Instant::now());
        Self::at(left.and_then(|left| SystemTime::now().checked_add(left)))
    }

    fn at(due: Option<SystemTime>) -> Self {
        let left = due.map(|due| due.duration_since(SystemTime::now()).unwrap_or_default());
        Self { due, look: Instant::now() + left.unwrap_or(LATE).min(LATE) }
    }

    fn is_due(self) -> bool {
        self.due.is_some_and(|due| due <= SystemTime::now())
    }
}

/// What runs, and what it was made from.
struct Process<'a> {
    dir: &'a Path,
    /// Stays what it was at the start.
    state_dir: PathBuf,
    app: App,
    admin: Server,
    watcher: Watcher,
    log: &'a LogHandle,
    expiry: Expiry,
}

impl Process<'_> {
    fn carry_out(&mut self, order: Order) {
        let done = match &order.command {
            Command::Reload => self.reload(),
            Command::Drain => {
                self.app.drain();
                done(true, "draining: nothing new is taken from peers")
            }
            Command::LogLevel(level) => self.set_level(level),
        };
        // That nobody waits for it any more does not matter.
        let _ = order.reply.send(done);
    }

    fn set_level(&self, level: &str) -> Done {
        if let Err(wrong) = config::check_log_filter(level) {
            return done(false, wrong);
        }
        match self.log.set_level(level) {
            Ok(()) => {
                info!(level, "log level changed until the configuration is read again");
                done(true, format!("{level}, until the configuration is read again"))
            }
            Err(error) => done(false, chain(error)),
        }
    }

    /// Has a rule expired?
    fn look(&mut self) {
        if !self.expiry.is_due() {
            self.expiry = Expiry::at(self.expiry.due);
        } else if !self.reload().ok {
            self.expiry.look = Instant::now() + EXPIRY_AGAIN;
        }
    }

    /// All or nothing: with any error everything runs on as before. Files are read, which streams do
    /// not wait for: they are on other threads.
    fn reload(&mut self) -> Done {
        let loaded = match config::reload(self.dir, &self.state_dir) {
            Ok(loaded) => loaded,
            Err(NotLoaded { problems, seen, .. }) => {
                // What was wrong may be mended there.
                self.watcher.watch_also(&seen);
                let texts = problems.iter().map(config::Problem::headline).collect();
                return Done { problems: texts, ..self.stays(problems.summary()) };
            }
        };
        warn_of(&loaded.warnings);
        let level = loaded.config.log.level.clone();
        let expiry = Expiry::next(&loaded.config);
        self.watcher.set_files(loaded.config.files(), &loaded.seen);
        let bound = match bind(&self.admin, &loaded.config.admin) {
            Ok(bound) => bound,
            Err(error) => return self.stays(chain(error)),
        };
        if let Err(error) = self.app.reload(loaded.config) {
            return self.stays(chain(error));
        }
        self.admin.serve(bound);
        if let Err(error) = self.log.set_level(&level) {
            error!(%error, "log level not changed");
        }
        self.expiry = expiry;
        info!("configuration reloaded");
        let warnings = loaded.warnings.iter().map(config::Problem::headline).collect();
        Done { problems: warnings, ..done(true, "configuration reloaded") }
    }

    fn stays(&self, error: String) -> Done {
        error!(error, "configuration not reloaded: the old one stays");
        self.app.monitor().reload_failed(&error);
        done(false, format!("the old one stays: {error}"))
    }
}

/// Federation does not wait for a socket to watch it by, such as on a read-only `state_dir`.
fn bind(admin: &Server, config: &model::Admin) -> Result<Bound, AdminError> {
    match admin.bind(config) {
        Err(error @ (AdminError::Socket(..) | AdminError::InUse(_))) => {
            warn!(error = chain(error), "no admin socket");
            admin.bind(&model::Admin { socket: None, ..config.clone() })
        }
        outcome => outcome,
    }
}

fn done(ok: bool, detail: impl Into<String>) -> Done {
    Done { ok, detail: detail.into(), problems: Vec::new() }
}

fn chain(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_clock_is_read_when_a_rule_expires_and_now_and_then_before() {
        let now = SystemTime::now();
        let past = Expiry::at(Some(now - Duration::from_secs(1)));
        assert!(past.is_due());
        assert!(past.look <= Instant::now());
        for later in [None, Some(now + 10 * LATE)] {
            let expiry = Expiry::at(later);
            assert!(!expiry.is_due());
            assert!(expiry.look <= Instant::now() + LATE);
        }
        let soon = Expiry::at(Some(now + LATE / 2));
        assert!(soon.look <= Instant::now() + LATE / 2);
    }
}
