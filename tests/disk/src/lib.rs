//! A disk in memory that keeps, when its power is cut, no more than POSIX promises, and fails when told to.
//!
//! - Of what was written and not synced each page of 4 KiB survives or not, in any order, and may be torn between sectors of
//!   512 bytes; before that, the operating system writes back what it likes.
//! - A name is durable once its directory was synced; of later changes any may survive.
//! - A sync that fails has lost what it should have written: the page cache shows it, and no later sync writes it.
//! - A write that fails may have got anywhere.
//! - Nothing that is durable changes by itself.
//!
//! There is one directory, whatever its path.

mod file;
mod names;
mod random;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

use file::Image;
use names::Names;
use parking_lot::Mutex;
pub use random::Random;
use wardline_journal::storage::{FileSystemRoom, Held, ReadFile, SegmentFile, Storage};
use wardline_journal::{Failure, OpenError};

const NO_SPACE: i32 = 28;
const INPUT_OUTPUT: i32 = 5;
/// The stream of random numbers that decide what the disk does.
const STREAM: u64 = 1;
/// Before so many changes on average the operating system writes something back.
const WRITE_BACK_EVERY: usize = 4;

/// An operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Taking room: the disk is full.
    Preallocate,
    /// Syncing a file or the directory.
    Sync,
    /// Writing.
    Write,
}

/// The disk. Clones are the same.
#[derive(Clone, Debug)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    files: Vec<Image>,
    names: Names,
    random: Random,
    /// Power goes after so many more changes.
    changes_left: Option<u64>,
    /// Fails, and how often until it does.
    fault: Option<(Fault, u64)>,
    capacity_bytes: usize,
    syncs: u64,
}

#[derive(Debug)]
struct OpenFile {
    disk: SimulatedDisk,
    file: usize,
}

#[derive(Debug)]
struct Owned;

impl SimulatedDisk {
    /// An empty disk; what it does where POSIX leaves it open follows from the seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: Names::default(),
            random: Random::new(seed, STREAM),
            changes_left: None,
            fault: None,
            capacity_bytes: usize::MAX,
            syncs: 0,
        })))
    }

    /// Power goes after so many more operations that change something: each then fails.
    pub fn cut_power_after(&self, changes: u64) {
        self.0.lock().changes_left = Some(changes);
    }

    /// Whether power is gone.
    pub fn is_dead(&self) -> bool {
        self.0.lock().changes_left == Some(0)
    }

    /// Cuts the power now, and brings it back: what is there then is what the platter has. Files that were open must not be
    /// used any more.
    pub fn cut_power(&self) {
        let mut state = self.0.lock();
        let State { files, names, random, changes_left, .. } = &mut *state;
        for file in files {
            file.cut(random);
        }
        names.cut(random);
        *changes_left = None;
    }

    /// From the operation of that kind on that comes after so many others, all fail; `None`: the disk is well.
    pub fn set_fault(&self, fault: Option<(Fault, u64)>) {
        self.0.lock().fault = fault;
    }

    /// All that files may have together, in bytes.
    pub fn set_capacity(&self, bytes: usize) {
        self.0.lock().capacity_bytes = bytes;
    }

    /// What files have together, in bytes.
    pub fn used_bytes(&self) -> usize {
        self.0.lock().used_bytes()
    }

    /// How many syncs of files there were.
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// What readers see of a file; `None` where there is none.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.lock();
        let file = state.names.find(&name(path).ok()?)?;
        state.files.get(file).map(|file| file.cache.clone())
    }

    fn open_file(&self, path: &Path) -> io::Result<OpenFile> {
        let file = self.0.lock().names.find(&name(path)?).ok_or(io::ErrorKind::NotFound)?;
        Ok(OpenFile { disk: self.clone(), file })
    }
}

impl State {
    /// Counts a change, and fails it where it should.
    fn change(&mut self, kind: Option<Fault>) -> io::Result<()> {
        match &mut self.changes_left {
            Some(0) => return Err(io::Error::from_raw_os_error(INPUT_OUTPUT)),
            Some(left) => *left -= 1,
            None => {}
        }
        match &mut self.fault {
            Some((fault, 0)) if kind == Some(*fault) => {
                let full = *fault == Fault::Preallocate;
                return Err(io::Error::from_raw_os_error(if full { NO_SPACE } else { INPUT_OUTPUT }));
            }
            Some((fault, before)) if kind == Some(*fault) => *before -= 1,
            _ => {}
        }
        Ok(())
    }

    fn used_bytes(&self) -> usize {
        self.names.all().map(|(_, file)| self.files[file].cache.len()).sum()
    }

    /// Whether a file may grow to so many bytes.
    fn has_room(&self, file: usize, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.files[file].cache.len());
        more == 0 || self.used_bytes().saturating_add(more) <= self.capacity_bytes
    }

    fn write(&mut self, file: usize, bytes: &[u8], position: usize) -> io::Result<()> {
        let outcome = self.change(Some(Fault::Write));
        let outcome = outcome.and_then(|()| {
            let fits = self.has_room(file, position + bytes.len());
            if fits { Ok(()) } else { Err(io::Error::from_raw_os_error(NO_SPACE)) }
        });
        let Self { files, random, .. } = self;
        let written = match &outcome {
            Ok(()) => bytes.len(),
            Err(_) => random.below(bytes.len() + 1).min(files[file].cache.len().saturating_sub(position)),
        };
        files[file].write(&bytes[..written], position);
        if random.one_in(WRITE_BACK_EVERY) {
            files[file].write_back_some(random);
        }
        outcome
    }
}

fn name(path: &Path) -> io::Result<OsString> {
    path.file_name().map(OsString::from).ok_or_else(|| io::ErrorKind::InvalidFilename.into())
}

fn bytes(size: u64) -> io::Result<usize> {
    usize::try_from(size).map_err(io::Error::other)
}

impl Storage for SimulatedDisk {
    fn make_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _directory: &Path) -> Result<Arc<dyn Held>, OpenError> {
        Ok(Arc::new(Owned))
    }

    fn list(&self, _directory: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.0.lock().names.all().map(|(name, _)| name.clone()).collect())
    }

    fn room(&self, _directory: &Path) -> io::Result<Option<FileSystemRoom>> {
        let state = self.0.lock();
        let free = state.capacity_bytes.saturating_sub(state.used_bytes());
        Ok(Some(FileSystemRoom { free_bytes: free as u64, total_bytes: state.capacity_bytes as u64 }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let mut state = self.0.lock();
        state.change(None)?;
        let file = state.files.len();
        state.files.push(Image::default());
        state.names.change(vec![(name(path)?, Some(file))]);
        Ok(Box::new(OpenFile { disk: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(self.open_file(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(self.open_file(path)?))
    }

    fn drop_cache(&self, path: &Path) -> io::Result<()> {
        let OpenFile { file, .. } = self.open_file(path)?;
        let mut state = self.0.lock();
        state.change(Some(Fault::Sync))?;
        state.files[file].drop_cache();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (name(from)?, name(to)?);
        let mut state = self.0.lock();
        state.change(None)?;
        let file = state.names.find(&from).ok_or(io::ErrorKind::NotFound)?;
        state.names.change(vec![(from, None), (to, Some(file))]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let name = name(path)?;
        let mut state = self.0.lock();
        state.names.find(&name).ok_or(io::ErrorKind::NotFound)?;
        state.change(None)?;
        state.names.change(vec![(name, None)]);
        Ok(())
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change(Some(Fault::Sync))?;
        state.names.sync();
        Ok(())
    }
}

impl Held for Owned {
    fn check(&self, _directory: &Path) -> Result<(), Failure> {
        Ok(())
    }
}

impl SegmentFile for OpenFile {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.disk.0.lock().write(self.file, bytes, self::bytes(position)?)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let outcome = state.change(Some(Fault::Sync));
        let State { files, random, syncs, .. } = &mut *state;
        if outcome.is_ok() {
            files[self.file].sync();
            *syncs += 1;
        } else {
            files[self.file].fail_sync(random);
        }
        outcome
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.change(None)?;
        state.files[self.file].resize(bytes(size)?);
        Ok(())
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        let size = bytes(size)?;
        let mut state = self.disk.0.lock();
        state.change(Some(Fault::Preallocate))?;
        if !state.has_room(self.file, size) {
            return Err(io::Error::from_raw_os_error(NO_SPACE));
        }
        let size = size.max(state.files[self.file].cache.len());
        state.files[self.file].resize(size);
        Ok(())
    }
}

impl ReadFile for OpenFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let state = self.disk.0.lock();
        let rest = state.files[self.file].cache.get(bytes(position)?..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().files[self.file].cache.len() as u64)
    }
}
