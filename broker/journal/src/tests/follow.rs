use super::*;

#[test]
fn a_reader_follows_the_writer_across_segments() {
    const RECORDS: u64 = 2000;
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    let follower = journal.clone();
    let reading = std::thread::spawn(move || {
        let mut reader = follower.reader(Offset(0));
        let mut next = 0;
        while next < RECORDS {
            let readable = loop {
                match reader.next().unwrap() {
                    Some(Entry::Record(offset, Record::Publish(publish))) => {
                        assert_eq!(offset, Offset(next));
                        assert_eq!(publish.payload, next.to_le_bytes());
                        next += 1;
                    }
                    Some(entry) => panic!("{entry:?}"),
                    None => break next,
                }
            };
            assert!(readable == RECORDS || reader.wait(DEADLINE));
            assert!(follower.durable() >= Offset(next), "never ahead of what is durable");
        }
    });
    for number in 0..RECORDS {
        journal.append(&publish(&number.to_le_bytes()));
        if number % 50 == 0 {
            settle(&journal);
        }
    }
    reading.join().unwrap();
}

#[test]
fn a_reader_starts_at_any_offset_with_the_marks_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    let bodies: Vec<Body<'_>> = (0..300u64)
        .map(|number| match number % 3 {
            0 => Body::Mark(Mark::Confirmed { client: "pager", publish: Offset(number) }),
            _ => Body::Record(publish(b"a reading")),
        })
        .collect();
    for body in &bodies {
        append(&mut journal, body);
        settle(&journal);
    }
    let all = expected(bodies.iter().copied());
    assert!(segments(directory.path()).unwrap().len() > 3);
    for from in 0..=200 {
        // Everything behind the record before.
        let begin = match from {
            0 => 0,
            _ => 1 + all.iter().position(|(offset, _)| *offset == Some(Offset(from - 1))).unwrap(),
        };
        assert_eq!(drain(&mut journal.reader(Offset(from))).unwrap(), all[begin..], "from {from}");
        let mut apart = Reader::open(directory.path(), Offset(from)).unwrap();
        assert_eq!(drain(&mut apart).unwrap(), all[begin..], "from {from}");
    }
}

#[test]
fn with_an_interval_readers_see_only_what_is_synced() {
    let directory = tempfile::tempdir().unwrap();
    let slow = Commit::Interval(Duration::from_secs(3600));
    let (mut journal, _) = open(JournalOptions { commit: slow, ..options(directory.path()) });
    let mut reader = journal.reader(Offset(0));
    journal.append(&publish(b"acknowledged, not synced"));
    settle(&journal);
    assert_eq!(journal.durable(), Offset(1));
    assert!(reader.next().unwrap().is_none());
    journal.close().unwrap();
    assert!(reader.next().unwrap().is_some());

    let quick = Commit::Interval(Duration::from_millis(1));
    let (mut journal, _) = open(JournalOptions { commit: quick, ..options(directory.path()) });
    let mut reader = journal.reader(Offset(1));
    assert!(reader.next().unwrap().is_none());
    journal.append(&publish(b"synced soon"));
    assert!(reader.wait(DEADLINE));
    assert!(reader.next().unwrap().is_some());
}

#[test]
fn a_record_larger_than_a_segment_has_a_segment_for_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    let large = vec![5; 10 * SEGMENT_BYTES_MIN as usize];
    let bodies =
        [&b"small"[..], &large, b"small", &large, &large].map(|payload| Body::Record(publish(payload)));
    for body in &bodies {
        append(&mut journal, body);
    }
    journal.close().unwrap();
    assert_eq!(segments(directory.path()).unwrap().len(), 5);
    assert_eq!(read_all(directory.path()), expected(bodies));
    assert_eq!(open(options(directory.path())).1.next_offset, Offset(5));
}

#[test]
fn marks_without_a_record_stay_in_one_segment() {
    let directory = tempfile::tempdir().unwrap();
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let (mut journal, _) = open(options(directory.path()));
        for _ in 0..200 {
            bodies.push(Body::Mark(Mark::Released { client: "pump", packet_id: 9 }));
            append(&mut journal, &bodies[0]);
            if bodies.len() % 20 == 0 {
                settle(&journal);
            }
        }
    }
    assert_eq!(segments(directory.path()).unwrap().len(), 1);
    assert_eq!(read_all(directory.path()), expected(bodies));
}

#[test]
fn release_deletes_whole_segments_and_never_what_is_still_needed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    for number in 0..200u64 {
        journal.append(&publish(&number.to_le_bytes()));
        settle(&journal);
    }
    let before = journal.stored_bytes();
    let bytes: Vec<u64> =
        segments(directory.path()).unwrap().iter().map(|(_, file)| file.metadata().unwrap().len()).collect();
    let bases: Vec<Offset> = segments(directory.path()).unwrap().iter().map(|segment| segment.0).collect();
    assert!(bases.len() > 4);
    assert_eq!(journal.release_point(0), Offset(0));
    for (needed, segments) in [(1, 1), (bytes[0], 1), (bytes[0] + 1, 2), (bytes[0] + bytes[1] + 1, 3)] {
        assert_eq!(journal.release_point(needed), Offset(bases[segments].0 + 1));
    }
    assert_eq!(journal.release_point(u64::MAX), Offset(bases.last().unwrap().0 + 1));
    assert_eq!(journal.release(bases[2]).unwrap() + journal.stored_bytes(), before);
    // Marks before the record that begins a segment lie in the one before.
    assert_eq!(journal.first_offset(), bases[1]);
    assert!(matches!(
        journal.reader(Offset(0)).next(),
        Err(ReadError::Released { from: Offset(0), first }) if first == bases[1]
    ));
    let first = drain(&mut journal.reader(bases[2])).unwrap()[0].0;
    assert_eq!(first, Some(bases[2]));

    journal.release(Offset(u64::MAX)).unwrap();
    assert_eq!(segments(directory.path()).unwrap().len(), 1);
    journal.append(&publish(b"on"));
    journal.close().unwrap();
    let (journal, recovery) = open(options(directory.path()));
    assert_eq!((recovery.first_offset, recovery.next_offset), (*bases.last().unwrap(), Offset(201)));
    assert_eq!(journal.stored_bytes(), recovery.bytes);
}

#[test]
fn pressure_grows_with_what_is_stored_and_goes_with_release() {
    let directory = tempfile::tempdir().unwrap();
    let quota_bytes = QUOTA_SEGMENTS_MIN * SEGMENT_BYTES_MIN;
    let (mut journal, _) = open(JournalOptions { quota_bytes, ..options(directory.path()) });
    let mut seen = vec![journal.pressure()];
    while journal.pressure() != Pressure::Full {
        let reached = |percent| journal.stored_bytes() >= quota_bytes - quota_bytes * percent / 100;
        assert_eq!(journal.pressure() >= Pressure::Near, reached(NEAR_ROOM_PERCENT));
        journal.append(&publish(&[1; 100]));
        settle(&journal);
        seen.push(journal.pressure());
    }
    seen.dedup();
    assert_eq!(seen, [Pressure::Normal, Pressure::Advisory, Pressure::Near, Pressure::Full]);
    let alert = journal.append(&publish(b"an alert goes on"));
    settle(&journal);
    assert!(journal.durable() > alert);
    journal.release(journal.durable()).unwrap();
    assert_eq!(journal.pressure(), Pressure::Normal);
}

#[test]
fn a_backlog_is_congestion_until_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(JournalOptions::new(directory.path(), 1));
    let payload = vec![0; BACKLOG_BYTES_MAX];
    journal.append(&publish(&payload));
    assert!(journal.is_congested());
    settle(&journal);
    journal.append(&publish(b"next"));
    settle(&journal);
    journal.close().unwrap();
    assert_eq!(journal.backlog_bytes(), 0);
    assert!(!journal.is_congested());
}

#[test]
fn waiting_ends_when_nothing_comes() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(options(directory.path()));
    assert_eq!(journal.wait_durable(Offset(0), Duration::from_millis(1)), Offset(0));
    let mut reader = journal.reader(Offset(0));
    assert!(reader.next().unwrap().is_none());
    assert!(!reader.wait(Duration::from_millis(1)));
}
