//! A directory becomes a configuration: all its `*.yaml` and `*.yml` files in order of name,
//! merged and checked, with every problem of every file at once.
//!
//! Hidden files and what editors leave behind are skipped. Files are bounded in number and size.
//! The order of files decides what a message calls the earlier place, and nothing else.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    check,
    civil::Instant,
    lists,
    merge::merge,
    model::Config,
    problem::{At, Problem, Problems, Reports, Source, Wrong, quote},
    raw::{self, Kind, Node},
    watch::Seen,
};

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to run on.
    pub config: Config,
    /// What its author may not have meant.
    pub warnings: Vec<Problem>,
    /// How the files of lists looked that were read.
    pub seen: Seen,
}

/// Loads the configuration of a directory. Reads files: not for an async thread.
///
/// # Errors
/// [`Problems`] with every error and warning of all files. No file, or none with a legacy server,
/// is an error: an empty configuration is not one that allows everything.
pub fn load(directory: &Path) -> Result<Loaded, Problems> {
    load_with(directory, None).map_err(|NotLoaded { problems, .. }| problems)
}

/// Loads it for who asks a running process, which may go on with what the files said before.
///
/// # Errors
/// [`NotLoaded`], as [`load`].
pub fn locate(directory: &Path) -> Result<Loaded, NotLoaded> {
    load_with(directory, None)
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub struct NotLoaded {
    /// What is wrong with it.
    pub problems: Problems,
    /// The admin socket, as far as the files can be read; none: it is off.
    pub socket: Option<PathBuf>,
    /// How the files of lists looked that were read, or should have been: the mistake may be there.
    pub seen: Seen,
}

/// Loads it for a process that runs on with the state directory it has, whatever the files say: they
/// are warned of a change, which waits for the next start.
///
/// # Errors
/// [`NotLoaded`], as [`load`].
pub fn reload(directory: &Path, state_dir: &Path) -> Result<Loaded, NotLoaded> {
    load_with(directory, Some(state_dir))
}

fn load_with(directory: &Path, running: Option<&Path>) -> Result<Loaded, NotLoaded> {
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let label = label(&directory);
    let mut failed = Vec::new();
    let mut sources = Vec::new();
    let mut skipped = Vec::new();
    match files(&directory) {
        Ok(found) => {
            let mut room = MAX_TOTAL;
            for path in found.files {
                let name = format!("{label}/{}", file_name(&path));
                match read(&path, &mut room) {
                    Ok(text) => sources.push(Source::new(name, text)),
                    Err(wrong) => failed.push((name, wrong)),
                }
            }
            skipped = found.skipped;
        }
        Err(wrong) => failed.push((label.clone(), wrong)),
    }
    let mut out = Reports::new(&sources);
    let complete = failed.is_empty();
    for (name, wrong) in failed {
        out.file_error(name, wrong);
    }
    for path in skipped {
        let wrong = Wrong::new("not read").hint("the name has to end with .yaml");
        out.file_warning(format!("{label}/{}", file_name(&path)), wrong);
    }
    if complete && sources.is_empty() {
        let wrong = Wrong::new("no *.yaml file here");
        let hint = "an empty configuration is not one that allows everything";
        out.file_error(&*label, wrong.hint(hint));
    }
    let complete = complete && !sources.is_empty();
    let at = Origin { directory: &directory, label: &label, running };
    let mut config = assemble(at, &sources, complete, Instant::now(), &mut out);
    let seen = lists::load(&mut config, &directory, &label, &mut out);
    match out.finish() {
        Ok(warnings) => Ok(Loaded { config, warnings, seen }),
        Err(problems) => Err(NotLoaded { problems, socket: config.admin.socket, seen }),
    }
}

/// Where a configuration comes from, and whose it is.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) directory: &'a Path,
    /// What the directory is called.
    pub(super) label: &'a str,
    /// The state directory of the process that goes on.
    pub(super) running: Option<&'a Path>,
}

#[cfg(test)]
impl Origin<'static> {
    /// Of no directory on disk.
    pub(super) fn made_up() -> Self {
        Self { directory: Path::new("/conf.d"), label: "conf.d", running: None }
    }
}

/// Merges and checks what was read. Problems are in `out`; with errors nothing can run on the result.
pub(super) fn assemble(
    place: Origin<'_>,
    sources: &[Source],
    complete: bool,
    now: Instant,
    out: &mut Reports<'_>,
) -> Config {
    let at = At { file: 0, line: 1, column: 1, width: 1 };
    let mut all = Node { kind: Kind::Map(Vec::new()), at };
    let before = out.errors();
    let mut room = raw::MAX_NODES;
    for (file, source) in sources.iter().enumerate() {
        let Some(node) = raw::parse(file, source, &mut room, out) else { continue };
        match node.kind {
            Kind::Map(_) => merge(&mut all, node, out),
            Kind::Null => {}
            Kind::Text(_) | Kind::List(_) => {
                let wrong = Wrong::new("not a configuration");
                out.error(node.at, wrong.hint("a file begins with a key such as \"rules:\""));
            }
        }
    }
    // what is missing may stand in a file that could not be read
    let complete = complete && out.errors() == before;
    let missing = complete.then_some(place.label);
    check::check(&all, place.directory, missing, place.running, now, out)
}

#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    skipped: Vec<PathBuf>,
}

/// The files of a directory that count, in order of name.
fn files(directory: &Path) -> Result<Found, Wrong> {
    let io = |error: io::Error| Wrong::new(format!("read the directory: {error}"));
    let mut found = Found::default();
    for entry in directory.read_dir().map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.file_name().is_some_and(is_config_name) {
            found.files.push(path);
        } else if is_near_miss(&path) {
            found.skipped.push(path);
        }
        if found.files.len() > MAX_FILES {
            return Err(Wrong::new(format!("more than {MAX_FILES} files")));
        }
    }
    found.files.sort();
    found.skipped.sort();
    Ok(found)
}

/// Whether a file of this name is read: `*.yaml` or `*.yml`, not hidden, no editor's leftover.
pub(super) fn is_config_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let ends = name.ends_with(b".yaml") || name.ends_with(b".yml");
    ends && !name.starts_with(b".") && !name.starts_with(b"#")
}

/// `10.YAML` would be left out in silence.
fn is_near_miss(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
    let yaml = |e: &OsStr| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml");
    !hidden && path.extension().is_some_and(yaml)
}

fn read(path: &Path, room: &mut u64) -> Result<String, Wrong> {
    let io = |error: io::Error| Wrong::new(format!("read: {error}"));
    // before it is opened: opening a FIFO would wait for its writer
    if !path.metadata().map_err(io)?.is_file() {
        return Err(Wrong::new("not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    let length = bytes.len() as u64;
    if length > MAX_FILE {
        return Err(Wrong::new(format!("larger than {} MiB", MAX_FILE >> 20)));
    }
    *room = room.checked_sub(length).ok_or_else(|| {
        Wrong::new(format!("all files together are larger than {} MiB", MAX_TOTAL >> 20))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or(&[]);
        let line = good.iter().filter(|b| **b == b'\n').count() + 1;
        Wrong::new(format!("not UTF-8 in line {line}"))
    })
}

/// The directory's own name, for places such as `conf.d/20-rules.yaml:12`.
fn label(directory: &Path) -> String {
    let own = |path: &Path| path.file_name().map(|name| printable(&name.to_string_lossy()));
    let real = || directory.canonicalize().ok().and_then(|path| own(&path));
    own(directory).or_else(real).unwrap_or_else(|| printable(&directory.to_string_lossy()))
}

fn file_name(path: &Path) -> String {
    printable(&path.file_name().unwrap_or_default().to_string_lossy())
}

/// A name as it is, or escaped if it could write to a terminal.
pub(super) fn printable(name: &str) -> String {
    if name.chars().any(char::is_control) { quote(name) } else { name.to_owned() }
}

/// Bytes of one file.
const MAX_FILE: u64 = 8 << 20;
/// Bytes of all files.
const MAX_TOTAL: u64 = 64 << 20;
/// Files in the directory.
const MAX_FILES: usize = 1000;

#[cfg(test)]
mod tests;
