use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// What an appender does between two looks at the disk.
#[derive(Clone, Debug)]
struct Group {
    entries: Vec<Sample>,
    wait: bool,
}

fn groups() -> impl Strategy<Value = Vec<Group>> {
    let group = (prop::collection::vec(sample(), 1..6), any::<bool>());
    prop::collection::vec(group.prop_map(|(entries, wait)| Group { entries, wait }), 1..20)
}

fn commit() -> impl Strategy<Value = Commit> {
    prop_oneof![
        4 => Just(Commit::Always),
        1 => Just(Commit::Interval(Duration::from_micros(300))),
        1 => Just(Commit::Off),
    ]
}

fn keys() -> impl Strategy<Value = Option<KeyRing>> {
    prop::option::of((any::<[u8; 32]>()).prop_map(|key| {
        let line = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
        KeyRing::parse(&line, Path::new("journal.key")).unwrap()
    }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Power fails after any number of disk operations, twice in a row.
    #[test]
    fn what_was_reported_durable_is_there_after_a_crash(
        groups in groups(),
        commit in commit(),
        operations in 6u64..120,
        seed in any::<u64>(),
        keys in keys(),
    ) {
        let options = JournalOptions { commit, keys, ..options(Path::new("journal")) };
        let all = expected(groups.iter().flat_map(|group| group.entries.iter().map(Sample::body)));
        let disk = SimulatedDisk::new(seed);
        disk.cut_power_after(operations);
        let (durable, entries, seen) = run_until_crash(&disk, options.clone(), &groups);
        disk.cut_power();
        // Opening crashes too, before it opens for good.
        disk.cut_power_after(seed % 6);
        drop(Journal::open_on(Arc::new(disk.clone()), options.clone(), |_| {}));
        disk.cut_power();

        let (journal, recovery) = Journal::open_on(Arc::new(disk), options, |_| {}).unwrap();
        let found = drain(&mut journal.reader(Offset(0))).unwrap();
        prop_assert!(all.starts_with(&found), "what is there is what was appended");
        prop_assert_eq!(recovery.next_offset.0, found.iter().filter(|(offset, _)| offset.is_some()).count() as u64);
        if commit == Commit::Always {
            prop_assert!(recovery.next_offset.0 >= durable, "{} of {durable}", recovery.next_offset);
            prop_assert!(found.len() as u64 >= entries, "{} of {entries}", found.len());
        }
        if commit != Commit::Off {
            prop_assert!(found.len() >= seen, "readers saw {seen} of {}", found.len());
        }
    }

    #[test]
    fn reopening_changes_nothing(
        sessions in prop::collection::vec(groups(), 1..4),
        commit in commit(),
        keys in keys(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for groups in &sessions {
            let options = JournalOptions { commit, keys: keys.clone(), ..options(directory.path()) };
            let (mut journal, recovery) = open(options);
            prop_assert_eq!(recovery.torn, None);
            for group in groups {
                for sample in &group.entries {
                    append(&mut journal, &sample.body());
                    all.push(sample.body());
                }
                if group.wait {
                    settle(&journal);
                }
            }
            journal.close().unwrap();
            let mut reader = Reader::open(directory.path(), Offset(0)).unwrap().with_keys(keys.clone());
            prop_assert_eq!(drain(&mut reader).unwrap(), expected(all.iter().copied()));
        }
    }
}

/// Returns how many records and entries were reported durable, and how many entries a reader was given.
fn run_until_crash(disk: &SimulatedDisk, options: JournalOptions, groups: &[Group]) -> (u64, u64, usize) {
    let reported = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let told = Arc::clone(&reported);
    let on_progress = move |progress| {
        if let Progress::Durable { offset, entries } = progress {
            told[0].store(offset.0, Ordering::SeqCst);
            told[1].store(entries, Ordering::SeqCst);
        }
    };
    let Ok((mut journal, _)) = Journal::open_on(Arc::new(disk.clone()), options, on_progress) else {
        return (0, 0, 0);
    };
    let mut next = 0;
    for group in groups {
        for sample in &group.entries {
            append(&mut journal, &sample.body());
        }
        let before = std::mem::replace(&mut next, journal.next_offset().0);
        if group.wait && next > before {
            while journal.durable().0 < next && journal.failure().is_none() {
                std::thread::yield_now();
            }
        }
    }
    let mut reader = journal.reader(Offset(0));
    // Closing is part of what may crash.
    drop(journal);
    let seen = drain(&mut reader).unwrap().len();
    (reported[0].load(Ordering::SeqCst), reported[1].load(Ordering::SeqCst), seen)
}
