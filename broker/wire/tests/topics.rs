//! How names and filters relate, checked for all of them up to three levels against a reading of section 4.7.

use bytes::BytesMut;
use proptest::prelude::*;
use wardline_wire::topic::{
    Shared, covers, is_valid_filter, is_valid_name, is_valid_subscription, levels, matches, overlaps,
};
use wardline_wire::{DecodeError, Decoder, Packet, PacketType, Version};

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

/// The valid filters by their definition: `+` and `#` are whole levels, and `#` is the last.
fn is_filter_by_the_book(filter: &str) -> bool {
    let above = filter.rsplit_once('/').map_or("", |(above, _)| above);
    let whole = |level: &str| level == "+" || level == "#" || !level.contains(['+', '#']);
    !filter.is_empty() && !filter.contains('\0') && !above.contains('#') && filter.split('/').all(whole)
}

/// What is wrong with the topic of a PUBLISH of MQTT 3.1.1, looked for one after the other.
fn fault_by_the_book(topic: &[u8]) -> Option<DecodeError> {
    let (packet, field) = (PacketType::Publish, "topic name");
    if topic.contains(&0) {
        return Some(DecodeError::NulCharacter { packet, field });
    }
    let Ok(topic) = std::str::from_utf8(topic) else { return Some(DecodeError::NotUtf8 { packet, field }) };
    if topic.chars().any(char::is_control) {
        return Some(DecodeError::ControlCharacter { packet, field });
    }
    let invalid = topic.is_empty() || topic.contains(['+', '#']);
    invalid.then_some(DecodeError::TopicNameInvalid { packet, field })
}

/// Mostly a topic; now and then a byte that makes it none, or a character beyond ASCII, whole or not.
fn topic_bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => "[ -~]{0,12}".prop_map(|text| text.replace(['+', '#'], "/").into_bytes()),
        2 => prop::sample::select(vec!["ä", "\u{80}", "\u{9f}", "\u{a0}", "\u{feff}", "🩺"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(b"\0\x01\x1f\x7f+#".as_slice()).prop_map(|byte| vec![byte]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn levels_are_what_stands_between_the_separators(topic in "[aä/]{0,8}") {
        prop_assert_eq!(levels(&topic).collect::<Vec<_>>(), topic.split('/').collect::<Vec<_>>());
    }

    #[test]
    fn levels_that_begin_alike_are_not_taken_for_each_other(
        filter in "([aä$]{0,2}/|\\+/){0,3}([aä$]{0,2}|\\+|#)",
        name in "([aä$]{0,2}/){0,3}[aä$]{0,2}",
    ) {
        let (of_filter, of_name): (Vec<_>, Vec<_>) = (filter.split('/').collect(), name.split('/').collect());
        prop_assert_eq!(matches(&filter, &name), matched_by_the_book(&of_filter, &of_name, true));
    }

    #[test]
    fn filters_are_told_by_their_levels(filter in "[aä/+#\0]{0,6}") {
        prop_assert_eq!(is_valid_filter(&filter), is_filter_by_the_book(&filter));
    }

    #[test]
    fn a_topic_is_refused_for_the_first_thing_that_is_wrong_with_it(topic in topic_bytes()) {
        let len = u8::try_from(topic.len()).unwrap();
        let mut packet = BytesMut::from(&[0x30, 2 + len, 0, len][..]);
        packet.extend_from_slice(&topic);
        let decoded = Decoder::client_side(Version::V311, 1_000).decode(&mut packet);
        match fault_by_the_book(&topic) {
            Some(fault) => prop_assert_eq!(decoded, Err(fault)),
            None => {
                let Ok(Some(Packet::Publish(publish))) = decoded else { panic!("{decoded:?}") };
                prop_assert_eq!(publish.topic.as_bytes(), &topic);
            }
        }
    }
}
