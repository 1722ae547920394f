//! The operations of the journal on files, apart so that a simulated disk can fail them and cut the power between
//! any two.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::error::{Failure, OpenError};
use crate::lock::Lock;

/// A file system. Names are durable once their directory is synced, as in POSIX.
pub trait Storage: Debug + Send + Sync + 'static {
    /// Makes a directory and those above it, unless they exist.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Takes a directory for this process, until what is returned is dropped.
    ///
    /// # Errors
    /// [`OpenError::Locked`] where another has it.
    fn lock(&self, directory: &Path) -> Result<Arc<dyn Held>, OpenError>;
    /// The names of what is in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>>;
    /// How much room the file system of a directory has; `None` where it counts none.
    fn room(&self, directory: &Path) -> io::Result<Option<FileSystemRoom>>;
    /// Makes an empty file in the place of any that has the name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    /// Opens a file for writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    /// Opens a file for reading.
    fn read(&self, path: &Path) -> io::Result<Box<dyn ReadFile>>;
    /// Has a file read from the disk itself from now on: after a failed sync the page cache may hold what the disk
    /// does not.
    fn drop_cache(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, in the place of any that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// After this the names in a directory survive power loss.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// What a file system has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemRoom {
    /// What this process may still take.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// A directory that is this process's as long as this lives.
pub trait Held: Debug + Send + Sync {
    /// Whether it still is: another process could open what has taken its place.
    ///
    /// # Errors
    /// [`Failure::Gone`] where it was removed or replaced.
    fn check(&self, directory: &Path) -> Result<(), Failure>;
}

/// A file, as its writer sees it.
pub trait SegmentFile: Debug + Send {
    /// Writes all of `bytes`; a write that fails may have got anywhere.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// After this the file's bytes and size survive power loss.
    fn sync(&self) -> io::Result<()>;
    /// Sets the size; what is added reads as zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Takes the room for so many bytes; what is added reads as zeros.
    fn preallocate(&self, bytes: u64) -> io::Result<()>;
}

/// A file, as its readers see it.
pub trait ReadFile: Debug + Send {
    /// Reads what there is from `position` on, at most the buffer; 0 only at the file's end.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// In bytes.
    fn size(&self) -> io::Result<u64>;
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read_full(file: &dyn ReadFile, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, position + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// All that a file holds.
pub(crate) fn read_whole(file: &dyn ReadFile) -> io::Result<Vec<u8>> {
    let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    let read = read_full(file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The real one.
#[derive(Debug)]
pub(crate) struct Disk;

impl Storage for Disk {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn lock(&self, directory: &Path) -> Result<Arc<dyn Held>, OpenError> {
        Ok(Arc::new(Lock::acquire(directory)?))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(directory)?.map(|file| Ok(file?.file_name())).collect()
    }

    fn room(&self, directory: &Path) -> io::Result<Option<FileSystemRoom>> {
        let answer = rustix::fs::statvfs(directory)?;
        let bytes = |blocks: u64| blocks.saturating_mul(answer.f_frsize);
        let room = FileSystemRoom { free_bytes: bytes(answer.f_bavail), total_bytes: bytes(answer.f_blocks) };
        Ok((answer.f_blocks > 0).then_some(room))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        // The record of a ward is nobody else's to read.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn drop_cache(&self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        // Only what is written back can be dropped.
        file.sync_all()?;
        if let Err(error) = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed) {
            tracing::debug!(file = %path.display(), %error, "the page cache is kept");
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl Held for Lock {
    fn check(&self, directory: &Path) -> Result<(), Failure> {
        Self::check(self, directory)
    }
}

impl SegmentFile for File {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, bytes) {
                // A file system without it: the file grows as it is written.
                Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl ReadFile for File {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
