//! A disk that fails when told to and, after a crash, holds no more than POSIX promises.
//!
//! Writes go to real files, so that readers work; beside them the disk remembers what was synced. After a crash each
//! file has its synced bytes and any subset of the sectors written since; names are as of the last directory sync,
//! with any number of the later operations, in order.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::storage::{SegmentFile, Storage};

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    images: Vec<Image>,
    /// Which image each name has, now and after a crash.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<BTreeMap<PathBuf, usize>>,
    /// Power goes after so many more operations.
    operations_left: Option<u64>,
    fault: Option<Fault>,
    syncs: u64,
    random: u64,
}

#[derive(Default)]
struct Image {
    synced: Vec<u8>,
    /// Since then, in order: position and bytes, or a new size.
    unsynced: Vec<Change>,
}

enum Change {
    Write(u64, Vec<u8>),
    Resize(u64, bool),
}

/// An operation that fails from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Preallocate,
    Sync,
    Write,
}

struct FaultyFile {
    disk: FaultyDisk,
    image: usize,
    real: File,
}

impl FaultyDisk {
    pub(super) fn crashing_after(operations: u64, seed: u64) -> Self {
        let state = State { operations_left: Some(operations), random: seed, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn set_fault(&self, fault: Option<Fault>) {
        self.0.lock().fault = fault;
    }

    pub(super) fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// Leaves in `directory` what the crashed disk holds.
    pub(super) fn salvage(&self, directory: &Path) {
        let mut state = self.0.lock();
        let kept = state.next_random() as usize % (state.name_changes.len() + 1);
        let names = match kept.checked_sub(1) {
            Some(last) => state.name_changes[last].clone(),
            None => state.durable_names.clone(),
        };
        for (name, image) in names {
            let bytes = state.salvage_image(image);
            std::fs::write(directory.join(name.file_name().unwrap()), bytes).unwrap();
        }
    }

    /// Counts an operation and fails it where it should.
    fn operate(&self, fault: Option<Fault>) -> io::Result<()> {
        let mut state = self.0.lock();
        if fault.is_some() && state.fault == fault {
            return Err(io::Error::from_raw_os_error(28));
        }
        match &mut state.operations_left {
            Some(0) => Err(io::Error::from_raw_os_error(5)),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn file(&self, path: &Path, image: usize) -> io::Result<Box<dyn SegmentFile>> {
        let real = OpenOptions::new().write(true).open(path)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), image, real }))
    }

    fn rename_now(&self, change: impl FnOnce(&mut BTreeMap<PathBuf, usize>)) {
        let mut state = self.0.lock();
        change(&mut state.names);
        let names = state.names.clone();
        state.name_changes.push(names);
    }
}

impl State {
    fn next_random(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn salvage_image(&mut self, image: usize) -> Vec<u8> {
        let mut bytes = self.images[image].synced.clone();
        for change in std::mem::take(&mut self.images[image].unsynced) {
            match change {
                Change::Write(position, written) => {
                    for (index, sector) in written.chunks(SECTOR_BYTES).enumerate() {
                        if self.next_random().is_multiple_of(2) {
                            write(&mut bytes, position as usize + index * SECTOR_BYTES, sector);
                        }
                    }
                }
                Change::Resize(size, shrink) => resize(&mut bytes, size, shrink),
            }
        }
        bytes
    }
}

impl Storage for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        self.operate(None)?;
        File::create(path)?;
        let image = {
            let mut state = self.0.lock();
            state.images.push(Image::default());
            state.images.len() - 1
        };
        self.rename_now(|names| {
            names.insert(path.to_owned(), image);
        });
        self.file(path, image)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let image = self.0.lock().names.get(path).copied();
        let image = match image {
            Some(image) => image,
            None => {
                let synced = std::fs::read(path)?;
                let mut state = self.0.lock();
                state.images.push(Image { synced, unsynced: Vec::new() });
                let image = state.images.len() - 1;
                state.names.insert(path.to_owned(), image);
                state.durable_names.insert(path.to_owned(), image);
                image
            }
        };
        self.file(path, image)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(None)?;
        std::fs::rename(from, to)?;
        self.rename_now(|names| {
            let image = names.remove(from).unwrap();
            names.insert(to.to_owned(), image);
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(None)?;
        std::fs::remove_file(path)?;
        self.rename_now(|names| {
            names.remove(path);
        });
        Ok(())
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        self.operate(Some(Fault::Sync))?;
        let mut state = self.0.lock();
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }
}

impl SegmentFile for FaultyFile {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let result = self.disk.operate(Some(Fault::Write));
        let mut state = self.disk.0.lock();
        // A write that fails may have got anywhere.
        let written = match &result {
            Ok(()) => bytes.len(),
            Err(_) => state.next_random() as usize % (bytes.len() + 1),
        };
        FileExt::write_all_at(&self.real, &bytes[..written], position)?;
        let change = Change::Write(position, bytes[..written].to_vec());
        state.images[self.image].unsynced.push(change);
        result
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operate(Some(Fault::Sync))?;
        let mut state = self.disk.0.lock();
        state.syncs += 1;
        let image = &mut state.images[self.image];
        for change in std::mem::take(&mut image.unsynced) {
            match change {
                Change::Write(position, bytes) => write(&mut image.synced, position as usize, &bytes),
                Change::Resize(size, shrink) => resize(&mut image.synced, size, shrink),
            }
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.operate(None)?;
        self.real.set_len(bytes)?;
        self.disk.0.lock().images[self.image].unsynced.push(Change::Resize(bytes, true));
        Ok(())
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.operate(Some(Fault::Preallocate))?;
        let size = self.real.metadata()?.len().max(bytes);
        self.real.set_len(size)?;
        self.disk.0.lock().images[self.image].unsynced.push(Change::Resize(bytes, false));
        Ok(())
    }
}

fn write(file: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[position..end].copy_from_slice(bytes);
}

fn resize(file: &mut Vec<u8>, size: u64, shrink: bool) {
    if shrink || file.len() < size as usize {
        file.resize(size as usize, 0);
    }
}
