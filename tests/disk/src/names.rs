//! A directory: which file has which name, now and after power loss.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::random::Random;

/// A name's new file, or none.
type Change = (OsString, Option<usize>);

#[derive(Debug, Default)]
pub(crate) struct Names {
    now: BTreeMap<OsString, usize>,
    durable: BTreeMap<OsString, usize>,
    /// Since the last sync; each happens whole or not at all.
    unsynced: Vec<Vec<Change>>,
}

impl Names {
    pub(crate) fn find(&self, name: &OsString) -> Option<usize> {
        self.now.get(name).copied()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&OsString, usize)> {
        self.now.iter().map(|(name, file)| (name, *file))
    }

    pub(crate) fn change(&mut self, changes: Vec<Change>) {
        apply(&mut self.now, &changes);
        self.unsynced.push(changes);
    }

    pub(crate) fn sync(&mut self) {
        self.durable.clone_from(&self.now);
        self.unsynced.clear();
    }

    /// Power is lost: of the changes that were not synced any may have been made, as POSIX has it.
    pub(crate) fn cut(&mut self, random: &mut Random) {
        for changes in std::mem::take(&mut self.unsynced) {
            if random.one_in(2) {
                apply(&mut self.durable, &changes);
            }
        }
        self.now.clone_from(&self.durable);
    }
}

fn apply(names: &mut BTreeMap<OsString, usize>, changes: &[Change]) {
    for (name, file) in changes {
        match file {
            Some(file) => names.insert(name.clone(), *file),
            None => names.remove(name),
        };
    }
}
