//! The Merkle tree of RFC 6962 section 2.1: leaf and node hashes, a compact range, inclusion paths.
//!
//! A [`CompactRange`] holds the at most 64 roots of the perfect subtrees that make up a tree, so a tree of
//! any size grows and gives its root in constant memory. It is stored with every batch, which lets a
//! verification start anywhere.

use aws_lc_rs::digest::{SHA256, digest};

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// What a leaf's hash is taken of begins with this, then comes the entry.
pub(crate) const LEAF: u8 = 0;
const NODE: u8 = 1;

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    to_hash(digest(&SHA256, bytes).as_ref())
}

/// The hash of a leaf: `SHA-256(0x00 || entry)`.
pub(crate) fn leaf_hash(entry: &[u8]) -> Hash {
    sha256(&[&[LEAF], entry].concat())
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
pub(crate) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // In one piece: a hash that is fed in pieces keeps its state on the heap.
    let mut bytes = [NODE; 1 + 32 + 32];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    sha256(&bytes)
}

#[expect(clippy::expect_used, reason = "SHA-256 gives 32 bytes")]
fn to_hash(digest: &[u8]) -> Hash {
    digest.try_into().expect("SHA-256 gives 32 bytes")
}

/// A tree over `size` leaves, as the roots of its perfect subtrees, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CompactRange {
    size: u64,
    nodes: Vec<Hash>,
}

impl CompactRange {
    /// The tree without leaves.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// The range over `size` leaves from [`Self::to_bytes`]. `None` when the number of nodes does not fit the
    /// size.
    pub(crate) fn from_bytes(size: u64, bytes: &[u8]) -> Option<Self> {
        let (nodes, rest) = bytes.as_chunks::<32>();
        let fits = rest.is_empty() && nodes.len() == size.count_ones() as usize;
        fits.then(|| Self { size, nodes: nodes.to_vec() })
    }

    /// The nodes one after the other, 32 bytes each, largest subtree first.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.nodes.concat()
    }

    /// The number of leaves.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends the hash of a leaf.
    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Each trailing one of the size is a perfect subtree that the new leaf completes to the next larger
        // one.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.nodes.push(node);
        self.size += 1;
    }

    /// The Merkle tree hash; SHA-256 of nothing for the empty tree.
    pub(crate) fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        match nodes.next() {
            None => sha256(b""),
            Some(smallest) => nodes.fold(*smallest, |right, left| node_hash(left, &right)),
        }
    }
}

impl Extend<Hash> for CompactRange {
    fn extend<T: IntoIterator<Item = Hash>>(&mut self, leaves: T) {
        leaves.into_iter().for_each(|leaf| self.push(leaf));
    }
}

/// The inclusion path (RFC 6962 section 2.1.1) of the leaf after `before` in the tree that `before`, that
/// leaf and `after` make.
pub(crate) fn inclusion_path(before: &CompactRange, after: &[Hash]) -> Vec<Hash> {
    let index = before.size;
    let mut path = Vec::new();
    let (mut low, mut high) = (0, index + 1 + after.len() as u64);
    let mut lefts = before.nodes.iter();
    // Top down; the path is written bottom up.
    while high - low > 1 {
        let middle = low + largest_power_of_two_below(high - low);
        if index < middle {
            let skipped = (middle - index - 1) as usize;
            let mut right = CompactRange::empty();
            right.extend(after.iter().skip(skipped).take((high - middle) as usize).copied());
            path.push(right.root());
            high = middle;
        } else {
            path.extend(lefts.next());
            low = middle;
        }
    }
    path.reverse();
    path
}

/// The root that `path` leads to from the leaf at `index` of a tree of `size` leaves (RFC 9162 section
/// 2.1.3.2). `None` when the path is too short or too long for that place.
pub(crate) fn root_from_path(index: u64, size: u64, leaf: Hash, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// The largest power of two smaller than `n`, for `n` of 2 or more.
fn largest_power_of_two_below(n: u64) -> u64 {
    1 << (u64::BITS - 1 - (n - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6962 section 2.1, word for word.
    fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(b""),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(largest_power_of_two_below(leaves.len() as u64) as usize);
                node_hash(&naive_root(left), &naive_root(right))
            }
        }
    }

    /// RFC 6962 section 2.1.1, word for word.
    fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let k = largest_power_of_two_below(leaves.len() as u64) as usize;
        let (left, right) = leaves.split_at(k);
        let (mut path, sibling) = if index < k {
            (naive_path(index, left), naive_root(right))
        } else {
            (naive_path(index - k, right), naive_root(left))
        };
        path.push(sibling);
        path
    }

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The inputs and roots of the reference implementation's own tests (certificate-transparency,
    /// merkle_tree_test).
    #[test]
    fn known_roots_of_rfc_6962() {
        let inputs: [&[u8]; 8] = [
            &[],
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut range = CompactRange::empty();
        assert_eq!(hex(&range.root()), roots[0]);
        for (input, root) in inputs.iter().zip(&roots[1..]) {
            range.push(leaf_hash(input));
            assert_eq!(hex(&range.root()), *root, "at {} leaves", range.size());
        }
    }

    proptest! {
        #[test]
        fn compact_range_agrees_with_the_recursion(entries in proptest::collection::vec(any::<[u8; 4]>(), 0..300)) {
            let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
            let mut range = CompactRange::empty();
            range.extend(leaves.iter().copied());
            prop_assert_eq!(range.root(), naive_root(&leaves));
            let restored = CompactRange::from_bytes(range.size(), &range.to_bytes());
            prop_assert_eq!(restored, Some(range));
        }

        #[test]
        fn inclusion_path_agrees_and_leads_to_the_root(size in 1_usize..200, pick in any::<prop::sample::Index>()) {
            let leaves: Vec<Hash> = (0..size).map(|i| leaf_hash(&i.to_be_bytes())).collect();
            let index = pick.index(size);
            let mut before = CompactRange::empty();
            before.extend(leaves[..index].iter().copied());
            let path = inclusion_path(&before, &leaves[index + 1..]);
            prop_assert_eq!(&path, &naive_path(index, &leaves));
            let lead = |leaf, path: &[Hash]| root_from_path(index as u64, size as u64, leaf, path);
            prop_assert_eq!(lead(leaves[index], &path), Some(naive_root(&leaves)));
            prop_assert_ne!(lead(leaf_hash(b"another"), &path), Some(naive_root(&leaves)));
            let longer: Vec<Hash> = path.iter().copied().chain([[0; 32]]).collect();
            prop_assert_eq!(lead(leaves[index], &longer), None);
        }
    }
}
