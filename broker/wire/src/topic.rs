//! Topic names and filters: validation and matching (MQTT 5 section 4.7).

use crate::text::{Contents, NUL, WILDCARD};

/// Of a name or a filter, in bytes [MQTT-4.7.3-3].
const LEN_MAX: usize = 65_535;

/// Whether `name` may stand in a PUBLISH: 1 to 65,535 bytes, no `+`, `#` or U+0000 [MQTT-3.3.2-2]
/// [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3].
pub fn is_valid_name(name: &str) -> bool {
    (1..=LEN_MAX).contains(&name.len()) && !Contents::of(name.as_bytes()).has(NUL | WILDCARD)
}

/// Whether `filter` may be subscribed: wildcards only as whole levels, `#` only last [MQTT-4.7.1-1] [MQTT-4.7.1-2].
/// Wildcards are never refused as such [MQTT3-3.8.3-2]. A `$share/GROUP/` prefix is not looked at here; split it off with
/// [`Shared::parse`] first.
pub fn is_valid_filter(filter: &str) -> bool {
    if !(1..=LEN_MAX).contains(&filter.len()) {
        return false;
    }
    let contents = Contents::of(filter.as_bytes());
    if !contents.has(NUL | WILDCARD) {
        return true;
    }
    if contents.has(NUL) {
        return false;
    }
    let mut levels = levels(filter).peekable();
    while let Some(level) = levels.next() {
        let fine = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            other => !other.contains(['+', '#']),
        };
        if !fine {
            return false;
        }
    }
    true
}

/// The levels of a name or filter, from the first: what stands between the `/`, which may be nothing (section 4.7.1.1).
pub fn levels(topic: &str) -> Levels<'_> {
    Levels { rest: Some(topic) }
}

/// What [`levels`] gives.
#[derive(Clone, Debug)]
pub struct Levels<'a> {
    rest: Option<&'a str>,
}

impl<'a> Levels<'a> {
    /// What follows the levels taken so far, without the `/` between; `None` after the last level.
    pub fn rest(&self) -> Option<&'a str> {
        self.rest
    }
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a str;

    // Levels are a few bytes long: looking at each is cheaper than a search that is made for long texts.
    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let parted = rest.bytes().position(|byte| byte == b'/').and_then(|at| rest.split_at_checked(at));
        let Some((level, after)) = parted else { return self.rest.take() };
        self.rest = after.get(1..);
        Some(level)
    }
}

/// Whether `filter`, a valid one, matches `name`.
/// `#` and `+` first do not match names that begin with `$` [MQTT-4.7.2-1]; all else is compared as it is [MQTT-4.7.3-4].
///
/// A name has no wildcard, so the first byte that differs says all: it is one in the filter, or there is no match.
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filter, mut name) = (filter.as_bytes(), name.as_bytes());
    loop {
        let same = filter.iter().zip(name).take_while(|(byte, other)| byte == other).count();
        name = from(name, same);
        match from(filter, same) {
            [] => return name.is_empty(),
            [b'#', ..] => return true,
            [b'+', more @ ..] => {
                let level = name.iter().take_while(|byte| **byte != b'/').count();
                (filter, name) = (more, from(name, level));
            }
            // The parent is matched too.
            other => return name.is_empty() && other == b"/#",
        }
    }
}

fn from(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}

/// Whether every name that `inner` matches is matched by `outer`: what a grant for `outer` must cover before `inner`
/// may be subscribed. Both are valid filters.
pub fn covers(outer: &str, inner: &str) -> bool {
    if inner.starts_with('$') && outer.starts_with(['+', '#']) {
        return false;
    }
    // Every name has a first level, so at the root, and only there, `#` says no more than `+/#`.
    let inner = if inner == "#" { "+/#" } else { inner };
    let mut inners = levels(inner);
    for level in levels(outer) {
        match (level, inners.next()) {
            ("#", _) => return true,
            ("+", Some("#")) | (_, None) => return false,
            ("+", Some(_)) => {}
            (level, Some(inner)) if level == inner => {}
            _ => return false,
        }
    }
    inners.next().is_none()
}

/// As [`matches`], for rules about permission: there a wildcard stands for every topic, also for one that begins with `$`.
/// That `#` does not match those is about what a subscriber wants, not about what it may.
pub fn reaches(rule: &str, name: &str) -> bool {
    matches(rule, plain(rule, name))
}

/// As [`covers`], for rules about permission; see [`reaches`].
pub fn encloses(rule: &str, filter: &str) -> bool {
    covers(rule, plain(rule, filter))
}

/// `topic` such that a wildcard first in `rule` takes its first level, whatever that is.
fn plain<'a>(rule: &str, topic: &'a str) -> &'a str {
    if rule.starts_with(['+', '#']) { topic.trim_start_matches('$') } else { topic }
}

/// Whether some name is matched by both: what a denial must not let through. Both are valid filters.
/// The empty name, which no publish has, counts: `+` and `/#` overlap in it alone.
pub fn overlaps(a: &str, b: &str) -> bool {
    let dollar = |x: &str, y: &str| x.starts_with('$') && y.starts_with(['+', '#']);
    if dollar(a, b) || dollar(b, a) {
        return false;
    }
    let (mut left, mut right) = (levels(a), levels(b));
    loop {
        match (left.next(), right.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(x), Some(y)) if x == y => {}
            _ => return false,
        }
    }
}

/// A shared subscription `$share/GROUP/FILTER` taken apart [MQTT-4.8.2-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared<'a> {
    /// The group's name: not empty, no wildcard, no `/`.
    pub group: &'a str,
    /// The filter within.
    pub filter: &'a str,
}

impl<'a> Shared<'a> {
    /// `None`: not a shared subscription. `Some(Err(()))`: begins like one and is malformed.
    pub fn parse(filter: &'a str) -> Option<Result<Self, InvalidShare>> {
        let rest = filter.strip_prefix("$share/")?;
        let parsed = rest
            .split_once('/')
            .filter(|(group, filter)| {
                !group.is_empty() && !group.contains(['+', '#']) && is_valid_filter(filter)
            })
            .map(|(group, filter)| Self { group, filter })
            .ok_or(InvalidShare);
        Some(parsed)
    }
}

/// A filter that begins with `$share/` but has no group or no filter [MQTT-4.8.2-2].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a shared subscription is $share/GROUP/FILTER, with a group that is not empty and has no wildcard")]
pub struct InvalidShare;

/// Whether `filter`, shared or not, may be subscribed.
pub fn is_valid_subscription(filter: &str) -> bool {
    match Shared::parse(filter) {
        None => is_valid_filter(filter),
        Some(shared) => shared.is_ok(),
    }
}
