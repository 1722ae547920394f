//! One process at a time: an advisory lock that the operating system drops with its holder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{Failure, OpenError};

const LOCK_FILE: &str = "lock";
/// More than any process number, less than any surprise.
const PID_BYTES_MAX: u64 = 20;

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    /// Locked too: who removes the lock file is not to let another process in.
    _directory: File,
}

impl Lock {
    /// Takes the lock of `directory`, or says who has it.
    pub(crate) fn acquire(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(LOCK_FILE);
        let failed = |source| OpenError::io("lock", &path, source);
        let locked = |pid| OpenError::Locked { directory: directory.to_owned(), pid };
        let itself = File::open(directory).map_err(failed)?;
        // Any other answer is that of a network file system, which locks only what is open for writing: there the lock file
        // has to do.
        if take(&itself) == Err(Errno::WOULDBLOCK) {
            return Err(locked(File::open(&path).ok().and_then(|file| holder(&file))));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match take(&file) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(locked(holder(&file))),
            Err(error) => return Err(failed(error.into())),
        }
        write_holder(&mut file).map_err(failed)?;
        Ok(Self { file, _directory: itself })
    }

    /// Whether `directory` still has the file that is locked: without it the journal was removed or replaced, and
    /// another process could open what is there now.
    pub(crate) fn check(&self, directory: &Path) -> Result<(), Failure> {
        let gone = || Failure::Gone { directory: directory.to_owned() };
        let failed = |error| Failure::storage("look at", directory, error);
        let held = self.file.metadata().map_err(failed)?;
        match std::fs::metadata(directory.join(LOCK_FILE)) {
            Ok(found) if (found.dev(), found.ino()) == (held.dev(), held.ino()) => Ok(()),
            Ok(_) => Err(gone()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(gone())
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn take(file: &File) -> Result<(), Errno> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// The process that has the journal in `directory` open, where there is one and its lock file says which.
pub fn in_use_by(directory: &Path) -> Option<u32> {
    let file = File::open(directory.join(LOCK_FILE)).ok()?;
    let answer = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
    (answer == Err(Errno::WOULDBLOCK)).then(|| holder(&file))?
}

/// Who wrote the lock file; only a hint for people.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}
