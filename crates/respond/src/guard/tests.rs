use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use selfheal_contract::Guard;
use selfheal_model::{DeploymentId, Labels, RunId, Selector, TimeInterval, Timestamp};
use selfheal_policy::guards::{BlastRadius, Freeze, Guards, Limit, MinHealthy, Mode, Override, Rate};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn now() -> Timestamp {
    Timestamp::from_millis(10_000_000)
}

fn target() -> TargetSituation {
    TargetSituation {
        deployment: "checkout".into(),
        limits: Guards::default(),
        maintenance: None,
        grace: None,
        dependency: None,
        root_back: None,
        counted: Vec::new(),
        disrupted: None,
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
        wall: now(),
        paused: None,
        draining: false,
        unwritable: None,
        automatic: true,
        ladder: Some(ladder(Some(now()), now() - secs(10))),
        watching_since: now() - secs(600),
        sensor: SensorSituation { members: 10, sick: 1 },
        storm: None,
        playbook: PlaybookSituation {
            name: "restart".into(),
            counted: Vec::new(),
            circuit: Circuit::Closed { failures: 0, deployments: 0 },
        },
        running: 0,
        targets: vec![target()],
        held: None,
        overridden: BTreeSet::new(),
    }
}

fn ladder(evidence: Option<Timestamp>, fired_at: Timestamp) -> LadderSituation {
    LadderSituation {
        root: None,
        maintenance: None,
        evidence,
        fired_at,
        cured: Vec::new(),
        flapping: None,
        routine: false,
    }
}

/// Every "no" under these limits, which also hold for each target.
fn ask(guards: &Guards, situation: &Situation) -> Vec<Refusal> {
    let mut situation = situation.clone();
    for target in &mut situation.targets {
        target.limits = guards.clone();
    }
    super::ask(guards, &situation).refusals().cloned().collect()
}

fn with_ladder(change: impl FnOnce(&mut LadderSituation)) -> Situation {
    let mut situation = fine();
    if let Some(ladder) = &mut situation.ladder {
        change(ladder);
    }
    situation
}

fn reasons(situation: &Situation) -> Vec<&'static str> {
    ask(&Guards::default(), situation).iter().map(|refusal| refusal.guard().as_str()).collect()
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
        sensor: SensorSituation { members: 5, sick: 4 },
        storm: Some((now() + secs(60), 50)),
        playbook: PlaybookSituation {
            name: "restart".into(),
            counted: vec![now(); 10],
            circuit: Circuit::Open { since: now(), probe_at: now() + secs(60) },
        },
        held: Some(HeldBy::Taken { by: "ana".to_owned() }),
        draining: true,
        unwritable: Some("disk full".to_owned()),
        ladder: Some(LadderSituation {
            cured: vec![now(); 3],
            flapping: Some(FlappingCheck { deployment: "checkout".into(), check: "http".into(), changes_percent: 60 }),
            ..ladder(Some(now() - secs(500)), now())
        }),
        watching_since: now() - secs(1),
        running: 5,
        targets: vec![TargetSituation {
            grace: Some(Grace { run: "checkout-1".into(), ended_at: now() }),
            dependency: Some(("db".into(), Outage::Unhealthy)),
            counted: vec![now(), now(), now()],
            disrupted: Some(("tier=web".to_owned(), vec![now(); 5])),
            maintenance: Some("by ana".to_owned()),
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
            "pause",
            "draining",
            "storage",
            "stale",
            "start_grace",
            "act_after",
            "sensor",
            "storm",
            "flap",
            "grace",
            "dependency",
            "breaker",
            "recurrence",
            "per_deployment",
            "per_playbook",
            "velocity",
            "max_running",
            "blast_radius",
            "suppressed",
            "lease"
        ]
    );
    for refusal in ask(&Guards::default(), &everything) {
        let for_good = matches!(refusal, Refusal::Breaker { .. } | Refusal::Recurrence { .. });
        assert_eq!(refusal.may_pass(), !for_good, "{refusal}");
        assert!(!refusal.to_string().is_empty());
    }
}

#[test]
fn what_people_ask_for_is_not_held_back_by_time() {
    let by_hand = Situation {
        automatic: false,
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
    let aged = |age: u64| Situation { ladder: Some(ladder(Some(now() - secs(age)), now() - secs(10))), ..fine() };
    assert_eq!(reasons(&aged(120)), [] as [&str; 0]);
    let refusals = ask(&Guards::default(), &aged(121));
    assert_eq!(refusals[0].to_string(), "the newest evidence is 2m1s old, max_event_age is 2m");
}

#[test]
fn after_a_gap_only_evidence_from_since_then_begins_anything() {
    let gap_ended = |ago: u64, evidence_ago: u64| Situation {
        watching_since: now() - secs(ago),
        ladder: Some(ladder(Some(now() - secs(evidence_ago)), now() - secs(300))),
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
        assert_eq!(refusals[0].guard().as_str(), "dependency");
        assert!(refusals[0].to_string().contains("db"), "{}", refusals[0]);
    }
}

#[test]
fn safety_dependency_first_and_then_a_grace() {
    let back = |ago| with_target(|target| target.root_back = Some(("db".into(), now() - secs(ago))));
    let refusals = ask(&Guards::default(), &back(20));
    assert_eq!((refusals[0].guard().as_str(), refusals[0].may_pass()), ("dependency", true));
    assert_eq!(refusals[0].passes_at(now()), Some(now() + secs(100)));
    let (at, until) = (now() - secs(20), now() + secs(100));
    let figures = format!("checkout depends on db, which is back since {at}; its grace ends at {until}");
    assert_eq!(refusals[0].to_string(), figures);
    assert_eq!(reasons(&back(120)), [] as [&str; 0]);
    let by_hand = Situation { ladder: None, automatic: false, ..back(20) };
    assert_eq!(reasons(&by_hand), [] as [&str; 0], "a person knows what they ask for");
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
fn safety_sensor_and_storm_hold_only_what_acts_by_itself() {
    let sick = |members, sick| Situation { sensor: SensorSituation { members, sick }, ..fine() };
    assert_eq!(reasons(&sick(10, 7)), [] as [&str; 0]);
    assert_eq!(reasons(&sick(10, 8)), ["sensor"]);
    assert_eq!(reasons(&sick(4, 4)), [] as [&str; 0], "of four nothing can be concluded");
    let storm = Situation { storm: Some((now() + secs(1), 50)), ..fine() };
    assert_eq!(reasons(&storm), ["storm"]);
    let by_hand = Situation { automatic: false, ladder: None, sensor: sick(10, 10).sensor, ..storm.clone() };
    assert_eq!(reasons(&by_hand), [] as [&str; 0]);
    let mut upkeep = storm;
    upkeep.ladder.as_mut().into_iter().for_each(|ladder| ladder.routine = true);
    assert_eq!(reasons(&upkeep), [] as [&str; 0], "upkeep goes on in a storm");
}

#[test]
fn safety_recurrence_counts_cures_within_its_window() {
    let cured = |ago: &[u64]| {
        let cured = ago.iter().map(|ago| now() - secs(*ago)).collect();
        with_ladder(|ladder| ladder.cured = cured)
    };
    assert_eq!(reasons(&cured(&[86_400, 100, 50])), [] as [&str; 0]);
    let refusals = ask(&Guards::default(), &cured(&[86_399, 100, 50]));
    assert_eq!(refusals[0].to_string(), "restart has cured this 3 times in 1d: that is no cure");
    assert!(!refusals[0].may_pass(), "the next rung is tried");
}

#[test]
fn a_flapping_check_holds_the_ladders_that_read_it() {
    let flap = FlappingCheck { deployment: "checkout".into(), check: "http".into(), changes_percent: 60 };
    assert_eq!(reasons(&with_ladder(|ladder| ladder.flapping = Some(flap))), ["flap"]);
}

#[test]
fn safety_velocity_is_limited_apart_from_the_radius() {
    let disrupted = |ago: &[u64]| {
        let instants = ago.iter().map(|ago| now() - secs(*ago)).collect();
        with_target(|target| target.disrupted = Some(("tier=web".to_owned(), instants)))
    };
    assert_eq!(reasons(&disrupted(&[600, 4, 3, 2, 1])), [] as [&str; 0]);
    let refusals = ask(&Guards::default(), &disrupted(&[599, 4, 3, 2, 1]));
    assert_eq!(refusals[0].guard().as_str(), "velocity");
    assert_eq!(refusals[0].passes_at(now()), Some(now() + secs(1)));
}

#[test]
fn safety_breaker_lets_a_probe_through() {
    let circuit = |circuit| {
        let mut situation = fine();
        situation.playbook.circuit = circuit;
        reasons(&situation)
    };
    assert_eq!(circuit(Circuit::Open { since: now(), probe_at: now() }), ["breaker"]);
    assert_eq!(circuit(Circuit::Probing { since: now(), beside: false }), ["breaker"]);
    assert_eq!(circuit(Circuit::Probing { since: now(), beside: true }), ["breaker"]);
    assert_eq!(circuit(Circuit::ProbeDue { since: now() }), [] as [&str; 0]);
}

#[test]
fn safety_freeze_holds_what_nobody_approved() {
    let always = TimeInterval {
        times: Vec::new(),
        weekdays: Vec::new(),
        days_of_month: Vec::new(),
        months: Vec::new(),
        years: Vec::new(),
        location: selfheal_model::Zone::utc(),
    };
    let guards =
        Guards { freeze: vec![Freeze { name: "nights".into(), times: Arc::new([always]) }], ..Guards::default() };
    let reasons = |situation: &Situation| {
        ask(&guards, situation).iter().map(|refusal| refusal.guard().as_str()).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&fine()), ["freeze"]);
    assert_eq!(reasons(&Situation { automatic: false, ..fine() }), [] as [&str; 0], "a person has approved it");
}

#[test]
fn a_person_overrules_a_guard_but_never_a_pause_or_a_lease() {
    let mut situation = with_target(|target| {
        target.counted = vec![now(); 3];
        target.lease = Some("checkout-2".into());
    });
    situation.paused = Some("by ana".to_owned());
    situation.overridden = [Guard::PerDeployment, Guard::Lease, Guard::Pause].into_iter().collect();
    assert_eq!(reasons(&situation), ["pause", "lease"]);
    let answers = super::ask(&Guards::default(), &situation);
    let overruled: Vec<_> = answers.0.iter().filter(|answer| answer.overridden).map(|answer| answer.guard).collect();
    assert_eq!(overruled, [Guard::PerDeployment], "and it is shown that it was");
}

#[test]
fn safety_finite_defaults() {
    let limits = Guards::default();
    let rates = [limits.per_deployment, limits.per_playbook, limits.velocity.disrupt, limits.storm.ladders];
    assert!(rates.iter().all(|rate| rate.count < 1_000 && !rate.window.is_zero()));
    assert!(limits.max_running < 1_000 && limits.blast_radius.max_at_once < 1_000);
    assert!(limits.run_deadline <= Duration::from_secs(24 * 3600) && limits.recurrence.cured < 1_000);
    assert!(limits.breaker.failures < 1_000 && !limits.max_event_age.is_zero() && !limits.act_after.is_zero());
    assert_ne!(limits.blast_radius.min_healthy, MinHealthy::Ratio(0.0));
}

#[test]
fn of_overrides_the_last_match_holds_and_of_modes_the_strictest() {
    let select = |text: &str| Selector(vec![text.parse().unwrap_or_else(|error| panic!("{error}"))]);
    let one = |text: &str, limits: Vec<Limit>| Override { select: select(text), limits };
    let guards = Guards {
        overrides: vec![
            one("tier=db", vec![Limit::Mode(Mode::Observe), Limit::MaxAtOnce(1)]),
            one("tier=~\"db|web\"", vec![Limit::Mode(Mode::Approve), Limit::MaxAtOnce(2)]),
        ],
        ..Guards::default()
    };
    let labels = |tier: &str| [("tier", tier)].into_iter().collect::<Labels>();
    let db = guards.for_deployment(&labels("db"));
    assert_eq!((db.mode, db.blast_radius.max_at_once), (Mode::Observe, 2));
    let web = guards.for_deployment(&labels("web"));
    assert_eq!((web.mode, web.blast_radius.max_at_once), (Mode::Approve, 2));
    let other = guards.for_deployment(&labels("cache"));
    assert_eq!((other.mode, other.blast_radius.max_at_once), (Mode::Auto, 3));
}

#[test]
fn the_strictest_mode_holds() {
    let engine = |mode| Guards { mode, ..Guards::default() };
    assert_eq!(mode([&engine(Mode::Observe)], Mode::Auto), (Mode::Observe, Observed::Engine));
    assert_eq!(mode([&engine(Mode::Auto)], Mode::Observe), (Mode::Observe, Observed::Playbook));
    assert_eq!(mode([&engine(Mode::Approve), &engine(Mode::Auto)], Mode::Auto), (Mode::Approve, Observed::Engine));
    assert_eq!(mode([&engine(Mode::Auto)], Mode::Auto).0, Mode::Auto);
    assert!(!Refusal::Observe(Observed::Engine).may_pass());
}
