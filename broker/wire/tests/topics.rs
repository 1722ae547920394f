//! How names and filters relate, checked for all of them up to three levels against a reading of section 4.7.

use wardline_wire::topic::{
    Shared, covers, is_valid_filter, is_valid_name, is_valid_subscription, matches, overlaps,
};

/// Every way to join one to `depth` of these levels.
fn paths(levels: &[&str], depth: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut longest: Vec<String> = levels.iter().map(|level| (*level).to_owned()).collect();
    for _ in 1..depth {
        let longer = longest
            .iter()
            .flat_map(|path| levels.iter().map(move |level| format!("{path}/{level}")))
            .collect();
        all.append(&mut std::mem::replace(&mut longest, longer));
    }
    all.append(&mut longest);
    all
}

/// `z` is in no filter: it stands for whatever only a wildcard matches. The empty path is among them: no
/// publish has it, but `+` and `/#` overlap in it, and a denial may well err on that side.
fn names() -> Vec<String> {
    paths(&["", "a", "$s", "z"], 4)
}

fn filters() -> Vec<String> {
    paths(&["", "a", "$s", "+", "#"], 3).into_iter().filter(|filter| is_valid_filter(filter)).collect()
}

/// Section 4.7 word for word, by recursion over levels.
fn matched_by_the_book(filter: &[&str], name: &[&str], first: bool) -> bool {
    let reserved = first && name.first().is_some_and(|level| level.starts_with('$'));
    match (filter, name) {
        (["#"], _) => !reserved,
        ([], []) => true,
        (["+", filter @ ..], [_, name @ ..]) => !reserved && matched_by_the_book(filter, name, false),
        ([level, filter @ ..], [same, name @ ..]) if level == same => {
            matched_by_the_book(filter, name, false)
        }
        _ => false,
    }
}

#[test]
fn matching_is_by_the_book() {
    for filter in filters() {
        for name in names() {
            let (levels, of_name): (Vec<_>, Vec<_>) =
                (filter.split('/').collect(), name.split('/').collect());
            let expected = matched_by_the_book(&levels, &of_name, true);
            assert_eq!(matches(&filter, &name), expected, "{filter} {name}");
        }
    }
}

#[test]
fn covers_and_overlaps_are_what_enumeration_says() {
    let (names, filters) = (names(), filters());
    let matched: Vec<Vec<bool>> =
        filters.iter().map(|filter| names.iter().map(|name| matches(filter, name)).collect()).collect();
    for (outer, of_outer) in filters.iter().zip(&matched) {
        for (inner, of_inner) in filters.iter().zip(&matched) {
            let both = || of_outer.iter().zip(of_inner);
            assert_eq!(
                covers(outer, inner),
                both().all(|(outer, inner)| *outer || !inner),
                "{outer} covers {inner}"
            );
            assert_eq!(
                overlaps(outer, inner),
                both().any(|(outer, inner)| *outer && *inner),
                "{outer} overlaps {inner}"
            );
        }
    }
}

#[test]
fn names_and_filters_are_told_from_what_is_none() {
    for name in ["a", "/", "a/b", "$SYS/x", " ", "ä/☃", "a//b"] {
        assert!(is_valid_name(name), "{name:?}");
        assert!(is_valid_filter(name), "{name:?}");
    }
    for name in ["", "+", "a/#", "a+", "\0"] {
        assert!(!is_valid_name(name), "{name:?}");
    }
    for filter in ["#", "+", "+/+", "a/#", "/#", "+/a/#", "/+"] {
        assert!(is_valid_filter(filter), "{filter:?}");
    }
    for filter in ["", "a#", "a/#/b", "#/", "+a", "a+/b", "a/+b", "##", "\0"] {
        assert!(!is_valid_filter(filter), "{filter:?}");
    }
    assert!(is_valid_name(&"a".repeat(65_535)) && !is_valid_name(&"a".repeat(65_536)));
}

#[test]
fn a_shared_subscription_has_a_group_and_a_filter() {
    assert_eq!(Shared::parse("a/b"), None);
    assert_eq!(Shared::parse("$share/g/a/#"), Some(Ok(Shared { group: "g", filter: "a/#" })));
    for filter in
        ["$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/#/a", "$share/g/a#"]
    {
        assert!(matches!(Shared::parse(filter), Some(Err(_))), "{filter}");
        assert!(!is_valid_subscription(filter), "{filter}");
    }
    assert!(is_valid_subscription("$share/g//") && is_valid_subscription("$shared/a"));
}
