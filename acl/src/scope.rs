//! The `scope` of a token: AIF-MQTT, a list of topic filters with permissions (RFC 9237, RFC 9431 section 3.1).
//!
//! `[["telemetry/icu-3/b12/#", ["pub"]], ["limits/icu-3/b12/+", ["sub"]]]`

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wardline_wire::topic;

use crate::shorten;

/// What a token allows at most; an empty one allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(String, Vec<Permission>)>", into = "Vec<(String, Vec<Permission>)>")]
pub struct Scope(pub Vec<ScopeEntry>);

/// One filter of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeEntry {
    /// A valid topic filter, not a shared one.
    pub filter: String,
    /// Publishing to topics that `filter` matches is allowed.
    pub publish: bool,
    /// Subscribing to filters that `filter` covers is allowed.
    pub subscribe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Permission {
    Pub,
    Sub,
}

impl TryFrom<Vec<(String, Vec<Permission>)>> for Scope {
    type Error = InvalidScope;

    fn try_from(list: Vec<(String, Vec<Permission>)>) -> Result<Self, Self::Error> {
        let entry = |(filter, permissions): (String, Vec<Permission>)| {
            if !topic::is_valid_filter(&filter) || filter.starts_with("$share/") {
                return Err(InvalidScope(format!("{:?} is not a topic filter", shorten(&filter))));
            }
            let has = |permission| permissions.contains(&permission);
            Ok(ScopeEntry { publish: has(Permission::Pub), subscribe: has(Permission::Sub), filter })
        };
        list.into_iter().map(entry).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Scope> for Vec<(String, Vec<Permission>)> {
    fn from(scope: Scope) -> Self {
        let permissions = |entry: &ScopeEntry| {
            let publish = entry.publish.then_some(Permission::Pub);
            publish.into_iter().chain(entry.subscribe.then_some(Permission::Sub)).collect()
        };
        scope.0.into_iter().map(|entry| (entry.filter.clone(), permissions(&entry))).collect()
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(json: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(json).map_err(|e| InvalidScope(e.to_string()))
    }
}

/// Not AIF-MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidScope(String);

impl fmt::Display for InvalidScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"a scope is AIF-MQTT, as in [["telemetry/icu-3/b12/#",["pub"]]]: {}"#, self.0)
    }
}

impl std::error::Error for InvalidScope {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_the_same() {
        let json = r##"[["telemetry/icu-3/b12/#",["pub"]],["limits/+",["pub","sub"]],["x",[]]]"##;
        let scope: Scope = json.parse().unwrap();
        assert_eq!(serde_json::to_string(&scope).unwrap(), json);
        assert!(scope.0[0].publish && !scope.0[0].subscribe);
    }

    #[test]
    fn what_is_not_aif_mqtt_is_refused() {
        for json in [
            r#""openid profile""#,
            "{}",
            r#"[["a"]]"#,
            r#"[["a",["read"]]]"#,
            r##"[["a/#/b",["pub"]]]"##,
            r#"[["",["pub"]]]"#,
            r#"[["$share/g/a",["sub"]]]"#,
            r#"[["a","pub"]]"#,
        ] {
            assert!(json.parse::<Scope>().is_err(), "{json}");
        }
    }
}
