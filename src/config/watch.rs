//! Says when the configuration should be loaded again.
//!
//! The kernel's notices of a directory are quick, but do not tell everything: not what happens
//! behind a bind mount of a single file, nor above a symbolic link, nor on network file systems.
//! So the files are looked at every 400 ms as well, which also carries on alone where no notices
//! can be had. Changes come in bursts (an editor's rename, the symlink swap of Kubernetes, a
//! certificate and then its key): one burst is one notice, 100 ms after it ends, and within a
//! second of its beginning in any case. What changed nothing about the files gives no notice.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{load::is_config_name, model::RESOLV_CONF};

/// Watches a configuration directory and files outside it. It has no task: what it does it does in
/// [`changed`](Self::changed), and dropped, all ends.
#[derive(Debug)]
pub struct Watcher {
    directory: PathBuf,
    files: BTreeSet<PathBuf>,
    notices: Option<RecommendedWatcher>,
    noticed: Arc<Notify>,
    armed: BTreeSet<PathBuf>,
    looking: Option<JoinHandle<State>>,
    next_look: Instant,
    judge: Judge,
}

impl Watcher {
    /// Watches the configuration files of `directory`, and `files` such as certificates, none of
    /// which need exist. Changes count from here: make it before [`load`](super::load), so that
    /// none falls between. Looks at the files before it returns.
    #[must_use]
    pub fn new(directory: &Path, files: impl IntoIterator<Item = PathBuf>) -> Self {
        let noticed = Arc::new(Notify::new());
        let notice = Arc::clone(&noticed);
        let handler = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if !is_change(event.kind) => {}
            // an error says that notices were lost, so anything may have changed
            Ok(_) | Err(_) => notice.notify_one(),
        };
        let notices = notify::recommended_watcher(handler)
            .inspect_err(|error| warn!(%error, "no notices of changed files, polling alone"))
            .ok();
        let files = files.into_iter().collect();
        let known = look(directory, &files, &State(BTreeMap::new()));
        let mut watcher = Self {
            directory: directory.to_owned(),
            files,
            notices,
            noticed,
            armed: BTreeSet::new(),
            looking: None,
            next_look: Instant::now() + INTERVAL,
            judge: Judge { known, burst: None },
        };
        watcher.arm();
        watcher
    }

    /// Watches these files from now on instead of those given before. Of the new ones changes count
    /// since they were `seen`; at others it looks before it returns: call it before they are loaded.
    pub fn set_files(&mut self, files: impl IntoIterator<Item = PathBuf>, seen: &Seen) {
        let files: BTreeSet<PathBuf> = files.into_iter().collect();
        if files == self.files {
            return;
        }
        let added = files.difference(&self.files).map(|path| {
            let seen = seen.0.get(path).cloned();
            (path.clone(), seen.unwrap_or_else(|| stamp(path)))
        });
        let added: Vec<_> = added.collect();
        for path in self.files.difference(&files) {
            self.judge.known.0.remove(path);
        }
        self.judge.known.0.extend(added);
        self.files = files;
        // it looks at the files of before
        self.looking = None;
        self.arm();
    }

    /// Watches these files as well, of which changes count since they were seen.
    pub fn watch_also(&mut self, seen: &Seen) {
        let files: Vec<_> = self.files.iter().chain(seen.0.keys()).cloned().collect();
        self.set_files(files, seen);
    }

    /// Waits until something changed, one burst of changes at a time. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            if let Some(look) = &mut self.looking {
                let state = look.await;
                self.looking = None;
                let now = Instant::now();
                self.next_look = now + INTERVAL;
                let Ok(state) = state else {
                    // it came to nothing, as when the runtime ends; the next one will tell
                    self.judge.burst = None;
                    continue;
                };
                if self.judge.looked(state, now) {
                    // a directory may be another one now by the same name
                    self.arm();
                    return;
                }
                continue;
            }
            let wake = self.judge.due().unwrap_or(self.next_look);
            tokio::select! {
                () = self.noticed.notified() => self.judge.noticed(Instant::now()),
                () = sleep_until(wake) => {
                    let (directory, files) = (self.directory.clone(), self.files.clone());
                    let known = self.judge.known.clone();
                    let look = move || look(&directory, &files, &known);
                    self.looking = Some(tokio::task::spawn_blocking(look));
                }
            }
        }
    }

    /// Asks the kernel for notices of all directories anew. Those that cannot be watched, because
    /// they do not exist or the kernel has no room, are looked at all the same.
    fn arm(&mut self) {
        let Some(notices) = &mut self.notices else { return };
        for path in std::mem::take(&mut self.armed) {
            // gone already, if the directory is
            let _gone = notices.unwatch(&path);
        }
        let real = self.files.iter().filter_map(|path| path.canonicalize().ok());
        let files = self.files.iter().cloned().chain(real);
        let directories = files.filter_map(|path| path.parent().map(Path::to_owned));
        for path in directories.chain([self.directory.clone()]).collect::<BTreeSet<_>>() {
            match notices.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.armed.insert(path);
                }
                Err(error) => debug!(path = %path.display(), %error, "directory is polled alone"),
            }
        }
    }
}

/// How files looked before they were read: which they are is known only when the configuration is.
#[derive(Clone, Default, Debug)]
pub struct Seen(BTreeMap<PathBuf, Option<Stamp>>);

impl Seen {
    /// Looks at a file that is about to be read.
    pub(super) fn note(&mut self, path: &Path) {
        self.0.insert(path.to_owned(), stamp(path));
    }
}

/// When a burst of changes is over.
#[derive(Debug)]
struct Judge {
    known: State,
    burst: Option<Burst>,
}

#[derive(Debug)]
struct Burst {
    first: Instant,
    last: Instant,
    seen: Option<State>,
}

impl Judge {
    /// The kernel says that something happens.
    fn noticed(&mut self, now: Instant) {
        self.burst.get_or_insert(Burst { first: now, last: now, seen: None }).last = now;
    }

    /// When to look because of the burst.
    fn due(&self) -> Option<Instant> {
        self.burst.as_ref().map(|burst| (burst.last + QUIET).min(burst.first + PATIENCE))
    }

    /// Whether a change is complete, by how the files look now.
    fn looked(&mut self, mut state: State, now: Instant) -> bool {
        state.keep_name_servers(&self.known);
        if state.same(&self.known) {
            self.burst = None;
            return false;
        }
        let seen = Some(state.clone());
        let Some(burst) = &mut self.burst else {
            self.burst = Some(Burst { first: now, last: now, seen });
            return false;
        };
        let moving = burst.seen.as_ref().is_some_and(|seen| !state.same(seen));
        if moving && now < burst.first + PATIENCE {
            burst.last = now;
            burst.seen = seen;
            return false;
        }
        self.burst = None;
        self.known = state;
        true
    }
}

/// How the files look from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
struct State(BTreeMap<PathBuf, Option<Stamp>>);

impl State {
    /// Whether nothing changed, and nothing can have changed without being seen.
    fn same(&self, other: &Self) -> bool {
        self == other && self.0.values().flatten().all(Stamp::is_settled)
    }
}

impl State {
    /// While the system's file names no servers, as when an interface is down, it counts as before.
    fn keep_name_servers(&mut self, known: &Self) {
        let path = Path::new(RESOLV_CONF);
        if let (Some(now @ None), Some(before)) = (self.0.get_mut(path), known.0.get(path)) {
            now.clone_from(before);
        }
    }
}

/// What tells one content of a file from another.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Stamp {
    /// What a file says of name servers: the system writes the same anew again and again.
    NameServers(String),
    /// How it looks without being read.
    Outside(Outside),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Outside {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Not so fresh that another change could fall on the same tick of the file system's clock.
    settled: bool,
}

impl Stamp {
    fn is_settled(&self) -> bool {
        match self {
            Self::NameServers(_) => true,
            Self::Outside(outside) => outside.settled,
        }
    }

    /// None where it names no servers.
    fn of_name_servers(text: &str) -> Option<Self> {
        let servers = text.lines().map(str::trim).filter(|line| line.starts_with("nameserver"));
        let servers = servers.collect::<Vec<_>>().join("\n");
        (!servers.is_empty()).then_some(Self::NameServers(servers))
    }
}

fn look(directory: &Path, files: &BTreeSet<PathBuf>, known: &State) -> State {
    let config = config_files(list(directory), directory, known);
    let paths = config.into_iter().chain(files.iter().cloned());
    State(paths.map(|path| (path.clone(), stamp(&path))).collect())
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    directory.read_dir()?.map(|entry| Ok(entry?.path())).collect()
}

/// Those of the files in the directory that are configuration. One that cannot be listed, as where
/// descriptors have run out, tells nothing: its files are those of before.
fn config_files(listed: io::Result<Vec<PathBuf>>, directory: &Path, known: &State) -> Vec<PathBuf> {
    match listed {
        Ok(mut paths) => {
            paths.retain(|path| path.file_name().is_some_and(is_config_name));
            paths
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(_) => {
            let before = known.0.keys().filter(|path| path.parent() == Some(directory));
            before.cloned().collect()
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    if path == Path::new(RESOLV_CONF) {
        return Stamp::of_name_servers(&fs::read_to_string(path).ok()?);
    }
    let metadata = path.metadata().ok()?;
    let age = |modified: io::Result<SystemTime>| {
        let modified = modified.ok()?;
        let now = SystemTime::now();
        now.duration_since(modified).or_else(|_| modified.duration_since(now)).ok()
    };
    Some(Stamp::Outside(Outside {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        settled: age(metadata.modified()).is_none_or(|age| age > TICK),
    }))
}

/// Not our own reading of the files.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_millis(400);
/// A burst is over when nothing happened for this long.
const QUIET: Duration = Duration::from_millis(100);
/// A burst is taken as it is after this.
const PATIENCE: Duration = Duration::from_millis(500);
/// Well above the tick of file times, which is that of the kernel's timer.
const TICK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
