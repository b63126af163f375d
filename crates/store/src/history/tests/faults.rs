//! Files that are damaged, foreign or gone, and more than can be written.

use std::os::unix::fs::FileExt;

use rusqlite::Connection;

use super::*;
use crate::history::queue::MAX_WAITING;
use crate::history::{ReadError, file};

fn gaps(bench: &Bench) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    bench
        .rows(Kind::Gaps)
        .iter()
        .map(|gap| format!("{} {}: {}", text(&gap["why"]), text(&gap["from"]), text(&gap["message"])))
        .collect()
}

#[test]
fn a_damaged_file_is_moved_aside_and_a_new_one_begun() {
    let dir = TempDir::new().expect("a temporary folder");
    for (nth, rubbish) in [
        "this is no database at all, and long enough to be sure".repeat(100),
        format!("SQLite format 3\0{}", "y".repeat(9_000)),
    ]
    .iter()
    .enumerate()
    {
        std::fs::write(dir.path().join("history.db"), rubbish).expect("written");
        let start = Start { now: at(0), journal_last: 7 };
        let (history, found) = History::open(&dir.path().join("history.db"), Limits::default(), start);
        let to = format!("history.db.damaged-{}", nth + 1);
        assert!(matches!(&found, Found::MovedAside { to: moved, .. } if *moved == to), "{found:?}");
        assert_eq!(std::fs::read_to_string(dir.path().join(&to)).expect("it is kept"), *rubbish);
        history.take(8, at(1), vec![audit(1, "paused")]);
        history.flush();
        let gaps = history.read(&Query::of(Kind::Gaps)).expect("it is read").rows;
        assert_eq!((gaps.len(), &gaps[0]["why"], &gaps[0]["from"]), (1, &"moved_aside".into(), &Value::Null));
        assert!(gaps[0]["message"].as_str().is_some_and(|text| text.contains(&to)), "{gaps:#?}");
        assert_eq!(history.read(&Query::of(Kind::Audit)).expect("it is read").rows.len(), 1);
        history.close();
    }
}

#[test]
fn a_file_of_a_newer_version_or_of_somebody_else_is_moved_aside_whole() {
    for (sql, said) in [
        ("PRAGMA user_version = 9", "newer"),
        ("PRAGMA application_id = 9", "no history"),
        ("DROP TABLE runs", "damaged"),
    ] {
        let mut bench = Bench::new();
        bench.take(0, vec![audit(0, "paused")]);
        let dir = bench.stop();
        Connection::open(dir.path().join("history.db"))
            .and_then(|file| file.execute_batch(sql))
            .expect("it is changed");
        let bench = Bench::over(dir, Limits::default(), 1, 5);
        assert!(matches!(&bench.found, Found::MovedAside { why, .. } if why.contains(said)), "{:?}", bench.found);
        assert!(bench.rows(Kind::Audit).is_empty());
        let old = Connection::open(bench.dir.path().join("history.db.damaged-1")).expect("it opens");
        let kept: i64 = old.query_one("SELECT count(*) FROM audit", [], |row| row.get(0)).expect("it is whole");
        assert_eq!(kept, 1);
    }
}

#[test]
fn a_file_that_is_gone_leaves_a_gap_only_if_there_was_state() {
    let mut bench = Bench::new();
    bench.take(0, vec![audit(0, "paused")]);
    let dir = bench.stop();
    std::fs::remove_file(dir.path().join("history.db")).expect("it is removed");
    let bench = Bench::over(dir, Limits::default(), 1, 5);
    bench.history.flush();
    assert_eq!(bench.found, Found::Missing);
    assert_eq!(gaps(&bench), ["missing -: its file was gone; what was before is lost"]);
}

#[test]
fn damage_that_is_met_while_running_is_moved_aside_too() {
    let mut bench = Bench::new();
    let lines = |from: i64| (from..from + 2_000).map(|nth| audit(nth, &"x".repeat(500))).collect::<Vec<_>>();
    bench.take(0, lines(0));
    let last = bench.sequence;
    let dir = bench.stop();
    let path = dir.path().join("history.db");
    let size = std::fs::metadata(&path).expect("it is there").len();
    let raw = std::fs::File::options().write(true).open(&path).expect("it opens");
    // the middle: what is looked at when it is opened stays good
    raw.write_all_at(&vec![0xa5; 64 << 10], size / 2).expect("written");
    drop(raw);
    let mut bench = Bench::over(dir, Limits::default(), last, 5);
    assert_eq!(bench.found, Found::Good);
    let mut query = Query { limit: 500, ..Query::of(Kind::Audit) };
    let damaged = loop {
        match bench.history.read(&query) {
            Ok(Page { next: Some(next), .. }) => query.cursor = Some(next),
            Ok(_) => panic!("the damage was not met"),
            Err(error) => break error,
        }
    };
    assert!(matches!(damaged, ReadError::Damaged(_)), "{damaged}");
    bench.take(9, vec![audit(9, "paused")]);
    assert_eq!(bench.rows(Kind::Audit).len(), 1);
    assert!(gaps(&bench)[0].starts_with("moved_aside -: it is damaged"), "{:?}", gaps(&bench));
    assert!(matches!(bench.history.read(&query), Err(ReadError::BadCursor(_))), "the cursor is the old file's");
}

/// Holds the file as another program could.
fn hold(bench: &Bench) -> Connection {
    let other = Connection::open(bench.path()).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("it is held");
    other
}

#[test]
fn more_than_can_wait_is_dropped_counted_and_told() {
    let mut bench = Bench::new();
    bench.take(0, vec![audit(0, "before")]);
    let other = hold(&bench);
    let many = |seconds: i64, count: usize| (0..count).map(|_| audit(seconds, "many")).collect::<Vec<_>>();
    let mut sequence = bench.sequence;
    // the writer may have taken some of it before it was held up
    for seconds in 10..14 {
        sequence += 1;
        bench.history.take(sequence, at(seconds), many(seconds, MAX_WAITING / 2 + 1));
    }
    let dropped = bench.history.dropped();
    assert!(dropped > MAX_WAITING as u64 / 2, "{dropped}");
    other.execute_batch("ROLLBACK").expect("it is let go");
    bench.history.flush();
    bench.sequence = sequence;
    bench.take(20, vec![audit(20, "after")]);
    // one, or two if the writer took something in between
    let gaps = bench.rows(Kind::Gaps);
    assert!(gaps.iter().all(|gap| gap["why"] == "queue_full"), "{gaps:#?}");
    assert_eq!(gaps.iter().filter_map(|gap| gap["dropped"].as_u64()).sum::<u64>(), dropped);
    let page = bench.page(&Query::of(Kind::Audit));
    assert_eq!(
        (&page.rows[0]["what"], &page.gaps),
        (&"after".into(), &gaps),
        "the gap is shown with what is asked for"
    );
    let later = bench.page(&Query { since: Some(at(15)), ..Query::of(Kind::Audit) });
    assert!(later.gaps.is_empty(), "but not beside a time it has nothing to do with");
    assert_eq!(bench.rows(Kind::Alerts).len(), 0);
}

#[test]
fn a_disk_that_is_full_loses_what_came_meanwhile_and_no_more() {
    let mut bench = Bench::new();
    bench.take(0, vec![audit(0, "before")]);
    let dir = bench.dir.path().to_owned();
    // stands for a full disk: a table that takes nothing
    let other = Connection::open(dir.join("history.db")).expect("it opens");
    other
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
        )
        .expect("made");
    bench.take(5, vec![audit(5, "lost"), show(&alert("HighCpu", "web", AlertStateWord::Firing, 5))]);
    bench.take(6, vec![audit(6, "lost too")]);
    assert_eq!(bench.history.dropped(), 3);
    assert!(bench.rows(Kind::Alerts).is_empty(), "a batch is taken whole or not");
    other.execute_batch("DROP TRIGGER full").expect("dropped");
    bench.take(7, vec![audit(7, "after")]);
    let told: Vec<_> = bench.rows(Kind::Audit).iter().map(|row| row["what"].clone()).collect();
    assert_eq!(told, ["after", "before"]);
    // the first may be written down before the second happens
    let gaps = bench.rows(Kind::Gaps);
    assert_eq!(gaps.iter().filter_map(|gap| gap["dropped"].as_u64()).sum::<u64>(), 3, "{gaps:#?}");
    assert!(gaps.iter().all(|gap| gap["why"] == "write_failed"), "{gaps:#?}");
    assert_eq!(gaps[gaps.len() - 1]["from"], "2026-11-23T20:00:05.000Z");
    assert_eq!(gaps[0]["message"], "it could not be written: database or disk is full");
}

#[test]
fn a_folder_that_cannot_be_written_stops_nothing_and_is_tried_again() {
    let dir = TempDir::new().expect("a temporary folder");
    // a folder in its place cannot be opened as a file
    std::fs::create_dir(dir.path().join("history.db")).expect("made");
    let mut bench = Bench::over(dir, Limits::default(), 0, 0);
    assert!(matches!(bench.found, Found::Unavailable { .. }), "{:?}", bench.found);
    bench.take(1, vec![audit(1, "lost")]);
    assert!(matches!(bench.history.read(&Query::of(Kind::Audit)), Err(ReadError::Unavailable(_))));
    std::fs::remove_dir(bench.path()).expect("removed");
    bench.take(60, vec![audit(60, "taken")]);
    assert_eq!(bench.rows(Kind::Audit).len(), 1);
    assert_eq!(bench.rows(Kind::Gaps)[0]["dropped"], 1);
}

#[test]
fn the_reader_does_not_wait_for_the_writer_and_cannot_write() {
    let mut bench = Bench::new();
    bench.take(0, vec![audit(0, "before")]);
    let _other = hold(&bench);
    assert_eq!(bench.rows(Kind::Audit).len(), 1);
    let reader = file::open_to_read(&bench.path()).expect("it opens");
    assert!(reader.execute_batch("DELETE FROM audit").is_err());
}
