//! The files of named lists: a domain, a `*.domain`, an address or a network a line, and comments
//! behind `#`, as block lists are published. What is in them is judged when a configuration is loaded, so that a
//! list with a broken line leaves everything as it was.

use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use super::{
    load::printable,
    model::{Config, ListSource},
    policy::{List, ListEntry, Pattern},
    problem::{At, Problems, Reports, Wrong},
    value,
    watch::Seen,
};

/// Reads all lists of a configuration that come from files. Those below `directory` are called by
/// their path from `label` on. How the files looked before they were read is the result.
pub(super) fn load(
    config: &mut Config,
    directory: &Path,
    label: &str,
    out: &mut Reports<'_>,
) -> Seen {
    let mut seen = Seen::default();
    let mut room = MAX_TOTAL;
    let files: Vec<_> = config
        .lists
        .iter()
        .filter_map(|(name, source)| {
            let path = config.list_file(name, source)?;
            Some((name.clone(), path, matches!(source, ListSource::Url(_))))
        })
        .collect();
    for (name, path, is_fetched) in files {
        let shown: Arc<str> = match path.strip_prefix(directory) {
            Ok(rest) => printable(&format!("{label}/{}", rest.to_string_lossy())).into(),
            Err(_) => printable(&path.to_string_lossy()).into(),
        };
        seen.note(&path);
        let list = match read(&path, &mut room) {
            Err(error) if is_fetched && error.kind() == io::ErrorKind::NotFound => {
                let wrong = Wrong::new(format!("list \"{name}\" was not fetched yet"));
                out.file_warning(shown, wrong.hint("it is empty until then"));
                continue;
            }
            Err(error) => {
                let wrong = Wrong::new(format!("read list \"{name}\": {error}"));
                out.file_error(shown, wrong);
                continue;
            }
            Ok(text) => parse(&shown, &text, out),
        };
        if let Some(list) = list {
            if list.is_empty() {
                out.file_warning(shown, Wrong::new("nothing is in this list"));
            }
            config.policy.fill(&name, Arc::new(list));
        }
    }
    seen
}

/// How many entries the text of a list has; `file` is what it is called.
///
/// # Errors
/// [`Problems`] with its bad lines.
pub fn list_entries(file: &str, text: &str) -> Result<usize, Problems> {
    let mut out = Reports::new(&[]);
    let list = parse(&file.into(), text, &mut out);
    out.finish().map(|_| list.map_or(0, |list| list.len()))
}

/// Reads a list; every line that is none is reported, up to a number of them.
fn parse(file: &Arc<str>, text: &str, out: &mut Reports<'_>) -> Option<List> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut list = List::named(file.clone());
    let mut bad = 0;
    for (number, line) in text.lines().enumerate() {
        let said = line.split('#').next().unwrap_or_default();
        let text = said.trim();
        if text.is_empty() {
            continue;
        }
        match entry(text) {
            Ok(entry) => list.add(entry, number + 1),
            Err(wrong) => {
                let before = said.chars().take_while(|c| c.is_whitespace()).count();
                let width = text.chars().count();
                let at = At { file: 0, line: number + 1, column: before + 1, width };
                out.line_error(file, line, at, wrong);
                bad += 1;
            }
        }
        if bad >= MAX_BAD {
            break;
        }
    }
    (bad == 0).then_some(list)
}

/// What a line names.
pub(super) fn entry(text: &str) -> Result<ListEntry, Wrong> {
    // no domain has a slash or a colon
    let is_network = text.contains(['/', ':']) || text.parse::<IpAddr>().is_ok();
    if is_network && !text.contains("://") {
        return value::network(text).map(ListEntry::Network);
    }
    match value::pattern(text)? {
        Pattern::Exact(domain) => Ok(ListEntry::Exact(domain)),
        Pattern::Below(suffix) => Ok(ListEntry::Below(suffix)),
        Pattern::Any | Pattern::List(_) => {
            Err(Wrong::new("\"*\" in a list").hint("for all domains write a rule"))
        }
    }
}

fn read(path: &Path, room: &mut u64) -> io::Result<String> {
    // before it is opened: opening a FIFO would wait for its writer
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    let length = text.len() as u64;
    if length > MAX_FILE {
        return Err(io::Error::other(format!("larger than {} MiB", MAX_FILE >> 20)));
    }
    *room = room.checked_sub(length).ok_or_else(|| {
        io::Error::other(format!("all lists together are larger than {} MiB", MAX_TOTAL >> 20))
    })?;
    Ok(text)
}

/// Bytes of one list.
const MAX_FILE: u64 = 32 << 20;
/// Bytes of all lists.
const MAX_TOTAL: u64 = 128 << 20;
/// Bad lines of a list that are reported; more are not looked for.
const MAX_BAD: usize = 20;
