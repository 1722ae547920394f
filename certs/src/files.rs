//! Files that are there whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::CertsError;

/// Whether an existing private key may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It may not.
    No,
    /// It may: what depends on it becomes useless.
    Yes,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    Public,
    Private,
}

impl Secrecy {
    fn mode(self) -> u32 {
        match self {
            Self::Public => 0o644,
            Self::Private => 0o600,
        }
    }
}

pub(crate) fn must_not_exist(path: &Path) -> Result<(), CertsError> {
    match path.try_exists().map_err(CertsError::file("look for", path))? {
        true => Err(CertsError::Exists(path.to_owned())),
        false => Ok(()),
    }
}

/// Writes aside, syncs, renames: a reader or a crash sees the old file or the new one.
pub(crate) fn write(path: &Path, content: &[u8], secrecy: Secrecy) -> Result<(), CertsError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = Path::new(&aside);
    // A leftover of a crash may have another mode: begin afresh.
    match std::fs::remove_file(aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(CertsError::file("remove", aside)(error));
        }
        _ => {}
    }
    let written = OpenOptions::new().write(true).create_new(true).mode(secrecy.mode()).open(aside).and_then(
        |mut file| {
            file.write_all(content)?;
            file.sync_all()
        },
    );
    written.map_err(CertsError::file("write", aside))?;
    std::fs::rename(aside, path).map_err(CertsError::file("write", path))?;
    // The new name is durable once its folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(CertsError::file("sync", folder))
}

/// Writes a private key where there is none, or where it may be replaced.
pub(crate) fn write_key(path: &Path, pem: &str, overwrite: Overwrite) -> Result<(), CertsError> {
    if overwrite == Overwrite::No {
        must_not_exist(path)?;
    }
    write(path, pem.as_bytes(), Secrecy::Private)
}

pub(crate) fn read(path: &Path) -> Result<String, CertsError> {
    std::fs::read_to_string(path).map_err(CertsError::file("read", path))
}

/// Held while the folder is changed; released when dropped.
pub(crate) struct Lock(#[expect(dead_code, reason = "its drop is the release")] File);

impl Lock {
    pub(crate) fn of(dir: &Path) -> Result<Self, CertsError> {
        let path = dir.join(".lock");
        let open = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map(Self).map_err(CertsError::file("lock", &path))
    }
}
