//! The policy: roles, and who has them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::one_or_many::OneOrMany;
use crate::pattern::Pattern;
use crate::principal::is_literal_level;
use crate::template::{Template, Values};
use crate::{Claims, Grants, List, Principal, Rule, Scope};

/// Topic filters that one principal's rules may come to: at 12 ns each (measured), a decision within 50 µs.
const FILTERS_PER_PRINCIPAL_MAX: usize = 4096;

/// A policy file, read and checked.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    roles: BTreeMap<Arc<str>, Role>,
    principals: HashMap<Principal, Entry>,
    warnings: Vec<PolicyWarning>,
}

#[derive(Clone, Debug)]
struct Role {
    line: usize,
    rules: Vec<(List, Template)>,
}

#[derive(Clone, Debug)]
struct Entry {
    line: usize,
    roles: Vec<Arc<str>>,
    units: Vec<String>,
    beds: Vec<String>,
}

impl Entry {
    fn values<'a>(&'a self, principal: &'a Principal) -> Values<'a> {
        Values { id: principal.id(), units: &self.units, beds: &self.beds }
    }
}

impl Policy {
    /// Reads a policy file's text.
    ///
    /// # Errors
    /// Every problem with its line; of a file that is no TOML, or has unknown keys, the first.
    pub fn parse(text: &str) -> Result<Self, PolicyErrors> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = line_at(text, error.span().map_or(0, |span| span.start));
            PolicyErrors(vec![PolicyError { line, message: error.message().to_owned() }])
        })?;
        let mut reader = Reader { text, policy: Self::default(), errors: Vec::new() };
        for (name, role) in file.roles {
            reader.role(&name, role);
        }
        for (name, entry) in file.principals {
            reader.principal(&name, &entry);
        }
        reader.finish()
    }

    /// What is allowed but hardly meant: grants that a missing value keeps empty, roles that nobody has.
    pub fn warnings(&self) -> &[PolicyWarning] {
        &self.warnings
    }

    /// Whether the policy names `principal`.
    pub fn knows(&self, principal: &Principal) -> bool {
        self.principals.contains_key(principal)
    }

    /// Compiles what `principal` may do, narrowed by the claims of its token if it brought one.
    ///
    /// Roles that only the token names count for nothing; denials of roles that the token leaves out stay in force.
    pub fn grants(&self, principal: &Principal, claims: Option<&Claims>) -> Grants {
        let scope = claims.and_then(|claims| claims.scope.as_ref());
        let mut grants = Grants {
            principal: principal.clone(),
            known: false,
            publish: Vec::new(),
            subscribe: Vec::new(),
            deny_publish: Vec::new(),
            deny_subscribe: Vec::new(),
            scope_publish: scope.map(|scope| patterns(scope, true)),
            scope_subscribe: scope.map(|scope| patterns(scope, false)),
        };
        let Some(entry) = self.principals.get(principal) else { return grants };
        grants.known = true;
        let values = entry.values(principal);
        let kept = claims.and_then(|claims| claims.roles.as_ref());
        for name in &entry.roles {
            let narrowed_away = kept.is_some_and(|roles| !roles.iter().any(|role| **role == **name));
            for (list, template) in self.roles.get(name).into_iter().flat_map(|role| &role.rules) {
                let (rules, filters) = match list {
                    List::DenyPublish => (&mut grants.deny_publish, template.expand_widely(&values)),
                    List::DenySubscribe => (&mut grants.deny_subscribe, template.expand_widely(&values)),
                    List::Publish | List::Subscribe if narrowed_away => continue,
                    List::Publish => (&mut grants.publish, template.expand(&values)),
                    List::Subscribe => (&mut grants.subscribe, template.expand(&values)),
                };
                rules.extend(filters.into_iter().map(|filter| Rule::new(name, *list, filter)));
            }
        }
        let Grants { publish, subscribe, deny_publish, deny_subscribe, .. } = &mut grants;
        for rules in [publish, subscribe, deny_publish, deny_subscribe] {
            // They last as long as a connection, of which there are many.
            rules.shrink_to_fit();
        }
        grants
    }
}

fn patterns(scope: &Scope, publish: bool) -> Vec<Pattern> {
    let of_kind = |entry: &&crate::ScopeEntry| if publish { entry.publish } else { entry.subscribe };
    scope.0.iter().filter(of_kind).map(|entry| Pattern::new(entry.filter.as_str())).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    roles: BTreeMap<Spanned<String>, RoleFile>,
    #[serde(default)]
    principals: BTreeMap<Spanned<String>, EntryFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleFile {
    #[serde(default)]
    publish: Vec<Spanned<String>>,
    #[serde(default)]
    subscribe: Vec<Spanned<String>>,
    #[serde(default)]
    deny_publish: Vec<Spanned<String>>,
    #[serde(default)]
    deny_subscribe: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryFile {
    #[serde(default)]
    roles: Vec<Spanned<String>>,
    unit: Option<Spanned<OneOrMany>>,
    bed: Option<Spanned<OneOrMany>>,
}

struct Reader<'t> {
    text: &'t str,
    policy: Policy,
    errors: Vec<PolicyError>,
}

impl Reader<'_> {
    fn role(&mut self, name: &Spanned<String>, file: RoleFile) {
        let mut rules = Vec::new();
        let lists = [
            (List::Publish, file.publish),
            (List::Subscribe, file.subscribe),
            (List::DenyPublish, file.deny_publish),
            (List::DenySubscribe, file.deny_subscribe),
        ];
        for (list, templates) in lists {
            for text in templates {
                match Template::parse(text.get_ref()) {
                    Ok(template) => rules.push((list, template)),
                    Err(fault) => self.fault(&text, format!("{list} {:?}: {fault}", text.get_ref())),
                }
            }
        }
        let line = self.line(name);
        self.policy.roles.insert(name.get_ref().as_str().into(), Role { line, rules });
    }

    fn principal(&mut self, name: &Spanned<String>, file: &EntryFile) {
        let principal: Principal = match name.get_ref().parse() {
            Ok(principal) => principal,
            Err(fault) => return self.fault(name, format!("{:?}: {fault}", name.get_ref())),
        };
        let mut roles = Vec::new();
        for role in &file.roles {
            match self.policy.roles.get_key_value(role.get_ref().as_str()) {
                Some((role, _)) => roles.push(role.clone()),
                None => self.fault(
                    role,
                    format!("{principal} has the role {:?}, which is not defined", role.get_ref()),
                ),
            }
        }
        let units = self.levels(&principal, "unit", file.unit.as_ref());
        let beds = self.levels(&principal, "bed", file.bed.as_ref());
        let entry = Entry { line: self.line(name), roles, units, beds };
        self.compare_with_roles(name, &principal, &entry);
        self.policy.principals.insert(principal, entry);
    }

    fn levels(&mut self, principal: &Principal, key: &str, list: Option<&Spanned<OneOrMany>>) -> Vec<String> {
        let Some(list) = list else { return Vec::new() };
        for value in
            list.get_ref().0.iter().filter(|value| !is_literal_level(value) || value.contains(['{', '}']))
        {
            let mend = "it is one topic level; for every unit or bed write + in the role instead";
            self.fault(list, format!("{principal}: {key} = {value:?}: {mend}"));
        }
        list.get_ref().0.clone()
    }

    fn compare_with_roles(&mut self, name: &Spanned<String>, principal: &Principal, entry: &Entry) {
        let values = entry.values(principal);
        let mut filters = 0_usize;
        for role in &entry.roles {
            for (list, template) in self.policy.roles.get(role).into_iter().flat_map(|role| &role.rules) {
                filters = filters.saturating_add(template.expansions(&values).max(1));
                if let Some(placeholder) = template.missing(&values) {
                    let effect = match list {
                        List::Publish | List::Subscribe => "grants nothing",
                        List::DenyPublish | List::DenySubscribe => "denies it for all",
                    };
                    let (text, missing) = (template.text(), placeholder.name());
                    self.policy.warnings.push(PolicyWarning {
                        line: entry.line,
                        message: format!("{principal} has no {missing}: role {role}: {list} {text} {effect}"),
                    });
                }
            }
        }
        if filters > FILTERS_PER_PRINCIPAL_MAX {
            let mend = "name fewer units and beds, or write + in the role";
            self.fault(
                name,
                format!(
                    "{principal} comes to {filters} topic filters, over {FILTERS_PER_PRINCIPAL_MAX}: {mend}"
                ),
            );
        }
    }

    fn line<T>(&self, at: &Spanned<T>) -> usize {
        line_at(self.text, at.span().start)
    }

    fn fault<T>(&mut self, at: &Spanned<T>, message: String) {
        self.errors.push(PolicyError { line: self.line(at), message });
    }

    fn finish(mut self) -> Result<Policy, PolicyErrors> {
        if !self.errors.is_empty() {
            self.errors.sort_by_key(|error| error.line);
            return Err(PolicyErrors(self.errors));
        }
        let mut policy = self.policy;
        let used: BTreeSet<&Arc<str>> = policy.principals.values().flat_map(|entry| &entry.roles).collect();
        let unused = policy.roles.iter().filter(|(name, _)| !used.contains(name));
        let warnings = unused.map(|(name, role)| PolicyWarning {
            line: role.line,
            message: format!("nobody has the role {name:?}"),
        });
        policy.warnings.extend(warnings.collect::<Vec<_>>());
        policy.warnings.sort_by_key(|warning| warning.line);
        Ok(policy)
    }
}

/// Counted from 1.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Something wrong in a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PolicyError {
    /// Counted from 1.
    pub line: usize,
    /// What, and how to mend it.
    pub message: String,
}

/// All that is wrong in a policy file, by line; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors(pub Vec<PolicyError>);

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for PolicyErrors {}

/// Something in a policy file that has a meaning, but hardly the one that was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWarning {
    /// Counted from 1.
    pub line: usize,
    /// What.
    pub message: String,
}

impl fmt::Display for PolicyWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

#[cfg(test)]
mod tests;
