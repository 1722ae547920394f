//! A topic filter prepared for the hot path.

use wardline_wire::topic;

/// Most grants are a literal prefix and `#`, or have no wildcard at all: then a match is one comparison of bytes. What has a
/// `+` is only walked level by level if the part before the first wildcard fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    filter: Box<str>,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// No wildcard.
    Literal,
    /// `parent/#`: the parent itself and all below; so many bytes are the parent.
    Subtree(usize),
    /// Any other; so many bytes stand before the first wildcard.
    Wild(usize),
}

impl Pattern {
    /// `filter` is a valid topic filter.
    pub(crate) fn new(filter: impl Into<Box<str>>) -> Self {
        let filter = filter.into();
        let shape = match filter.find(['+', '#']) {
            None => Shape::Literal,
            Some(wildcard) => match filter.strip_suffix("/#") {
                Some(parent) if parent.len() < wildcard => Shape::Subtree(parent.len()),
                _ => Shape::Wild(wildcard),
            },
        };
        Self { filter, shape }
    }

    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    /// The same as [`topic::reaches`].
    pub(crate) fn matches(&self, name: &str) -> bool {
        match &self.shape {
            Shape::Literal => *self.filter == *name,
            Shape::Subtree(parent) => name
                .strip_prefix(self.start(*parent))
                .is_some_and(|below| below.is_empty() || below.starts_with('/')),
            Shape::Wild(literal) => {
                name.starts_with(self.start(*literal)) && topic::reaches(&self.filter, name)
            }
        }
    }

    fn start(&self, bytes: usize) -> &str {
        self.filter.get(..bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn matches_as_the_reference_does(
            filter in "(([ab$]|\\+|)/){0,3}([ab$]|\\+|#|)",
            name in "(([ab$]|)/){0,4}([ab$]|)",
        ) {
            prop_assume!(topic::is_valid_filter(&filter));
            prop_assert_eq!(Pattern::new(filter.as_str()).matches(&name), topic::reaches(&filter, &name));
        }
    }
}
