use std::path::PathBuf;

use super::*;

const RECORDS: u64 = 200;

/// When what is damaged is cut out.
fn at() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

fn keys() -> KeyRing {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    KeyRing::add(&file, at()).unwrap();
    KeyRing::read(&file).unwrap()
}

/// A closed journal of [`RECORDS`] records in several segments, with a mark behind each; its options.
fn written(directory: &Path, keys: Option<KeyRing>) -> JournalOptions {
    let options = JournalOptions { keys, ..options(&directory.join("journal")) };
    let (mut journal, _) = open(options.clone());
    for number in 0..RECORDS {
        journal.append(&publish(&number.to_le_bytes()));
        journal.mark(&Mark::Confirmed { client: "pager", publish: Offset(number) });
        if number % 7 == 0 {
            settle(&journal);
        }
    }
    journal.close().unwrap();
    options
}

fn segments(options: &JournalOptions) -> Vec<(Offset, PathBuf)> {
    segment::list(&storage::Disk, &options.directory).unwrap()
}

/// Damages a byte of a file.
fn flip(path: &Path, position: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[position] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

fn mend(options: &JournalOptions, audited: u64) -> Vec<Cut> {
    mend_knowing(options, Known { used: Offset(audited), needed: Offset(0) })
}

fn mend_knowing(options: &JournalOptions, known: Known) -> Vec<Cut> {
    let into = options.directory.with_file_name("quarantine");
    quarantine(options, &into, known, at()).unwrap()
}

/// Opens the journal, and returns the offsets that it says are lost and the one that comes next, with all others as they were
/// written.
fn lost(options: &JournalOptions) -> (Vec<u64>, u64) {
    let (mut journal, recovery) = open(options.clone());
    let mut reader = journal.reader(journal.first_offset());
    let mut lost = Vec::new();
    let mut expected = 0;
    while let Some(entry) = reader.next().unwrap() {
        let Entry::Record(offset, record) = entry else { continue };
        assert_eq!(offset, Offset(expected), "offsets are dense");
        match record {
            Record::Publish(found) => assert_eq!(found.payload, expected.to_le_bytes()),
            Record::Access(Access { event: AccessEvent::Lost, at: when, .. }) => {
                assert_eq!(when, at());
                lost.push(expected);
            }
            other => panic!("{other:?}"),
        }
        expected += 1;
    }
    assert_eq!(recovery.next_offset, Offset(expected));
    // One by one they read the same, and the journal goes on.
    let offsets: Vec<_> = (0..expected).map(Offset).collect();
    let mut seen = 0;
    journal
        .fetch(&offsets, |offset, record| {
            assert_eq!(matches!(record, Record::Access(_)), lost.contains(&offset.0));
            seen += 1;
        })
        .unwrap();
    assert_eq!(seen, expected);
    assert_eq!(journal.append(&publish(&expected.to_le_bytes())), Offset(expected));
    journal.close().unwrap();
    (lost, expected)
}

fn lost_by(cuts: &[Cut]) -> Vec<u64> {
    cuts.iter().flat_map(|cut| cut.lost.clone()).collect()
}

#[test]
fn a_sound_journal_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let options = written(directory.path(), None);
    let before = segments(&options).into_iter().map(|(_, path)| std::fs::read(path).unwrap());
    let before: Vec<_> = before.collect();
    assert_eq!(mend(&options, RECORDS), []);
    let after: Vec<_> =
        segments(&options).into_iter().map(|(_, path)| std::fs::read(path).unwrap()).collect();
    assert_eq!(before, after);
    assert!(!directory.path().join("quarantine").exists());
}

#[test]
fn damage_anywhere_costs_no_other_segment_and_no_offset() {
    for keys in [None, Some(keys())] {
        for (place, at_byte) in
            [(0, 0), (0, 20), (0, 64), (1, 9), (1, 70), (1, 1_000), (2, 2_500), (3, 4_000)]
        {
            let directory = tempfile::tempdir().unwrap();
            let options = written(directory.path(), keys.clone());
            let files = segments(&options);
            let (base, damaged) = &files[place];
            let whole = std::fs::metadata(damaged).unwrap().len() as usize;
            flip(damaged, at_byte.min(whole - 30));
            let as_found = std::fs::read(damaged).unwrap();
            let refused = Journal::open(options.clone(), |_| {}).unwrap_err().to_string();
            assert!(refused.contains("`wardline journal quarantine`"), "{refused}");

            let cuts = mend(&options, 0);
            let [cut] = &cuts[..] else { panic!("{cuts:?}") };
            assert!(cut.position <= at_byte as u64 && cut.lost.start >= base.0, "{cut:?}");
            assert!(!cut.lost.is_empty() && cut.lost.end <= files[place + 1].0.0, "{cut:?}");
            assert_eq!(std::fs::read(cut.kept.as_ref().unwrap()).unwrap(), as_found);
            let note =
                std::fs::read_to_string(format!("{}.txt", cut.kept.as_ref().unwrap().display())).unwrap();
            assert!(note.contains(&format!("records lost, offsets {} to", cut.lost.start)), "{note}");
            assert_eq!(lost(&options), (lost_by(&cuts), RECORDS));
            assert_eq!(mend(&options, 0), [], "once is enough");
        }
    }
}

#[test]
fn the_last_segment_keeps_what_is_sound_and_no_offset_in_it_is_used_again() {
    for keys in [None, Some(keys())] {
        let directory = tempfile::tempdir().unwrap();
        let options = written(directory.path(), keys);
        let (base, last) = segments(&options).pop().unwrap();
        flip(&last, 300);
        let cuts = mend(&options, 0);
        assert_eq!(lost_by(&cuts).last(), Some(&(RECORDS - 1)), "{cuts:?}");
        assert!(cuts[0].lost.start >= base.0);
        assert_eq!(lost(&options), (lost_by(&cuts), RECORDS));
    }
}

#[test]
fn where_the_damage_hides_how_many_there_were_they_are_counted_high() {
    let directory = tempfile::tempdir().unwrap();
    let options = written(directory.path(), None);
    let (base, last) = segments(&options).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    // The header is gone, and with it what tells batches.
    std::fs::write(
        &last,
        bytes.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at < 200)).collect::<Vec<_>>(),
    )
    .unwrap();
    let cuts = mend(&options, 0);
    assert_eq!(cuts[0].lost.start, base.0);
    assert!(cuts[0].lost.end >= RECORDS, "{cuts:?}");
    assert_eq!(lost(&options), (lost_by(&cuts), cuts[0].lost.end));
}

#[test]
fn a_missing_segment_is_a_gap_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let options = written(directory.path(), None);
    let files = segments(&options);
    std::fs::remove_file(&files[2].1).unwrap();
    let cuts = mend(&options, 0);
    assert_eq!(lost_by(&cuts), (files[2].0.0..files[3].0.0).collect::<Vec<_>>());
    assert_eq!(lost(&options), (lost_by(&cuts), RECORDS));
}

#[test]
fn what_the_audit_store_has_beyond_the_end_is_not_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = written(directory.path(), None);
    let cuts = mend(&options, RECORDS + 17);
    assert_eq!(lost_by(&cuts), (RECORDS..RECORDS + 17).collect::<Vec<_>>());
    let before = segments(&options);
    let other = JournalOptions { node: 9, ..options.clone() };
    assert!(matches!(Journal::open(other, |_| {}), Err(OpenError::Node { .. })));
    assert_eq!(segments(&options), before, "another node makes nothing there");
    assert_eq!(lost(&options), (lost_by(&cuts), RECORDS + 17));
}

#[test]
fn damage_in_several_segments_is_mended_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let options = written(directory.path(), None);
    let files = segments(&options);
    for (place, position) in [(1, 40), (2, 40), (4, 700)] {
        flip(&files[place].1, position);
    }
    let cuts = mend(&options, 0);
    assert_eq!(cuts.len(), 3, "{cuts:?}");
    assert_eq!(lost(&options), (lost_by(&cuts), RECORDS));
}

/// Power goes when the lost records have their segment and the damaged one is not yet cut.
#[test]
fn a_quarantine_that_was_cut_short_is_finished_by_the_next() {
    for place in [1, 3] {
        let directory = tempfile::tempdir().unwrap();
        let options = written(directory.path(), None);
        let (_, damaged) = segments(&options).swap_remove(place);
        flip(&damaged, 1_500);
        let cuts = mend(&options, 0);
        std::fs::copy(cuts[0].kept.as_ref().unwrap(), &damaged).unwrap();
        assert!(Journal::open(options.clone(), |_| {}).is_err());
        let again = mend(&options, 0);
        assert_eq!(lost_by(&again), Vec::<u64>::new());
        assert_eq!(lost(&options), (lost_by(&cuts), RECORDS));
    }
}

#[test]
fn what_is_needed_and_gone_from_the_beginning_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let options = written(directory.path(), None);
    let files = segments(&options);
    let (second, _) = files[1];
    std::fs::remove_file(&files[0].1).unwrap();
    let released = Known { used: Offset(RECORDS), needed: second };
    assert_eq!(mend_knowing(&options, released), [], "what nobody needs is not missed");
    let cuts = mend_knowing(&options, Known { needed: Offset(second.0 - 1), ..released });
    assert_eq!(lost_by(&cuts), [second.0 - 1]);
    let (mut journal, recovery) = open(options);
    assert_eq!((recovery.first_offset, recovery.next_offset), (Offset(second.0 - 1), Offset(RECORDS)));
    assert!(drain(&mut journal.reader(recovery.first_offset)).is_ok());
    journal.append(&publish(b"on"));
    assert!(journal.close().is_ok());
}

#[test]
fn where_no_segment_is_left_offsets_go_on_behind_those_that_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let options = written(directory.path(), None);
    segments(&options).into_iter().for_each(|(_, path)| std::fs::remove_file(path).unwrap());
    assert_eq!(mend_knowing(&options, Known::default()), []);
    let cuts = mend_knowing(&options, Known { used: Offset(RECORDS), needed: Offset(RECORDS) });
    assert_eq!(lost_by(&cuts), [RECORDS - 1]);
    assert_eq!(open(options).1.next_offset, Offset(RECORDS));
}

#[test]
fn a_journal_in_use_or_of_another_node_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let options = written(directory.path(), None);
    let into = directory.path().join("quarantine");
    let other = JournalOptions { node: 9, ..options.clone() };
    assert!(matches!(quarantine(&other, &into, Known::default(), at()), Err(OpenError::Node { .. })));
    let (_journal, _) = open(options.clone());
    assert!(matches!(quarantine(&options, &into, Known::default(), at()), Err(OpenError::Locked { .. })));
}
