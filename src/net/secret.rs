//! The master secret of the dialback keys: made once, kept in the state directory, shared by
//! copying the file where several fedgates serve the same domains.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::auth::dialback_key::{DialbackKeys, MASTER_LEN};

/// The file in the state directory.
const FILE: &str = "dialback.secret";

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The file or its directory cannot be made.
    #[error("write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// The file holds something else.
    #[error("{} does not hold {} hexadecimal digits", .0.display(), MASTER_LEN * 2)]
    Malformed(PathBuf),
    /// Others can read it.
    #[error("{} can be read by others: chmod it to 0600", .0.display())]
    Exposed(PathBuf),
    /// The system gives no random numbers.
    #[error("draw a random secret")]
    Random(#[source] getrandom::Error),
}

/// Reads the secret from `state_dir`, or makes it there.
///
/// # Errors
/// [`SecretError`].
pub fn dialback_keys(state_dir: &Path) -> Result<DialbackKeys, SecretError> {
    let path = state_dir.join(FILE);
    match existing_dialback_keys(state_dir) {
        Err(SecretError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            let mut master = Zeroizing::new([0; MASTER_LEN]);
            getrandom::fill(master.as_mut()).map_err(SecretError::Random)?;
            write(state_dir, &path, &master).map_err(|e| SecretError::Write(path, e))?;
            Ok(DialbackKeys::new(master))
        }
        keys => keys,
    }
}

/// Reads the secret from `state_dir`: that of the running fedgate.
///
/// # Errors
/// [`SecretError`], also if there is none.
pub fn existing_dialback_keys(state_dir: &Path) -> Result<DialbackKeys, SecretError> {
    let path = state_dir.join(FILE);
    match fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(text) => {
            let mode = fs::metadata(&path).map(|meta| meta.permissions().mode());
            if mode.is_ok_and(|mode| mode & 0o007 != 0) {
                return Err(SecretError::Exposed(path));
            }
            parse(text.trim()).map(DialbackKeys::new).ok_or(SecretError::Malformed(path))
        }
        Err(error) => Err(SecretError::Read(path, error)),
    }
}

fn parse(text: &str) -> Option<Zeroizing<[u8; MASTER_LEN]>> {
    if text.len() != MASTER_LEN * 2 || !text.is_ascii() {
        return None;
    }
    let mut master = Zeroizing::new([0; MASTER_LEN]);
    for (byte, digits) in master.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(master)
}

/// Whole or not at all: a crash leaves no half a secret.
fn write(dir: &Path, path: &Path, master: &[u8; MASTER_LEN]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let text: Zeroizing<String> =
        Zeroizing::new(master.iter().map(|byte| format!("{byte:02x}")).collect());
    writeln!(file, "{}", *text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::Domain;

    #[test]
    fn the_secret_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let [a, b] = ["a.example", "b.example"].map(|d| Domain::parse(d).unwrap());
        let key = dialback_keys(&state).unwrap().public().key(&a, &b, "1");
        assert!(dialback_keys(&state).unwrap().public().check(&a, &b, "1", &key));
        let file = state.join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(dialback_keys(&state), Err(SecretError::Exposed(_))));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "short\n").unwrap();
        assert!(matches!(dialback_keys(&state), Err(SecretError::Malformed(_))));
    }
}
