//! The master secret of the dialback keys: given in a file where several fedgates serve the same
//! domains, so that each answers for the keys of all; else made once and kept in the state
//! directory.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::whole_file::replace;
use crate::auth::dialback_key::{DialbackKeys, MASTER_LEN, hex};

/// The file in the state directory.
const FILE: &str = "dialback.secret";
/// Bytes of such a file, which has one line.
const FILE_MAX: u64 = 4096;

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

/// Reads the secret from the file that is `given`, which nobody else makes, or else from
/// `state_dir`, where it is made if it is not there.
///
/// # Errors
/// [`SecretError`].
pub fn dialback_keys(given: Option<&Path>, state_dir: &Path) -> Result<DialbackKeys, SecretError> {
    if let Some(given) = given {
        return read(given).map_err(|error| error.of(given));
    }
    let path = state_dir.join(FILE);
    match read(&path) {
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            let mut master = Zeroizing::new([0; MASTER_LEN]);
            getrandom::fill(master.as_mut()).map_err(SecretError::Random)?;
            // it does not grow, which would leave a copy behind
            let mut text = Zeroizing::new(String::with_capacity(2 * MASTER_LEN + 1));
            text.push_str(&hex(&*master));
            text.push('\n');
            replace(&path, &text, 0o600).map_err(|e| SecretError::Write(path, e))?;
            Ok(DialbackKeys::new(master))
        }
        result => result.map_err(|error| error.of(&path)),
    }
}

/// Reads the secret of the running fedgate: `given`, or else that in `state_dir`.
///
/// # Errors
/// [`SecretError`], also if there is none.
pub fn existing_dialback_keys(
    given: Option<&Path>,
    state_dir: &Path,
) -> Result<DialbackKeys, SecretError> {
    let path = given.map_or_else(|| state_dir.join(FILE), Path::to_owned);
    read(&path).map_err(|error| error.of(&path))
}

enum ReadError {
    Io(io::Error),
    Exposed,
    Malformed,
}

impl ReadError {
    fn of(self, path: &Path) -> SecretError {
        let path = path.to_owned();
        match self {
            Self::Io(error) => SecretError::Read(path, error),
            Self::Exposed => SecretError::Exposed(path),
            Self::Malformed => SecretError::Malformed(path),
        }
    }
}

/// A group may read it: so does an orchestrator hand a secret to a user other than root.
fn read(path: &Path) -> Result<DialbackKeys, ReadError> {
    let file = fs::File::open(path).map_err(ReadError::Io)?;
    let mode = file.metadata().map_err(ReadError::Io)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(ReadError::Exposed);
    }
    let text = read_wiped(&file, FILE_MAX).map_err(ReadError::Io)?;
    parse(text.trim_ascii()).map(DialbackKeys::new).ok_or(ReadError::Malformed)
}

/// Reads a file of `most` bytes at most into memory that is wiped when it is given back. It has room
/// from the start: what grows leaves a copy behind.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::FileTooLarge`].
pub fn read_wiped(file: &fs::File, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = file.metadata()?.len().min(most);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let error = format!("larger than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
    }
    Ok(bytes)
}

fn parse(text: &[u8]) -> Option<Zeroizing<[u8; MASTER_LEN]>> {
    if text.len() != MASTER_LEN * 2 || !text.is_ascii() {
        return None;
    }
    let mut master = Zeroizing::new([0; MASTER_LEN]);
    for (byte, digits) in master.iter_mut().zip(text.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(master)
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
        let key = dialback_keys(None, &state).unwrap().public().key(&a, &b, "1");
        assert!(dialback_keys(None, &state).unwrap().public().check(&a, &b, "1", &key));
        let file = state.join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(dialback_keys(None, &state), Err(SecretError::Exposed(_))));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        for wrong in ["short\n", "", &"0g".repeat(MASTER_LEN), &"é".repeat(MASTER_LEN)] {
            fs::write(&file, wrong).unwrap();
            assert!(matches!(dialback_keys(None, &state), Err(SecretError::Malformed(_))));
        }
        fs::write(&file, "0".repeat(5000)).unwrap();
        let Err(SecretError::Read(_, error)) = dialback_keys(None, &state) else { panic!() };
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_given_secret_is_shared_and_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let given = dir.path().join("shared.secret");
        let states = ["one", "two"].map(|name| dir.path().join(name));
        let keys = |state| dialback_keys(Some(&given), state);
        assert!(matches!(keys(&states[0]), Err(SecretError::Read(path, _)) if path == given));
        assert!(!given.exists());

        // as `openssl rand -hex 32` writes it, and as a group may read it
        fs::write(&given, format!("{}\n", "0f".repeat(MASTER_LEN))).unwrap();
        fs::set_permissions(&given, fs::Permissions::from_mode(0o440)).unwrap();
        let [a, b] = ["a.example", "b.example"].map(|d| Domain::parse(d).unwrap());
        let key = keys(&states[0]).unwrap().public().key(&a, &b, "1");
        assert!(keys(&states[1]).unwrap().public().check(&a, &b, "1", &key));
        assert!(!keys(&states[1]).unwrap().local("old").check(&a, &b, "1", &key));
        assert!(states.iter().all(|state| !state.exists()));

        fs::set_permissions(&given, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(matches!(keys(&states[0]), Err(SecretError::Exposed(path)) if path == given));
    }
}
