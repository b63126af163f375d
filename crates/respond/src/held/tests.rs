//! What holds alerts back, from when to when, and of which it is said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Held;
use super::silences::Silence;
use crate::alerts::{Alert, Alerts};
use crate::guard::HeldBy;
use crate::turn::{AlertChange, AlertChangeKind, Turn, Word};
use selfheal_contract::SourceFile;
use selfheal_contract::effect::{Effect, OperatorAnswer};
use selfheal_contract::input::{Operator, OperatorCommand, SilenceAsked, SilenceEnd};
use selfheal_contract::view::{Change, SilenceState, SilenceView};
use selfheal_model::{AdapterCatalog, AdapterSpec, AlertKey, Labels, Map, Selector, Severity, Timestamp};
use selfheal_policy::{Policy, compile};

struct NoAdapters;

impl AdapterCatalog for NoAdapters {
    fn kinds(&self) -> Vec<&'static str> {
        vec![]
    }
    fn describe(&self, _kind: &str, _options: &Map) -> Result<AdapterSpec, String> {
        Err("there are none".to_owned())
    }
}

fn policy(inhibit_rules: &str) -> Arc<Policy> {
    let text = format!("format: 1\nreceivers: [{{ name: oncall }}]\n{inhibit_rules}");
    let files = [SourceFile { path: "selfheal.yaml".to_owned(), text }];
    match compile(&files, &NoAdapters, &|_| None, &|_| None) {
        Ok(policy) => Arc::new(policy),
        Err(diagnostics) => panic!("{diagnostics:#?}"),
    }
}

struct Bench {
    held: Held,
    policy: Arc<Policy>,
    now: Timestamp,
    firing: Vec<Alert>,
    /// Of which alerts it was said that what holds them back changed, since the last look.
    said: BTreeSet<String>,
    shown: Vec<SilenceView>,
    gone: Vec<String>,
    audit: Vec<String>,
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000) + secs(seconds)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(rule: &str, on: &str) -> AlertKey {
    AlertKey { rule: rule.into(), scope: [("deployment", on)].into_iter().collect() }
}

fn asked(matchers: &[&str], span: Duration) -> SilenceAsked {
    SilenceAsked {
        id: None,
        matchers: Selector(matchers.iter().map(|text| text.parse().expect("a matcher")).collect()),
        starts_at: None,
        ends: SilenceEnd::After(span),
        comment: "a test".to_owned(),
        annotations: Labels::default(),
    }
}

impl Bench {
    fn new() -> Bench {
        Bench::under("")
    }

    fn under(inhibit_rules: &str) -> Bench {
        let mut bench = Bench {
            held: Held::new(at(0)),
            policy: policy(inhibit_rules),
            now: at(0),
            firing: vec![],
            said: BTreeSet::new(),
            shown: vec![],
            gone: vec![],
            audit: vec![],
        };
        bench.turn(|held, turn, alerts| held.replace_policy(turn, alerts));
        bench
    }

    fn turn<T>(&mut self, act: impl FnOnce(&mut Held, &mut Turn<'_>, &Alerts) -> T) -> T {
        let alerts = Alerts::with(self.firing.clone());
        let mut effects = Vec::new();
        let mut turn = Turn::new(self.now, self.policy.clone(), &mut effects);
        let came = act(&mut self.held, &mut turn, &alerts);
        for word in turn.words {
            if let Word::HeldChanged(key) = word {
                self.said.insert(key.to_string());
            }
        }
        for effect in effects {
            match effect {
                Effect::Show(Change::Silence(view)) => self.shown.push(*view),
                Effect::Show(Change::SilenceGone(id)) => self.gone.push(id.to_string()),
                Effect::Show(Change::Audit(entry)) => self.audit.push(format!("{}: {}", entry.who, entry.what)),
                _ => {}
            }
        }
        self.is_restored_equal();
        came
    }

    /// Its bytes are its whole state.
    fn is_restored_equal(&self) {
        let bytes = rmp_serde::to_vec_named(&self.held).expect("plain data");
        let mut restored: Held = rmp_serde::from_slice(&bytes).expect("its own form");
        restored.relink(&self.policy);
        assert_eq!(rmp_serde::to_vec_named(&restored).expect("plain data"), bytes);
        let alerts = Alerts::with(self.firing.clone());
        for alert in &self.firing {
            let of = |held: &Held| (held.held_by(&alerts, &alert.key, self.now), held.view_of(&alert.key));
            assert_eq!(of(&restored), of(&self.held), "{}", alert.key);
        }
    }

    /// Lets time pass to so long after the start.
    fn at(&mut self, seconds: u64) -> &mut Self {
        while let Some(due) = self.held.next_deadline().filter(|due| *due <= at(seconds)) {
            self.now = self.now.max(due);
            self.turn(|held, turn, _| held.fire(turn));
        }
        self.now = at(seconds);
        self
    }

    fn alert(&mut self, rule: &str, on: &str, severity: Severity, labels: &[(&str, &str)]) -> &mut Self {
        let key = key(rule, on);
        let own = [("alertname", rule), ("deployment", on), ("severity", severity.as_str())];
        self.firing.retain(|alert| alert.key != key);
        self.firing.push(Alert {
            labels: own.into_iter().chain(labels.iter().copied()).collect(),
            deployment: key.deployment(),
            severity,
            firing: true,
            true_now: true,
            value: None,
            summary: String::new(),
            annotations: Labels::default(),
            started_at: self.now,
            fired_at: self.now,
            ended_at: None,
            relapse: 0,
            without_data: false,
            evidence: self.now,
            generator_url: String::new(),
            began_at: None,
            ran_out: false,
            key,
        });
        self
    }

    fn fires(&mut self, rule: &str, on: &str) -> &mut Self {
        self.alert(rule, on, Severity::Warning, &[]).hears(rule, on, AlertChangeKind::Fired)
    }

    fn resolves(&mut self, rule: &str, on: &str) -> &mut Self {
        for alert in self.firing.iter_mut().filter(|alert| alert.key == key(rule, on)) {
            alert.firing = false;
            alert.ended_at = Some(self.now);
        }
        self.hears(rule, on, AlertChangeKind::Resolved)
    }

    fn hears(&mut self, rule: &str, on: &str, kind: AlertChangeKind) -> &mut Self {
        let change = AlertChange { key: key(rule, on), kind };
        self.turn(|held, turn, alerts| held.alert_changed(turn, alerts, &change));
        self
    }

    fn operator(&mut self, command: OperatorCommand) -> Result<OperatorAnswer, String> {
        let operator = Operator { who: "ana".to_owned(), command, ticket: 1 };
        assert!(Held::answers(&operator.command));
        let alerts = Alerts::with(self.firing.clone());
        let mut answers = vec![];
        self.turn(|held, turn, _| {
            held.operator(turn, &alerts, operator);
            turn.effects.retain(|effect| match effect {
                Effect::Answer { answer, .. } => {
                    answers.push(answer.clone());
                    false
                }
                _ => true,
            });
        });
        answers.pop().expect("an answer in the same turn")
    }

    fn silence(&mut self, asked: SilenceAsked) -> Result<String, String> {
        self.operator(OperatorCommand::Silence(asked)).map(|answer| match answer {
            OperatorAnswer::Id(id) => id.to_string(),
            other => panic!("{other:?}"),
        })
    }

    fn muted(&self, rule: &str, on: &str) -> Option<&'static str> {
        let alerts = Alerts::with(self.firing.clone());
        self.held.is_muted(&alerts, &key(rule, on), self.now).map(|held| held.word())
    }

    fn ladder(&self, rule: &str, on: &str) -> Option<HeldBy> {
        let alerts = Alerts::with(self.firing.clone());
        self.held.held_by(&alerts, &key(rule, on), self.now)
    }

    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said).into_iter().collect()
    }
}

const SHOP: &str = r#"HighCpu{deployment="shop"}"#;
const MAIL: &str = r#"HighCpu{deployment="mail"}"#;

#[test]
fn a_silence_holds_what_matches_from_its_start_to_its_end() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop").fires("HighCpu", "mail");
    let later = SilenceAsked { starts_at: Some(at(60)), ..asked(&["deployment=shop"], secs(100)) };
    assert_eq!(bench.silence(later).as_deref(), Ok("s-1"));
    assert_eq!((bench.muted("HighCpu", "shop"), bench.said()), (None, vec![]));
    bench.at(60);
    assert_eq!((bench.muted("HighCpu", "shop"), bench.said()), (Some("silence"), vec![SHOP.to_owned()]));
    let until = at(160);
    let held = HeldBy::Silence { id: "s-1".into(), by: "ana".to_owned(), until };
    assert_eq!((bench.ladder("HighCpu", "shop"), bench.muted("HighCpu", "mail")), (Some(held), None));
    let view = bench.held.view_of(&key("HighCpu", "shop")).expect("held");
    assert_eq!((view.silenced_by, view.inhibited), (vec!["s-1".into()], false));
    // one that begins to fire later is silenced from its first instant
    bench.at(100).fires("Slow", "shop");
    assert_eq!(bench.said(), [r#"Slow{deployment="shop"}"#]);
    bench.at(160);
    assert_eq!((bench.muted("HighCpu", "shop"), bench.ladder("Slow", "shop")), (None, None));
    assert_eq!(bench.said(), [SHOP, r#"Slow{deployment="shop"}"#]);
    let states: Vec<_> = bench.shown.iter().map(|view| view.state).collect();
    assert_eq!(states, [SilenceState::Pending, SilenceState::Active, SilenceState::Expired]);
    // expired ones are shown for a while
    bench.at(160 + 5 * 86_400 - 1);
    assert_eq!(bench.gone, [""; 0]);
    bench.at(160 + 5 * 86_400);
    assert_eq!((bench.gone.as_slice(), bench.held.next_deadline()), (["s-1".to_owned()].as_slice(), None));
}

#[test]
fn a_silence_may_let_repair_go_on() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop");
    let annotations: Labels = [("repair", "true")].into_iter().collect();
    let quiet = SilenceAsked { annotations, ..asked(&["deployment=shop"], secs(100)) };
    bench.silence(quiet.clone()).expect("taken");
    assert_eq!((bench.muted("HighCpu", "shop"), bench.ladder("HighCpu", "shop")), (Some("silence"), None));
    bench.said();
    // changed so that it does not
    let changed = SilenceAsked { id: Some("s-1".into()), annotations: Labels::default(), ..quiet };
    assert_eq!(bench.silence(changed).as_deref(), Ok("s-1"));
    assert_eq!(bench.said(), [SHOP]);
    assert!(matches!(bench.ladder("HighCpu", "shop"), Some(HeldBy::Silence { .. })));
    assert_eq!(bench.audit.len(), 2, "{:?}", bench.audit);
    assert!(bench.audit[0].contains("its repair goes on") && bench.audit[0].contains("a test"), "{:?}", bench.audit);
}

#[test]
fn a_silence_can_be_changed_and_ended_but_not_brought_back() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop").fires("HighCpu", "mail");
    bench.silence(asked(&["deployment=shop"], secs(100))).expect("taken");
    bench.said();
    let changed = SilenceAsked { id: Some("s-1".into()), ..asked(&["deployment=mail"], secs(100)) };
    bench.at(10).silence(changed.clone()).expect("taken");
    assert_eq!((bench.muted("HighCpu", "shop"), bench.muted("HighCpu", "mail")), (None, Some("silence")));
    assert_eq!(bench.said(), [MAIL, SHOP]);
    assert_eq!(bench.shown.last().map(|view| (view.starts_at, view.ends_at)), Some((at(0), at(110))));
    bench.at(20).operator(OperatorCommand::ExpireSilence { id: "s-1".into() }).expect("taken");
    assert_eq!((bench.muted("HighCpu", "mail"), bench.said()), (None, vec![MAIL.to_owned()]));
    for (command, why) in [
        (OperatorCommand::ExpireSilence { id: "s-1".into() }, "has expired"),
        (OperatorCommand::ExpireSilence { id: "s-9".into() }, "no silence `s-9`"),
        (OperatorCommand::Silence(changed), "has expired"),
        (OperatorCommand::Silence(asked(&["deployment=~\".*\""], secs(100))), "everything"),
        (OperatorCommand::Silence(asked(&["deployment=shop"], secs(0))), "ended already"),
        (OperatorCommand::Silence(asked(&["deployment=shop"], secs(400 * 86_400))), "within 366 days"),
    ] {
        let answer = bench.operator(command);
        assert!(answer.as_ref().is_err_and(|error| error.contains(why)), "{why}: {answer:?}");
    }
    assert_eq!(bench.audit.len(), 3, "what changed nothing is not audited: {:?}", bench.audit);
}

#[test]
fn silences_are_bounded_and_of_expired_ones_the_newest_stay() {
    let mut bench = Bench::new();
    for n in 0..1_000 {
        bench.held_silence(n);
    }
    assert!(bench.silence(asked(&["deployment=shop"], secs(100))).is_err_and(|why| why.contains("limit")));
    bench.at(100);
    bench.held_silence(1_000);
    bench.at(300);
    assert_eq!(bench.gone, ["s-1"]);
    let open = |silence: &&Silence| silence.is_active(bench.now);
    assert_eq!(bench.held.silences.ids().iter().filter_map(|id| bench.held.silences.get(id)).filter(open).count(), 0);
}

impl Bench {
    /// Without looking at what was said.
    fn held_silence(&mut self, n: usize) {
        let mut effects = Vec::new();
        let mut turn = Turn::new(self.now, self.policy.clone(), &mut effects);
        let one = asked(&[&format!("deployment=d{n}")], secs(100));
        self.held.silence(&mut turn, "ana", one).expect("there is room");
    }
}

#[test]
fn times_of_silences_are_by_the_wall_clock() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop");
    bench.turn(|held, turn, _| held.clock_moved(turn, 1_000_000));
    let until = SilenceAsked { ends: SilenceEnd::At(at(1_100)), ..asked(&["deployment=shop"], secs(1)) };
    bench.silence(until).expect("taken");
    assert!(matches!(bench.ladder("HighCpu", "shop"), Some(HeldBy::Silence { until, .. }) if until == at(100)));
    assert_eq!(bench.shown.last().map(|view| (view.starts_at, view.ends_at)), Some((at(1_000), at(1_100))));
    bench.at(50).said();
    bench.turn(|held, turn, _| held.clock_moved(turn, 1_060_000));
    assert_eq!((bench.muted("HighCpu", "shop"), bench.said()), (None, vec![SHOP.to_owned()]));
    // it has ended, and a clock that goes back does not change that
    bench.turn(|held, turn, _| held.clock_moved(turn, 1_000_000));
    assert_eq!((bench.muted("HighCpu", "shop"), bench.said()), (None, vec![]));
}

const INHIBIT: &str = "inhibit_rules:\n  - source_matchers: ['severity=\"critical\"']\n    target_matchers: \
                       ['severity=~\"info|warning\"']\n    equal: [deployment]\n";

#[test]
fn a_firing_source_holds_back_the_targets_that_have_the_same_in_common() {
    let mut bench = Bench::under(INHIBIT);
    bench.fires("HighCpu", "shop").fires("HighCpu", "mail");
    assert_eq!((bench.said(), bench.muted("HighCpu", "shop")), (vec![], None));
    bench.alert("Down", "shop", Severity::Critical, &[]).hears("Down", "shop", AlertChangeKind::Fired);
    assert_eq!(bench.said(), [SHOP]);
    assert_eq!((bench.muted("HighCpu", "shop"), bench.muted("HighCpu", "mail")), (Some("inhibition"), None));
    assert!(bench.ladder("HighCpu", "shop").is_some_and(|held| held.to_string().contains("Down")));
    assert_eq!(bench.muted("Down", "shop"), None);
    // a second one holds it too, and the end of the first changes nothing
    bench.alert("Full", "shop", Severity::Critical, &[]).hears("Full", "shop", AlertChangeKind::Fired);
    bench.resolves("Down", "shop");
    assert_eq!((bench.said(), bench.muted("HighCpu", "shop")), (vec![], Some("inhibition")));
    assert!(bench.ladder("HighCpu", "shop").is_some_and(|held| held.to_string().contains("Full")));
    // it falls, and is held back by none then
    let fall = AlertChangeKind::SeverityChanged { from: Severity::Critical, to: Severity::Warning };
    bench.alert("Full", "shop", Severity::Warning, &[]).hears("Full", "shop", fall);
    assert_eq!((bench.said(), bench.muted("HighCpu", "shop")), (vec![SHOP.to_owned()], None));
}

#[test]
fn one_on_both_sides_is_held_back_only_by_what_is_not() {
    let both = "inhibit_rules:\n  - source_matchers: ['team=~\"a|b\"']\n    target_matchers: ['team=~\"b|c\"']\n";
    let mut bench = Bench::under(both);
    for (rule, team) in [("One", "b"), ("Two", "b"), ("Three", "c")] {
        bench.alert(rule, "shop", Severity::Warning, &[("team", team)]).hears(rule, "shop", AlertChangeKind::Fired);
    }
    let muted = |bench: &Bench| ["One", "Two", "Three"].map(|rule| bench.muted(rule, "shop").is_some());
    assert_eq!(muted(&bench), [false, false, true]);
    bench.said();
    bench.alert("Four", "shop", Severity::Warning, &[("team", "a")]).hears("Four", "shop", AlertChangeKind::Fired);
    assert_eq!(muted(&bench), [true, true, true]);
    assert_eq!(bench.said(), [r#"One{deployment="shop"}"#, r#"Two{deployment="shop"}"#]);
    assert_eq!(bench.muted("Four", "shop"), None, "none inhibits itself");
}

#[test]
fn a_new_policy_may_hold_others_back() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop");
    bench.alert("Down", "shop", Severity::Critical, &[]).hears("Down", "shop", AlertChangeKind::Fired);
    assert_eq!(bench.muted("HighCpu", "shop"), None);
    bench.policy = policy(INHIBIT);
    bench.turn(|held, turn, alerts| held.replace_policy(turn, alerts));
    assert_eq!((bench.said(), bench.muted("HighCpu", "shop")), (vec![SHOP.to_owned()], Some("inhibition")));
    bench.policy = policy("");
    bench.turn(|held, turn, alerts| held.replace_policy(turn, alerts));
    assert_eq!((bench.said(), bench.muted("HighCpu", "shop")), (vec![SHOP.to_owned()], None));
}

#[test]
fn an_acknowledgement_holds_until_the_episode_is_over() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop");
    let id = key("HighCpu", "shop").id();
    let ack = |take: bool| OperatorCommand::Ack { alert: id.clone(), take, comment: "on it".to_owned() };
    bench.operator(ack(false)).expect("taken");
    assert_eq!(bench.said(), [SHOP]);
    assert!(bench.held.is_acknowledged(&key("HighCpu", "shop")));
    assert_eq!((bench.muted("HighCpu", "shop"), bench.ladder("HighCpu", "shop")), (None, None));
    bench.operator(ack(true)).expect("taken");
    assert_eq!(bench.ladder("HighCpu", "shop"), Some(HeldBy::Taken { by: "ana".to_owned() }));
    assert_eq!(bench.audit, [format!("ana: acknowledged {SHOP}: on it"), format!("ana: took over {SHOP}: on it")]);
    // a relapse is the same episode
    bench.resolves("HighCpu", "shop").alert("HighCpu", "shop", Severity::Warning, &[]).said();
    bench.hears("HighCpu", "shop", AlertChangeKind::Relapsed);
    assert_eq!(bench.said(), [SHOP], "it is shown again");
    assert!(bench.ladder("HighCpu", "shop").is_some());
    bench.resolves("HighCpu", "shop").hears("HighCpu", "shop", AlertChangeKind::EpisodeOver);
    bench.firing.clear();
    bench.fires("HighCpu", "shop");
    assert_eq!(bench.ladder("HighCpu", "shop"), None);
    bench.operator(ack(true)).expect("taken");
    bench.operator(OperatorCommand::Unack { alert: id.clone() }).expect("taken");
    assert_eq!(bench.ladder("HighCpu", "shop"), None);
    assert!(bench.operator(OperatorCommand::Unack { alert: id }).is_err());
    let unknown = OperatorCommand::Ack { alert: "0".into(), take: false, comment: String::new() };
    assert!(bench.operator(unknown).is_err_and(|why| why.contains("no alert `0`")));
}

#[test]
fn a_playbooks_silence_lets_its_repair_go_on_and_lasts_longer_when_said_again() {
    let mut bench = Bench::new();
    bench.fires("HighCpu", "shop").fires("Slow", "shop");
    let say = |held: &mut Held, turn: &mut Turn<'_>| {
        held.silence_for_repair(turn, &key("HighCpu", "shop"), secs(100), "playbook restart".to_owned())
    };
    assert_eq!(bench.turn(|held, turn, _| say(held, turn)), Ok("s-1".into()));
    assert_eq!((bench.muted("HighCpu", "shop"), bench.ladder("HighCpu", "shop")), (Some("silence"), None));
    assert_eq!(bench.muted("Slow", "shop"), None);
    bench.at(50);
    assert_eq!(bench.turn(|held, turn, _| say(held, turn)), Ok("s-1".into()));
    assert_eq!(bench.at(149).muted("HighCpu", "shop"), Some("silence"));
    assert_eq!(bench.at(150).muted("HighCpu", "shop"), None);
    assert_eq!(bench.audit.len(), 2);
}
