use super::*;
use selfheal_model::{CheckKind, Reach};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn check(failures: u32, successes: u32, start_period: u64, address: &str) -> Check {
    Check {
        name: "http".into(),
        kind: CheckKind::Tcp { address: address.to_owned(), reach: Reach::default() },
        every: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        connect_timeout: None,
        retries: 0,
        retry_delay: Duration::ZERO,
        failure_threshold: failures,
        success_threshold: successes,
        start_period: Duration::from_secs(start_period),
        min_confidence: Confidence::NONE,
    }
}

fn replica(index: u32, incarnation: u64) -> Replica {
    Replica { index, port: None, pid: None, up: true, incarnation }
}

fn verdict(seconds: i64, healthy: bool) -> Verdict {
    let status = if healthy { CheckStatus::Healthy } else { CheckStatus::Unhealthy };
    Verdict { at: at(seconds), status, latency_ms: None, reason: None, message: String::new(), confidence: None }
}

struct Story {
    checks: Checks,
    replicas: Vec<Replica>,
}

impl Story {
    fn new(check: Check, healthy_when: HealthyWhen, replicas: &[(u32, u64)]) -> Story {
        let replicas: Vec<_> = replicas.iter().map(|(index, incarnation)| replica(*index, *incarnation)).collect();
        let mut checks = Checks::default();
        checks.configure(&[check], healthy_when, &replicas, at(0));
        Story { checks, replicas }
    }

    fn said(&mut self, replica: Option<u32>, seconds: i64, healthy: bool) -> Health {
        assert!(self.checks.take(&"http".into(), replica, verdict(seconds, healthy), at(0)));
        self.health(seconds, None)
    }

    fn observed(&mut self, seconds: i64, replicas: &[(u32, u64)]) {
        let replicas: Vec<_> = replicas.iter().map(|(index, incarnation)| replica(*index, *incarnation)).collect();
        self.checks.observed(&self.replicas, &replicas, at(seconds));
        self.replicas = replicas;
    }

    fn health(&self, now: i64, cut: Option<i64>) -> Health {
        let state = self.checks.get("http").unwrap_or_else(|| panic!("no check"));
        state.health(at(now), cut.map(at), self.checks.healthy_when())
    }
}

#[test]
fn a_verdict_turns_after_as_many_as_its_threshold() {
    let mut story = Story::new(check(3, 2, 0, "localhost:1"), HealthyWhen::All, &[]);
    assert_eq!(story.said(None, 10, true), Health::Unknown);
    assert_eq!(story.said(None, 20, true), Health::Healthy);
    assert_eq!(story.said(None, 30, false), Health::Healthy);
    assert_eq!(story.said(None, 40, false), Health::Healthy);
    assert_eq!(story.said(None, 50, true), Health::Healthy, "a success breaks the run");
    for (seconds, expected) in [(60, Health::Healthy), (70, Health::Healthy), (80, Health::Unhealthy)] {
        assert_eq!(story.said(None, seconds, false), expected);
    }
    assert_eq!(story.said(None, 75, true), Health::Unhealthy, "one that came late was judged already");
    assert_eq!(story.said(None, 90, true), Health::Unhealthy);
    assert_eq!(story.said(None, 100, true), Health::Healthy);
    assert_eq!(story.health(100 + 299, None), Health::Healthy);
    assert_eq!(story.health(100 + 300, None), Health::Unknown, "stale");
}

#[test]
fn a_verdict_that_is_not_sure_enough_shows_and_does_not_count() {
    let wary = Check { min_confidence: Confidence::new(0.8).expect("a part"), ..check(2, 1, 0, "localhost:1") };
    let mut story = Story::new(wary, HealthyWhen::All, &[]);
    let mut said = |seconds, healthy, confidence| {
        let verdict = Verdict { confidence: Confidence::new(confidence), ..verdict(seconds, healthy) };
        assert!(story.checks.take(&"http".into(), None, verdict, at(0)));
        let state = story.checks.get("http").expect("it was configured");
        (state.raw(at(seconds), None, HealthyWhen::All), state.health(at(seconds), None, HealthyWhen::All))
    };
    assert_eq!(said(10, true, 0.7), (Health::Healthy, Health::Unknown));
    assert_eq!(said(20, true, 0.8), (Health::Healthy, Health::Healthy), "as sure as asked for is sure enough");
    assert_eq!(said(30, false, 1.0), (Health::Unhealthy, Health::Healthy), "one of two");
    assert_eq!(said(40, true, 0.1), (Health::Healthy, Health::Healthy));
    assert_eq!(said(50, false, 0.9), (Health::Unhealthy, Health::Unhealthy), "what does not count breaks no run");
    for seconds in (60..350).step_by(10) {
        assert_eq!(said(seconds, true, 0.5).1, Health::Unhealthy);
    }
    assert_eq!(said(350, true, 0.5), (Health::Healthy, Health::Unknown), "nothing sure was heard for five minutes");
    assert!(story.checks.next_stale(at(340)) == Some(at(350)), "and silence about it is looked after");
}

#[test]
fn failures_do_not_count_while_a_replica_starts() {
    let mut story = Story::new(check(1, 1, 30, "localhost:{{ port }}"), HealthyWhen::All, &[(0, 1)]);
    assert_eq!(story.said(Some(0), 10, false), Health::Unknown);
    assert_eq!(story.said(Some(0), 20, true), Health::Healthy, "a success does");
    assert_eq!(story.said(Some(0), 29, false), Health::Healthy);
    assert_eq!(story.said(Some(0), 30, false), Health::Unhealthy);
    story.observed(40, &[(0, 2)]);
    assert_eq!(story.health(40, None), Health::Unknown, "a new incarnation forgets");
    assert_eq!(story.said(Some(0), 60, false), Health::Unknown, "and starts again");
    assert_eq!(story.said(Some(0), 70, false), Health::Unhealthy);
}

#[test]
fn failures_of_the_whole_do_not_count_while_all_of_it_starts() {
    let mut story = Story::new(check(1, 1, 30, "localhost:8080"), HealthyWhen::All, &[(0, 1), (1, 1)]);
    assert_eq!(story.said(None, 50, true), Health::Healthy);
    story.observed(100, &[(0, 2), (1, 1)]);
    assert_eq!(story.said(None, 110, false), Health::Unhealthy, "the other one has to answer");
    assert_eq!(story.said(None, 120, true), Health::Healthy);
    story.observed(125, &[(0, 2), (1, 2)]);
    assert_eq!(story.said(None, 129, false), Health::Healthy, "both are young");
    assert_eq!(story.said(None, 130, false), Health::Unhealthy, "the first no more");
    story.observed(140, &[(0, 3), (1, 3)]);
    assert_eq!(story.said(None, 150, true), Health::Healthy);
    assert_eq!(story.said(None, 169, false), Health::Healthy);
    assert_eq!(story.said(None, 170, false), Health::Unhealthy);
}

#[test]
fn replicas_are_one_by_healthy_when() {
    let verdicts = [(HealthyWhen::All, Health::Unhealthy), (HealthyWhen::Any, Health::Healthy)];
    let ratios = [(HealthyWhen::Ratio(0.6), Health::Healthy), (HealthyWhen::Ratio(0.7), Health::Unhealthy)];
    for (healthy_when, expected) in verdicts.into_iter().chain(ratios) {
        let mut story = Story::new(check(1, 1, 0, "localhost:{{ port }}"), healthy_when, &[(0, 1), (1, 1), (2, 1)]);
        story.said(Some(0), 10, true);
        story.said(Some(1), 10, false);
        assert_eq!(story.said(Some(2), 10, true), expected, "{healthy_when:?}");
        assert_eq!(story.checks.sick_replicas(at(10)), [1]);
    }
}

#[test]
fn a_replica_that_has_not_answered_yet_is_unknown_and_one_that_is_gone_counts_no_more() {
    let mut story = Story::new(check(1, 1, 0, "localhost:{{ port }}"), HealthyWhen::All, &[(0, 1), (1, 1)]);
    assert_eq!(story.said(Some(0), 10, true), Health::Unknown);
    assert_eq!(story.said(Some(1), 10, true), Health::Healthy);
    story.observed(20, &[(0, 1), (1, 1), (2, 1)]);
    assert_eq!(story.health(20, None), Health::Unknown);
    assert_eq!(story.said(Some(2), 25, false), Health::Unhealthy);
    story.observed(30, &[(0, 1), (1, 1)]);
    assert_eq!(story.health(30, None), Health::Healthy);
}

#[test]
fn after_a_cut_every_replica_needs_enough_new_verdicts() {
    let mut story = Story::new(check(1, 2, 0, "localhost:{{ port }}"), HealthyWhen::All, &[(0, 1), (1, 1)]);
    for seconds in [10, 20] {
        story.said(Some(0), seconds, true);
        story.said(Some(1), seconds, true);
    }
    assert_eq!(story.health(20, None), Health::Healthy);
    assert_eq!(story.health(20, Some(20)), Health::Unknown, "at the cut is not after it");
    assert_eq!(story.health(20, Some(15)), Health::Unknown, "one success of two");
    story.said(Some(0), 30, true);
    story.said(Some(0), 40, true);
    story.said(Some(1), 30, true);
    assert_eq!(story.health(40, Some(20)), Health::Unknown, "replica 1 has only one");
    story.said(Some(1), 40, true);
    assert_eq!(story.health(40, Some(20)), Health::Healthy);
}

#[test]
fn a_check_only_heard_of_counts_at_once_and_names_are_bounded() {
    let mut checks = Checks::default();
    for number in 0..MAX_CHECKS {
        assert!(checks.take(&CheckName::new(format!("c{number}")), None, verdict(10, number > 0), at(0)));
    }
    assert!(!checks.take(&"one_more".into(), None, verdict(10, true), at(0)));
    assert_eq!(checks.refused(), 1);
    let (health, each) = checks.health(at(10));
    assert_eq!(health, Health::Unhealthy);
    assert_eq!(each.len(), MAX_CHECKS);
    assert_eq!(checks.next_stale(at(10)), Some(at(310)));
}

#[test]
fn safety_flap_begins_at_one_part_of_changes_and_ends_at_another() {
    let limits = selfheal_policy::guards::Guards::default().flap;
    let mut story = Story::new(check(3, 2, 0, "127.0.0.1:80"), HealthyWhen::All, &[]);
    let mut flapping = Vec::new();
    for second in 0..60 {
        // it changes with every verdict for a while, and is steady then
        story.said(None, second, second % 2 == 0 || second > 30);
        flapping.push(story.checks.judge_flapping(limits).first().map(|(_, percent)| *percent));
    }
    assert_eq!(flapping[19], None, "twenty steps are twenty-one verdicts");
    assert_eq!(flapping[20], Some(100));
    // of the last twenty steps ten are changes at 40, and five at 45
    assert_eq!(flapping[45], Some(25), "what flaps goes on until a quarter is left");
    assert_eq!(flapping[46], None);
}
