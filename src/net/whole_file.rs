//! Files that are replaced whole or not at all: a crash leaves the old one or the new one, and no
//! reader sees half of it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Puts a file with this text in the place of what is at `path`, and makes the directory if there is
/// none. `mode` is what the process's umask leaves of it.
///
/// # Errors
/// That of the system; what was there is as it was then.
pub(crate) fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = path.with_added_extension("new");
    // left by a crash, perhaps with another mode
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    // half a file only takes room that is wanted
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}
