use std::sync::mpsc;

use super::disk::Fault;
use super::*;

const DIRECTORY: &str = "journal";
/// Longer than a test may take.
const NEVER: Duration = Duration::from_secs(3_600);

fn open_faulty() -> (Journal, SimulatedDisk, mpsc::Receiver<Progress>) {
    let disk = SimulatedDisk::new(1);
    let (told, progress) = mpsc::channel();
    let on_progress = move |progress| drop(told.send(progress));
    let options = options(Path::new(DIRECTORY));
    let (journal, _) = Journal::open_on(Arc::new(disk.clone()), options, on_progress).unwrap();
    (journal, disk, progress)
}

fn wait_for_failure(progress: &mpsc::Receiver<Progress>) -> Failure {
    loop {
        if let Progress::Failed(failure) = progress.recv_timeout(DEADLINE).unwrap() {
            return failure;
        }
    }
}

fn poisons(fault: Fault, doing: &str) {
    let (mut journal, disk, progress) = open_faulty();
    journal.append(&publish(b"safe"));
    settle(&journal);
    disk.set_fault(Some((fault, 0)));
    journal.append(&publish(b"lost"));
    let text = wait_for_failure(&progress).to_string();
    assert!(text.contains(doing) && text.contains("00000.seg") && text.contains("os error 5"), "{text}");

    // The disk is well again, and yet what it holds is unknown.
    disk.set_fault(None);
    let syncs = disk.syncs();
    assert_eq!(journal.append(&publish(b"after")), Offset(2));
    assert!(!journal.wait_entries(journal.entries(), NEVER), "what never comes is not waited for");
    assert!(journal.failure().is_some());
    assert!(journal.close().is_err());
    assert_eq!(disk.syncs(), syncs, "a failed sync is never tried again");
    assert_eq!(journal.durable(), Offset(1));
    assert_eq!(journal.backlog_bytes(), 0, "nothing is kept that will never be written");
    assert!(progress.try_iter().next().is_none(), "nothing is reported after a failure");
    assert_eq!(drain(&mut journal.reader(Offset(0))).unwrap().len(), 1);
}

#[test]
fn a_failed_sync_poisons_the_journal() {
    poisons(Fault::Sync, "sync");
}

#[test]
fn a_failed_write_poisons_the_journal() {
    poisons(Fault::Write, "write");
}

#[test]
fn without_room_for_the_next_segment_pressure_is_full_and_writing_goes_on() {
    let (mut journal, disk, progress) = open_faulty();
    journal.append(&publish(b"first"));
    settle(&journal);
    disk.set_fault(Some((Fault::Preallocate, 0)));
    // Fills the active segment and the spare, one record a batch.
    let payload = [7; 1000];
    let mut durable = 1;
    while journal.pressure() != Pressure::Full {
        journal.append(&publish(&payload));
        settle(&journal);
        durable += 1;
        // The next spare is tried for after the report.
        std::thread::sleep(Duration::from_millis(1));
        assert!(durable < 10);
    }
    assert!(journal.failure().is_none());
    journal.append(&publish(b"an alert still fits"));
    settle(&journal);
    disk.set_fault(None);
    journal.append(&publish(b"room again"));
    settle(&journal);
    while journal.pressure() != Pressure::Normal {
        std::thread::yield_now();
    }
    assert!(journal.close().is_ok());
    assert!(!progress.try_iter().any(|progress| matches!(progress, Progress::Failed(_))));
    assert_eq!(read_all_on(&disk, Path::new(DIRECTORY)).len(), durable + 2);
}

#[test]
fn a_deletion_that_may_not_be_durable_is_made_so_before_the_next() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let open =
            || Journal::open_on(Arc::new(disk.clone()), options(Path::new(DIRECTORY)), |_| ()).unwrap().0;
        let mut journal = open();
        for number in 0..200u64 {
            journal.append(&publish(&number.to_le_bytes()));
            settle(&journal);
        }
        disk.set_fault(Some((Fault::Sync, 0)));
        for _ in 0..3 {
            assert!(journal.release(Offset(u64::MAX)).is_err());
        }
        disk.cut_power();
        disk.set_fault(None);
        drop(journal);
        // Where a later segment were gone and an earlier one back, there would be a gap.
        assert_eq!(open().next_offset(), Offset(200));
    }
}

#[test]
fn a_directory_that_is_removed_or_replaced_is_noticed() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("journal");
    let (mut journal, _) = open(options(&directory));
    journal.append(&publish(b"safe"));
    settle(&journal);
    assert!(journal.inspect().is_ok());
    std::fs::rename(&directory, parent.path().join("moved")).unwrap();
    let failure = journal.inspect().unwrap_err();
    assert!(matches!(failure, Failure::Gone { .. }), "{failure}");
    assert!(failure.to_string().contains("journal was removed or replaced"), "{failure}");
    let (other, _) = open(options(&directory));
    assert!(matches!(journal.inspect(), Err(Failure::Gone { .. })), "another one in its place");
    assert!(other.inspect().is_ok());
}

#[test]
fn a_lock_file_that_is_removed_is_noticed_and_lets_nobody_in() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(options(directory.path()));
    journal.append(&publish(b"safe"));
    settle(&journal);
    let lock = directory.path().join("lock");
    std::fs::remove_file(&lock).unwrap();
    let refused = || Journal::open(options(directory.path()), |_| {}).unwrap_err();
    assert!(matches!(refused(), OpenError::Locked { pid: None, .. }), "{}", refused());
    let failure = journal.inspect().unwrap_err();
    assert!(matches!(failure, Failure::Gone { .. }), "{failure}");
    assert!(failure.to_string().contains("or the file `lock` in it was"), "{failure}");
    std::fs::write(&lock, "1\n").unwrap();
    assert!(matches!(refused(), OpenError::Locked { pid: Some(1), .. }), "{}", refused());
    assert!(matches!(journal.inspect(), Err(Failure::Gone { .. })), "another one in its place");
    journal.close().unwrap();
    assert_eq!(open(options(directory.path())).0.next_offset(), Offset(1));
}

#[test]
fn a_full_disk_at_opening_is_named() {
    let disk = SimulatedDisk::new(1);
    disk.set_fault(Some((Fault::Preallocate, 0)));
    let error = Journal::open_on(Arc::new(disk), options(Path::new(DIRECTORY)), |_| {}).unwrap_err();
    assert!(matches!(error, OpenError::DiskFull { .. }), "{error}");
}

#[test]
fn what_the_disk_says_at_opening_is_sorted_by_what_mends_it() {
    let sorted = |number| OpenError::io("write", "journal", std::io::Error::from_raw_os_error(number));
    assert!(matches!(sorted(28), OpenError::DiskFull { .. }), "ENOSPC");
    assert!(matches!(sorted(13), OpenError::NotWritable { .. }), "EACCES");
    assert!(matches!(sorted(30), OpenError::NotWritable { .. }), "EROFS");
    assert!(matches!(sorted(5), OpenError::Io { .. }), "EIO");
}

#[test]
fn a_record_too_large_fails_the_journal_behind_what_came_before() {
    let (mut journal, disk, progress) = open_faulty();
    journal.append(&publish(b"before"));
    journal.append(&publish(&vec![0; RECORD_BYTES_MAX]));
    journal.append(&publish(b"behind"));
    assert!(matches!(wait_for_failure(&progress), Failure::RecordTooLarge(_)));
    assert_eq!(journal.durable(), Offset(1));
    drop(journal);
    assert_eq!(read_all_on(&disk, Path::new(DIRECTORY)).len(), 1);
}

#[test]
fn a_panic_of_the_callback_is_a_failure_and_not_a_silence() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(options(directory.path()), |_| panic!("deliberately")).unwrap();
    journal.append(&publish(b""));
    assert!(matches!(journal.close(), Err(Failure::WriterEnded)));
}

#[test]
fn closing_makes_everything_durable_and_later_appends_are_let_go() {
    for commit in [Commit::Always, Commit::Interval(Duration::from_secs(3600)), Commit::Off] {
        let disk = SimulatedDisk::new(1);
        let options = JournalOptions { commit, ..options(Path::new(DIRECTORY)) };
        let (mut journal, _) = Journal::open_on(Arc::new(disk.clone()), options, |_| {}).unwrap();
        for number in 0..100u8 {
            journal.append(&publish(&[number]));
        }
        let clone = journal.clone();
        clone.close().unwrap();
        journal.append(&publish(b"too late"));
        assert!(!journal.wait_entries(journal.entries(), NEVER), "what never comes is not waited for");
        assert_eq!((journal.durable(), journal.next_offset()), (Offset(100), Offset(101)));
        disk.cut_power();
        assert_eq!(read_all_on(&disk, Path::new(DIRECTORY)).len(), 100, "{commit}");
    }
}
