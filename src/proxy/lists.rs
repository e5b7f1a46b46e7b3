//! Lists that are fetched by HTTPS: what comes is judged as a file of the operator's would be, and
//! takes the place of the last good one, whole or not at all. The watcher of files does the rest.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use url::Url;

use super::gate::Gate;
use crate::{
    config::{
        self,
        model::{ListSource, ListUrl},
    },
    net::{
        fetch::{FetchError, Limits},
        whole_file::replace,
    },
};

/// Why a list stays as it was.
#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error("not a URL: {0}")]
    Url(#[from] url::ParseError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("not UTF-8")]
    NotUtf8,
    #[error("nothing is in it")]
    Empty,
    #[error("{0}")]
    Broken(String),
    #[error("write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// A list's turn.
struct Turn {
    source: ListUrl,
    due: Instant,
}

/// Fetches lists when they are due, until fedgate ends.
pub(super) async fn refresh(gate: Arc<Gate>) {
    let mut generation = gate.subscribe();
    let mut turns: BTreeMap<Arc<str>, Turn> = BTreeMap::new();
    loop {
        plan(&gate, &mut turns);
        let next = turns.iter().min_by_key(|(_, turn)| turn.due);
        let next = next.map(|(name, turn)| (Arc::clone(name), turn.source.clone(), turn.due));
        let Some((name, source, due)) = next else {
            tokio::select! {
                changed = generation.changed() => if changed.is_err() { return },
                () = gate.draining().cancelled() => return,
            }
            continue;
        };
        tokio::select! {
            changed = generation.changed() => {
                if changed.is_err() { return }
                hurry(&gate, &mut turns);
            }
            () = gate.draining().cancelled() => return,
            () = sleep_until(due) => {
                let wait = tokio::select! {
                    outcome = fetch(&gate, &name, &source) => tell(&name, &source, outcome),
                    () = gate.draining().cancelled() => return,
                };
                if let Some(turn) = turns.get_mut(&name) {
                    turn.due = Instant::now() + wait;
                }
            }
        }
    }
}

/// Takes up new lists, which are due at once, and forgets those that are gone.
fn plan(gate: &Gate, turns: &mut BTreeMap<Arc<str>, Turn>) {
    let config = gate.config();
    let urls = config.lists.iter().filter_map(|(name, source)| match source {
        ListSource::Url(url) => Some((name, url)),
        ListSource::File(_) | ListSource::Domains(_) => None,
    });
    let wanted: BTreeMap<_, _> = urls.collect();
    turns.retain(|name, turn| wanted.get(name).is_some_and(|source| **source == turn.source));
    for (name, source) in wanted {
        let new = || Turn { source: source.clone(), due: Instant::now() };
        turns.entry(Arc::clone(name)).or_insert_with(new);
    }
}

/// Makes those due whose file is gone: they are empty now. At a reload only, so that one that cannot
/// be had is not asked for without a pause.
fn hurry(gate: &Gate, turns: &mut BTreeMap<Arc<str>, Turn>) {
    let config = gate.config();
    for (name, turn) in turns {
        let file = config.lists.get(name).and_then(|source| config.list_file(name, source));
        if file.is_some_and(|file| !file.exists()) {
            turn.due = Instant::now();
        }
    }
}

/// Says what came of it, and how long to wait until the next time.
fn tell(name: &str, source: &ListUrl, outcome: Result<Option<usize>, ListError>) -> Duration {
    match outcome {
        Ok(Some(entries)) => info!(list = name, entries, "list fetched"),
        Ok(None) => debug!(list = name, "list fetched, nothing is new"),
        Err(error) => {
            warn!(list = name, url = source.url, %error, "list not fetched: the last good one stays");
            return source.refresh.min(AGAIN);
        }
    }
    source.refresh
}

/// Fetches a list; how many entries it has, if it is another one.
async fn fetch(gate: &Gate, name: &str, source: &ListUrl) -> Result<Option<usize>, ListError> {
    let (services, config) = (gate.services(), gate.config());
    let limits = Limits { size: source.max_size, time: PATIENCE, ports: None };
    let body = services.fetcher.get(&Url::parse(&source.url)?, limits).await?;
    let text = std::str::from_utf8(&body).map_err(|_| ListError::NotUtf8)?;
    let entries = config::list_entries(&source.url, text)
        .map_err(|problems| ListError::Broken(problems.summary()))?;
    if entries == 0 {
        return Err(ListError::Empty);
    }
    let kept = ListSource::Url(source.clone());
    let Some(path) = config.list_file(name, &kept) else { return Ok(None) };
    let (text, target) = (text.to_owned(), path.clone());
    let written = tokio::task::spawn_blocking(move || keep(&target, &text)).await;
    let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
    let is_new = written.map_err(|source| ListError::Write { path, source })?;
    Ok(is_new.then_some(entries))
}

/// Puts a list in the place of the last one; whether it is another.
fn keep(path: &Path, text: &str) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(false);
    }
    replace(path, text, 0o666)?;
    Ok(true)
}

/// How long one fetch may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon a list is asked for again that could not be had.
const AGAIN: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_kept_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lists/blocked.txt");
        assert!(keep(&path, "a.test\n").unwrap());
        assert!(!keep(&path, "a.test\n").unwrap());
        assert!(keep(&path, "b.test\n").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "b.test\n");
        fs::remove_file(&path).unwrap();
        // nothing can take the place of a directory
        fs::create_dir(&path).unwrap();
        keep(&path, "a.test\n").unwrap_err();
        assert_eq!(dir.path().join("lists").read_dir().unwrap().count(), 1);
    }
}
