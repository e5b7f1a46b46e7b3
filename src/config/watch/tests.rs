//! Bursts by a clock of our own, and real changes of real files.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

#[test]
fn a_burst_ends_after_a_quiet_while() {
    let start = Instant::now();
    let mut judge = Judge { known: state(1), burst: None };
    assert_eq!(judge.due(), None);
    judge.noticed(start);
    judge.noticed(start + QUIET / 2);
    assert_eq!(judge.due(), Some(start + QUIET / 2 + QUIET));
    assert!(judge.looked(state(2), start + QUIET * 2));
    assert_eq!(judge.due(), None);
    assert!(!judge.looked(state(2), start + QUIET * 9));
}

#[test]
fn a_burst_without_end_is_taken_as_it_is() {
    let start = Instant::now();
    let mut judge = Judge { known: state(1), burst: None };
    for n in 0..100 {
        judge.noticed(start + QUIET / 2 * n);
    }
    assert_eq!(judge.due(), Some(start + PATIENCE));
    assert!(judge.looked(state(2), start + PATIENCE));
}

#[test]
fn notices_that_changed_nothing_come_to_nothing() {
    let start = Instant::now();
    let mut judge = Judge { known: state(1), burst: None };
    judge.noticed(start);
    assert!(!judge.looked(state(1), start + QUIET));
    assert_eq!(judge.due(), None);
}

#[test]
fn a_change_seen_without_notice_is_waited_for_until_it_stands_still() {
    let start = Instant::now();
    let mut judge = Judge { known: state(1), burst: None };
    assert!(!judge.looked(state(2), start));
    assert_eq!(judge.due(), Some(start + QUIET));
    assert!(!judge.looked(state(3), start + QUIET));
    assert_eq!(judge.due(), Some(start + QUIET * 2));
    assert!(judge.looked(state(3), start + QUIET * 2));
}

#[test]
fn a_file_written_a_moment_ago_is_looked_at_again() {
    let start = Instant::now();
    let mut fresh = state(2);
    for stamp in fresh.0.values_mut().flatten() {
        if let Stamp::Outside(outside) = stamp {
            outside.settled = false;
        }
    }
    let mut judge = Judge { known: state(1), burst: None };
    judge.noticed(start);
    assert!(judge.looked(fresh, start + PATIENCE));
    assert!(!judge.looked(state(2), start + PATIENCE * 2));
    assert!(judge.looked(state(2), start + PATIENCE * 2 + QUIET));
}

#[test]
fn a_directory_that_cannot_be_listed_is_as_before_and_one_that_is_gone_is_empty() {
    let directory = Path::new("/conf.d");
    let known = State([("/conf.d/a.yaml".into(), None), ("/etc/a.crt".into(), None)].into());
    let files = |listed: io::Result<Vec<PathBuf>>| config_files(listed, directory, &known);
    let listed = ["/conf.d/b.yaml", "/conf.d/b.yaml~"].map(PathBuf::from).to_vec();
    assert_eq!(files(Ok(listed)), [Path::new("/conf.d/b.yaml")]);
    // EMFILE
    let error = io::Error::from_raw_os_error(24);
    assert_eq!(files(Err(error)), [Path::new("/conf.d/a.yaml")]);
    assert!(files(Err(io::ErrorKind::NotFound.into())).is_empty());
}

#[test]
fn of_the_systems_file_name_servers_count_and_none_are_no_change() {
    let says = |text: &str| State([(RESOLV_CONF.into(), Stamp::of_name_servers(text))].into());
    let known = says("# by the DHCP client\nnameserver 192.0.2.1\n");
    let (start, later) = (Instant::now(), Instant::now() + QUIET * 2);
    let changes = |text: &str| {
        let mut judge = Judge { known: known.clone(), burst: None };
        judge.noticed(start);
        judge.looked(says(text), later)
    };
    assert!(!changes("search a.example\nnameserver 192.0.2.1\n"));
    assert!(!changes("search a.example\n"));
    assert!(changes("nameserver 192.0.2.2\n"));
    assert!(changes("nameserver 192.0.2.1\nnameserver 192.0.2.2\n"));
}

#[tokio::test]
async fn every_way_to_change_a_configuration_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("conf.d");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("a.yaml");
    let mut watcher = Watcher::new(&directory, []);
    fs::write(&file, "1").unwrap();
    seen(&mut watcher).await;
    // in place
    fs::write(&file, "2").unwrap();
    seen(&mut watcher).await;
    // by rename, as editors do
    fs::write(directory.join(".a.yaml.swp"), "3").unwrap();
    fs::rename(directory.join(".a.yaml.swp"), &file).unwrap();
    seen(&mut watcher).await;
    // gone
    fs::remove_file(&file).unwrap();
    seen(&mut watcher).await;
    // another directory by the same name, and a change in that
    fs::rename(&directory, root.path().join("old")).unwrap();
    fs::create_dir(&directory).unwrap();
    fs::write(&file, "4").unwrap();
    seen(&mut watcher).await;
    fs::write(directory.join("b.yaml"), "5").unwrap();
    seen(&mut watcher).await;
}

#[tokio::test]
async fn the_symlink_swap_of_kubernetes_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for generation in ["..1", "..2"] {
        fs::create_dir(at(generation)).unwrap();
        fs::write(at(generation).join("a.yaml"), generation).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let mut watcher = Watcher::new(root.path(), []);
    symlink("..2", at("..new")).unwrap();
    fs::rename(at("..new"), at("..data")).unwrap();
    seen(&mut watcher).await;
}

#[tokio::test]
async fn files_outside_are_watched_even_before_they_exist() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("conf.d");
    let cert = root.path().join("later/cert.pem");
    let mut watcher = Watcher::new(&directory, []);
    watcher.set_files([cert.clone()], &Seen::default());
    fs::create_dir(root.path().join("later")).unwrap();
    fs::write(&cert, "1").unwrap();
    seen(&mut watcher).await;
    fs::write(&cert, "2").unwrap();
    seen(&mut watcher).await;
}

#[tokio::test]
async fn a_file_that_changes_between_reading_and_watching_is_seen() {
    let (root, file) = old_file();
    let mut read = Seen::default();
    read.note(&file);
    let (other, newer) = old_file();
    // as old, so that its age tells nothing
    fs::rename(newer, &file).unwrap();
    let mut watcher = Watcher::new(other.path(), []);
    watcher.set_files([file.clone()], &read);
    timeout(HANG, watcher.changed()).await.unwrap();
    // what has not changed is not reported
    let (_still, still) = old_file();
    read.note(&still);
    watcher.set_files([still], &read);
    assert!(
        !watcher
            .judge
            .looked(look(other.path(), &watcher.files, &watcher.judge.known), Instant::now())
    );
    assert!(watcher.judge.burst.is_none());
    drop(root);
}

#[tokio::test]
async fn without_notices_the_files_are_looked_at() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = Watcher::new(root.path(), []);
    watcher.notices = None;
    fs::write(root.path().join("a.yaml"), "1").unwrap();
    seen(&mut watcher).await;
}

#[tokio::test]
async fn a_wait_that_is_cancelled_loses_nothing() {
    let (root, file) = old_file();
    let mut watcher = Watcher::new(root.path(), []);
    fs::write(&file, "2").unwrap();
    let guard = async {
        loop {
            // each wait is dropped as soon as it would have to wait
            tokio::select! {
                biased;
                () = watcher.changed() => break,
                () = tokio::task::yield_now() => {}
            }
        }
    };
    timeout(HANG, guard).await.unwrap();
}

#[tokio::test]
async fn what_does_not_concern_the_configuration_is_not_reported() {
    let (root, file) = old_file();
    let mut watcher = Watcher::new(root.path(), []);
    for name in [".#a.yaml", "a.yaml~", "notes.txt"] {
        fs::write(root.path().join(name), "x").unwrap();
    }
    fs::read(&file).unwrap();
    watcher.noticed.notified().await;
    watcher.judge.noticed(Instant::now());
    assert!(
        !watcher
            .judge
            .looked(look(root.path(), &watcher.files, &watcher.judge.known), Instant::now())
    );
    assert!(watcher.judge.burst.is_none());
}

/// Waits for notices until the watcher knows the files as they are now.
async fn seen(watcher: &mut Watcher) {
    let sizes = |state: &State| {
        let size = |stamp: &Option<Stamp>| match stamp {
            Some(Stamp::Outside(s)) => Some((s.inode, s.size, s.modified)),
            Some(Stamp::NameServers(_)) | None => None,
        };
        state.0.iter().map(|(path, stamp)| (path.clone(), size(stamp))).collect::<Vec<_>>()
    };
    loop {
        timeout(HANG, watcher.changed()).await.unwrap();
        if sizes(&watcher.judge.known)
            == sizes(&look(&watcher.directory, &watcher.files, &watcher.judge.known))
        {
            return;
        }
    }
}

/// A file that was written long ago.
fn old_file() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.yaml");
    fs::write(&path, "1").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    (root, path)
}

fn state(size: u64) -> State {
    let (modified, changed) = ((0, 0), (0, 0));
    let stamp = Outside { device: 1, inode: 1, size, modified, changed, settled: true };
    State([(PathBuf::from("a"), Some(Stamp::Outside(stamp)))].into())
}

/// Longer than any machine needs; it only ends a test that would hang.
const HANG: Duration = Duration::from_secs(60);
