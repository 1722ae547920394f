//! Topic filters in a tree: which subscribers does a topic name reach?

use std::collections::HashMap;

use foldhash::fast::RandomState;
use wardline_wire::topic::{Levels, levels};

/// Maps topic filters to values; finds the values of all filters that match a name.
///
/// A look-up visits at most two branches a level (the literal and `+`), so it costs by the depth of the name and the number of
/// matches, not by the number of subscriptions.
#[derive(Debug)]
pub struct Tree<K, V> {
    nodes: Vec<Node<K, V>>,
    free: Vec<usize>,
    len: usize,
    edition: u64,
}

#[derive(Debug)]
struct Node<K, V> {
    /// By their level. The hash is seeded at random and seen by nobody, so that no client can choose names that collide.
    children: HashMap<Box<str>, usize, RandomState>,
    single: Option<usize>,
    /// Values of filters that end here.
    here: Vec<(K, V)>,
    /// Values of filters that end here with `/#`.
    below: Vec<(K, V)>,
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Self { children: HashMap::default(), single: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<K, V> Node<K, V> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.single.is_none() && self.here.is_empty() && self.below.is_empty()
    }
}

impl<K: PartialEq, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new(), len: 0, edition: 0 }
    }
}

const ROOT: usize = 0;

impl<K: PartialEq, V> Tree<K, V> {
    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Another number after each change of what it holds.
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// Puts `value` under the valid filter `filter` for `key`; gives back what was there.
    pub fn insert(&mut self, filter: &str, key: K, value: V) -> Option<V> {
        self.edition += 1;
        let mut at = ROOT;
        let mut below = false;
        for level in levels(filter) {
            match level {
                "#" => below = true,
                "+" => {
                    at = match self.nodes[at].single {
                        Some(next) => next,
                        None => {
                            let next = self.allocate();
                            self.nodes[at].single = Some(next);
                            next
                        }
                    }
                }
                level => {
                    at = match self.nodes[at].children.get(level) {
                        Some(&next) => next,
                        None => {
                            let next = self.allocate();
                            self.nodes[at].children.insert(level.into(), next);
                            next
                        }
                    }
                }
            }
        }
        let node = &mut self.nodes[at];
        let values = if below { &mut node.below } else { &mut node.here };
        match values.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => Some(std::mem::replace(old, value)),
            None => {
                values.push((key, value));
                self.len += 1;
                None
            }
        }
    }

    /// Takes away what `key` has under `filter`.
    pub fn remove(&mut self, filter: &str, key: &K) -> Option<V> {
        let mut path = vec![(ROOT, "")];
        let mut below = false;
        for level in levels(filter) {
            let node = &self.nodes[path.last()?.0];
            match level {
                "#" => below = true,
                "+" => path.push((node.single?, level)),
                level => path.push((*node.children.get(level)?, level)),
            }
        }
        let node = &mut self.nodes[path.last()?.0];
        let values = if below { &mut node.below } else { &mut node.here };
        let position = values.iter().position(|(k, _)| k == key)?;
        let (_, value) = values.swap_remove(position);
        self.len -= 1;
        self.edition += 1;
        self.prune(&path);
        Some(value)
    }

    /// The value that `key` has under `filter`.
    pub fn value(&self, filter: &str, key: &K) -> Option<&V> {
        let mut at = ROOT;
        let mut below = false;
        for level in levels(filter) {
            match level {
                "#" => below = true,
                "+" => at = self.nodes[at].single?,
                level => at = *self.nodes[at].children.get(level)?,
            }
        }
        let node = &self.nodes[at];
        let values = if below { &node.below } else { &node.here };
        values.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// Calls `each` for the values of all filters that match the valid name `name`, in no particular order.
    pub fn matches<'a>(&'a self, name: &str, mut each: impl FnMut(&'a K, &'a V)) {
        // Wildcards at the first level do not match names that begin with `$` [MQTT-4.7.2-1].
        let hidden = name.starts_with('$');
        self.visit(ROOT, levels(name), hidden, &mut each);
    }

    fn visit<'a>(
        &'a self,
        at: usize,
        mut rest: Levels<'_>,
        hidden: bool,
        each: &mut impl FnMut(&'a K, &'a V),
    ) {
        let node = &self.nodes[at];
        if !hidden {
            node.below.iter().for_each(|(key, value)| each(key, value));
        }
        let Some(level) = rest.next() else {
            node.here.iter().for_each(|(key, value)| each(key, value));
            return;
        };
        if let Some(&next) = node.children.get(level) {
            self.visit(next, rest.clone(), false, each);
        }
        if let (Some(next), false) = (node.single, hidden) {
            self.visit(next, rest, false, each);
        }
    }

    fn allocate(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() - 1
        })
    }

    fn prune(&mut self, path: &[(usize, &str)]) {
        for pair in path.windows(2).rev() {
            let [(parent, _), (child, level)] = *pair else { return };
            if !self.nodes[child].is_empty() {
                return;
            }
            if level == "+" {
                self.nodes[parent].single = None;
            } else {
                self.nodes[parent].children.remove(level);
            }
            self.free.push(child);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use wardline_wire::topic;

    use super::*;

    fn found(tree: &Tree<u32, ()>, name: &str) -> BTreeSet<u32> {
        let mut keys = BTreeSet::new();
        tree.matches(name, |key, ()| assert!(keys.insert(*key), "{key} was found twice"));
        keys
    }

    #[test]
    fn hash_matches_its_parent_and_everything_below() {
        let mut tree = Tree::default();
        tree.insert("sport/tennis/#", 1, ());
        for name in ["sport/tennis", "sport/tennis/player1", "sport/tennis/player1/ranking"] {
            assert_eq!(found(&tree, name), BTreeSet::from([1]), "{name}");
        }
        assert!(found(&tree, "sport").is_empty());
    }

    #[test]
    fn removal_leaves_no_node_behind() {
        let mut tree: Tree<u32, ()> = Tree::default();
        for filter in ["a/b/c", "a/+/c", "a/#", "#", "+"] {
            tree.insert(filter, 1, ());
            assert_eq!(tree.remove(filter, &1), Some(()), "{filter}");
            assert_eq!(tree.free.len() + 1, tree.nodes.len(), "{filter}");
        }
        assert!(tree.is_empty());
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("$s"), Just("+")];
        (prop::collection::vec(level, 1..5), any::<bool>()).prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    fn name() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("$s")];
        prop::collection::vec(level, 1..6).prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_matcher(
            steps in prop::collection::vec((filter(), any::<bool>(), 0u32..6), 0..40),
            names in prop::collection::vec(name(), 1..20),
        ) {
            let mut tree = Tree::default();
            let mut model: BTreeSet<(String, u32)> = BTreeSet::new();
            for (filter, add, key) in steps {
                // One key a filter, so that a name that several filters of a key match can be counted by key below.
                let key = key * 1_000 + u32::from(filter.len() as u8);
                if add {
                    prop_assert_eq!(tree.insert(&filter, key, ()).is_none(), model.insert((filter, key)));
                } else {
                    prop_assert_eq!(tree.remove(&filter, &key).is_some(), model.remove(&(filter, key)));
                }
            }
            prop_assert_eq!(tree.len(), model.len());
            for name in names {
                let mut found = Vec::new();
                tree.matches(&name, |key, ()| found.push(*key));
                found.sort_unstable();
                let mut expected: Vec<u32> =
                    model.iter().filter(|(filter, _)| topic::matches(filter, &name)).map(|(_, key)| *key).collect();
                expected.sort_unstable();
                prop_assert_eq!(found, expected, "{}", name);
            }
        }
    }
}
