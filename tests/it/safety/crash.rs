//! The same over a crash: the story is killed after every record of its journal.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::{RESTART, RULE, ended, files, sick};
use crate::world::{Behaviour, DiskFault, Moment, World, mins, secs};
use selfheal_contract::{DeliveryResult, Storage};
use selfheal_engine::Input;
use selfheal_model::FailureClass;

/// Tells the story once without a crash, and then once for every record it wrote, killed right after that one. What was
/// under way at that moment has happened or not, both are tried.
fn killed_at_every_record(story: impl Fn(&mut World), holds: impl Fn(&World, &str)) {
    let mut whole = story_world();
    story(&mut whole);
    holds(&whole, "without a crash");
    let records = whole.journalled();
    assert!(records > 20, "a story of {records} records proves little");
    for record in 1..records {
        for happened in [false, true] {
            let mut world = story_world();
            world.crash_after(record, secs(10), happened);
            story(&mut world);
            holds(
                &world,
                &format!(
                    "killed after record {record}, what was under way {}",
                    if happened { "happened" } else { "did not" }
                ),
            );
        }
    }
}

const STORY: &str = r#"format: 1
adapters:
  sim: { type: sim }
deployments:
  - { id: web, adapter: sim, labels: { tier: web } }
receivers:
  - name: oncall
    webhook: [{ url: "http://127.0.0.1:9/hook" }]
route: { receiver: oncall, group_by: [deployment], group_wait: 1s, group_interval: 10s }
guards: { start_grace: 0s, act_after: 1s, grace: 1s, per_deployment: { rate: 2/1h } }
"#;

fn story_world() -> World {
    let rule = RULE.replace("cooldown: 5m", "cooldown: 0s").replace("[restart]", "[restart, restart, restart]");
    let mut files = files(&rule, RESTART);
    files[0].1 = STORY;
    let mut world = World::new(&files);
    world.keep_journal();
    world
}

/// Tells the story once for every record it writes, with a disk that takes nothing for a minute right after that one, or
/// of which nobody knows what it took. A call that could not be written down is never made late.
#[test]
fn safety_budget_before_act_on_a_disk_that_fails() {
    let story = |world: &mut World| {
        world.gauge("web", "cpu_percent", 95.0);
        world.on("web", "restart", Behaviour::done());
        world.run(mins(6));
    };
    let mut whole = story_world();
    story(&mut whole);
    let full = vec![DiskFault::Refused; 60];
    let unknown = |written| vec![DiskFault::Unknown { written, blind_looks: 3 }];
    for record in 1..whole.journalled() {
        for faults in [full.clone(), unknown(true), unknown(false)] {
            let mut world = story_world();
            world.disk_after(record, faults.clone());
            story(&mut world);
            world.run(mins(2));
            let when = format!("{} × {:?} after record {record}", faults.len(), faults[0]);
            assert!(!world.disk_fails(), "{when}");
            let calls = world.acted().len();
            assert!((1..=2).contains(&calls), "{when}: the budget is 2/1h, {calls} calls\n{}", world.told());
            let mut keys: Vec<_> = world.calls.iter().map(|call| &call.key).collect();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), world.calls.len(), "{when}: a call was made twice\n{}", world.told());
            assert!(faults.len() < 10 || world.told().contains("StorageFailed"), "{when}: {}", world.told());
        }
    }
}

#[test]
fn a_step_that_was_cancelled_before_it_could_be_written_down_never_starts() {
    let begin = || {
        let mut world = story_world();
        world.gauge("web", "cpu_percent", 95.0);
        world.on("web", "restart", Behaviour::done());
        world
    };
    let mut whole = begin();
    whole.run(mins(8));
    let first = whole.calls[0].key.clone();
    let deciding = whole.calls[0].record - 1;
    let mut world = begin();
    // longer than the step's timeout
    world.disk_after(deciding, vec![DiskFault::Refused; 45]);
    world.run(mins(8));
    assert!(world.told().contains("StorageFailed"), "{}", world.told());
    assert!(world.calls.iter().all(|call| call.key != first), "it started after all\n{}", world.told());
    assert!(!world.calls.is_empty(), "and repairs go on when there is room again\n{}", world.told());
}

#[test]
fn safety_fenced_lease_over_a_crash() {
    // fences that go back, and two acting calls at once, are held against in the world itself
    let story = |world: &mut World| {
        world.gauge("web", "cpu_percent", 95.0);
        world.on("web", "restart", Behaviour::done());
        world.run(mins(6));
    };
    killed_at_every_record(story, |world, when| {
        let fences: Vec<u64> = world.calls.iter().map(|call| call.fence).collect();
        assert!(fences.is_sorted(), "{when}: {fences:?}\n{}", world.told());
    });
}

#[test]
fn safety_budget_before_act_over_a_crash() {
    let story = |world: &mut World| {
        world.gauge("web", "cpu_percent", 95.0);
        world.on("web", "restart", Behaviour::failed(FailureClass::Permanent, "no"));
        world.run(mins(6));
    };
    killed_at_every_record(story, |world, when| {
        let acted = world.acted().len();
        assert!(acted <= 2, "{when}: acted {acted} times of 2 in an hour\n{}", world.told());
    });
}

#[test]
fn safety_ambiguous_is_not_retried_over_a_crash() {
    let story = |world: &mut World| {
        world.gauge("web", "cpu_percent", 95.0);
        world.on("web", "restart", Behaviour::done().takes(secs(20)));
        world.run(mins(3));
    };
    let in_doubt = Cell::new(0);
    killed_at_every_record(story, |world, when| {
        // `restart` may not be made twice, whatever became of its run
        let keys: BTreeSet<&str> = world.calls.iter().map(|call| call.key.as_str()).collect();
        assert_eq!(keys.len(), world.calls.len(), "{when}: a call was made again\n{}", world.told());
        for run in world.runs() {
            if run.verdict.as_deref() != Some("inconclusive") {
                continue;
            }
            in_doubt.set(in_doubt.get() + 1);
            // what nobody knows the end of is made by no other attempt, and people are told
            let calls = world.calls.iter().filter(|call| call.key.starts_with(&format!("{}/", run.id))).count();
            assert_eq!(calls, 1, "{when}\n{}", world.told());
            assert!(!world.news("oncall").is_empty(), "{when}: nobody was told\n{}", world.told());
        }
    });
    assert!(in_doubt.get() > 0, "no crash met a call: that proves nothing");
}

#[test]
fn safety_blind_is_not_silent_over_a_crash() {
    let rule = "rules:\n  - { alert: Silent, when: 'absent(\"heartbeat\", \"1m\")', remediate: [restart] }\n";
    let mut files = files(rule, RESTART);
    files[0].1 = STORY;
    let mut world = World::new(&files);
    world.keep_journal();
    world.gauge("web", "heartbeat", 1.0);
    world.run(mins(3));
    // half an hour in which nobody watched is not half an hour of silence
    world.crash(Moment::Quiet, mins(30), &mut || false);
    world.run(secs(50));
    assert!(!world.is_firing("Silent") && world.acted().is_empty(), "{}", world.told());
    world.no_gauge("web", "heartbeat");
    world.run(mins(3));
    assert!(world.is_firing("Silent"), "silence that was watched counts\n{}", world.told());
}

#[test]
fn safety_kill_switch_over_a_crash() {
    let mut world = story_world();
    world.pause();
    world.crash(Moment::Quiet, mins(5), &mut || false);
    world.gauge("web", "cpu_percent", 95.0);
    world.run(mins(5));
    assert!(world.is_firing("HighCpu") && world.acted().is_empty(), "{}", world.told());
    world.resume();
    world.run(mins(1));
    assert_eq!(world.acted().first().map(String::as_str), Some("web restart"), "{}", world.told());
}

#[test]
fn a_call_that_a_crash_met_is_made_again_only_where_the_adapter_says_it_may() {
    let renew =
        "playbook: restart\nsteps:\n  - { id: renew, action: renew, timeout: 30s }\nverify: { hold: 5s, within: 2m }\n";
    let mut files = files(RULE, renew);
    files[0].1 = STORY;
    let mut world = World::new(&files);
    world.keep_journal();
    world.gauge("web", "cpu_percent", 95.0);
    world.on("web", "renew", Behaviour::done().takes(secs(20)).set("cpu_percent", 5.0));
    world.run_until("the call", mins(2), |world| !world.calls.is_empty());
    world.crash(Moment::Quiet, secs(5), &mut || false);
    world.run_until("the end of the run", mins(10), |world| ended(world) > 0);
    assert_eq!(world.verdicts(), ["restart cured"], "{}", world.told());
    assert_eq!(world.calls.len(), 2, "{}", world.told());
    assert_eq!(world.calls[0].key, world.calls[1].key, "the adapter can tell that it is the same call");
}

#[test]
fn after_a_crash_into_another_version_nothing_is_done_twice_and_one_message_says_so() {
    let mut world = story_world();
    world.gauge("web", "cpu_percent", 95.0);
    world.on("web", "restart", Behaviour::done().takes(secs(20)));
    world.run_until("the call", mins(5), |world| !world.acted().is_empty());
    world
        .receiver("oncall", std::iter::repeat_n(DeliveryResult::Transient { why: "503".into(), retry_after: None }, 3));
    world.run(secs(5));
    let (calls, sent) = (world.calls.len(), world.sent.len());
    world.crash_and_upgrade(secs(40));
    world.run(secs(1));
    assert_eq!(world.calls.len(), calls, "what may have happened is looked at first: {}", world.told());
    world.run(mins(5));
    let told = |world: &World| {
        world.sent[sent..]
            .iter()
            .filter(|one| one.news.iter().any(|news| news.text.contains("came back as another version")))
            .count()
    };
    assert_eq!(told(&world), 1, "{}", world.told());
    assert!(world.told().contains("audit selfheal: selfheal ended abruptly"), "{}", world.told());
}

#[test]
fn while_nothing_can_be_written_nothing_acts_and_people_are_told() {
    let mut world = sick(RULE, RESTART);
    world.input(Input::Storage(Storage::Failing { why: "the disk is full".to_owned() }));
    world.run(mins(3));
    assert!(
        world.is_firing("HighCpu") && world.is_firing("StorageFailed") && world.acted().is_empty(),
        "{}",
        world.told()
    );
    assert!(world.sent.iter().all(|message| message.possible_repeat), "every message may be said again");
    world.input(Input::Storage(Storage::Working));
    world.run(mins(1));
    assert!(!world.is_firing("StorageFailed"));
    assert_eq!(world.acted().first().map(String::as_str), Some("web restart"), "{}", world.told());
}

#[test]
fn a_divergence_pauses_automation_until_a_person_has_seen_it() {
    let mut world = sick(RULE, RESTART);
    world.input(Input::Diverged { why: "batch 7".to_owned() });
    world.run(mins(3));
    assert!(world.is_firing("Divergence") && world.acted().is_empty(), "{}", world.told());
    assert!(world.mails("oncall").iter().any(|subject| subject.contains("Divergence")), "{}", world.told());
    world.resume();
    world.run(mins(1));
    assert!(!world.is_firing("Divergence"), "{}", world.told());
    assert_eq!(world.acted().first().map(String::as_str), Some("web restart"), "{}", world.told());
}
