//! The unprivileged account that a root caller's server runs as.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User};

use super::PrivatePostgresError;

/// Names that are looked up after `TXRAY_PG_USER`.
const USUAL: [&str; 2] = ["postgres", "txray"];

/// An account of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Main group's id.
    pub gid: u32,
}

impl Account {
    /// The account to drop to; none when the caller is not root and the server can run as the caller.
    pub fn for_server() -> Result<Option<Self>, PrivatePostgresError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let asked = std::env::var("TXRAY_PG_USER").ok().filter(|name| !name.is_empty());
        let names = match asked {
            Some(name) => vec![name],
            None => USUAL.map(str::to_owned).to_vec(),
        };
        Self::first_of(&names).map(Some)
    }

    fn first_of(names: &[String]) -> Result<Self, PrivatePostgresError> {
        names
            .iter()
            .filter_map(|name| User::from_name(name).ok().flatten())
            .find(|user| !user.uid.is_root())
            .map(|user| Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
            .ok_or_else(|| PrivatePostgresError::NoAccount { tried: names.to_vec() })
    }

    /// Makes `command` run as this account. Supplementary groups are dropped by the standard library, which calls
    /// `setgroups` when root sets a user id.
    pub(super) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives a file or directory to this account.
    pub(super) fn own(&self, path: &Path) -> Result<(), PrivatePostgresError> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).map_err(|source| PrivatePostgresError::Io {
            attempt: "change the owner of",
            path: path.to_owned(),
            source,
        })
    }

    /// Whether this account may enter every directory on the way to `path`.
    pub(super) fn can_enter(&self, path: &Path) -> Result<(), PrivatePostgresError> {
        for directory in path.ancestors().filter(|directory| directory.is_dir()) {
            let Ok(metadata) = directory.metadata() else {
                continue;
            };
            let bit = if metadata.uid() == self.uid {
                0o100
            } else if metadata.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if metadata.mode() & bit == 0 {
                return Err(PrivatePostgresError::Unreachable {
                    account: self.name.clone(),
                    directory: directory.to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn root_and_unknown_names_are_no_accounts() {
        let names = ["root".to_owned(), "no-such-account-here".to_owned()];
        let error = Account::first_of(&names).expect_err("none of them will do");
        assert!(error.to_string().contains("root, no-such-account-here"), "{error}");
        assert!(error.hint().contains("useradd --system"), "{}", error.hint());
    }

    #[test]
    fn a_closed_directory_is_named() {
        let root = tempfile::tempdir_in("/tmp").expect("temporary directory");
        let closed = root.path().join("closed");
        let inner = closed.join("inner");
        std::fs::create_dir_all(&inner).expect("fresh directory");
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).expect("own directory");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("own directory");
        let stranger = Account { name: "stranger".to_owned(), uid: 65_000, gid: 65_000 };
        let error = stranger.can_enter(&inner).expect_err("a directory of another account");
        assert!(error.to_string().contains("stranger") && error.to_string().contains("closed"), "{error}");
        assert!(stranger.can_enter(root.path()).is_ok());
    }
}
