use super::*;

/// Appends each payload as a batch of its own.
fn append_each(journal: &mut Journal, payloads: &[&[u8]]) {
    for payload in payloads {
        journal.append(&publish(payload));
        settle(journal);
    }
}

/// A directory as `kill -9` leaves it after these batches.
fn killed(payloads: &[&[u8]]) -> tempfile::TempDir {
    let (live, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut journal, _) = open(options(live.path()));
    append_each(&mut journal, payloads);
    copy_segments(live.path(), left.path());
    left
}

fn last_segment(directory: &Path) -> PathBuf {
    segments(directory).unwrap().pop().unwrap().1
}

/// Where the zeros at a file's end begin.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Where the last batch of a segment begins and ends, from a reader's view.
fn ends(payloads: &[&[u8]]) -> Vec<usize> {
    let mut ends = vec![segment::HEADER_BYTES];
    for payload in payloads {
        let body = encoded(&Body::Record(publish(payload))).len();
        ends.push(ends.last().unwrap() + frame::BATCH_FRAME_BYTES + frame::HEADER_BYTES + body);
    }
    ends
}

#[test]
fn a_tail_torn_at_any_byte_leaves_exactly_the_records_before() {
    let payloads: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];
    let left = killed(&payloads);
    let path = last_segment(left.path());
    let whole = std::fs::read(&path).unwrap();
    let ends = ends(&payloads);
    let all = expected(payloads.iter().map(|payload| Body::Record(publish(payload))));
    let boundaries: Vec<usize> =
        ends.iter().flat_map(|end| [*end, end + frame::BATCH_FRAME_BYTES]).take(ends.len() * 2 - 1).collect();
    for cut in ends[2]..=ends[4] {
        let mut zeroed = whole.clone();
        zeroed[cut..].fill(0);
        for torn in [&zeroed[..], &whole[..cut]] {
            std::fs::write(&path, torn).unwrap();
            // A frame that ends in zeros may be whole although the cut goes through it.
            let is_sound = |end: &&usize| torn.len() >= **end && torn[..**end] == whole[..**end];
            let sound = *boundaries.iter().rfind(is_sound).unwrap();
            let records = ends.iter().rposition(|end| *end <= sound).unwrap();
            // A reader that changes nothing sees the same.
            assert_eq!(read_all(left.path()), all[..records]);
            let (mut journal, recovery) = open(options(left.path()));
            assert_eq!(recovery.next_offset, Offset(records as u64), "cut at {cut}");
            let lost = used(torn).saturating_sub(sound) as u64;
            assert_eq!(recovery.torn.map_or(0, |torn| torn.bytes), lost, "cut at {cut}");
            assert_eq!(journal.append(&publish(b"next")), Offset(records as u64));
            journal.close().unwrap();
            let mut want = all[..records].to_vec();
            want.extend([(Some(Offset(records as u64)), encoded(&Body::Record(publish(b"next"))))]);
            assert_eq!(read_all(left.path()), want);
        }
    }
}

#[test]
fn pages_of_the_last_write_that_came_out_of_order_are_a_torn_tail() {
    let live = tempfile::tempdir().unwrap();
    let left = killed(&[b"one"]);
    let (mut journal, _) = open(options(live.path()));
    append_each(&mut journal, &[b"one"]);
    // One batch of several records, of which the first is missing.
    let batch: Vec<Body<'_>> = (0..8).map(|_| Body::Record(publish(b"unsynced"))).collect();
    let mut frames = vec![0; frame::BATCH_FRAME_BYTES];
    for (number, body) in batch.iter().enumerate() {
        let Body::Record(record) = body else { unreachable!() };
        frame::push(&mut frames, Offset(1 + number as u64), |out| encode(record, out)).unwrap();
    }
    let path = last_segment(left.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let begin = used(&bytes).max(ends(&[b"one"])[1]);
    bytes[begin + 200..begin + frames.len()].copy_from_slice(&frames[200..]);
    std::fs::write(&path, bytes).unwrap();
    let (_, recovery) = open(options(left.path()));
    assert_eq!(recovery.next_offset, Offset(1));
    assert!(recovery.torn.is_some_and(|torn| torn.position == begin as u64));
}

#[test]
fn damage_to_what_was_durable_is_refused_with_file_and_position() {
    let payloads: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];
    let left = killed(&payloads);
    let path = last_segment(left.path());
    let whole = std::fs::read(&path).unwrap();
    let ends = ends(&payloads);
    // Everything before the last batch has been synced, and the last batch says so.
    for at in segment::HEADER_BYTES..ends[3] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let error = Journal::open(options(left.path()), |_| {}).unwrap_err();
        let OpenError::Read(ReadError::Damaged(damage)) = &error else { panic!("{at}: {error}") };
        assert_eq!(damage.file, path);
        let batch = *ends.iter().rfind(|end| **end <= at).unwrap() as u64;
        let record = batch + frame::BATCH_FRAME_BYTES as u64;
        let frame = if (at as u64) < record { batch } else { record };
        assert_eq!(damage.position, frame, "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "nothing was changed");
    }
}

#[test]
fn a_bit_flipped_anywhere_after_a_clean_end_is_noticed_and_no_record_is_lost_silently() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    append_each(&mut journal, &[b"one", b"two"]);
    journal.close().unwrap();
    let path = last_segment(directory.path());
    let whole = std::fs::read(&path).unwrap();
    let all = read_all(directory.path());
    let records_end = ends(&[b"one", b"two"])[2];
    // Each byte in one of its bits, a different one each time.
    for bit in (0..(used(&whole) + 64) * 8).step_by(9) {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, damaged).unwrap();
        match Journal::open(options(directory.path()), |_| {}) {
            Err(OpenError::Read(_)) => assert!(bit / 8 < records_end, "bit {bit}"),
            Err(error) => panic!("bit {bit}: {error}"),
            Ok((journal, recovery)) => {
                assert!(bit / 8 >= records_end, "bit {bit}");
                assert!(recovery.torn.is_some(), "bit {bit}");
                assert_eq!(drain(&mut journal.reader(Offset(0))).unwrap(), all);
            }
        }
    }
}

#[test]
fn a_sound_frame_in_the_wrong_place_is_refused() {
    let payloads: [&[u8]; 2] = [b"one", b"two"];
    let left = killed(&payloads);
    let path = last_segment(left.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let ends = ends(&payloads);
    bytes.copy_within(ends[0] + frame::BATCH_FRAME_BYTES..ends[1], ends[1] + frame::BATCH_FRAME_BYTES);
    std::fs::write(&path, bytes).unwrap();
    let error = Journal::open(options(left.path()), |_| {}).unwrap_err();
    let OpenError::Read(ReadError::Damaged(damage)) = &error else { panic!("{error}") };
    assert_eq!(damage.flaw, Flaw::Order { expected: Offset(1), found: Offset(0) });
    assert_eq!(damage.position, (ends[1] + frame::BATCH_FRAME_BYTES) as u64);

    let mut reader = Reader::open(left.path(), Offset(0)).unwrap();
    assert!(drain(&mut reader).is_err());
    assert!(matches!(reader.next(), Err(ReadError::Spent)), "a reader never goes on behind damage");
}

/// A journal of several segments, in each of which so many records find room that they begin at different offsets.
fn of_records_of(bytes: usize) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    for _ in 0..40 {
        append_each(&mut journal, &[&vec![3; bytes]]);
    }
    journal.close().unwrap();
    directory
}

#[test]
fn a_segment_that_does_not_belong_there_is_to_be_moved_away() {
    let directory = of_records_of(200);
    let files = segments(directory.path()).unwrap();
    let foreign = |path: &Path, part: &str| {
        let refused = Journal::open(options(directory.path()), |_| {}).unwrap_err().to_string();
        assert!(refused.contains(path.to_str().unwrap()) && refused.contains(part), "{refused}");
        refused
    };

    // A copy of one of its own, in the midst of the records of another.
    let copy = directory.path().join(segment::file_name(Offset(files[1].0.0 + 1)));
    std::fs::copy(&files[2].1, &copy).unwrap();
    let refused = foreign(&copy, "move this one out of the directory");
    assert!(!refused.contains("quarantine"), "{refused}");
    std::fs::remove_file(&copy).unwrap();

    // One of an older copy of the data, where other segments were.
    let other = of_records_of(500);
    let (base, from) = segments(other.path()).unwrap().swap_remove(1);
    assert!(files.iter().all(|(own, _)| *own != base));
    let stray = directory.path().join(segment::file_name(base));
    std::fs::copy(from, &stray).unwrap();
    let refused = foreign(&stray, "move it out of the directory");
    assert!(!refused.contains("quarantine"), "{refused}");
    let into = directory.path().join("quarantine");
    let mend = quarantine(&options(directory.path()), &into, Known::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(mend.unwrap_err().to_string(), refused, "quarantine cannot help, and says so");
    std::fs::remove_file(&stray).unwrap();

    // What is no segment at all.
    std::fs::write(&copy, [7; 4_096]).unwrap();
    foreign(&copy, "If somebody has put the file there, move it out of the directory");
    std::fs::remove_file(&copy).unwrap();
    assert_eq!(open(options(directory.path())).0.next_offset(), Offset(40));
}

#[test]
fn damage_in_an_older_segment_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    for _ in 0..40 {
        append_each(&mut journal, &[&[3; 200]]);
    }
    journal.close().unwrap();
    let segments = segments(directory.path()).unwrap();
    assert!(segments.len() > 2);
    let path = &segments[1].1;
    let whole = std::fs::read(path).unwrap();
    let mut flipped = whole.clone();
    flipped[1000] ^= 1;
    let mut zeroed = whole.clone();
    zeroed[whole.len() - 100..].fill(0);
    for damaged in [&flipped[..], &zeroed, &whole[..whole.len() - 100], &whole[..10], &[]] {
        std::fs::write(path, damaged).unwrap();
        let error = Journal::open(options(directory.path()), |_| {}).unwrap_err();
        assert!(
            matches!(&error, OpenError::Read(ReadError::Damaged(damage)) if damage.file == *path),
            "{error}"
        );
    }
    std::fs::remove_file(path).unwrap();
    let error = Journal::open(options(directory.path()), |_| {}).unwrap_err();
    assert!(matches!(&error, OpenError::Read(ReadError::Damaged(_))), "{error}");
    std::fs::write(path, whole).unwrap();
    assert_eq!(open(options(directory.path())).1.next_offset, Offset(40));
}

#[test]
fn a_second_process_is_refused_and_told_who_is_first() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(options(directory.path()));
    let error = Journal::open(options(directory.path()), |_| {}).unwrap_err();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(journal);
    drop(open(options(directory.path())));
}

#[test]
fn another_node_or_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(options(directory.path())));
    let other = JournalOptions { node: 2, ..options(directory.path()) };
    let error = Journal::open(other, |_| {}).unwrap_err();
    assert!(matches!(error, OpenError::Node { found: 1, expected: 2, .. }), "{error}");

    let path = last_segment(directory.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 9;
    let checksum = crc32c::crc32c(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&checksum);
    std::fs::write(&path, bytes).unwrap();
    let error = Journal::open(options(directory.path()), |_| {}).unwrap_err();
    assert!(matches!(error, OpenError::Read(ReadError::Version { found: 9, .. })), "{error}");
}

#[test]
fn impossible_options_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let small = JournalOptions { segment_bytes: 100, ..options(directory.path()) };
    assert!(matches!(Journal::open(small, |_| {}), Err(OpenError::SegmentBytes(100))));
    let poor = JournalOptions { quota_bytes: 1000, ..options(directory.path()) };
    assert!(matches!(Journal::open(poor, |_| {}), Err(OpenError::Quota(1000))));
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(Journal::open(options(&file), |_| {}).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is in the files: an answer, never a panic nor memory without bound.
    #[test]
    fn garbage_gets_an_answer(
        garbage in prop::collection::vec(any::<u8>(), 0..2000),
        at in 0usize..3000,
        with_header in any::<bool>(),
        samples in prop::collection::vec(sample(), 1..10),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(options(directory.path()));
        for sample in &samples {
            append(&mut journal, &sample.body());
        }
        journal.close().unwrap();
        let path = last_segment(directory.path());
        let mut bytes = std::fs::read(&path).unwrap();
        let at = if with_header { segment::HEADER_BYTES + at } else { at };
        bytes.resize(bytes.len().max(at + garbage.len()), 0);
        bytes[at..at + garbage.len()].copy_from_slice(&garbage);
        std::fs::write(&path, bytes).unwrap();
        if let Ok((journal, recovery)) = Journal::open(options(directory.path()), |_| {}) {
            let found = drain(&mut journal.reader(recovery.first_offset)).unwrap();
            prop_assert!(expected(samples.iter().map(Sample::body)).starts_with(&found));
        }
    }
}
