//! The answer to "may it?", with the rule behind it.

use std::fmt;

use wardline_wire::ReasonCode;

use crate::{List, Principal, Rule};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To publish to a topic.
    Publish,
    /// To subscribe to a filter.
    Subscribe,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        })
    }
}

/// Yes or no, and why. Made without allocation; its `Display` is the explanation for people and for the audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// A rule grants it, no rule denies it, and the token's scope, if there is one, has it.
    Granted(&'a Rule),
    /// A rule denies it, whatever else grants it.
    Denied(&'a Rule),
    /// The policy does not name the principal.
    UnknownPrincipal(&'a Principal),
    /// No rule is about it.
    NotGranted(Action, &'a str),
    /// A rule would grant it, but the token was issued for less.
    OutsideScope(Action, &'a str),
    /// Begins with `$share/` and has no group or no filter.
    Malformed(&'a str),
}

impl Decision<'_> {
    /// Whether it may.
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Granted(_))
    }

    /// The MQTT 5 reason code.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::Granted(_) => ReasonCode::Success,
            Self::Malformed(_) => ReasonCode::TopicFilterInvalid,
            // A denial keeps something from somebody who may read around it: the code does not say what is there.
            Self::Denied(rule) if rule.list() == List::DenySubscribe => ReasonCode::UnspecifiedError,
            Self::Denied(_) | Self::UnknownPrincipal(_) | Self::NotGranted(..) | Self::OutsideScope(..) => {
                ReasonCode::NotAuthorized
            }
        }
    }
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted(rule) => rule.fmt(f),
            Self::Denied(rule) => write!(f, "denied by {rule}"),
            Self::UnknownPrincipal(principal) => write!(f, "the policy does not name {principal}"),
            Self::NotGranted(action, topic) => write!(f, "no rule grants {action} {topic}"),
            Self::OutsideScope(action, topic) => {
                write!(f, "the token's scope does not include {action} {topic}")
            }
            Self::Malformed(filter) => write!(f, "{filter} is not $share/GROUP/FILTER"),
        }
    }
}
