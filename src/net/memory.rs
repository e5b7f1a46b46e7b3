//! The file that keeps the memory of remote domains over a restart. It is written whole or not at
//! all, and one that cannot be read is put aside: without a memory fedgate serves as well.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::whole_file::replace;
use crate::auth::memory::{LineError, Memory};

/// The file in the state directory.
const FILE: &str = "memory.jsonl";
/// What is larger was not written by us.
const SIZE_MAX: u64 = 256 << 20;

/// Where the memory is kept.
#[derive(Clone, Debug)]
pub struct MemoryFile(PathBuf);

/// Why there is none to be read.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file cannot be read.
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It holds something else.
    #[error("{}", .0.display())]
    Broken(PathBuf, #[source] LineError),
}

impl MemoryFile {
    /// That of a state directory.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads it; none if there is none.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn load(&self) -> Result<Option<Memory>, MemoryError> {
        let text = match read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let why = LineError { line: 1, why: error.to_string() };
                return Err(MemoryError::Broken(self.0.clone(), why));
            }
            Err(error) => return Err(MemoryError::Read(self.0.clone(), error)),
        };
        let broken = |why| MemoryError::Broken(self.0.clone(), why);
        Memory::of_lines(&text).map(Some).map_err(broken)
    }

    /// Puts a broken one aside, in the place of the last such; its new path.
    ///
    /// # Errors
    /// That of the system.
    pub fn put_aside(&self) -> io::Result<PathBuf> {
        let aside = self.0.with_extension("jsonl.broken");
        fs::rename(&self.0, &aside)?;
        Ok(aside)
    }

    /// Writes it: a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// That of the system; the old one is as it was then.
    pub fn save(&self, lines: &str) -> io::Result<()> {
        replace(&self.0, lines, 0o600)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    if file.take(SIZE_MAX + 1).read_to_string(&mut text)? as u64 > SIZE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too large"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use rustls::pki_types::UnixTime;

    use super::*;
    use crate::xmpp::{Direction, Domain};

    #[test]
    fn what_is_saved_is_loaded_and_what_is_broken_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let file = MemoryFile::of(&dir.path().join("state"));
        assert!(file.load().unwrap().is_none());
        let mut memory = Memory::default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(7));
        memory.was_refused(&Domain::parse("a.test").unwrap(), Direction::Inbound, now);
        for _ in 0..2 {
            file.save(&memory.to_lines()).unwrap();
            assert_eq!(file.load().unwrap().unwrap(), memory);
        }
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), 1);

        for broken in [&b"{}\n"[..], b"\xff\xfe"] {
            fs::write(file.path(), broken).unwrap();
            assert!(matches!(file.load(), Err(MemoryError::Broken(..))));
        }
        let aside = file.put_aside().unwrap();
        assert_eq!(fs::read(aside).unwrap(), b"\xff\xfe");
        assert!(file.load().unwrap().is_none());
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = MemoryFile::of(dir.path());
        file.save("old").unwrap();
        // a directory is in the way
        fs::create_dir(dir.path().join("memory.jsonl.new")).unwrap();
        assert!(file.save("new").is_err());
        assert_eq!(fs::read(file.path()).unwrap(), b"old");
    }
}
