//! What becomes of views that come again, changed or not.

use super::*;
use selfheal_contract::Guard;

#[test]
fn an_episode_is_one_row_with_every_move_and_why() {
    let mut bench = Bench::new();
    assert_eq!(bench.found, Found::Nothing);
    let mut view = alert("HighCpu", "web", AlertStateWord::Pending, 0);
    bench.take(0, vec![show(&view)]);
    view.state = AlertStateWord::Firing;
    view.fired_at = Some(at(60));
    bench.take(60, vec![show(&view)]);
    // figures alone are the row's, and no move
    view.value = Some(95.0);
    bench.take(61, vec![show(&view)]);
    view.severity = Severity::Critical;
    view.suppressed = Some("shadow".into());
    bench.take(70, vec![show(&view)]);
    view.suppressed = None;
    view.without_data = true;
    bench.take(80, vec![show(&view)]);
    view.without_data = false;
    view.error = Some("no such metric".to_owned());
    bench.take(90, vec![show(&view)]);
    view.error = None;
    view.state = AlertStateWord::Resolved;
    view.ended_at = Some(at(100));
    bench.take(100, vec![show(&view)]);
    view.state = AlertStateWord::Firing;
    view.relapse = 1;
    view.ended_at = None;
    bench.take(110, vec![show(&view)]);
    view.state = AlertStateWord::Ended;
    view.ended_at = Some(at(120));
    bench.take(120, vec![show(&view)]);
    assert_eq!(
        bench.moves(),
        [
            "- -> pending: its condition began to hold",
            "pending -> firing: its condition held long enough",
            "firing -> firing: its severity went from warning to critical; it is held back: shadow",
            "firing -> firing: it is no longer held back by shadow; its data is missing",
            "firing -> firing: its data is back; its script fails: no such metric",
            "firing -> resolved: its condition no longer holds; its script works again",
            "resolved -> firing: its condition holds again (relapse 1)",
            "firing -> ended: its rule or scope is gone",
        ]
    );
    let rows = bench.rows(Kind::Alerts);
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["value"], &rows[0]["state"], &rows[0]["deployment"]),
        (&95.0.into(), &"ended".into(), &"web".into())
    );
    assert_eq!(rows[0]["transitions"][1]["at"], "2026-11-23T20:01:00.000Z");
    assert_eq!(rows[0]["transitions"][3]["value"], 95.0);

    bench.take(200, vec![show(&alert("HighCpu", "web", AlertStateWord::Firing, 200))]);
    assert_eq!(bench.rows(Kind::Alerts).len(), 2, "the next episode is a row of its own");
    assert_eq!(bench.moves(), ["- -> firing: its condition holds"]);
}

#[test]
fn a_pending_alert_that_goes_says_that_it_never_fired() {
    let mut bench = Bench::new();
    let mut view = alert("HighCpu", "web", AlertStateWord::Pending, 0);
    bench.take(0, vec![show(&view)]);
    view.state = AlertStateWord::Resolved;
    view.ended_at = Some(at(5));
    bench.take(5, vec![show(&view)]);
    assert_eq!(bench.moves()[1], "pending -> resolved: its condition went before it fired");
}

#[test]
fn a_batch_that_comes_again_is_left_out() {
    let mut bench = Bench::new();
    let mut view = alert("HighCpu", "web", AlertStateWord::Pending, 0);
    bench.take(0, vec![show(&view), audit(0, "paused")]);
    view.state = AlertStateWord::Firing;
    bench.take(1, vec![show(&view), audit(1, "resumed")]);
    let before = bench.rows(Kind::Alerts);

    let mut bench = bench.again(2, 10);
    assert_eq!(bench.found, Found::Good);
    bench.sequence = 0;
    view.state = AlertStateWord::Pending;
    bench.take(0, vec![show(&view), audit(0, "paused")]);
    view.state = AlertStateWord::Firing;
    bench.take(1, vec![show(&view), audit(1, "resumed")]);
    assert_eq!(bench.rows(Kind::Alerts), before);
    assert_eq!(bench.rows(Kind::Audit).len(), 2);
    assert!(bench.rows(Kind::Gaps).is_empty());

    bench.take(2, vec![audit(2, "cancelled")]);
    assert_eq!(bench.rows(Kind::Audit)[0]["what"], "cancelled", "what is new is taken");
}

#[test]
fn everything_shown_anew_makes_no_row_and_what_is_not_among_it_is_lost() {
    let mut bench = Bench::new();
    let known = alert("HighCpu", "web", AlertStateWord::Firing, 0);
    let gone = alert("HighCpu", "db", AlertStateWord::Firing, 0);
    let repair = run("web-1", "running", 2);
    let all = vec![show(&known), show_run(&repair), delivery("d1", "pending", 1), policy("p1", 0)];
    bench.take(0, all.clone());
    bench.take(1, vec![show(&gone), audit(1, "paused")]);

    let bench = bench.again(2, 10);
    bench.history.take_whole(2, at(10), all.into_iter().chain([audit(1, "paused")]).collect());
    bench.history.flush();
    let alerts = bench.rows(Kind::Alerts);
    assert_eq!(alerts.len(), 2);
    assert_eq!((&alerts[0]["state"], &alerts[0]["ended_at"]), (&"lost".into(), &"2026-11-23T20:00:10.000Z".into()));
    assert_eq!(bench.moves()[1], "firing -> lost: how it went on is not known");
    assert_eq!(alerts[1]["state"], "firing");
    assert_eq!(alerts[1]["transitions"].as_array().map(Vec::len), Some(1));
    for kind in [Kind::Runs, Kind::Deliveries, Kind::Policies, Kind::Audit] {
        assert_eq!(bench.rows(kind).len(), 1, "{kind:?}");
    }
    assert_eq!(bench.rows(Kind::Runs)[0]["state"], "running");
}

#[test]
fn a_run_is_one_row_from_waiting_to_its_verdict_with_its_steps() {
    let mut bench = Bench::new();
    let mut view = run("web-1", "waiting", 0);
    view.refused =
        Some(RefusalView { guard: Guard::PerDeployment, figures: "2 of 2 in 1h".to_owned(), may_pass: true });
    bench.take(0, vec![show_run(&view)]);
    assert_eq!(bench.rows(Kind::Runs)[0]["refused"]["guard"], "per_deployment");
    // it begins later than it was made
    view = RunView { refused: None, steps: vec![step("one", "running")], ..run("web-1", "running", 5) };
    bench.take(5, vec![show_run(&view)]);
    view.steps = vec![step("one", "done"), step("two", "failed")];
    view = ended(view, "not_cured", 9);
    view.why = Some("the symptom stayed".to_owned());
    bench.take(9, vec![show_run(&view)]);
    let rows = bench.rows(Kind::Runs);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!((&rows[0]["verdict"], &rows[0]["why"]), (&"not_cured".into(), &"the symptom stayed".into()));
    assert_eq!(rows[0]["steps"], serde_json::to_value(&view.steps).expect("steps are JSON"));
}

#[test]
fn a_run_id_that_comes_again_for_another_run_gets_a_row_of_its_own() {
    let mut bench = Bench::new();
    bench.take(0, vec![show_run(&ended(run("web-1", "running", 0), "cured", 3))]);
    bench.take(1, vec![show_run(&run("web-2", "running", 4))]);
    // the journal was lost, the history was not
    let mut bench = bench.again(0, 60);
    assert_eq!(bench.found, Found::StateLost);
    bench.take(61, vec![show_run(&run("web-1", "running", 61)), show_run(&run("web-2", "waiting", 61))]);
    bench.take(62, vec![show_run(&ended(run("web-1", "running", 61), "not_cured", 62))]);
    let told: Vec<_> = bench
        .rows(Kind::Runs)
        .iter()
        .map(|row| format!("{} {} {}", row["id"], row["state"], row["verdict"]).replace('"', ""))
        .collect();
    assert_eq!(told, ["web-2 waiting null", "web-1 ended not_cured", "web-2 lost null", "web-1 ended cured"]);
    let gap = &bench.rows(Kind::Gaps)[0];
    assert_eq!((&gap["why"], &gap["to"]), (&"state_lost".into(), &"2026-11-23T20:01:00.000Z".into()));
}

#[test]
fn a_delivery_keeps_its_attempts_and_its_error_and_a_policy_the_time_it_was_live() {
    let mut bench = Bench::new();
    bench.take(0, vec![delivery("d1", "pending", 0), policy("p1", 0)]);
    bench.take(1, vec![delivery("d1", "pending", 1), policy("p1", 0)]);
    bench.take(2, vec![delivery("d1", "undelivered", 2), policy("p2", 2)]);
    let rows = bench.rows(Kind::Deliveries);
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["attempts"], &rows[0]["error"]), (&2.into(), &"connection refused".into()));
    let policies = bench.rows(Kind::Policies);
    assert_eq!((&policies[0]["version"], &policies[0]["until"]), (&"p2".into(), &Value::Null));
    assert_eq!((&policies[1]["version"], &policies[1]["until"]), (&"p1".into(), &policies[0]["live_at"]));
    bench.take(3, vec![policy("p1", 3)]);
    assert_eq!(bench.rows(Kind::Policies).len(), 3, "a version that is live again is live again");
}

#[test]
fn an_older_state_that_is_taken_up_again_goes_on_in_its_rows() {
    let mut bench = Bench::new();
    let view = alert("HighCpu", "web", AlertStateWord::Firing, 0);
    let repair = run("web-1", "waiting", 2);
    bench.take(2, vec![show(&view), show_run(&repair)]);
    bench.take(3, vec![audit(3, "paused")]);
    // the journal was put back to what it was before
    let mut bench = bench.again(1, 60);
    assert_eq!(bench.found, Found::StateLost);
    bench.take(61, vec![show(&view), show_run(&repair)]);
    bench.take(62, vec![show_run(&run("web-1", "running", 62))]);
    assert_eq!(
        bench.moves(),
        [
            "- -> firing: its condition holds",
            "firing -> lost: how it went on is not known",
            "lost -> firing: it is known again, as firing",
        ]
    );
    let runs = bench.rows(Kind::Runs);
    assert_eq!((runs.len(), &runs[0]["state"]), (1, &"running".into()), "{runs:#?}");
}

#[test]
fn what_is_too_long_for_the_engine_is_shown_with_its_step() {
    let mut bench = Bench::new();
    let mut view = run("web-1", "running", 1);
    view.steps = vec![step("look", "running"), step("fix", "running")];
    bench.take(1, vec![show_run(&view)]);
    let long = "x".repeat(20_000);
    let id = |text: &str| selfheal_model::StepAttemptId::new(text);
    bench.history.take_output(&id("web-1/look/1"), Some("first try".to_owned()), None);
    bench.history.take_output(&id("web-1/look/2"), Some(long.clone()), Some(json!({ "pods": [1, 2] })));
    bench.history.take_output(&id("nobody-1/look/1"), Some(long.clone()), None);
    view.steps = vec![step("look", "done"), step("fix", "running")];
    bench.take(2, vec![show_run(&view)]);
    let rows = bench.rows(Kind::Runs);
    let steps = &rows[0]["steps"];
    assert_eq!((&steps[0]["log"], &steps[0]["output"]["pods"][1]), (&json!(long), &json!(2)));
    assert_eq!((&steps[0]["outcome"], &steps[1]["log"]), (&json!("done"), &json!("stopping\nstarting")));
}

#[test]
fn deliveries_are_found_by_what_they_are_about() {
    let mut bench = Bench::new();
    bench.take(1, vec![delivery("0/oncall/email-1/1", "delivered", 1)]);
    let found = |deployment: Option<&str>, rule: Option<&str>| {
        let asked = Query {
            deployment: deployment.map(str::to_owned),
            rule: rule.map(str::to_owned),
            ..Query::of(Kind::Deliveries)
        };
        bench.page(&asked).rows.len()
    };
    assert_eq!((found(Some("db"), None), found(Some("web"), Some("HighCpu"))), (1, 1));
    assert_eq!((found(Some("d"), None), found(None, Some("LowDisk"))), (0, 0));
}
