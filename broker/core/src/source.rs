//! Who something comes from.

use std::sync::Arc;

use wardline_journal::Origin;

/// Who sends on one connection, shared by all that comes over it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Client id; empty for the node and its plugins.
    pub client: Arc<str>,
    /// Who it is, from certificate or token.
    pub principal: Arc<str>,
    /// Socket address of the other end; empty for the node and its plugins, for wills, and for what was read from the journal.
    pub peer: Arc<str>,
}

impl Source {
    /// The node or one of its plugins.
    pub(crate) fn within(principal: Arc<str>) -> Arc<Self> {
        Arc::new(Self { principal, ..Self::default() })
    }

    /// As in records.
    pub(crate) fn origin(&self) -> Origin<'_> {
        Origin { client: &self.client, principal: &self.principal, peer: &self.peer }
    }
}
