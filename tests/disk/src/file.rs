//! One file: what its readers see, and what the platter has of it.

use std::collections::BTreeSet;

use super::random::Random;

/// What the operating system writes back at a time.
const PAGE_BYTES: usize = 4 << 10;
/// What the disk writes whole.
const SECTOR_BYTES: usize = 512;

/// After any of this is durable or lost; see the crate's documentation.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// The page cache: what is read.
    pub(crate) cache: Vec<u8>,
    /// What power loss leaves.
    platter: Vec<u8>,
    /// Pages that differ and that the next sync writes. A page may differ and not be here: a sync has lost it.
    dirty: BTreeSet<usize>,
}

impl Image {
    pub(crate) fn write(&mut self, bytes: &[u8], position: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[position..end].copy_from_slice(bytes);
        self.dirty.extend(position / PAGE_BYTES..=(end - 1) / PAGE_BYTES);
    }

    pub(crate) fn resize(&mut self, size: usize) {
        let (from, to) = (self.cache.len().min(size), self.cache.len().max(size));
        self.cache.resize(size, 0);
        // What is cut off and grows again is zeros, which the platter does not know yet.
        self.dirty.extend(from / PAGE_BYTES..to.div_ceil(PAGE_BYTES));
    }

    pub(crate) fn sync(&mut self) {
        self.platter.resize(self.cache.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            self.write_back(page);
        }
    }

    /// A sync that fails writes some pages and forgets of the others that they have to be written.
    pub(crate) fn fail_sync(&mut self, random: &mut Random) {
        self.keep_size(random);
        for page in std::mem::take(&mut self.dirty) {
            if random.one_in(2) {
                self.write_back(page);
            }
        }
    }

    /// The operating system writes what it likes, when it likes.
    pub(crate) fn write_back_some(&mut self, random: &mut Random) {
        self.keep_size(random);
        let written: Vec<usize> = self.dirty.iter().copied().filter(|_| random.one_in(2)).collect();
        for page in written {
            self.write_back(page);
            // The rest of a page that is not within the platter's size yet has to come again.
            if page * PAGE_BYTES + PAGE_BYTES <= self.platter.len() {
                self.dirty.remove(&page);
            }
        }
    }

    /// What is clean is read from the platter from now on.
    pub(crate) fn drop_cache(&mut self) {
        self.sync();
        self.cache.clone_from(&self.platter);
    }

    /// Power is lost: each page that was not synced is as before, as written, or torn between sectors.
    pub(crate) fn cut(&mut self, random: &mut Random) {
        self.keep_size(random);
        for page in std::mem::take(&mut self.dirty) {
            match random.below(3) {
                0 => {}
                1 => self.write_back(page),
                _ => {
                    let begin = page * PAGE_BYTES;
                    for sector in (begin..begin + PAGE_BYTES).step_by(SECTOR_BYTES) {
                        if random.one_in(2) {
                            self.copy(sector, sector + SECTOR_BYTES);
                        }
                    }
                }
            }
        }
        self.cache.clone_from(&self.platter);
    }

    /// A size that was not synced has reached the platter, or not.
    fn keep_size(&mut self, random: &mut Random) {
        if self.platter.len() != self.cache.len() && random.one_in(2) {
            self.platter.resize(self.cache.len(), 0);
        }
    }

    fn write_back(&mut self, page: usize) {
        self.copy(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    }

    fn copy(&mut self, begin: usize, end: usize) {
        let end = end.min(self.cache.len()).min(self.platter.len());
        if begin < end {
            self.platter[begin..end].copy_from_slice(&self.cache[begin..end]);
        }
    }
}
