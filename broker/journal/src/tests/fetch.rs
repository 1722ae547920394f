use super::*;
use crate::index::SPACING_BYTES;

/// The records at `offsets` as they were encoded.
fn fetch(journal: &Journal, offsets: &[Offset]) -> Result<Vec<Found>, ReadError> {
    let mut found = Vec::new();
    journal
        .fetch(offsets, |offset, record| found.push((Some(offset), encoded(&Body::Record(record)))))
        .map(|()| found)
}

fn records(found: Vec<Found>) -> Vec<Found> {
    found.into_iter().filter(|(offset, _)| offset.is_some()).collect()
}

#[test]
fn records_are_read_back_while_the_writer_goes_on() {
    const RECORDS: u64 = 3000;
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    let asking = journal.clone();
    let reading = std::thread::spawn(move || {
        let mut written = 0;
        while written < RECORDS {
            written = asking.wait_durable(Offset(written), DEADLINE).0;
            let offsets: Vec<Offset> = (written.saturating_sub(300)..written).map(Offset).collect();
            let mut next = offsets.iter();
            let each = |offset: Offset, record: Record<'_>| {
                assert_eq!(Some(&offset), next.next());
                let Record::Publish(publish) = record else { panic!("{record:?}") };
                assert_eq!(publish.payload, offset.0.to_le_bytes());
            };
            asking.fetch(&offsets, each).unwrap();
            assert_eq!(next.next(), None);
        }
    });
    for number in 0..RECORDS {
        journal.append(&publish(&number.to_le_bytes()));
        journal.mark(&Mark::Released { client: "pump", packet_id: 9 });
        if number % 70 == 0 {
            settle(&journal);
        }
    }
    reading.join().unwrap();
}

#[test]
fn what_counts_as_durable_is_read_back_in_every_commit_mode() {
    for commit in [Commit::Always, Commit::Interval(Duration::from_secs(3600)), Commit::Off] {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(JournalOptions { commit, ..options(directory.path()) });
        for number in 0..100u64 {
            let offset = journal.append(&publish(&number.to_le_bytes()));
            settle(&journal);
            assert!(journal.readable() > offset);
            assert_eq!(fetch(&journal, &[offset]).unwrap().len(), 1, "{commit}");
        }
    }
}

#[test]
fn what_is_not_written_or_released_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    for number in 0..200u64 {
        journal.append(&publish(&number.to_le_bytes()));
        settle(&journal);
    }
    assert!(matches!(
        fetch(&journal, &[Offset(199), Offset(200)]),
        Err(ReadError::Unwritten { offset: Offset(200), written: Offset(200) })
    ));
    journal.release(Offset(150)).unwrap();
    let first = journal.first_offset();
    assert!(first > Offset(0));
    assert!(matches!(
        fetch(&journal, &[Offset(first.0 - 1)]),
        Err(ReadError::Released { from, first: begin }) if from.0 + 1 == first.0 && begin == first
    ));
    assert_eq!(fetch(&journal, &[first]).unwrap().len(), 1);
}

#[test]
fn damage_on_the_way_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    for payload in [&b"one"[..], b"two", b"three"] {
        journal.append(&publish(payload));
    }
    settle(&journal);
    let path = segments(directory.path()).unwrap().remove(0).1;
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[at] = b'x';
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(fetch(&journal, &[Offset(0)]).unwrap().len(), 1);
    let error = fetch(&journal, &[Offset(2)]).unwrap_err();
    assert!(matches!(&error, ReadError::Damaged(damage) if damage.flaw == Flaw::Checksum), "{error}");
}

#[test]
fn after_a_torn_end_what_is_left_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    let bodies: Vec<Body<'_>> = [&b"one"[..], b"two", b"torn"].map(|p| Body::Record(publish(p))).to_vec();
    bodies.iter().for_each(|body| append(&mut journal, body));
    settle(&journal);
    let left = tempfile::tempdir().unwrap();
    copy_segments(directory.path(), left.path());
    let path = segments(left.path()).unwrap().remove(0).1;
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"torn").unwrap();
    bytes[at..].fill(0);
    std::fs::write(&path, bytes).unwrap();

    let (mut journal, recovery) = open(options(left.path()));
    assert!(recovery.torn.is_some());
    assert_eq!(journal.append(&publish(b"after")), Offset(2));
    settle(&journal);
    let expected = expected([bodies[0], bodies[1], Body::Record(publish(b"after"))]);
    assert_eq!(fetch(&journal, &[0, 1, 2].map(Offset)).unwrap(), expected);
}

#[test]
fn a_long_segment_is_entered_near_the_record() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(JournalOptions::new(directory.path(), 1));
    let payload = vec![7; 5000];
    // In one write, whose own beginning is far from most of its records.
    for _ in 0..200 {
        journal.append(&publish(&payload));
    }
    settle(&journal);
    let backwards: Vec<Offset> = (0..200).rev().map(Offset).collect();
    assert_eq!(fetch(&journal, &backwards).unwrap().len(), 200);
    journal.close().unwrap();

    // The damage lies in record 12, before the first known place: who reads from the beginning meets it.
    let path = segments(directory.path()).unwrap().remove(0).1;
    let (journal, _) = open(JournalOptions::new(directory.path(), 1));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[SPACING_BYTES as usize] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(fetch(&journal, &[Offset(12)]).is_err());
    assert_eq!(fetch(&journal, &[Offset(13), Offset(199)]).unwrap().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any records, asked for in any order, are what reading from the beginning gives.
    #[test]
    fn records_read_back_are_those_read_in_order(
        samples in prop::collection::vec(sample(), 1..120),
        large in prop::collection::vec(0usize..120, 0..3),
        asked in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ascending in any::<bool>(),
        reopened in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(options(directory.path()));
        for (number, sample) in samples.iter().enumerate() {
            append(&mut journal, &sample.body());
            if large.contains(&number) {
                append(&mut journal, &Body::Record(publish(&vec![1; 2 * SPACING_BYTES as usize])));
            }
            if number % 7 == 0 {
                settle(&journal);
            }
        }
        settle(&journal);
        if reopened {
            journal.close().unwrap();
            journal = open(options(directory.path())).0;
        }
        let all = records(drain(&mut journal.reader(Offset(0))).unwrap());
        prop_assume!(!all.is_empty());
        let mut offsets: Vec<Offset> = asked.iter().map(|index| Offset(index.index(all.len()) as u64)).collect();
        if ascending {
            offsets.sort_unstable();
        }
        let found = fetch(&journal, &offsets).unwrap();
        let wanted: Vec<Found> = offsets.iter().map(|offset| all[offset.0 as usize].clone()).collect();
        prop_assert_eq!(found, wanted);
    }
}
