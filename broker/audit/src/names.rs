//! The words in the text columns `outcome`, `event` and `step`. They leave the process, so none is ever
//! re-used.

use wardline_journal::{AccessEvent, DeliveryStep, Outcome};

/// A value written as a word in a column.
pub(crate) trait Named: Copy + PartialEq + 'static {
    /// Each value with its word.
    const NAMES: &'static [(Self, &'static str)];

    /// The word for it.
    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(value, _)| *value == self).map_or("", |(_, name)| *name)
    }

    /// The value of a word.
    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
    }
}

impl Named for Outcome {
    const NAMES: &'static [(Self, &'static str)] = &[(Self::Accepted, "accepted"), (Self::Denied, "denied")];
}

impl Named for AccessEvent {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::Connect, "connect"),
        (Self::Refuse, "refuse"),
        (Self::Disconnect, "disconnect"),
        (Self::Subscribe, "subscribe"),
        (Self::Unsubscribe, "unsubscribe"),
        (Self::Reauthenticate, "reauthenticate"),
        (Self::Reload, "reload"),
        (Self::SessionEnd, "session-end"),
        (Self::Lost, "lost"),
    ];
}

impl Named for DeliveryStep {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::Sent, "sent"), (Self::Confirmed, "confirmed"), (Self::Unreachable, "unreachable")];
}
