use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::repair::repair;
use crate::retention::retain;
use crate::snapshot::{KEPT, Snapshot, Snapshots};
use crate::{Store, StoreError, StoreOptions};
use selfheal_engine::Input;
use selfheal_model::{Bytes, Event, EventKind, Labels, Origin, Timestamp};
use selfheal_policy::{Durability, Keep};

fn batch(number: i64) -> Batch {
    let at = Timestamp::from_millis(1_000 * number);
    let kind = EventKind::Metric { name: "n".into(), value: number as f64, labels: Labels::default() };
    let mut batch = Batch::begin(at);
    batch.take_in(
        at,
        &Input::Events(vec![Event { deployment: "web".into(), time: at, kind, origin: Origin::External }]),
    );
    batch
}

fn options(segment_bytes: u64) -> StoreOptions {
    StoreOptions { durability: Durability::Sync, limits: Limits { segment_bytes, ..Limits::default() } }
}

fn journal(store: &Store, options: StoreOptions, last: u64) -> SqliteJournal {
    store.journal(options, last, Box::new(|| {})).expect("the folder can be written")
}

fn sequences(store: &Store, after: u64) -> Vec<u64> {
    store.tail(after).expect("a tail").map(|batch| batch.expect("readable").sequence).collect()
}

fn append(journal: &mut SqliteJournal, numbers: std::ops::RangeInclusive<i64>) {
    for number in numbers {
        let appended = journal.append(&batch(number)).expect("there is room");
        assert_eq!(appended.sequence, number.cast_unsigned());
    }
}

#[test]
fn batches_are_numbered_and_read_back_in_order_over_lives_and_segments() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::at(dir.path());
    store.open().expect("a new folder");
    let mut first = journal(&store, options(200), 0);
    append(&mut first, 1..=20);
    // an abrupt end: nothing is closed in order
    std::mem::forget(first);
    assert_eq!(sequences(&store, 0), (1..=20).collect::<Vec<_>>());
    let mut second = journal(&store, options(200), 20);
    append(&mut second, 21..=25);
    assert_eq!(second.last_sequence(), 25);
    drop(second);
    assert_eq!(sequences(&store, 0), (1..=25).collect::<Vec<_>>());
    assert_eq!(sequences(&store, 17), (18..=25).collect::<Vec<_>>());
    assert_eq!(store.tail(17).and_then(|tail| tail.to_come()), Ok(8));
    assert!(segments(&store.journal_dir()).expect("readable").len() > 4, "small segments are many");
}

#[test]
fn a_closed_segment_is_told_and_stands_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::at(dir.path());
    let closed = Arc::new(AtomicUsize::new(0));
    let counter = closed.clone();
    let told = Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let mut journal = store.journal(options(1), 0, told).expect("writable");
    append(&mut journal, 1..=3);
    assert_eq!(closed.load(Ordering::SeqCst), 2);
    drop(journal);
    for name in segments(&store.journal_dir()).expect("readable") {
        let log = beside(&name.path, "-wal");
        assert!(!log.exists() || log.metadata().is_ok_and(|log| log.len() == 0), "{}", log.display());
    }
}

#[test]
fn a_copy_taken_at_any_moment_has_all_that_was_appended() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::at(&dir.path().join("live"));
    for durability in [Durability::Sync, Durability::Interval(Duration::from_millis(5))] {
        let start = sequences(&store, 0).len() as u64;
        let mut live = journal(&store, StoreOptions { durability, ..options(300) }, start);
        for number in 1..=10 {
            append(&mut live, start.cast_signed() + number..=start.cast_signed() + number);
            let copy = dir.path().join(format!("copy-{start}-{number}"));
            std::fs::create_dir_all(copy.join("journal")).expect("made");
            for file in std::fs::read_dir(store.journal_dir()).expect("readable").flatten() {
                // what the maintenance has just renamed or removed is of no segment
                let _ = std::fs::copy(file.path(), copy.join("journal").join(file.file_name()));
            }
            assert_eq!(sequences(&Store::at(&copy), 0).len() as u64, start + number.cast_unsigned());
        }
    }
}

#[test]
fn no_room_is_refused_and_the_same_batch_goes_in_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::at(dir.path());
    let mut journal = journal(&store, options(u64::MAX), 0);
    append(&mut journal, 1..=1);
    journal.limit_pages(Some(4));
    let refused = (2..2_000).find_map(|number| journal.append(&batch(number)).err()).expect("the file is full");
    assert!(matches!(&refused, JournalError::Refused(why) if why.contains("no space")), "{refused}");
    let last = journal.last_sequence();
    journal.limit_pages(None);
    assert_eq!(journal.append(&batch(7)).map(|appended| appended.sequence), Ok(last + 1));
    assert_eq!(journal.reopen(), Ok(last + 1));
    assert_eq!(journal.append(&batch(8)).map(|appended| appended.sequence), Ok(last + 2));
    drop(journal);
    assert_eq!(sequences(&store, 0), (1..=last + 2).collect::<Vec<_>>());
}

#[test]
fn a_damaged_segment_is_refused_and_repair_salvages_what_comes_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::at(dir.path());
    store.open().expect("a new folder");
    let mut journal = journal(&store, options(400), 0);
    append(&mut journal, 1..=60);
    drop(journal);
    assert!(repair(&store).expect("readable").is_whole());
    let names = segments(&store.journal_dir()).expect("readable");
    let victim = &names[names.len() / 2];
    let mut bytes = std::fs::read(&victim.path).expect("readable");
    let place = bytes.len() - 40;
    bytes[place..].fill(0xab);
    std::fs::write(&victim.path, bytes).expect("writable");

    let error = store.tail(0).expect("a tail").find_map(Result::err).expect("it is damaged");
    let told = error.to_string();
    assert!(told.contains("selfheal repair") && told.contains(&*victim.path.to_string_lossy()), "{told}");

    let report = repair(&store).expect("it can be repaired");
    assert!(!report.is_whole() && report.unusable > 0 && !report.moved.is_empty(), "{report:?}");
    assert!(report.moved.iter().all(|file| file.exists()), "nothing is deleted");
    let kept = sequences(&store, 0);
    assert_eq!(kept, (1..=report.kept).collect::<Vec<_>>());
    assert!(report.kept >= victim.first - 1);
    assert!(repair(&store).expect("readable").is_whole(), "a second repair finds nothing");
}

#[test]
fn a_missing_segment_is_said_with_what_is_missing() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::at(dir.path());
    let mut journal = journal(&store, options(1), 0);
    append(&mut journal, 1..=5);
    drop(journal);
    segments(&store.journal_dir()).expect("readable")[2].remove().expect("removed");
    let found: Vec<_> = store.tail(0).expect("a tail").collect();
    assert_eq!(found.len(), 3);
    assert!(matches!(found[2], Err(StoreError::Missing { from: 3, to: 3, .. })), "{:?}", found[2]);
}

#[test]
fn what_a_later_version_wrote_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("format"), "7\n").expect("writable");
    let error = Store::at(dir.path()).open().err().expect("refused").to_string();
    assert!(error.contains("later version") && error.contains('7'), "{error}");
}

#[test]
fn the_newest_snapshot_counts_and_a_damaged_one_is_passed_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::at(dir.path());
    let snapshot = |sequence: u64| Snapshot {
        sequence,
        at: Timestamp::from_millis(9),
        state: (0..3_000_000).map(|n: u64| ((n * sequence) >> 3) as u8).collect(),
    };
    for sequence in [3, 5, 9] {
        store.snapshots().write(&snapshot(sequence)).expect("there is room");
    }
    assert_eq!(store.snapshots().to_recover_from(), Ok(vec![5, 9]));
    assert_eq!(KEPT, 2);
    let newest = dir.path().join("snapshot").join(format!("{:020}.db", 9));
    let length = newest.metadata().expect("there").len();
    std::fs::File::options().write(true).open(&newest).and_then(|file| file.set_len(length / 2)).expect("cut");
    let mut opened = store.open().expect("it opens");
    let mut notes = Vec::new();
    assert_eq!(opened.snapshots.next(&mut notes), Some(snapshot(5)));
    assert!(notes[0].contains("passed over"), "{notes:?}");
    assert_eq!(opened.snapshots.next(&mut notes), Some(snapshot(3)), "what the past begins with is a last resort");
    assert_eq!(opened.snapshots.next(&mut notes), None);
    // what an abrupt end left behind is no snapshot
    std::fs::write(dir.path().join("snapshot/unfinished"), "half").expect("written");
    assert_eq!(Snapshots::of(dir.path().join("snapshot")).sequences(), Ok(vec![3, 5, 9]));
}

#[test]
fn older_snapshots_go_with_the_journal_that_goes_on_from_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::at(dir.path());
    append(&mut journal(&store, options(1), 0), 1..=20);
    for sequence in [3_u64, 9, 15, 19] {
        let at = Timestamp::from_millis(1_000 * sequence.cast_signed());
        store.snapshots().write(&Snapshot { sequence, at, state: vec![0; 100] }).expect("there is room");
    }
    let keep = |seconds| Keep { age: Duration::from_secs(seconds), size: Bytes(u64::MAX) };
    let now = Timestamp::from_millis(20_000);
    let begins = |at| store.snapshots_until(Timestamp::from_millis(at)).map(|mut found| found.next(&mut Vec::new()));
    assert_eq!(retain(&store, keep(60), now), Ok(1), "all of it is young");
    assert_eq!(store.snapshots().sequences(), Ok(vec![3, 9, 15, 19]));
    assert_eq!(begins(10_000).map(|one| one.map(|one| one.sequence)), Ok(Some(9)));
    assert_eq!(store.reaches_back_to(), Ok(Some(Timestamp::from_millis(1_000))));
    assert_eq!(retain(&store, keep(13), now), Ok(7));
    assert_eq!(store.snapshots().sequences(), Ok(vec![9, 15, 19]));
    assert_eq!(store.reaches_back_to(), Ok(Some(Timestamp::from_millis(9_000))));
    assert_eq!(begins(8_999), Ok(None));
    // two snapshots, and all of the journal after the older one, are kept whatever is said
    assert_eq!(retain(&store, Keep { age: Duration::ZERO, size: Bytes(0) }, now), Ok(16));
    assert_eq!(store.snapshots().sequences(), Ok(vec![15, 19]));
}

#[test]
fn a_policy_is_kept_as_long_as_it_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let policies = Store::at(dir.path()).open().expect("it opens").policies;
    policies.put("a", b"first", 1).expect("written");
    policies.put("b", b"second", 4).expect("written");
    policies.put("a", b"first again", 3).expect("written");
    assert_eq!(policies.get("a"), Ok(Some(b"first".to_vec())));
    assert_eq!(policies.named_since(4), Ok(["b".to_owned()].into()));
    policies.retain(&["b".to_owned()].into()).expect("written");
    assert_eq!((policies.get("a"), policies.versions()), (Ok(None), Ok(["b".to_owned()].into())));
}
