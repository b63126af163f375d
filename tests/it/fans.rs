//! Rungs for several deployments, told with the whole engine.

use crate::world::{Behaviour, World, mins, secs};
use selfheal_contract::view::AlertStateWord;

/// Six of one tier in one region, of which half must stay; to `rule` comes a ladder of restart, then rollback, on all of them.
fn world(rule: &str) -> World {
    world_where(rule, "")
}

/// As [`world`], with `more` for the first rung.
fn world_where(rule: &str, more: &str) -> World {
    let listed: String = (1..=6)
        .map(|n| {
            format!(
                "  - {{ id: web-{n}, adapter: sim, labels: {{ tier: web, region: eu }}, checks: [{{ name: http, tcp: \"127.0.0.1:1\", every: 5s, failure_threshold: 1, success_threshold: 1 }}] }}\n"
            )
        })
        .collect();
    let config = format!(
        r#"format: 1
adapters:
  sim: {{ type: sim }}
deployments:
{listed}receivers:
  - name: oncall
    webhook: [{{ url: "http://127.0.0.1:9/hook" }}]
    send: [firing, resolved, severity, started, cured, not_cured, inconclusive, refused, exhausted]
route: {{ receiver: oncall, group_by: [region], group_wait: 1s, group_interval: 10s }}
guards: {{ start_grace: 0s, act_after: 1s, grace: 5s, max_running: 20, sensor: {{ of_at_least: 100 }}, velocity: {{ disrupt: 100/10m }}, per_playbook: {{ rate: 100/1h }} }}
"#
    );
    let rules = format!(
        "rules:\n{rule}    remediate:\n      - {{ playbook: restart, on: {{ select: {{ region: eu }} }}{more} }}\n      - {{ playbook: rollback, on: {{ select: {{ region: eu }} }} }}\n"
    );
    let playbook = |verb: &str| {
        format!("playbook: {verb}\nsteps: [{{ id: act, action: {verb} }}]\nverify: {{ hold: 20s, within: 5m }}\n")
    };
    World::new(&[
        ("selfheal.yaml", &config),
        ("rules/r.yaml", &rules),
        ("playbooks/restart.yaml", &playbook("restart")),
        ("playbooks/rollback.yaml", &playbook("rollback")),
    ])
}

const ERRORS: &str =
    "  - alert: Errors\n    per: [region]\n    when: 'avg(\"err\", \"15m\") > 0.1'\n    severity: critical\n";

fn all() -> impl Iterator<Item = String> {
    (1..=6).map(|n| format!("web-{n}"))
}

/// All answer badly.
fn erring(rule: &str) -> World {
    let mut world = world(rule);
    for one in all() {
        world.gauge(&one, "err", 1.0);
    }
    world
}

#[test]
fn a_target_that_is_not_meant_stops_no_other() {
    let mut world = world_where(ERRORS, ", if: 'fact(\"replicas\") > 1'");
    for (n, one) in all().enumerate() {
        world.fact(&one, "replicas", if n < 2 { 1 } else { 2 });
        world.on(&one, "restart", Behaviour::done().set("err", 0.0));
    }
    world.run(mins(1));
    all().for_each(|one| world.gauge(&one, "err", 1.0));
    world.run_until("the restarts", mins(5), |world| world.acted().len() >= 4);
    world.run(secs(30));
    let mut acted = world.acted();
    acted.sort();
    assert_eq!(acted, ["web-3 restart", "web-4 restart", "web-5 restart", "web-6 restart"], "{}", world.told());
    // none of them is: the next rung is
    let mut world = world_where(ERRORS, ", if: 'fact(\"replicas\") > 9'");
    for one in all() {
        world.fact(&one, "replicas", 1);
        world.gauge(&one, "err", 1.0);
    }
    world.run_until("the next rung", mins(5), rolled_back);
    assert!(world.acted().iter().all(|call| call.ends_with("rollback")), "{}", world.told());
}

fn rolled_back(world: &World) -> bool {
    world.acted().iter().any(|call| call.ends_with("rollback"))
}

#[test]
fn safety_own_evidence_of_a_rung_for_several() {
    let mut world = erring(ERRORS);
    all().for_each(|one| world.on(&one, "restart", Behaviour::done().set("err", 0.0)));
    world.run_until("all restarts", mins(3), |world| world.acted().len() == 6);
    world.run(mins(1));
    assert!(world.is_firing("Errors"), "the window still holds what was before\n{}", world.told());
    let cured = |news: &String| news.starts_with("cured: restart on web-1, ") && news.contains("has cured Errors");
    assert!(world.news("oncall").iter().any(cured), "{:?}", world.news("oncall"));
    world.run(mins(20));
    assert!(!rolled_back(&world), "a cured fleet was rolled back\n{}", world.told());
    assert!(!world.is_firing("Errors"));
}

#[test]
fn a_rung_for_several_that_does_not_help_is_followed_by_the_next() {
    let mut world = erring(ERRORS);
    all().for_each(|one| world.on(&one, "rollback", Behaviour::done().set("err", 0.0)));
    world.run_until("all restarts", mins(3), |world| world.acted().len() == 6);
    world.run(secs(290));
    assert_eq!(world.acted().len(), 6, "{}", world.told());
    world.run_until("all rollbacks", mins(3), |world| world.acted().len() == 12);
    world.run(mins(2));
    let news = world.news("oncall");
    assert!(news.iter().any(|news| news.starts_with("not_cured: restart on ")), "{news:?}");
    assert!(news.iter().any(|news| news.starts_with("cured: rollback on ")), "{news:?}");
}

#[test]
fn safety_no_data_is_inconclusive_of_a_rung_for_several() {
    let mut world = erring(&format!("{ERRORS}    no_data: resolve\n    cooldown: 30m\n"));
    world.run_until("all restarts", mins(3), |world| world.acted().len() == 6);
    all().for_each(|one| world.no_gauge(&one, "err"));
    world.run(mins(18));
    let over = world.alert("Errors").expect("it fired");
    assert_eq!(over.state, AlertStateWord::Resolved, "{}", world.told());
    let news = world.news("oncall");
    assert!(news.iter().any(|news| news.starts_with("inconclusive: whether restart on ")), "{news:?}");
    all().for_each(|one| world.gauge(&one, "err", 1.0));
    world.run(mins(3));
    assert!(world.is_firing("Errors"));
    assert_eq!(world.acted().len(), 6, "what is not known waits for a person\n{}", world.told());
}

#[test]
fn alerts_that_a_rule_counts_get_their_windows_before_the_next_rung() {
    let counted = "  - { alert: Bad, when: 'avg(\"err\", \"15m\") > 0.05', keep_firing_for: 1m }\n  \
                   - alert: Rollout\n    per: [region]\n    when: 'firing(\"Bad\") / deployments() > 0.3'\n    severity: critical\n";
    let mut cured = erring(counted);
    all().for_each(|one| cured.on(&one, "restart", Behaviour::done().set("err", 0.0)));
    cured.run(mins(20));
    assert!(!rolled_back(&cured), "what it counts fired by old evidence\n{}", cured.told());
    let news = cured.news("oncall");
    assert!(news.iter().any(|news| news.starts_with("cured: restart on ")), "{news:?}");

    let mut worse = erring(counted);
    worse.run_until("all restarts", mins(3), |world| world.acted().len() == 6);
    worse.run(mins(15));
    assert!(!rolled_back(&worse), "{}", worse.told());
    worse.run_until("all rollbacks", mins(5), |world| world.acted().len() == 12);
}
