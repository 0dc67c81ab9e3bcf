//! The key of the hashes: random and forgotten, or kept in a file for equality across traces.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The operating system refused.
    #[error("could not {action} the redaction key \"{}\"", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("the redaction key \"{}\" can be read by others (mode {mode:04o})", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds no key.
    #[error("\"{}\" holds no redaction key: 64 hexadecimal digits are expected", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
}

impl KeyFileError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            KeyFileError::Io { .. } => {
                "name a file in a directory of yours; it is made when it is not there".to_owned()
            }
            KeyFileError::Open { path, .. } => format!("chmod 600 {}", path.display()),
            KeyFileError::NoKey { .. } => {
                "move it away to have a new key made; traces made with the old one do not match".to_owned()
            }
        }
    }
}

/// Reads the key in a file, which must be its owner's alone. Makes file and key when there is none.
pub(super) fn from_file(path: &Path) -> Result<[u8; KEY_BYTES], KeyFileError> {
    let io = |action| move |source| KeyFileError::Io { action, path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            let key: [u8; KEY_BYTES] = rand::random();
            let written = write(file, &key).map_err(io("write"));
            if written.is_err() {
                // A torn key would be refused from now on.
                let _ = fs::remove_file(path);
            }
            return written.map(|()| key);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io("make")(error)),
    }
    let file = File::open(path).map_err(io("read"))?;
    let mode = file.metadata().map_err(io("read"))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(1024).read_to_string(&mut text).map_err(io("read"))?;
    parse(text.trim()).ok_or_else(|| KeyFileError::NoKey { path: path.to_owned() })
}

fn write(mut file: File, key: &[u8]) -> io::Result<()> {
    for byte in key {
        write!(file, "{byte:02x}")?;
    }
    writeln!(file)?;
    file.sync_all()
}

fn parse(text: &str) -> Option<[u8; KEY_BYTES]> {
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let key = from_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(from_file(&path).unwrap(), key);
    }

    #[test]
    fn files_that_are_open_or_hold_no_key_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        from_file(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = from_file(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Open { mode: 0o640, .. }) && error.hint().starts_with("chmod 600"));
        for content in ["", "short", &"g".repeat(64), &"ä".repeat(32)] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(from_file(&path), Err(KeyFileError::NoKey { .. })), "{content}");
        }
        assert!(matches!(from_file(&directory.path().join("no/key")), Err(KeyFileError::Io { .. })));
    }
}
