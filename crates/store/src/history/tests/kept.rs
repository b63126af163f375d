//! Retention.

use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::history::record::MAX_TRANSITIONS;

const DAY: i64 = 24 * 3600;

fn count(bench: &Bench, table: &str) -> i64 {
    let file = Connection::open(bench.path()).expect("it opens");
    file.query_one(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("it counts")
}

/// Takes batches a minute apart until the limits have been looked at often enough.
fn pass_time(bench: &mut Bench, from: i64) {
    for minute in 1..=5 {
        bench.take(from + minute * 61, vec![policy("p1", 0)]);
    }
}

#[test]
fn what_ended_long_ago_goes_and_what_goes_on_stays() {
    let mut bench = Bench::with(Limits { max_age: Duration::from_secs(7 * 24 * 3600), ..Limits::default() });
    let open = alert("DiskFull", "web", AlertStateWord::Firing, 0);
    let mut closed = alert("HighCpu", "web", AlertStateWord::Resolved, 0);
    closed.ended_at = Some(at(5));
    let mut repair = ended(run("web-1", "running", 1), "cured", 5);
    repair.steps = vec![step("one", "done")];
    bench.take(5, vec![show(&open), show(&closed), show_run(&repair), audit(5, "paused"), policy("p1", 0)]);
    pass_time(&mut bench, 6 * DAY);
    assert_eq!(bench.rows(Kind::Alerts).len(), 2, "not yet");
    pass_time(&mut bench, 8 * DAY);
    let left = bench.rows(Kind::Alerts);
    assert_eq!((left.len(), &left[0]["alert"]), (1, &"DiskFull".into()));
    assert_eq!((count(&bench, "transitions"), count(&bench, "steps"), count(&bench, "audit")), (1, 0, 0));
    assert_eq!(bench.rows(Kind::Policies).len(), 1, "the live policy stays");
}

#[test]
fn too_many_rows_lose_the_oldest() {
    let mut bench = Bench::with(Limits { max_rows: 100, ..Limits::default() });
    // more than one step deletes
    bench.take(0, (0..1_300).map(|nth| audit(nth, &format!("line {nth}"))).collect());
    bench.take(2_000, vec![audit(2_000, "the last")]);
    pass_time(&mut bench, 2_000);
    let page = bench.page(&Query { limit: 500, ..Query::of(Kind::Audit) });
    assert_eq!((page.rows.len(), page.next), (100, None));
    assert_eq!((&page.rows[0]["what"], &page.rows[99]["what"]), (&"the last".into(), &"line 1201".into()));
}

#[test]
fn a_file_that_is_too_large_gives_its_space_back() {
    let limits = Limits { max_bytes: 1 << 20, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for nth in 0..4_000 {
        bench.history.take(nth + 1, at(1), vec![audit(1, &format!("{nth} {}", "x".repeat(2_000)))]);
    }
    bench.sequence = 4_000;
    bench.history.flush();
    for hour in 1..=40 {
        pass_time(&mut bench, hour * 3_600);
    }
    let newest = bench.rows(Kind::Audit)[0]["what"].as_str().unwrap_or_default().to_owned();
    assert!(newest.starts_with("3999 "), "{newest:.20}");
    let path = bench.path();
    let _dir = bench.stop();
    let bytes = std::fs::metadata(path).expect("it is there").len();
    assert!(bytes <= limits.max_bytes, "{bytes} bytes are left");
}

#[test]
fn an_alert_that_flaps_forever_keeps_its_newest_moves() {
    let mut bench = Bench::new();
    let mut view = alert("HighCpu", "web", AlertStateWord::Firing, 0);
    let flaps = u32::try_from(MAX_TRANSITIONS).expect("it fits") + 50;
    let changes = (0..flaps)
        .map(|relapse| {
            view.relapse = relapse;
            show(&view)
        })
        .collect();
    bench.take(0, changes);
    assert_eq!(count(&bench, "transitions"), MAX_TRANSITIONS);
    let row = bench.rows(Kind::Alerts).remove(0);
    let shown = row["transitions"].as_array().cloned().unwrap_or_default();
    assert_eq!((shown.len(), row["earlier_transitions"].as_u64()), (100, Some(u64::from(flaps) - 100)));
    assert_eq!(shown[99]["relapse"], flaps - 1);
}
