//! Stories with everything that repair has: approvals, runs with parts, rungs for several deployments, schedules, silences,
//! acknowledgements, maintenances, and alerts from elsewhere.

use std::fmt::Write;

use super::{Act, Dice, MAX_RUNNING, PER_DEPLOYMENT, Story, act};
use crate::world::{World, mins};
use selfheal_contract::view::{ApprovalState, RunView, SilenceState};
use selfheal_contract::{OperatorCommand, SilenceAsked, SilenceEnd};
use selfheal_engine::Input;
use selfheal_model::{Labels, Matcher, PostedAlert, Selector};

/// Acts of one such story.
const ACTS: usize = 80;
/// The rule nobody hears of.
pub const ROUTINE: &str = "Warm";

/// What only these stories have.
#[derive(Clone, Debug)]
pub enum More {
    /// The n-th of the questions that wait is answered.
    Answer {
        nth: u64,
        approve: bool,
    },
    Silence {
        which: usize,
        minutes: u64,
        repair: bool,
    },
    Expire {
        nth: u64,
    },
    Ack {
        nth: u64,
        take: bool,
    },
    Unack {
        nth: u64,
    },
    Maintain {
        tier: &'static str,
        minutes: u64,
    },
    Post {
        which: usize,
        over: bool,
    },
    Retry {
        nth: u64,
    },
    Cancel {
        nth: u64,
    },
}

pub fn story(seed: u64) -> Story {
    // another stream than that of the narrow story of the same seed
    let mut dice = Dice(seed ^ 0x5749_4445);
    let deployments = usize::try_from(3 + dice.below(5)).expect("it fits");
    let policy = policy(&mut dice, deployments);
    let acts = (0..ACTS).map(|_| match dice.one_in(3) {
        true => Act::More(more(&mut dice, deployments)),
        false => act(&mut dice, deployments),
    });
    Story { acts: acts.collect(), policy, deployments, delays: None }
}

fn more(dice: &mut Dice, deployments: usize) -> More {
    let which = usize::try_from(dice.below(deployments as u64)).expect("it fits");
    let nth = dice.below(4);
    match dice.below(14) {
        0..=3 => More::Answer { nth, approve: !dice.one_in(3) },
        4 => More::Silence { which, minutes: 1 + dice.below(60), repair: dice.one_in(3) },
        5 => More::Expire { nth },
        6 => More::Ack { nth, take: dice.one_in(2) },
        7 => More::Unack { nth },
        8 => More::Maintain { tier: dice.pick::<&str>(&["web", "db"]), minutes: 1 + dice.below(30) },
        9..=11 => More::Post { which, over: dice.one_in(3) },
        12 => More::Retry { nth },
        _ => More::Cancel { nth },
    }
}

fn policy(dice: &mut Dice, deployments: usize) -> Vec<(String, String)> {
    let mut config = String::from("format: 1\nadapters: { a: { type: sim } }\ndeployments:\n");
    for n in 0..deployments {
        let tier = ["web", "db"][n % 2];
        // a chain, a root of several, and one that is out by an alert too
        let needs = match n {
            2 | 4 => "d0",
            3 => "d2, { id: d1, when: ['alertname=\"Hot\"'] }",
            _ => "",
        };
        writeln!(
            config,
            "  - {{ id: d{n}, adapter: a, labels: {{ tier: {tier} }}, depends_on: [{needs}], checks: [{{ name: http, tcp: \"127.0.0.1:1\", every: 5s, failure_threshold: {}, success_threshold: 1 }}] }}",
            1 + dice.below(3)
        )
        .expect("a text takes it");
    }
    writeln!(
        config,
        r#"receivers:
  - {{ name: oncall, send: [firing, resolved, severity, started, approval, cured, not_cured, inconclusive, refused, exhausted], webhook: [{{ url: "http://127.0.0.1:1/" }}] }}
route: {{ receiver: oncall, group_by: [deployment], group_wait: {}, group_interval: {}, repeat_interval: 30m }}
inhibit_rules: [{{ source_matchers: ['alertname="Fleet"'], target_matchers: ['alertname="Hot"', 'tier="db"'] }}]
severities: {{ page: critical }}
remediations:
  - {{ name: elsewhere, matchers: ['alertname="Elsewhere"'], on: "{{{{ labels.service }}}}", remediate: [fix, asked], cooldown: {} }}
schedules:
  - {{ name: tidy, playbook: tidy, select: {{ tier: db }}, every: {}, jitter: {}, at_once: {}, catch_up: {} }}
  - {{ name: nightly, playbook: tidy, select: {{ tier: web }}, cron: "7 * * * *", timezone: Europe/Madrid }}
guards: {{ start_grace: {}, act_after: {}, grace: {}, max_running: {MAX_RUNNING}, per_deployment: {{ rate: {PER_DEPLOYMENT}/1h }}, blast_radius: {{ group_by: [tier], min_healthy: 0%, max_at_once: 3 }}, mode: {} }}"#,
        dice.pick(&["0s", "5s", "30s"]),
        dice.pick(&["10s", "1m", "5m"]),
        dice.pick(&["0s", "10m"]),
        dice.pick(&["20m", "1h"]),
        dice.pick(&["0s", "1m"]),
        1 + dice.below(3),
        dice.pick(&["0s", "30m"]),
        dice.pick(&["0s", "30s"]),
        dice.pick(&["0s", "5s"]),
        dice.pick(&["0s", "1m"]),
        dice.pick(&["auto", "auto", "auto", "approve"]),
    )
    .expect("a text takes it");
    let rules = format!(
        r#"rules:
  - {{ alert: Hot, when: 'last("heat") > 80', clear_when: 'last("heat") < 60', for: {}, cooldown: {}, severity: {}, remediate: [{}, {{ playbook: whole, approval: required }}] }}
  - {{ alert: Sick, when: 'unhealthy("http")', remediate: [whole, {{ playbook: asked, give_up: 5m }}] }}
  - {{ alert: Warm, when: 'last("heat") > 70', routine: true, severity: info, remediate: [{{ playbook: tidy, repeat: 3m }}] }}
  - {{ alert: Fleet, per: [], when: 'firing("Hot") >= 2', severity: critical, remediate: [{{ playbook: fix, on: {{ firing: Hot }}{} }}, {{ playbook: tidy, on: {{ select: {{ tier: web }} }} }}] }}
"#,
        dice.pick(&["0s", "10s", "1m"]),
        dice.pick(&["0s", "5m"]),
        dice.pick(&["warning", "critical"]),
        dice.pick(&["fix", "asked", "eased"]),
        dice.pick(&["", ", batch: 1, pause: 20s", ", batch: 2"]),
    );
    let playbooks = format!(
        r#"playbook: fix
steps:
  - {{ id: act, action: {}, timeout: 30s }}
verify: {{ hold: {}, within: 3m }}
---
playbook: asked
mode: approve
steps:
  - {{ id: act, action: rollback, timeout: 30s }}
verify: {{ hold: 10s, within: 3m }}
---
playbook: tidy
steps:
  - {{ id: act, action: clean, timeout: 20s }}
---
playbook: eased
steps:
  - {{ id: ease, set_check: {{ name: http, timeout: 20s, for: 10m }} }}
  - {{ id: hush, silence: 2m, best_effort: true }}
  - {{ id: act, action: scale, timeout: 20s }}
verify: {{ hold: 10s, within: 3m }}
---
playbook: whole
steps:
  - id: both
    parallel:
      - {{ id: one, action: clean, timeout: 20s }}
      - {{ id: two, action: logs }}
      - {{ id: three, wait: 5s }}
  - {{ id: part, playbook: tidy }}
  - {{ id: ask, approve: {{ ask: oncall, timeout: {} }} }}
  - {{ id: act, action: {}, timeout: 30s, undo: {{ action: scale }} }}
  - {{ id: last, action: clean, timeout: 20s }}
on_failure: {}
finally:
  - {{ id: after, action: diagnose, best_effort: true }}
verify: {{ hold: 10s, within: 5m }}
"#,
        dice.pick(&["restart", "scale"]),
        dice.pick(&["0s", "20s"]),
        dice.pick(&["2m", "30m"]),
        dice.pick(&["restart", "rollback"]),
        dice.pick(&["stop", "undo"]),
    );
    vec![
        ("selfheal.yaml".to_owned(), config),
        ("rules/r.yaml".to_owned(), rules),
        ("playbooks/p.yaml".to_owned(), playbooks),
    ]
}

fn nth<T>(all: Vec<T>, nth: u64) -> Option<T> {
    let count = all.len() as u64;
    let place = usize::try_from(nth.checked_rem(count)?).expect("it fits");
    all.into_iter().nth(place)
}

pub fn perform(world: &mut World, more: &More) {
    let reason = || "the simulator".to_owned();
    let command = match more {
        More::Answer { nth: n, approve } => {
            let waiting = world.approvals().filter(|view| view.state == ApprovalState::Waiting);
            nth(waiting.map(|view| view.id.clone()).collect(), *n).map(|approval| match approve {
                true => OperatorCommand::Approve { approval, reason: reason() },
                false => OperatorCommand::Deny { approval, reason: reason() },
            })
        }
        More::Silence { which, minutes, repair } => Some(OperatorCommand::Silence(SilenceAsked {
            id: None,
            matchers: Selector(vec![Matcher::equal("deployment", format!("d{which}"))]),
            starts_at: None,
            ends: SilenceEnd::After(mins(*minutes)),
            comment: reason(),
            annotations: repair.then_some(("repair", "true")).into_iter().collect(),
        })),
        More::Expire { nth: n } => {
            let active = world.silences().filter(|view| view.state != SilenceState::Expired);
            nth(active.map(|view| view.id.clone()).collect(), *n).map(|id| OperatorCommand::ExpireSilence { id })
        }
        More::Ack { nth: n, take } => {
            let (take, comment) = (*take, reason());
            nth(firing(world), *n).map(|alert| OperatorCommand::Ack { alert, take, comment })
        }
        More::Unack { nth: n } => nth(firing(world), *n).map(|alert| OperatorCommand::Unack { alert }),
        More::Maintain { tier, minutes } => Some(OperatorCommand::Maintain {
            select: Selector(vec![Matcher::equal("tier", tier)]),
            for_: mins(*minutes),
            reason: reason(),
        }),
        More::Retry { nth: n } => {
            nth(firing(world), *n).map(|alert| OperatorCommand::Retry { alert, reason: reason() })
        }
        More::Cancel { nth: n } => {
            let open = world.runs().into_iter().filter(|run| run.ended_at.is_none()).map(|run| run.id.clone());
            nth(open.collect(), *n).map(|run| OperatorCommand::CancelRun { run, reason: reason() })
        }
        More::Post { which, over } => {
            if !world.disk_fails() {
                post(world, *which, *over);
            }
            None
        }
    };
    if let Some(command) = command {
        // a refusal is an answer, too
        let _ = world.operator(command);
    }
}

fn post(world: &mut World, which: usize, over: bool) {
    let service = format!("d{which}");
    let labels = [("alertname", "Elsewhere"), ("service", service.as_str()), ("severity", "page")];
    let wall = world.wall();
    let posted = PostedAlert {
        labels: labels.into_iter().collect(),
        annotations: Labels::default(),
        starts_at: None,
        ends_at: over.then_some(wall),
        generator_url: String::new(),
    };
    world.input(Input::Posted(vec![posted]));
}

fn firing(world: &World) -> Vec<smol_str::SmolStr> {
    use selfheal_contract::view::AlertStateWord::Firing;
    world.alerts().filter(|view| view.state == Firing).map(|view| view.id.clone()).collect()
}

/// Nobody is asked in vain: what needs a person acted only after one had said yes.
pub fn check_approved(world: &World) {
    for run in world.runs().into_iter().filter(|run| run.playbook.as_str() == "asked") {
        let acted = run.steps.iter().any(|step| step.action == "rollback" && step.outcome != "skipped");
        assert!(!acted || run.approved_by.is_some(), "{} acted and nobody had allowed it\n{}", run.id, world.told());
    }
}

/// It gave everything back while it waited for a person, who did not say yes: it only ends.
pub fn acts_no_more(world: &World, run: &RunView) -> bool {
    let whole = |id: &str| id.split('/').next().map(str::to_owned);
    let no = |state| matches!(state, ApprovalState::Withdrawn | ApprovalState::Denied | ApprovalState::Expired);
    world
        .approvals()
        .any(|view| no(view.state) && view.step.is_some() && whole(view.run.as_str()) == whole(run.id.as_str()))
}

/// Silences would hide what still fires.
pub fn calm_down(world: &mut World) {
    let active = world.silences().filter(|view| view.state != SilenceState::Expired);
    let active: Vec<_> = active.map(|view| view.id.clone()).collect();
    for id in active {
        let _ = world.operator(OperatorCommand::ExpireSilence { id });
    }
}
