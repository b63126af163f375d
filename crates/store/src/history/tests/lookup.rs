//! Filters and pages.

use super::*;
use crate::history::ReadError;

#[test]
fn pages_are_complete_and_without_repeats_while_rows_come_in() {
    let mut bench = Bench::new();
    for nth in 0..25 {
        bench.take(nth, vec![show(&alert(&format!("Rule{nth}"), "web", AlertStateWord::Firing, nth))]);
    }
    let mut query = Query { limit: 10, ..Query::of(Kind::Alerts) };
    let mut seen = Vec::new();
    for round in 0.. {
        let page = bench.page(&query);
        assert!(page.rows.len() <= 10);
        seen.extend(page.rows.iter().map(|row| row["alert"].as_str().unwrap_or_default().to_owned()));
        // new ones come in above, and one below changes
        bench.take(100 + round, vec![show(&alert(&format!("New{round}"), "web", AlertStateWord::Firing, 100))]);
        let mut changed = alert("Rule3", "web", AlertStateWord::Resolved, 3);
        changed.ended_at = Some(at(100 + round));
        bench.take(100 + round, vec![show(&changed)]);
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    let expected: Vec<_> = (0..25).rev().map(|nth| format!("Rule{nth}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_cursor_of_another_walk_or_of_no_walk_is_refused() {
    let mut bench = Bench::new();
    for nth in 0..3 {
        bench.take(nth, vec![audit(nth, "paused")]);
    }
    let first = Query { limit: 1, ..Query::of(Kind::Audit) };
    let next = bench.page(&first).next;
    assert!(next.is_some());
    let other = Query { cursor: next, ..Query::of(Kind::Alerts) };
    assert!(matches!(bench.history.read(&other), Err(ReadError::BadCursor(_))));
    for nonsense in ["", "17", "AAAA", "not base64 at all"] {
        let query = Query { cursor: Some(nonsense.to_owned()), ..first.clone() };
        assert!(matches!(bench.history.read(&query), Err(ReadError::BadCursor(_))), "{nonsense}");
    }
}

#[test]
fn filters_choose_and_time_means_what_was_going_on() {
    let mut bench = Bench::new();
    let mut old = alert("HighCpu", "web", AlertStateWord::Resolved, 0);
    old.ended_at = Some(at(10));
    let long = alert("DiskFull", "web", AlertStateWord::Firing, 5);
    let new = alert("HighCpu", "db", AlertStateWord::Firing, 100);
    bench.take(0, vec![show(&old)]);
    bench.take(5, vec![show(&long), show_run(&ended(run("web-1", "running", 5), "cured", 9))]);
    bench.take(100, vec![show(&new), show_run(&run("web-2", "verifying", 100)), delivery("d1", "delivered", 1)]);
    let alerts = |change: fn(&mut Query)| {
        let mut query = Query::of(Kind::Alerts);
        change(&mut query);
        let rows = bench.page(&query).rows;
        rows.iter().map(|row| row["id"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(alerts(|query| query.deployment = Some("web".to_owned())), ["DiskFull-web", "HighCpu-web"]);
    assert_eq!(alerts(|query| query.rule = Some("HighCpu".to_owned())), ["HighCpu-db", "HighCpu-web"]);
    assert_eq!(alerts(|query| query.state = Some("resolved".to_owned())), ["HighCpu-web"]);
    assert_eq!(alerts(|query| query.alert = Some("HighCpu-db".to_owned())), ["HighCpu-db"]);
    assert_eq!(alerts(|query| query.since = Some(at(50))), ["HighCpu-db", "DiskFull-web"]);
    assert_eq!(alerts(|query| query.until = Some(at(100))), ["DiskFull-web", "HighCpu-web"]);

    let runs = |state: &str| {
        let rows = bench.page(&Query { state: Some(state.to_owned()), ..Query::of(Kind::Runs) }).rows;
        rows.iter().map(|row| row["id"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((runs("cured"), runs("verifying")), (vec!["web-1".to_owned()], vec!["web-2".to_owned()]));
    let of_alert = Query { alert: Some("HighCpu-web".to_owned()), ..Query::of(Kind::Runs) };
    assert_eq!(bench.page(&of_alert).rows.len(), 2);
    assert_eq!(bench.page(&Query { state: Some("delivered".to_owned()), ..Query::of(Kind::Deliveries) }).rows.len(), 1);
}

#[test]
fn a_page_of_large_rows_is_cut_and_goes_on() {
    let mut bench = Bench::new();
    for nth in 0..8 {
        let mut view = ended(run(&format!("web-{nth}"), "running", nth), "done", nth);
        view.steps = vec![step("one", "done")];
        view.steps[0].log = Some("x".repeat(1 << 20));
        bench.take(nth, vec![show_run(&view)]);
    }
    let first = bench.page(&Query::of(Kind::Runs));
    assert!((1..8).contains(&first.rows.len()), "{}", first.rows.len());
    let second = bench.page(&Query { cursor: first.next, ..Query::of(Kind::Runs) });
    assert_eq!((first.rows.len() + second.rows.len(), second.next), (8, None));
}
