use std::time::Duration;

use super::*;
use crate::model::{DeploymentId, RunId, Timestamp};
use crate::playbook::PlaybookMode;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn now() -> Timestamp {
    Timestamp::from_millis(10_000_000)
}

fn target() -> TargetSituation {
    TargetSituation {
        deployment: "checkout".into(),
        grace: None,
        dependency: None,
        counted: Vec::new(),
        lease: None,
        group: None,
    }
}

fn group() -> Group {
    Group {
        name: "tier=web".into(),
        members: 4,
        healthy_others: 3,
        in_run_others: 0,
        target_sick: true,
        uncured_other: None,
    }
}

/// Nothing speaks against it.
fn fine() -> Situation {
    Situation {
        now: now(),
        paused: None,
        draining: false,
        unwritable: None,
        ladder: Some(LadderSituation { evidence: Some(now()), fired_at: now() - secs(10) }),
        watching_since: now() - secs(600),
        running: 0,
        targets: vec![target()],
    }
}

fn reasons(situation: &Situation) -> Vec<&'static str> {
    ask(&Guards::default(), situation).iter().map(Refusal::guard).collect()
}

fn with_target(change: impl FnOnce(&mut TargetSituation)) -> Situation {
    let mut situation = fine();
    change(&mut situation.targets[0]);
    situation
}

fn with_group(change: impl FnOnce(&mut Group)) -> Vec<Refusal> {
    let mut changed = group();
    change(&mut changed);
    ask(&Guards::default(), &with_target(|target| target.group = Some(changed)))
}

#[test]
fn nothing_is_refused_without_a_reason() {
    assert_eq!(ask(&Guards::default(), &fine()), []);
    assert_eq!(with_group(|_| {}), []);
}

#[test]
fn all_are_asked_in_their_order() {
    let everything = Situation {
        paused: Some("by ana".into()),
        draining: true,
        unwritable: Some("disk full".to_owned()),
        ladder: Some(LadderSituation { evidence: Some(now() - secs(500)), fired_at: now() }),
        watching_since: now() - secs(1),
        running: 5,
        targets: vec![TargetSituation {
            grace: Some(Grace { run: "checkout-1".into(), ended_at: now() }),
            dependency: Some(("db".into(), Outage::Unhealthy)),
            counted: vec![now(), now(), now()],
            lease: Some("checkout-2".into()),
            group: Some(Group { in_run_others: 3, ..group() }),
            ..target()
        }],
        ..fine()
    };
    assert_eq!(
        reasons(&everything),
        [
            "pause",
            "draining",
            "storage",
            "stale",
            "start_grace",
            "act_after",
            "grace",
            "dependency",
            "per_deployment",
            "max_running",
            "blast_radius",
            "lease"
        ]
    );
    for refusal in ask(&Guards::default(), &everything) {
        assert!(refusal.may_pass(), "{refusal}");
        assert!(!refusal.to_string().is_empty());
    }
}

#[test]
fn what_people_ask_for_is_not_held_back_by_time() {
    let by_hand = Situation {
        ladder: None,
        watching_since: now(),
        targets: vec![TargetSituation { grace: Some(Grace { run: "checkout-1".into(), ended_at: now() }), ..target() }],
        ..fine()
    };
    assert_eq!(reasons(&by_hand), [] as [&str; 0]);
    assert_eq!(reasons(&Situation { paused: Some("by ana".into()), ..by_hand }), ["pause"], "but the switch holds");
}

#[test]
fn safety_stale_event() {
    let aged = |age: u64| Situation {
        ladder: Some(LadderSituation { evidence: Some(now() - secs(age)), fired_at: now() - secs(10) }),
        ..fine()
    };
    assert_eq!(reasons(&aged(120)), [] as [&str; 0]);
    let refusals = ask(&Guards::default(), &aged(121));
    assert_eq!(refusals[0].to_string(), "the newest evidence is 2m1s old, max_event_age is 2m");
}

#[test]
fn after_a_gap_only_evidence_from_since_then_begins_anything() {
    let gap_ended = |ago: u64, evidence_ago: u64| Situation {
        watching_since: now() - secs(ago),
        ladder: Some(LadderSituation { evidence: Some(now() - secs(evidence_ago)), fired_at: now() - secs(300) }),
        ..fine()
    };
    assert_eq!(reasons(&gap_ended(119, 1)), ["start_grace"]);
    assert_eq!(reasons(&gap_ended(120, 1)), [] as [&str; 0]);
    let guards = Guards { start_grace: secs(10), ..Guards::default() };
    let old = ask(&guards, &gap_ended(50, 60));
    assert_eq!(old[0].to_string(), "no evidence has come since the start or a gap");
    assert_eq!(old[0].passes_at(now()), None, "time alone does not bring evidence");
}

#[test]
fn the_rate_is_a_sliding_window_with_its_figures() {
    let ago = |seconds: u64| now() - secs(seconds);
    let counted = |instants: Vec<Timestamp>| with_target(|target| target.counted = instants);
    assert_eq!(reasons(&counted(vec![ago(3600), ago(100), ago(50)])), [] as [&str; 0]);
    let refusals = ask(&Guards::default(), &counted(vec![ago(3599), ago(100), ago(50)]));
    let [Refusal::PerDeployment { counted: 3, next_at, .. }] = refusals.as_slice() else { panic!("{refusals:?}") };
    assert_eq!(*next_at, now() + secs(1));
    let none = Guards { per_deployment: Rate { count: 0, window: secs(60) }, ..Guards::default() };
    assert_eq!(ask(&none, &fine()).len(), 1, "a rate of none is none");
}

#[test]
fn grace_passes_at_its_end() {
    let ended = |ago: u64| {
        with_target(|target| {
            target.grace = Some(Grace { run: RunId::new("checkout-1"), ended_at: now() - secs(ago) });
        })
    };
    assert_eq!(reasons(&ended(120)), [] as [&str; 0]);
    assert_eq!(ask(&Guards::default(), &ended(20))[0].passes_at(now()), Some(now() + secs(100)));
}

#[test]
fn safety_dependency_first() {
    let out = |outage| with_target(|target| target.dependency = Some((DeploymentId::new("db"), outage)));
    for outage in [Outage::Unhealthy, Outage::InRun("db-1".into())] {
        let refusals = ask(&Guards::default(), &out(outage));
        assert_eq!(refusals[0].guard(), "dependency");
        assert!(refusals[0].to_string().contains("db"), "{}", refusals[0]);
    }
}

#[test]
fn safety_blast_radius_keeps_the_floor_for_healthy_targets() {
    assert_eq!(with_group(|group| (group.target_sick, group.healthy_others) = (false, 2)), []);
    let refusals = with_group(|group| (group.target_sick, group.healthy_others) = (false, 1));
    assert_eq!(
        refusals[0].to_string(),
        "checkout in group tier=web: 1 of 4 would stay healthy, min_healthy asks for 2"
    );
    // 50 % of 5 rounds up
    let five =
        |healthy| with_group(|group| (group.target_sick, group.members, group.healthy_others) = (false, 5, healthy));
    assert_eq!((five(3).len(), five(2).len()), (0, 1));
}

#[test]
fn safety_blast_radius_never_more_than_max_at_once() {
    let many =
        |in_run| with_group(|group| (group.members, group.healthy_others, group.in_run_others) = (20, 15, in_run));
    assert_eq!((many(2).len(), many(3).len()), (0, 1));
}

#[test]
fn below_the_floor_sick_ones_are_repaired_one_at_a_time_and_on_a_cure_only() {
    let below = |in_run, uncured: Option<&str>| {
        let refusals = with_group(|group| {
            (group.healthy_others, group.in_run_others) = (0, in_run);
            group.uncured_other = uncured.map(DeploymentId::new);
        });
        refusals.into_iter().map(|refusal| match refusal {
            Refusal::BlastRadius { trouble, .. } => trouble,
            other => panic!("{other}"),
        })
    };
    assert_eq!(below(0, None).next(), None, "the sick one itself may be repaired");
    assert_eq!(below(1, None).next(), Some(GroupTrouble::OneAtATime { in_run: 1 }));
    let other = DeploymentId::new("cart");
    assert_eq!(below(0, Some("cart")).next(), Some(GroupTrouble::NotCuredBefore { other }));
}

#[test]
fn small_groups_are_repaired_one_at_a_time() {
    let two = |healthy, in_run| {
        with_group(|group| (group.members, group.healthy_others, group.in_run_others) = (2, healthy, in_run))
    };
    assert_eq!((two(1, 0).len(), two(0, 1).len()), (0, 1));
    let alone = with_group(|group| (group.target_sick, group.members, group.healthy_others) = (false, 1, 0));
    assert_eq!(alone, [], "alone there is nobody the floor could protect");
}

#[test]
fn a_count_is_a_floor_too_and_a_ratio_suffers_no_rounding_error() {
    let guards = |min_healthy| {
        let blast_radius = BlastRadius { min_healthy, ..Guards::default().blast_radius };
        Guards { blast_radius, ..Guards::default() }
    };
    let healthy = |count: u32| {
        let group = Group { members: 10, healthy_others: count, target_sick: false, ..group() };
        with_target(|target| target.group = Some(group))
    };
    for min_healthy in [MinHealthy::Ratio(0.7), MinHealthy::Count(7)] {
        assert_eq!(ask(&guards(min_healthy), &healthy(7)), []);
        assert_eq!(ask(&guards(min_healthy), &healthy(6)).len(), 1);
    }
}

#[test]
fn the_strictest_mode_holds() {
    let observing = Guards { mode: GuardMode::Observe, ..Guards::default() };
    assert_eq!(observed(&observing, PlaybookMode::Auto), Some(Observed::Engine));
    assert_eq!(observed(&Guards::default(), PlaybookMode::Observe), Some(Observed::Playbook));
    assert_eq!(observed(&Guards::default(), PlaybookMode::Auto), None);
    assert!(!Refusal::Observe(Observed::Engine).may_pass());
}
