//! The daily report: counts while it is wanted, and keeps its files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tracing::{info, warn};

use super::{
    failures::{Attempt, Key},
    gate::Gate,
};
use crate::{
    config::model::{Config, ReportFiles},
    ops::{
        daily::{Day, Fact, Report, is_outdated},
        report,
    },
    xmpp::Direction,
};

/// How often the report of the day is written, besides at midnight.
const EVERY: Duration = Duration::from_mins(5);
/// In seconds.
const DAY: u64 = 24 * 60 * 60;
/// A report that was begun is read again up to this size, in bytes.
const READ_MAX: u64 = 16 << 20;

/// What is counted; nothing while no report is wanted.
#[derive(Debug, Default)]
pub(super) struct Daily(Mutex<Option<Day>>);

impl Daily {
    /// A pair came about.
    pub(super) fn succeeded(&self, key: &Key) {
        if let Some(day) = &mut *self.day() {
            day.succeeded(key.remote.as_str());
        }
    }

    /// An attempt failed.
    pub(super) fn failed(&self, direction: Direction, key: &Key, attempt: &Attempt) {
        if let Some(day) = &mut *self.day() {
            day.failed(Fact {
                direction: direction.as_str(),
                remote: key.remote.as_str(),
                reason: attempt.reason,
                detail: &attempt.detail,
            });
        }
    }

    /// What is to be written at this time, the day's end or not: a day that is over, and that of
    /// now. `begun` reads what an earlier process wrote of the day.
    fn turn(&self, now: u64, begun: impl FnOnce(&Day) -> Option<Report>) -> Vec<Day> {
        self.begin(now, begun);
        let mut slot = self.day();
        match &mut *slot {
            // stopped meanwhile
            None => Vec::new(),
            Some(day) if day.is_over(now) => {
                let over = std::mem::replace(day, Day::of(now));
                vec![over, day.clone()]
            }
            Some(day) => vec![day.clone()],
        }
    }

    /// Counts from now on, where nothing was counted, and goes on with what `begun` reads. Streams wait
    /// for the lock, and a disk may not answer at all: so it is read without, and they count meanwhile.
    fn begin(&self, now: u64, begun: impl FnOnce(&Day) -> Option<Report>) {
        let new = Day::of(now);
        {
            let mut slot = self.day();
            if slot.is_some() {
                return;
            }
            *slot = Some(new.clone());
        }
        let Some(report) = begun(&new) else { return };
        if let Some(day) = &mut *self.day() {
            *day = std::mem::replace(day, new).after(report);
        }
    }

    fn stop(&self) {
        *self.day() = None;
    }

    /// A panic elsewhere leaves no half a count.
    fn day(&self) -> MutexGuard<'_, Option<Day>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the report while one is wanted, until fedgate ends.
pub(super) async fn keep(gate: Arc<Gate>) {
    let mut generation = gate.subscribe();
    let mut directory: Option<PathBuf> = None;
    loop {
        let config = gate.config();
        let wanted = config.report.as_ref().map(|files| files.directory.clone());
        if wanted != directory {
            gate.failures().daily().stop();
            directory = wanted;
        }
        if config.report.is_some() {
            write(&gate, &config).await;
        }
        tokio::select! {
            () = gate.ending().cancelled() => break,
            changed = generation.changed() => if changed.is_err() { return },
            () = sleep(until_next(report::now())), if directory.is_some() => {}
        }
    }
    let config = gate.config();
    if config.report.is_some() {
        write(&gate, &config).await;
    }
}

/// How long until the report is to be written again: at midnight at the latest, so that each day has
/// what came in it.
fn until_next(now: u64) -> Duration {
    EVERY.min(Duration::from_secs(DAY - now % DAY))
}

/// Writes what there is, and takes away what is too old.
async fn write(gate: &Arc<Gate>, config: &Arc<Config>) {
    let (gate, config) = (Arc::clone(gate), Arc::clone(config));
    let written = tokio::task::spawn_blocking(move || {
        let Some(files) = &config.report else { return };
        write_at(gate.failures().daily(), files, &organization(&config), report::now());
    });
    if let Err(error) = written.await {
        warn!(error = %error, "the daily report was not written");
    }
}

/// The local domains, first come first.
fn organization(config: &Config) -> String {
    let domains = config.legacy.values().find_map(|legacy| legacy.domains.first());
    domains.map(ToString::to_string).unwrap_or_default()
}

fn write_at(daily: &Daily, files: &ReportFiles, organization: &str, now: u64) {
    let ReportFiles { directory, keep_days } = files;
    let days = daily.turn(now, |day| read(&directory.join(day.file_name())));
    for day in days {
        let path = directory.join(day.file_name());
        if let Err(error) = replace(&path, &day.report(organization)) {
            warn!(file = %path.display(), error = %error, "the daily report was not written");
        }
    }
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| is_outdated(name, now, *keep_days)) {
            match fs::remove_file(entry.path()) {
                Ok(()) => info!(file = %entry.path().display(), "old report removed"),
                Err(error) => {
                    warn!(file = %entry.path().display(), error = %error, "old report not removed");
                }
            }
        }
    }
}

/// What an earlier process wrote; nothing if it cannot be read.
fn read(path: &Path) -> Option<Report> {
    let size = fs::metadata(path).ok()?.len();
    if size > READ_MAX {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Puts a file in its place, whole or not at all.
fn replace(path: &Path, report: &Report) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let text = serde_json::to_string_pretty(report).map_err(io::Error::other)? + "\n";
    let temporary = path.with_extension("json.new");
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::xmpp::Domain;

    /// 2026-11-22, at noon.
    const NOON: u64 = 1_795_305_600 + 12 * 3600;

    fn key() -> Key {
        let [local, remote] = ["l.example", "a.example"].map(|name| Domain::parse(name).unwrap());
        Key { local, remote }
    }

    fn fail(daily: &Daily) {
        let attempt = Attempt::new("tcp", "unreachable", "refused".to_owned());
        daily.failed(Direction::Outbound, &key(), &attempt);
    }

    #[test]
    fn it_is_written_every_few_minutes_and_at_midnight() {
        assert_eq!(until_next(NOON), EVERY);
        let midnight = NOON + DAY / 2;
        assert_eq!(until_next(midnight - 1), Duration::from_secs(1));
        assert_eq!(until_next(midnight), EVERY);
    }

    fn failures(directory: &Path, name: &str) -> u64 {
        let report = read(&directory.join(name)).unwrap();
        report.policies.first().map_or(0, |p| p.summary.total_failure_session_count)
    }

    #[test]
    fn each_day_has_its_file_and_a_new_process_goes_on_with_it() {
        let root = TempDir::new().unwrap();
        let directory = root.path().join("reports");
        let files = ReportFiles { directory: directory.clone(), keep_days: 2 };
        let write = |daily: &Daily, now| write_at(daily, &files, "l.example", now);
        let daily = Daily::default();
        fail(&daily); // nothing is counted before it is wanted
        write(&daily, NOON);
        fail(&daily);
        daily.succeeded(&key());
        write(&daily, NOON + 300);
        assert_eq!(failures(&directory, "2026-11-22.json"), 1);
        let daily = Daily::default();
        write(&daily, NOON + 600);
        fail(&daily);
        // over midnight
        write(&daily, NOON + DAY);
        fail(&daily);
        write(&daily, NOON + DAY + 300);
        assert_eq!(failures(&directory, "2026-11-22.json"), 2);
        assert_eq!(failures(&directory, "2026-11-23.json"), 1);
        fs::write(directory.join("notes.txt"), "mine").unwrap();
        write(&daily, NOON + 3 * DAY);
        let mut names: Vec<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["2026-11-23.json", "2026-11-25.json", "notes.txt"]);
    }

    #[test]
    fn nobody_waits_for_what_was_begun_and_all_is_counted_meanwhile() {
        let begun = Daily::default();
        begun.turn(NOON, |_| None);
        fail(&begun);
        let report = begun.turn(NOON, |_| None)[0].report("l.example");
        let daily = Daily::default();
        let read = |_: &Day| {
            assert!(daily.0.try_lock().is_ok(), "nobody waits");
            fail(&daily);
            daily.succeeded(&key());
            Some(report)
        };
        let [day] = &daily.turn(NOON, read)[..] else { panic!() };
        let summary = day.report("l.example").policies[0].summary;
        assert_eq!(summary.total_failure_session_count, 2);
        assert_eq!(summary.total_successful_session_count, 1);
    }

    #[test]
    fn a_broken_file_is_begun_anew() {
        let root = TempDir::new().unwrap();
        let files = ReportFiles { directory: root.path().to_owned(), keep_days: 2 };
        fs::write(root.path().join("2026-11-22.json"), "{").unwrap();
        let daily = Daily::default();
        write_at(&daily, &files, "l.example", NOON);
        fail(&daily);
        write_at(&daily, &files, "l.example", NOON);
        assert_eq!(failures(root.path(), "2026-11-22.json"), 1);
    }
}
