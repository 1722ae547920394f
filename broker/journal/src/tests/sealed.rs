use super::*;
use crate::frame;
use crate::seal::TAG_BYTES;

/// Bytes 0 to 31, as in the file that another program made.
const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=";

fn ring(lines: &[&str]) -> KeyRing {
    KeyRing::parse(&lines.join("\n"), Path::new("journal.key")).unwrap()
}

fn sealed(directory: &Path, lines: &[&str]) -> JournalOptions {
    JournalOptions { keys: Some(ring(lines)), ..options(directory) }
}

fn read_sealed(directory: &Path, lines: &[&str]) -> Result<Vec<Found>, ReadError> {
    let first = segments(directory)?[0].0;
    drain(&mut Reader::open(directory, first)?.with_keys(Some(ring(lines))))
}

/// A directory as `kill -9` leaves it, each payload a batch of its own.
fn killed(payloads: &[&[u8]]) -> tempfile::TempDir {
    let (live, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut journal, _) = open(sealed(live.path(), &[OLD]));
    for payload in payloads {
        journal.append(&publish(payload));
        settle(&journal);
    }
    copy_segments(live.path(), left.path());
    left
}

fn only_segment(directory: &Path) -> PathBuf {
    let [(_, path)] = &segments(directory).unwrap()[..] else { panic!("one") };
    path.clone()
}

/// Where each frame of a segment begins, and where the last one ends.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![segment::HEADER_BYTES];
    while let Some(size) = bytes[*ends.last().unwrap()..].first_chunk().and_then(frame::frame_bytes) {
        ends.push(ends.last().unwrap() + size);
    }
    ends
}

/// Gives a changed frame the checksum that it should have: what somebody does who knows the format.
fn mend_checksum(frame: &mut [u8]) {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
}

fn holds(directory: &Path, needle: &[u8]) -> bool {
    segments(directory)
        .unwrap()
        .iter()
        .any(|(_, path)| std::fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle))
}

#[test]
fn nothing_that_was_published_lies_readable_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(sealed(directory.path(), &[OLD]));
    let payloads: Vec<Vec<u8>> = (0..60).map(|n| format!("payload {n} of the ward").into_bytes()).collect();
    for payload in &payloads {
        journal.append(&publish(payload));
        journal.mark(&Mark::Released { client: "pump-of-the-ward", packet_id: 9 });
        settle(&journal);
    }
    let offsets: Vec<Offset> = [0, 59, 3, 3, 4, 58, 2].map(Offset).to_vec();
    let mut fetched = Vec::new();
    journal
        .fetch(&offsets, |offset, record| fetched.push((Some(offset), encoded(&Body::Record(record)))))
        .unwrap();
    let want: Vec<Found> = offsets
        .iter()
        .map(|offset| (Some(*offset), encoded(&Body::Record(publish(&payloads[offset.0 as usize])))))
        .collect();
    assert_eq!(fetched, want);
    journal.close().unwrap();
    for needle in [&b"of the ward"[..], b"pump-of", b"mon-12", b"telemetry"] {
        assert!(!holds(directory.path(), needle), "{}", String::from_utf8_lossy(needle));
    }
    assert!(segments(directory.path()).unwrap().len() > 2);
    assert_eq!(read_sealed(directory.path(), &[OLD]).unwrap().len(), 120);
}

#[test]
fn plain_segments_and_those_of_older_keys_stay_readable() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    let sessions: [Option<&[&str]>; 5] = [None, None, Some(&[OLD]), Some(&[NEW, OLD]), Some(&[NEW, OLD])];
    for (number, lines) in sessions.into_iter().enumerate() {
        let keys = lines.map(ring);
        let (mut journal, _) = open(JournalOptions { keys, ..options(directory.path()) });
        let client = format!("client of {number}");
        let body = [
            Body::Mark(Mark::Released { client: &client, packet_id: 9 }),
            Body::Record(publish(client.as_bytes())),
        ];
        for body in &body {
            append(&mut journal, body);
            let offset = matches!(body, Body::Record(_)).then_some(Offset(number as u64));
            all.push((offset, encoded(body)));
        }
        journal.close().unwrap();
        assert_eq!(holds(directory.path(), client.as_bytes()), lines.is_none(), "session {number}");
        assert_eq!(read_sealed(directory.path(), &[NEW, OLD]).unwrap(), all, "session {number}");
    }
    let id = |line: &str| ring(&[line]).ids().next().unwrap();
    let keys: Vec<Option<KeyId>> = segments(directory.path())
        .unwrap()
        .into_iter()
        .map(|(base, path)| segment::open(&storage::Disk, base, &path).unwrap().1.sealed)
        .map(|sealed| sealed.map(|sealed| sealed.key))
        .collect();
    assert_eq!(keys, [None, Some(id(OLD)), Some(id(NEW)), Some(id(NEW))]);
}

#[test]
fn without_its_key_a_journal_does_not_open_and_says_which_is_missing() {
    let left = killed(&[b"one"]);
    let path = only_segment(left.path());
    let before = std::fs::read(&path).unwrap();
    for (keys, expected) in [
        (None, "is encrypted with key fcce7f74, and no key is given; name the key file"),
        (Some(ring(&[NEW])), "is encrypted with key fcce7f74, which journal.key does not hold"),
    ] {
        let error = Journal::open(JournalOptions { keys: keys.clone(), ..options(left.path()) }, |_| {});
        let error = error.unwrap_err();
        assert!(matches!(error, OpenError::Read(ReadError::Key { .. })), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(expected) && message.starts_with(path.to_str().unwrap()), "{message}");
        let error = Reader::open(left.path(), Offset(0)).unwrap().with_keys(keys).next().unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    assert_eq!(std::fs::read(&path).unwrap(), before, "nothing was changed");
}

#[test]
fn openings_without_a_record_add_no_segments_and_keep_marks() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for (number, lines) in [None, Some([OLD]), Some([OLD]), Some([OLD])].into_iter().enumerate() {
        let keys = lines.map(|lines| ring(&lines));
        let (mut journal, recovery) = open(JournalOptions { keys, ..options(directory.path()) });
        assert_eq!((recovery.segments, recovery.next_offset), (1, Offset(0)));
        assert_eq!(drain(&mut journal.reader(Offset(0))).unwrap(), all);
        if number < 2 {
            let client = format!("pump {number}");
            let mark = Body::Mark(Mark::Released { client: &client, packet_id: 9 });
            append(&mut journal, &mark);
            all.push((None, encoded(&mark)));
        }
        journal.close().unwrap();
    }
    assert!(!holds(directory.path(), b"pump"));
    let (mut journal, _) = open(sealed(directory.path(), &[OLD]));
    journal.append(&publish(b"first"));
    journal.close().unwrap();
    all.push((Some(Offset(0)), encoded(&Body::Record(publish(b"first")))));
    assert_eq!(read_sealed(directory.path(), &[OLD]).unwrap(), all);
}

/// So that no position is ever written twice under one key.
#[test]
fn every_opening_writes_under_a_key_of_its_own() {
    let left = killed(&[b"one", b"torn"]);
    let path = only_segment(left.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let end = frames(&bytes)[3];
    bytes[end + 30..].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let (journal, recovery) = open(sealed(left.path(), &[OLD]));
    assert_eq!((recovery.next_offset, recovery.segments), (Offset(1), 2));
    assert!(recovery.torn.is_some_and(|torn| torn.position == end as u64));
    drop(journal);
    assert_eq!(std::fs::read(&path).unwrap(), bytes[..end], "nothing more was written to it");
    let salts: Vec<[u8; 16]> = segments(left.path())
        .unwrap()
        .into_iter()
        .map(|(base, path)| segment::open(&storage::Disk, base, &path).unwrap().1.sealed.unwrap().salt)
        .collect();
    assert_ne!(salts[0], salts[1]);
}

#[test]
fn any_changed_byte_of_a_sealed_segment_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(sealed(directory.path(), &[OLD]));
    for payload in [b"one", b"two"] {
        journal.append(&publish(payload));
        settle(&journal);
    }
    journal.close().unwrap();
    let path = only_segment(directory.path());
    let whole = std::fs::read(&path).unwrap();
    let frames = frames(&whole);
    let all = read_sealed(directory.path(), &[OLD]).unwrap();
    assert_eq!(frames.len(), 6);
    let damage = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        read_sealed(directory.path(), &[OLD])
    };
    // In the records, by accident and by somebody who mends the checksum.
    for at in 0..frames[4] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(damage(&damaged).is_err(), "byte {at}");
        let frame = frames.iter().rposition(|begin| *begin <= at);
        match frame {
            None => {
                let checksum = crc32c::crc32c(&damaged[..60]);
                damaged[60..64].copy_from_slice(&checksum.to_le_bytes());
                // The checksum itself is whole again then.
                assert_eq!(damage(&damaged).is_err(), at < 60, "byte {at}");
            }
            // A changed length makes another frame of it.
            Some(frame) if at >= frames[frame] + 8 => {
                mend_checksum(&mut damaged[frames[frame]..frames[frame + 1]]);
                let error = damage(&damaged).unwrap_err();
                let ReadError::Damaged(found) = &error else { panic!("byte {at}: {error}") };
                assert_eq!((found.flaw, found.position), (Flaw::Sealed, frames[frame] as u64), "byte {at}");
            }
            Some(_) => {}
        }
    }
    // In the last batch frame, which holds no record: nothing is lost.
    for at in frames[4]..frames[5] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        if let Ok(found) = damage(&damaged) {
            assert_eq!(found, all, "byte {at}");
        }
    }
}

#[test]
fn a_frame_opens_in_its_own_place_only() {
    let (left, other) = (killed(&[b"one", b"two", b"six"]), killed(&[b"one", b"two", b"six"]));
    let path = only_segment(left.path());
    let whole = std::fs::read(&path).unwrap();
    let foreign = std::fs::read(only_segment(other.path())).unwrap();
    let frames = frames(&whole);
    let (one, two) = (frames[1]..frames[2], frames[3]..frames[4]);
    assert_eq!(one.len(), two.len());
    let moved = {
        let mut bytes = whole.clone();
        bytes.copy_within(one.clone(), two.start);
        bytes
    };
    let from_another_segment = {
        let mut bytes = whole.clone();
        bytes[one.clone()].copy_from_slice(&foreign[one.clone()]);
        bytes
    };
    let of_a_plain_segment = {
        let mut bytes = whole[..frames[1]].to_vec();
        let push = |out: &mut Vec<u8>| encode(&publish(b"forged"), out);
        frame::push(&mut bytes, Offset(0), push).unwrap();
        bytes
    };
    for (bytes, begin) in
        [(moved, two.start), (from_another_segment, one.start), (of_a_plain_segment, one.start)]
    {
        std::fs::write(&path, bytes).unwrap();
        let error = Journal::open(sealed(left.path(), &[OLD]), |_| {}).unwrap_err();
        let OpenError::Read(ReadError::Damaged(damage)) = &error else { panic!("{error}") };
        assert_eq!((damage.flaw, damage.position), (Flaw::Sealed, begin as u64), "{error}");
    }
}

/// Who has no key could otherwise write what he likes.
#[test]
fn a_plain_segment_behind_a_sealed_one_is_refused() {
    let (directory, plain) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for _ in 0..2 {
        let (mut journal, _) = open(sealed(directory.path(), &[OLD]));
        journal.append(&publish(b"sealed"));
        journal.close().unwrap();
    }
    let (mut journal, _) = open(options(plain.path()));
    let path = segments(directory.path()).unwrap()[1].1.clone();
    journal.append(&publish(b"forged"));
    journal.close().unwrap();
    let mut forged = std::fs::read(only_segment(plain.path())).unwrap();
    let header = segment::open(&storage::Disk, Offset(1), &path).unwrap().1;
    forged[..64].copy_from_slice(&segment::Header { sealed: None, ..header }.encode());
    std::fs::write(&path, forged).unwrap();
    let error = Journal::open(sealed(directory.path(), &[OLD]), |_| {}).unwrap_err();
    let OpenError::Read(ReadError::Damaged(damage)) = &error else { panic!("{error}") };
    assert_eq!((damage.flaw, &damage.file), (Flaw::Plain, &path));
}

#[test]
fn a_sealed_tail_torn_at_any_byte_leaves_exactly_the_records_before() {
    let payloads: [&[u8]; 3] = [b"one", b"two", b"three"];
    let left = killed(&payloads);
    let path = only_segment(left.path());
    let whole = std::fs::read(&path).unwrap();
    let frames = frames(&whole);
    let all = expected(payloads.iter().map(|payload| Body::Record(publish(payload))));
    for cut in (frames[2]..=frames[6]).step_by(3).chain(frames[2..].iter().copied()) {
        let mut zeroed = whole[..whole.len().min(frames[6] + 600)].to_vec();
        zeroed[cut..].fill(0);
        std::fs::write(&path, &zeroed).unwrap();
        // A frame that ends in zeros may be whole although the cut goes through it.
        let sound = frames.iter().rposition(|end| zeroed[..*end] == whole[..*end]).unwrap();
        let records = sound / 2;
        assert_eq!(read_sealed(left.path(), &[OLD]).unwrap(), all[..records], "cut at {cut}");
        let reader = tempfile::tempdir().unwrap();
        copy_segments(left.path(), reader.path());
        let (mut journal, recovery) = open(sealed(reader.path(), &[OLD]));
        assert_eq!(recovery.next_offset, Offset(records as u64), "cut at {cut}");
        journal.append(&publish(b"next"));
        journal.close().unwrap();
        let mut want = all[..records].to_vec();
        want.push((Some(Offset(records as u64)), encoded(&Body::Record(publish(b"next")))));
        assert_eq!(read_sealed(reader.path(), &[OLD]).unwrap(), want, "cut at {cut}");
    }
}

#[test]
fn damage_to_what_was_durable_is_told_from_a_torn_write() {
    let left = killed(&[b"one", b"two"]);
    let path = only_segment(left.path());
    let whole = std::fs::read(&path).unwrap();
    let frames = frames(&whole);
    for at in (segment::HEADER_BYTES..frames[2]).step_by(5) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let error = Journal::open(sealed(left.path(), &[OLD]), |_| {}).unwrap_err();
        let OpenError::Read(ReadError::Damaged(damage)) = &error else { panic!("{at}: {error}") };
        assert_eq!(damage.position, if at < frames[1] { frames[0] } else { frames[1] } as u64);
    }
}

#[test]
fn batches_and_records_of_any_size_are_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        keys: Some(ring(&[OLD])),
        segment_bytes: 8 << 20,
        ..JournalOptions::new(directory.path(), 1)
    };
    let (mut journal, _) = open(options);
    let large = vec![7; 9 << 20];
    // What gathers while the large one is written is a batch of many pieces.
    let sizes: Vec<usize> = std::iter::once(large.len()).chain((0..4000).map(|n| n % 700)).collect();
    for size in &sizes {
        journal.append(&publish(&large[..*size]));
    }
    journal.close().unwrap();
    let found = read_sealed(directory.path(), &[OLD]).unwrap();
    let want = expected(sizes.iter().map(|size| Body::Record(publish(&large[..*size]))));
    assert!(found == want, "{} of {}", found.len(), want.len());
    for (_, path) in &segments(directory.path()).unwrap()[1..] {
        assert!(std::fs::metadata(path).unwrap().len() <= 8 << 20);
    }
}

/// Made by another program from the description in `docs/journal.md`.
#[test]
fn segments_of_both_format_versions_open_as_they_are_described() {
    let access = Body::Record(Record::Access(Access {
        at: Timestamp::from_second(1).unwrap(),
        event: AccessEvent::Connect,
        origin: Origin { client: "pager", principal: "staff:n.ito", peer: "10.0.0.9:4000" },
        detail: "",
        reason: "",
        state: &[1, 2],
    }));
    let mark = Body::Mark(Mark::Released { client: "pump", packet_id: 9 });
    let mut all = expected([Body::Record(publish(b"first")), mark, access]);
    let (plain, with_key) = (&include_bytes!("format-1.seg")[..], &include_bytes!("format-2.seg")[..]);
    for (bytes, keys) in [(plain, None), (plain, Some(ring(&[OLD]))), (with_key, Some(ring(&[OLD])))] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(segment::file_name(Offset(0))), bytes).unwrap();
        let (mut journal, recovery) = open(JournalOptions { keys, ..options(directory.path()) });
        assert_eq!((recovery.next_offset, recovery.torn), (Offset(2), None));
        assert_eq!(drain(&mut journal.reader(Offset(0))).unwrap(), all);
        journal.append(&publish(b"next"));
        journal.close().unwrap();
        all.push((Some(Offset(2)), encoded(&Body::Record(publish(b"next")))));
        assert_eq!(read_sealed(directory.path(), &[OLD]).unwrap(), all);
        all.pop();
    }
}

#[test]
fn a_snapshot_is_sealed_with_the_journal_and_opens_under_its_own_name_only() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(sealed(directory.path(), &[OLD]));
    let snapshots = journal.snapshots();
    let snapshot = |number| Snapshot { number, offset: Offset(5), state: b"the state of a ward".to_vec() };
    snapshots.write(&snapshot(1)).unwrap();
    snapshots.write(&snapshot(2)).unwrap();
    assert_eq!(snapshots.read(2).unwrap(), snapshot(2));
    journal.close().unwrap();
    let path = directory.path().join(format!("{:020}.snap", 2));
    let whole = std::fs::read(&path).unwrap();
    assert!(!whole.windows(4).any(|window| window == b"ward"));
    // The state of the first in the frame of the second, checksums mended.
    let first = std::fs::read(directory.path().join(format!("{:020}.snap", 1))).unwrap();
    let mut swapped = whole[..32].to_vec();
    swapped.extend_from_slice(&first[32..]);
    let checksum = crc32c::crc32c(&swapped[..44]);
    swapped[44..48].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&path, swapped).unwrap();
    let error = snapshots.read(2).unwrap_err().to_string();
    assert!(error.contains("cannot decrypt") && error.ends_with("it is not what was encrypted"), "{error}");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert!(snapshots.read(2).is_err(), "byte {at}");
    }
    std::fs::write(&path, &whole).unwrap();
    let (rotated, _) = open(sealed(directory.path(), &[NEW, OLD]));
    assert_eq!(rotated.snapshots().read(2).unwrap(), snapshot(2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Sealing changes neither a frame's offset nor its kind, and opens to what it was, at its place only.
    #[test]
    fn frames_come_back_as_they_were_sealed(
        samples in prop::collection::vec(sample(), 1..8),
        position in 0u64..1 << 40,
        elsewhere in 1u64..1 << 40,
        flip in any::<prop::sample::Index>(),
        salt in any::<[u8; 16]>(),
    ) {
        let keys = ring(&[OLD]);
        let key = keys.newest().unwrap();
        let with = seal::SealedWith { key: key.id, salt };
        let key = seal::SegmentKey::derive(key, &with, b"header").unwrap();
        let mut plain = frame::batch(Offset(3), &frame::Batch { salt: 1, position, synced: 2 }).to_vec();
        for (number, sample) in samples.iter().enumerate() {
            let body = encoded(&sample.body());
            let push = |out: &mut Vec<u8>| { out.extend_from_slice(&body); Ok::<_, ()>(()) };
            frame::push(&mut plain, Offset(number as u64), push).unwrap();
        }
        let mut sealed = Vec::new();
        frame::seal_all(&plain, position, &key, &mut sealed).unwrap();
        prop_assert_eq!(sealed.len(), plain.len() + (samples.len() + 1) * TAG_BYTES);
        let (mut at, mut plain) = (0, &plain[..]);
        while let Some((size, want)) = frame::first(plain) {
            let stored = &sealed[at..at + size + TAG_BYTES];
            let found = frame::parse(stored).unwrap();
            prop_assert_eq!((found.offset, found.is_record()), (want.offset, want.is_record()));
            let mut opened = stored.to_vec();
            prop_assert!(frame::open(&mut opened, position + at as u64, &key));
            prop_assert_eq!(frame::parse_trusted(&opened[..size]).unwrap().body, want.body);
            prop_assert!(!frame::open(&mut stored.to_vec(), position + at as u64 + elsewhere, &key));
            let mut changed = stored.to_vec();
            let byte = flip.index(changed.len());
            changed[byte] ^= 1;
            // The checksum is not part of what is sealed.
            let opens = frame::open(&mut changed, position + at as u64, &key);
            prop_assert_eq!(opens, (4..8).contains(&byte));
            at += stored.len();
            plain = &plain[size..];
        }
        prop_assert_eq!(at, sealed.len());
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is in a sealed segment: an answer, never a panic nor memory without bound.
    #[test]
    fn garbage_in_a_sealed_segment_gets_an_answer(
        garbage in prop::collection::vec(any::<u8>(), 0..600),
        at in 0usize..1200,
        mend in any::<bool>(),
    ) {
        let left = killed(&[b"one", b"two"]);
        let path = only_segment(left.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at..at + garbage.len()].copy_from_slice(&garbage);
        if mend && at >= segment::HEADER_BYTES + 4 && garbage.len() >= 24 {
            // A frame of the garbage's length, with a sound checksum.
            let length = (garbage.len() as u32 - 8).to_le_bytes();
            bytes[at..at + 4].copy_from_slice(&length);
            mend_checksum(&mut bytes[at..at + garbage.len()]);
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok((journal, recovery)) = Journal::open(sealed(left.path(), &[OLD]), |_| {}) {
            let found = drain(&mut journal.reader(recovery.first_offset)).unwrap();
            let all = expected([b"one", b"two"].iter().map(|payload| Body::Record(publish(*payload))));
            prop_assert!(all.starts_with(&found));
        }
    }
}
