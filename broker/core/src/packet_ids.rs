//! Packet identifiers in use.

use std::collections::VecDeque;

use wardline_wire::PacketId;

/// Ascending, two bytes each. They come and go nearly in order, so what happens, happens at the ends.
#[derive(Debug, Default)]
pub(crate) struct PacketIds(VecDeque<PacketId>);

impl PacketIds {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, id: PacketId) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// Whether it was not in use.
    pub(crate) fn insert(&mut self, id: PacketId) -> bool {
        if self.0.back().is_none_or(|last| *last < id) {
            self.0.push_back(id);
            return true;
        }
        let place = self.0.binary_search(&id);
        if let Err(at) = place {
            self.0.insert(at, id);
        }
        place.is_err()
    }

    /// Whether it was in use.
    pub(crate) fn remove(&mut self, id: PacketId) -> bool {
        if self.0.front() == Some(&id) {
            self.0.pop_front();
            return true;
        }
        self.0.binary_search(&id).is_ok_and(|at| self.0.remove(at).is_some())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = PacketId> {
        self.0.iter().copied()
    }
}

impl FromIterator<PacketId> for PacketIds {
    fn from_iter<I: IntoIterator<Item = PacketId>>(ids: I) -> Self {
        let mut all = Self::default();
        for id in ids {
            all.insert(id);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, num::NonZeroU16};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn they_are_a_set(steps in prop::collection::vec((1..40u16, any::<bool>()), 0..200)) {
            let (mut ids, mut model) = (PacketIds::default(), BTreeSet::new());
            for (number, comes) in steps {
                let id = PacketId(NonZeroU16::new(number).unwrap());
                if comes {
                    prop_assert_eq!(ids.insert(id), model.insert(id));
                } else {
                    prop_assert_eq!(ids.remove(id), model.remove(&id));
                }
                prop_assert_eq!(ids.contains(id), model.contains(&id));
                prop_assert!(ids.iter().eq(model.iter().copied()) && ids.len() == model.len());
            }
        }
    }
}
