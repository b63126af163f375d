//! `guards:`.

use std::time::Duration;

use super::mistakes::configuration;
use super::{good, places};
use crate::guards::{
    BlastRadius, BreakerLimits, Flap, Guards, Limit, MinHealthy, Mode, Rate, Recurrence, Sensor, Storm, Velocity,
};
use selfheal_model::Labels;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn guards(text: &str) -> Guards {
    good(&[("selfheal.yaml", &format!("format: 1\nreceivers: [{{ name: a }}]\n{text}"))]).guards
}

#[test]
fn guards_are_read_whole() {
    let read = guards(
        "time_intervals: [{ name: nights, time_intervals: [{ times: [{ start_time: '00:00', end_time: '06:00' }] }] }]
guards:
  mode: approve
  freeze: [nights, { name: fair, time_intervals: [{ months: [december] }, { weekdays: [friday] }] }]
  max_event_age: 1m
  start_grace: 0s
  act_after: 1s
  sensor: { sick: 90%, of_at_least: 8, within: 3m }
  storm: { ladders: 20/2m, cool_down: 5m }
  flap: { start: 60%, stop: 30%, of: 12 }
  grace: 30s
  dependency_hold: 0s
  dependency_wait: 5m
  breaker: { failures: 4, deployments: 1, within: 2h, probe_after: 10m }
  recurrence: { cured: 2, within: 12h }
  per_deployment: { rate: 5/30m }
  per_playbook: { rate: 7/1h }
  velocity: { disrupt: 2/5m, group_by: [tier, region] }
  max_running: 2
  blast_radius: { group_by: [region], min_healthy: 2, max_at_once: 1 }
  run_deadline: 20m
  overrides:
    - { select: { tier: db }, mode: observe, freeze: [], recurrence: { cured: 1 }, velocity: { disrupt: 1/1h } }
    - { select: ['tier=~\"db|cache\"'], blast_radius: { max_at_once: 4 }, run_deadline: 2h, per_deployment: { rate: 1/1h }, dependency_wait: 1h }
",
    );
    let expected = Guards {
        mode: Mode::Approve,
        freeze: read.freeze.clone(),
        max_event_age: MINUTE,
        start_grace: Duration::ZERO,
        act_after: Duration::from_secs(1),
        sensor: Sensor { sick: 0.9, of_at_least: 8, within: 3 * MINUTE },
        storm: Storm { ladders: Rate { count: 20, window: 2 * MINUTE }, cool_down: 5 * MINUTE },
        flap: Flap { start: 0.6, stop: 0.3, of: 12 },
        grace: MINUTE / 2,
        dependency_hold: Duration::ZERO,
        dependency_wait: 5 * MINUTE,
        breaker: BreakerLimits { failures: 4, deployments: 1, within: 2 * HOUR, probe_after: 10 * MINUTE },
        recurrence: Recurrence { cured: 2, within: 12 * HOUR },
        per_deployment: Rate { count: 5, window: 30 * MINUTE },
        per_playbook: Rate { count: 7, window: HOUR },
        velocity: Velocity {
            disrupt: Rate { count: 2, window: 5 * MINUTE },
            group_by: vec!["tier".into(), "region".into()],
        },
        max_running: 2,
        blast_radius: BlastRadius {
            group_by: vec!["region".into()],
            min_healthy: MinHealthy::Count(2),
            max_at_once: 1,
        },
        run_deadline: 20 * MINUTE,
        overrides: read.overrides.clone(),
    };
    assert_eq!(read, expected);
    let names: Vec<_> = read.freeze.iter().map(|freeze| (freeze.name.as_str(), freeze.times.len())).collect();
    assert_eq!(names, [("nights", 1), ("fair", 2)]);
    assert_eq!(
        read.overrides[0].limits,
        [
            Limit::Mode(Mode::Observe),
            Limit::Freeze(Vec::new()),
            Limit::RecurrenceCured(1),
            Limit::VelocityDisrupt(Rate { count: 1, window: HOUR }),
        ]
    );
    let db = read.for_deployment(&Labels::from_iter([("tier", "db")]));
    assert_eq!((db.mode, db.freeze.len(), db.recurrence.within), (Mode::Observe, 0, 12 * HOUR));
    assert_eq!((db.blast_radius.max_at_once, db.run_deadline), (4, 2 * HOUR));
    assert_eq!((db.dependency_hold, db.dependency_wait), (Duration::ZERO, HOUR));
    assert_eq!(db.velocity.group_by, read.velocity.group_by, "only what an override says is another");
}

#[test]
fn a_guard_that_says_only_a_part_keeps_the_rest_as_it_is() {
    assert_eq!(guards("guards:\n"), Guards::default());
    let read = guards("guards: { breaker: { within: 2h }, flap: { of: 30 }, velocity: { group_by: [] }, freeze: }\n");
    let defaults = Guards::default();
    assert_eq!(read.breaker, BreakerLimits { within: 2 * HOUR, ..defaults.breaker });
    assert_eq!(read.flap, Flap { of: 30, ..defaults.flap });
    assert_eq!(read.velocity, Velocity { group_by: Vec::new(), ..defaults.velocity });
}

#[test]
fn mistakes_of_guards() {
    configuration(&[
        ("guards: { mode: aprove }\n", "wrong-value 3:17"),
        ("guards: { grace: 5 }\n", "wrong-type 3:18"),
        ("guards: { grace: 100000d }\n", "out-of-range 3:18"),
        ("guards: { max_running: 0 }\n", "wrong-type 3:24"),
        ("guards: { max_running: \"5\" }\n", "wrong-type 3:24"),
        ("guards: { per_deployment: { rate: 3 } }\n", "wrong-type 3:35"),
        ("guards: { per_deployment: { rate: 0/1h } }\n", "wrong-type 3:35"),
        ("guards: { per_deployment: {} }\n", "missing-key 3:27"),
        ("guards: { blast_radius: { min_healthy: most } }\n", "wrong-type 3:40"),
        ("guards: { blast_radius: { min_healthy: 150% } }\n", "wrong-type 3:40"),
        ("guards: { freeze: [nights] }\n", "unknown-interval 3:20"),
        ("guards: { freeze: nights }\n", "wrong-type 3:19"),
        ("guards: { freeze: [{ name: fair }] }\n", "missing-key 3:22"),
        ("guards: { sensor: { sick: 0% } }\n", "wrong-type 3:27"),
        ("guards: { sensor: { sick: 80 } }\n", "wrong-type 3:27"),
        ("guards: { sensor: { of_at_last: 5 } }\n", "unknown-key 3:21"),
        ("guards: { storm: { ladders: 50 } }\n", "wrong-type 3:29"),
        ("guards: { storm: { cool_down: 0s } }\n", "out-of-range 3:31"),
        ("guards: { flap: { start: 20% } }\n", "conflict 3:26"),
        ("guards: { flap: { start: 50%, stop: 50% } }\n", "conflict 3:37"),
        ("guards: { flap: { of: 1 } }\n", "wrong-type 3:23"),
        ("guards: { breaker: { failures: 0 } }\n", "wrong-type 3:32"),
        ("guards: { recurrence: { cured: 3, within: 0s } }\n", "out-of-range 3:43"),
        ("guards: { velocity: { disrupt: 5 } }\n", "wrong-type 3:32"),
        ("guards: { velocity: { group_by: [a-b] } }\n", "wrong-value 3:33"),
        ("guards: { run_deadline: 0s }\n", "out-of-range 3:25"),
        ("guards: { dependency_hold: 30 }\n", "wrong-type 3:28"),
        ("guards: { dependency_wait: never }\n", "wrong-type 3:28"),
        ("guards: { dependency_hodl: 30s }\n", "unknown-key 3:11"),
    ]);
}

#[test]
fn nothing_can_be_made_unlimited() {
    configuration(&[
        ("guards: { max_event_age: 3000d }\n", "out-of-range 3:26"),
        ("guards: { start_grace: 31d }\n", "out-of-range 3:24"),
        ("guards: { dependency_hold: 31d }\n", "out-of-range 3:28"),
        ("guards: { dependency_wait: 31d }\n", "out-of-range 3:28"),
        ("guards: { run_deadline: 31d }\n", "out-of-range 3:25"),
        ("guards: { per_playbook: { rate: 1001/1h } }\n", "out-of-range 3:33"),
        ("guards: { per_playbook: { rate: 1/31d } }\n", "out-of-range 3:33"),
        ("guards: { storm: { ladders: 4000000000/1m } }\n", "out-of-range 3:29"),
        ("guards: { sensor: { of_at_least: 100000 } }\n", "wrong-type 3:34"),
        ("guards: { breaker: { within: 31d } }\n", "out-of-range 3:30"),
        ("guards: { recurrence: { cured: 1001 } }\n", "wrong-type 3:32"),
        ("guards: { blast_radius: { max_at_once: 10001 } }\n", "wrong-type 3:40"),
    ]);
}

#[test]
fn mistakes_of_overrides() {
    configuration(&[
        ("guards: { overrides: [{ mode: approve }] }\n", "missing-key 3:25"),
        ("guards: { overrides: [{ select: { tier: db } }] }\n", "empty-value 3:23"),
        ("guards: { overrides: [{ select: { tier: db }, storm: { ladders: 1/1m } }] }\n", "conflict 3:47"),
        ("guards: { overrides: [{ select: { tier: db }, max_running: 1 }] }\n", "conflict 3:47"),
        ("guards: { overrides: [{ select: { tier: db }, mod: approve }] }\n", "unknown-key 3:47"),
        ("guards: { overrides: [{ select: tier, mode: approve }] }\n", "matcher 3:33"),
        ("guards: { overrides: { tier: db } }\n", "wrong-type 3:22"),
    ]);
}

#[test]
fn what_has_no_effect_is_a_warning() {
    for (text, place) in [
        ("guards: { mode: approve, overrides: [{ select: { tier: db }, mode: auto }] }", "3:68"),
        ("guards: { breaker: { failures: 1 } }", "3:32"),
    ] {
        let policy = good(&[("selfheal.yaml", &format!("format: 1\nreceivers: [{{ name: a }}]\n{text}\n"))]);
        assert_eq!(places(&policy.warnings), [format!("no-effect selfheal.yaml:{place}")], "{text}");
    }
}
