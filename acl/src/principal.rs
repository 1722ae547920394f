//! The name of whoever is behind a connection.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

/// Bytes of an id: fits a topic level, a certificate's SAN and an audit column with ease.
const ID_BYTES_MAX: usize = 128;

/// What sort of thing a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A bedside device.
    Device,
    /// A person.
    Staff,
    /// A program: ADT feed, dashboard, laboratory.
    Service,
    /// A part of the broker itself; never the identity of a connection.
    Plugin,
}

impl Kind {
    /// As written before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Staff => "staff",
            Self::Service => "service",
            Self::Plugin => "plugin",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Device, Self::Staff, Self::Service, Self::Plugin]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(InvalidPrincipal::Kind)
    }
}

/// `device:ID`, `staff:ID`, `service:ID` or `plugin:NAME`. The id is one literal topic level, so that a policy's
/// `{id}` can never reach beyond its own. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Principal {
    kind: Kind,
    text: Arc<str>,
}

impl Principal {
    /// From its two parts.
    ///
    /// # Errors
    /// When the id is empty, over 128 bytes, or would not be one literal topic level.
    pub fn new(kind: Kind, id: &str) -> Result<Self, InvalidPrincipal> {
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(InvalidPrincipal::Length);
        }
        if !is_literal_level(id) {
            return Err(InvalidPrincipal::Id);
        }
        Ok(Self { kind, text: format!("{kind}:{id}").into() })
    }

    /// What sort it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The part after the colon.
    pub fn id(&self) -> &str {
        self.text.get(self.kind.as_str().len() + 1..).unwrap_or_default()
    }

    /// The whole, as in the audit record.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether `text` can fill a placeholder: one topic level, no wildcard, nothing invisible, and not the beginning of a
/// `$` topic.
pub(crate) fn is_literal_level(text: &str) -> bool {
    let harmless = |c: char| !matches!(c, '/' | '+' | '#') && !c.is_control();
    !text.is_empty() && !text.starts_with('$') && text.chars().all(harmless)
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for Principal {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, id) = text.split_once(':').ok_or(InvalidPrincipal::Kind)?;
        Self::new(kind.parse()?, id)
    }
}

impl TryFrom<String> for Principal {
    type Error = InvalidPrincipal;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Why a text names no principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrincipal {
    /// No known kind before the colon.
    #[error("a principal is device:ID, staff:ID, service:ID or plugin:NAME")]
    Kind,
    /// Empty or too long.
    #[error("a principal's id is 1 to {ID_BYTES_MAX} bytes long")]
    Length,
    /// Not one literal topic level.
    #[error("a principal's id has no '/', '+', '#' or control character and does not begin with '$'")]
    Id,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_the_same() {
        for text in
            ["device:mon-12", "staff:n.ito", "service:lab", "plugin:escalation", "staff:a:b", "staff:ü"]
        {
            let principal: Principal = text.parse().unwrap();
            assert_eq!(principal.to_string(), text);
            assert_eq!(principal.as_str(), format!("{}:{}", principal.kind(), principal.id()));
        }
    }

    #[test]
    fn refuses_ids_that_would_reach_beyond_one_topic_level() {
        for id in ["a/b", "+", "#", "a+", "a\u{0}", "a\n", "$SYS"] {
            assert_eq!(Principal::new(Kind::Device, id), Err(InvalidPrincipal::Id), "{id:?}");
        }
        assert_eq!("device:".parse::<Principal>(), Err(InvalidPrincipal::Length));
        assert_eq!(Principal::new(Kind::Device, &"x".repeat(129)), Err(InvalidPrincipal::Length));
        assert!(Principal::new(Kind::Device, &"x".repeat(128)).is_ok());
        for text in ["", "device", "Device:x", "nurse:x", ":x"] {
            assert_eq!(text.parse::<Principal>(), Err(InvalidPrincipal::Kind), "{text:?}");
        }
    }
}
