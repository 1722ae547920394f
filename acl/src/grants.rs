//! What one principal may do, compiled from policy and token for the length of a connection.

use std::fmt;
use std::sync::Arc;

use wardline_wire::topic::{self, Shared};

use crate::pattern::Pattern;
use crate::{Action, Decision, Principal};

/// The list of a role that a rule stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// `publish`
    Publish,
    /// `subscribe`
    Subscribe,
    /// `deny_publish`
    DenyPublish,
    /// `deny_subscribe`
    DenySubscribe,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::DenyPublish => "deny_publish",
            Self::DenySubscribe => "deny_subscribe",
        })
    }
}

/// A line of a role, filled in for the principal. Prints as `role monitor: publish telemetry/icu-3/b12/mon-12/#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    role: Arc<str>,
    list: List,
    pattern: Pattern,
}

impl Rule {
    pub(crate) fn new(role: &Arc<str>, list: List, filter: String) -> Self {
        Self { role: role.clone(), list, pattern: Pattern::new(filter) }
    }

    /// The role it comes from.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Whether it grants or denies, and what.
    pub fn list(&self) -> List {
        self.list
    }

    /// The topic filter, placeholders filled.
    pub fn filter(&self) -> &str {
        self.pattern.filter()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "role {}: {} {}", self.role, self.list, self.filter())
    }
}

/// Answers every publish and subscription of a connection. Immutable; after a reload it is compiled anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    pub(crate) principal: Principal,
    pub(crate) known: bool,
    pub(crate) publish: Vec<Rule>,
    pub(crate) subscribe: Vec<Rule>,
    pub(crate) deny_publish: Vec<Rule>,
    pub(crate) deny_subscribe: Vec<Rule>,
    /// The token's scope, as far as it is about publishing; `None` without one.
    pub(crate) scope_publish: Option<Vec<Pattern>>,
    /// And about subscribing.
    pub(crate) scope_subscribe: Option<Vec<Pattern>>,
}

impl Grants {
    /// Whose they are.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// All rules in force, grants before denials.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        [&self.publish, &self.subscribe, &self.deny_publish, &self.deny_subscribe].into_iter().flatten()
    }

    /// Whether a message may be published to `topic`, a valid topic name. Costs no allocation.
    pub fn publish<'a>(&'a self, topic: &'a str) -> Decision<'a> {
        let about = |rule: &&Rule| rule.pattern.matches(topic);
        if let Some(rule) = self.deny_publish.iter().find(about) {
            return Decision::Denied(rule);
        }
        let Some(rule) = self.publish.iter().find(about) else {
            return self.not_granted(Action::Publish, topic);
        };
        match &self.scope_publish {
            Some(scope) if !scope.iter().any(|pattern| pattern.matches(topic)) => {
                Decision::OutsideScope(Action::Publish, topic)
            }
            _ => Decision::Granted(rule),
        }
    }

    /// Whether `filter`, a valid subscription, may be subscribed: one grant must cover all it matches, and no denial may do so.
    /// What a narrower denial forbids of it is [withheld](Self::withheld) when messages are delivered, so that `#` can be granted
    /// beside `secret/#` denied. A shared subscription is judged by the filter within.
    pub fn subscribe<'a>(&'a self, filter: &'a str) -> Decision<'a> {
        let filter = match Shared::parse(filter) {
            None => filter,
            Some(Ok(shared)) => shared.filter,
            Some(Err(_)) => return Decision::Malformed(filter),
        };
        let all_denied = |rule: &&Rule| topic::encloses(rule.filter(), filter);
        if let Some(rule) = self.deny_subscribe.iter().find(all_denied) {
            return Decision::Denied(rule);
        }
        let covers = |rule: &&Rule| topic::encloses(rule.filter(), filter);
        let Some(rule) = self.subscribe.iter().find(covers) else {
            return self.not_granted(Action::Subscribe, filter);
        };
        match &self.scope_subscribe {
            Some(scope) if !scope.iter().any(|pattern| topic::encloses(pattern.filter(), filter)) => {
                Decision::OutsideScope(Action::Subscribe, filter)
            }
            _ => Decision::Granted(rule),
        }
    }

    /// Filters of the topics that are never delivered, whatever subscription they match.
    pub fn withheld(&self) -> impl Iterator<Item = &str> {
        self.deny_subscribe.iter().map(Rule::filter)
    }

    fn not_granted<'a>(&'a self, action: Action, topic: &'a str) -> Decision<'a> {
        if self.known {
            Decision::NotGranted(action, topic)
        } else {
            Decision::UnknownPrincipal(&self.principal)
        }
    }
}
