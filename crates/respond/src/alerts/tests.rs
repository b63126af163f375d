//! What the other parts, detect and the world hear of an alert.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::queries::{Purpose, Request};
use selfheal_contract::Diagnostic;
use selfheal_contract::diagnostic::Level as DiagnosticLevel;
use selfheal_contract::effect::Effect;
use selfheal_contract::view::AlertStateWord;
use selfheal_messages::{Context, LevelAnswer, QueryKind};
use selfheal_model::{Deployment, HealthyWhen, Map, Selector, SourceRef};
use selfheal_policy::guards::Guards;
use selfheal_policy::route::{GroupBy, Route};
use selfheal_policy::rule::{Level, Rule, RuleMode};
use selfheal_policy::{Policy, Server, UnknownDeployments};
use selfheal_script::{Condition, Expect, Names, ScriptHost, Template, Truth};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn condition() -> Condition {
    let host = ScriptHost::new(&[]).unwrap_or_else(|_| panic!("an empty host"));
    let compiled = Condition::compile(&host, "true", Expect::Bool, &Names::default());
    compiled.unwrap_or_else(|problems| panic!("{problems:?}")).0
}

fn template() -> Template {
    Template::compile("text", &Names::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// One level, no durations, a summary.
fn rule(name: &str) -> Rule {
    let level = Level {
        severity: Severity::Warning,
        when: condition(),
        clear_when: None,
        for_: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
    };
    Rule {
        name: name.into(),
        source: SourceRef { file: "rules/test.yaml".into(), line: 1, column: 1 },
        description: String::new(),
        select: Selector::default(),
        per: vec!["deployment".into()],
        value: None,
        levels: vec![level],
        no_data: NoData::Keep,
        cooldown: Duration::ZERO,
        labels: [("team", "ml")].into_iter().collect(),
        summary: Some(template()),
        annotations: Vec::new(),
        mode: RuleMode::Live,
        routine: false,
        hash: 0,
    }
}

fn policy(rules: Vec<Rule>) -> Arc<Policy> {
    let checkout = Deployment {
        id: "checkout".into(),
        adapter: None,
        labels: [("tier", "web"), ("team", "shop")].into_iter().collect(),
        depends_on: Vec::new(),
        target: Map::new(),
        checks: Vec::new(),
        healthy_when: HealthyWhen::All,
        auth: None,
        settings: Map::new(),
        source: None,
    };
    Arc::new(Policy {
        version: "0".into(),
        server: Server { listen: String::new(), external_url: String::new() },
        data_dir: "data".into(),
        storage: selfheal_policy::StorageRules::default(),
        adapters: BTreeMap::new(),
        unknown_deployments: UnknownDeployments::Register,
        deployments: BTreeMap::from([(checkout.id.clone(), Arc::new(checkout))]),
        receivers: BTreeMap::new(),
        route: Route {
            path: "0".into(),
            receiver: "nobody".into(),
            group_by: GroupBy::All,
            group_wait: Duration::ZERO,
            group_interval: Duration::ZERO,
            repeat_interval: Duration::ZERO,
            wait_for_repair: Duration::ZERO,
            matchers: Selector::default(),
            continue_: false,
            hours: Default::default(),
            routes: Vec::new(),
        },
        inhibit_rules: Vec::new(),
        guards: Guards::default(),
        time_intervals: Arc::default(),
        intake: selfheal_policy::Intake::default(),
        settings: Arc::default(),
        rules: rules.into_iter().map(|rule| (rule.name.clone(), Arc::new(rule))).collect(),
        ladders: BTreeMap::new(),
        playbooks: BTreeMap::new(),
        schedules: BTreeMap::new(),
        heartbeat: None,
        remediations: Default::default(),
        severities: Default::default(),
        secrets: Default::default(),
        warnings: Vec::new(),
    })
}

fn key(rule: &str) -> AlertKey {
    AlertKey { rule: rule.into(), scope: [("deployment", "checkout")].into_iter().collect() }
}

/// What is done in one turn.
type Act<'a> = Box<dyn FnOnce(&mut Alerts, &mut Turn<'_>) + 'a>;

/// The alerts with everybody around them: detect answers questions, the words are written down with the summary that
/// stood there when they were said.
struct Bench {
    alerts: Alerts,
    policy: Arc<Policy>,
    /// How texts are rendered.
    render: fn(&Context) -> Result<String, String>,
    words: Vec<String>,
    counted: Vec<String>,
    views: Vec<AlertView>,
    asked: usize,
}

impl Bench {
    fn of(rules: Vec<Rule>) -> Bench {
        Bench {
            alerts: Alerts::new(at(0)),
            policy: policy(rules),
            render: |context| Ok(format!("value {:?}", context.value)),
            words: Vec::new(),
            counted: Vec::new(),
            views: Vec::new(),
            asked: 0,
        }
    }

    /// One turn, and those that detect's answers make.
    fn turn(&mut self, now: i64, act: impl FnOnce(&mut Alerts, &mut Turn<'_>)) {
        self.run(now, Box::new(act));
    }

    fn run(&mut self, now: i64, act: Act<'_>) {
        let mut effects = Vec::new();
        let mut turn = Turn::new(at(now), self.policy.clone(), &mut effects);
        act(&mut self.alerts, &mut turn);
        let (words, requests) = (turn.words, turn.requests);
        for word in words {
            let Word::Alert(change) = word else { panic!("{word:?}") };
            let alert = self.alerts.get(&change.key).unwrap_or_else(|| panic!("{change:?} of an unknown alert"));
            self.words.push(format!("{} {:?}: {}", change.key.rule, change.kind, alert.summary));
        }
        for effect in effects {
            let Effect::Show(Change::Alert(view)) = effect else { panic!("only views are shown here") };
            self.views.push(*view);
        }
        for request in requests {
            match request {
                Request::Send(ToDetect::Firing { key, firing }) => self.counted.push(format!("{} {firing}", key.rule)),
                Request::Query { purpose: Purpose::AlertTexts(key), context, kind } => {
                    self.asked += 1;
                    let QueryKind::AlertTexts { summary, annotations } = kind else {
                        panic!("only texts are asked for")
                    };
                    let rendered = Rendered {
                        summary: summary.map(|_| (self.render)(&context)),
                        annotations: annotations
                            .iter()
                            .map(|(name, _)| (name.clone(), (self.render)(&context)))
                            .collect(),
                    };
                    self.run(now, Box::new(|alerts, turn| alerts.texts(turn, &key, Some(rendered))));
                }
                _ => panic!("alerts only count and ask"),
            }
        }
    }

    fn answer(&mut self, now: i64, rule: &str, when: Truth, value: Option<f64>) {
        let clear = match &when {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            other => other.clone(),
        };
        let levels = vec![LevelAnswer { when, clear }];
        let answer =
            RuleAnswer { key: key(rule), at: at(now), rule_hash: 0, levels, value, evidence: at(now), blind: false };
        self.turn(now, |alerts, turn| alerts.answer(turn, answer));
    }

    fn replace(&mut self, now: i64, rules: Vec<Rule>) {
        self.policy = policy(rules);
        self.turn(now, |alerts, turn| alerts.replace_policy(turn));
    }

    fn until(&mut self, now: i64) {
        while let Some(due) = self.alerts.next_deadline().filter(|due| *due <= at(now)) {
            self.turn(due.as_millis(), |alerts, turn| alerts.fire(turn));
        }
    }

    fn last_view(&self) -> &AlertView {
        self.views.last().unwrap_or_else(|| panic!("nothing was shown"))
    }

    fn states(&self) -> Vec<(&str, AlertStateWord)> {
        self.views.iter().map(|view| (view.alert.as_str(), view.state)).collect()
    }
}

fn error() -> Truth {
    Truth::Error("no such series".into())
}

#[test]
fn firing_is_said_with_its_texts_and_shown_once() {
    let mut bench = Bench::of(vec![rule("HighCpu")]);
    bench.answer(0, "HighCpu", Truth::True, Some(91.0));
    assert_eq!(bench.words, ["HighCpu Fired: value Some(91.0)"]);
    assert_eq!(bench.counted, ["HighCpu true"]);
    assert_eq!(bench.states(), [("HighCpu", AlertStateWord::Firing)]);
    let labels = &bench.last_view().labels;
    assert_eq!(
        labels.to_string(),
        r#"{alertname="HighCpu", deployment="checkout", severity="warning", team="ml", tier="web"}"#
    );
    bench.answer(5000, "HighCpu", Truth::False, Some(10.0));
    assert_eq!(
        bench.words[1..],
        ["HighCpu Resolved: value Some(91.0)".to_owned(), "HighCpu EpisodeOver: value Some(91.0)".to_owned()]
    );
    assert_eq!(bench.counted, ["HighCpu true", "HighCpu false"]);
    let view = bench.last_view();
    assert_eq!((view.state, view.ended_at), (AlertStateWord::Resolved, Some(at(5000))));
    assert!(bench.alerts.views().is_empty(), "a quiet alert costs nothing");
    assert_eq!(bench.alerts.next_deadline(), None);
}

#[test]
fn a_text_that_fails_holds_nothing_back_and_says_so() {
    let mut annotated = rule("HighCpu");
    annotated.annotations = vec![("runbook".into(), template())];
    let mut bench = Bench::of(vec![annotated]);
    bench.render = |_| Err("`valeu` is not known".to_owned());
    bench.answer(0, "HighCpu", Truth::True, None);
    assert_eq!(bench.words, ["HighCpu Fired: HighCpu on checkout (its summary failed: `valeu` is not known)"]);
    assert_eq!(bench.last_view().annotations.get("runbook"), Some("(failed: `valeu` is not known)"));
}

#[test]
fn a_change_while_texts_are_awaited_waits_behind_them() {
    let mut bench = Bench::of(vec![rule("HighCpu")]);
    let alerts = &mut bench.alerts;
    let mut effects = Vec::new();
    let mut turn = Turn::new(at(0), bench.policy.clone(), &mut effects);
    let answer = |when: Truth, clear: Truth| RuleAnswer {
        key: key("HighCpu"),
        at: at(0),
        rule_hash: 0,
        levels: vec![LevelAnswer { when, clear }],
        value: None,
        evidence: at(0),
        blind: false,
    };
    alerts.answer(&mut turn, answer(Truth::True, Truth::False));
    alerts.answer(&mut turn, answer(Truth::NoData, Truth::NoData));
    assert!(turn.words.is_empty());
    alerts.texts(
        &mut turn,
        &key("HighCpu"),
        Some(Rendered { summary: Some(Ok("hot".into())), annotations: Vec::new() }),
    );
    let kinds: Vec<_> = turn
        .words
        .drain(..)
        .map(|word| match word {
            Word::Alert(change) => change.kind,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [AlertChangeKind::Fired, AlertChangeKind::DataLost]);
}

#[test]
fn an_alert_that_ends_before_its_texts_come_is_still_said_in_full() {
    let mut bench = Bench::of(vec![rule("HighCpu")]);
    let answer = |when: Truth, clear: Truth| RuleAnswer {
        key: key("HighCpu"),
        at: at(0),
        rule_hash: 0,
        levels: vec![LevelAnswer { when, clear }],
        value: None,
        evidence: at(0),
        blind: false,
    };
    bench.turn(0, |alerts, turn| {
        alerts.answer(turn, answer(Truth::True, Truth::False));
        alerts.answer(turn, answer(Truth::False, Truth::True));
    });
    assert_eq!(
        bench.words,
        [
            "HighCpu Fired: HighCpu on checkout",
            "HighCpu Resolved: HighCpu on checkout",
            "HighCpu EpisodeOver: HighCpu on checkout"
        ]
    );
}

#[test]
fn nobody_hears_of_a_shadow() {
    let shadow = || Rule { mode: RuleMode::Shadow, ..rule("HighCpu") };
    let mut bench = Bench::of(vec![shadow()]);
    bench.answer(0, "HighCpu", Truth::True, None);
    assert!(bench.words.is_empty() && bench.counted.is_empty());
    assert!(bench.alerts.get(&key("HighCpu")).is_none());
    assert_eq!(bench.last_view().suppressed.as_deref(), Some("shadow"));

    bench.replace(10_000, vec![rule("HighCpu")]);
    assert_eq!(bench.words, ["HighCpu Fired: value None"]);
    assert_eq!(bench.counted, ["HighCpu true"]);
    assert_eq!(bench.last_view().suppressed, None);

    bench.replace(20_000, vec![shadow()]);
    assert_eq!(bench.words[1..], ["HighCpu Ended: value None".to_owned()]);
    assert_eq!(bench.counted, ["HighCpu true", "HighCpu false"]);
    assert_eq!(bench.alerts.views()[0].state, AlertStateWord::Firing, "it lives on in the shadow");
    bench.answer(30_000, "HighCpu", Truth::False, None);
    assert_eq!(bench.words.len(), 2);
}

#[test]
fn an_alert_whose_rule_or_scope_is_gone_ends_and_is_not_resolved() {
    let cooled = || Rule { cooldown: Duration::from_secs(600), ..rule("Cooling") };
    let mut pending = rule("Pending");
    pending.levels[0].for_ = Duration::from_secs(60);
    let mut bench = Bench::of(vec![rule("Firing"), cooled(), pending, rule("Scoped")]);
    for name in ["Firing", "Cooling", "Pending", "Scoped"] {
        bench.answer(0, name, Truth::True, None);
    }
    bench.answer(1000, "Cooling", Truth::False, None);
    bench.words.clear();
    bench.turn(2000, |alerts, turn| alerts.scope_gone(turn, &key("Scoped")));
    bench.replace(3000, Vec::new());
    assert_eq!(
        bench.words,
        ["Scoped Ended: value None", "Cooling EpisodeOver: value None", "Firing Ended: value None"]
    );
    assert_eq!(
        bench.states()[bench.views.len() - 4..],
        [
            ("Scoped", AlertStateWord::Ended),
            ("Cooling", AlertStateWord::Ended),
            ("Firing", AlertStateWord::Ended),
            ("Pending", AlertStateWord::Ended)
        ]
    );
    assert!(bench.alerts.views().is_empty());
    assert_eq!(bench.alerts.next_deadline(), None);
}

#[test]
fn a_policy_edit_moves_and_relabels_what_there_is() {
    let mut waiting = rule("HighCpu");
    waiting.levels[0].for_ = Duration::from_secs(300);
    let mut bench = Bench::of(vec![waiting]);
    bench.answer(0, "HighCpu", Truth::True, None);
    assert!(bench.words.is_empty());
    let mut shorter = rule("HighCpu");
    shorter.levels[0].for_ = Duration::from_secs(60);
    bench.replace(90_000, vec![shorter]);
    assert_eq!(bench.words, ["HighCpu Fired: value None"]);
    assert_eq!(bench.last_view().started_at, at(0));

    let other = Rule { labels: [("team", "ops")].into_iter().collect(), ..rule("HighCpu") };
    bench.replace(100_000, vec![other]);
    assert_eq!(bench.words[1..], ["HighCpu Relabelled: value None".to_owned()]);
    assert_eq!(bench.alerts.get(&key("HighCpu")).and_then(|alert| alert.labels.get("team")), Some("ops"));
}

#[test]
fn unwatched_time_does_not_make_an_alert_fire() {
    let mut waiting = rule("HighCpu");
    waiting.levels[0].for_ = Duration::from_secs(60);
    let mut bench = Bench::of(vec![waiting]);
    bench.answer(0, "HighCpu", Truth::True, None);
    bench.turn(50_000, |alerts, turn| alerts.resumed(turn, at(10_000), at(50_000)));
    bench.until(99_000);
    assert!(bench.words.is_empty());
    bench.until(100_000);
    assert_eq!(bench.words, ["HighCpu Fired: value None"]);
}

#[test]
fn a_script_that_keeps_failing_is_told_until_it_answers() {
    let mut bench = Bench::of(vec![rule("HighCpu")]);
    for now in [0, 1, 2] {
        assert!(bench.words.is_empty());
        bench.answer(now, "HighCpu", error(), None);
    }
    assert_eq!(bench.words, [r#"RuleError Fired: HighCpu{deployment="checkout"} cannot be evaluated: no such series"#]);
    assert_eq!(bench.last_view().labels.to_string(), r#"{alertname="RuleError", rule="HighCpu", severity="warning"}"#);
    bench.answer(3, "HighCpu", Truth::False, None);
    assert_eq!(bench.words.len(), 3);
    assert!(bench.words[1].starts_with("RuleError Resolved"));
    assert!(bench.counted.is_empty(), "no rule can ask for it");

    // the same failure over and over is one answer
    let mut standing = Bench::of(vec![rule("HighCpu")]);
    standing.answer(0, "HighCpu", error(), None);
    standing.until(59_999);
    assert!(standing.words.is_empty());
    standing.until(60_000);
    assert_eq!(standing.words.len(), 1);
    standing.replace(70_000, Vec::new());
    assert!(standing.words[1].starts_with("RuleError Resolved"), "{:?}", standing.words);
}

#[test]
fn a_failing_script_is_shown_on_its_firing_alert() {
    let mut bench = Bench::of(vec![rule("HighCpu")]);
    bench.answer(0, "HighCpu", Truth::True, Some(1.0));
    bench.answer(10, "HighCpu", error(), None);
    let view = bench.last_view();
    assert_eq!((view.state, view.error.as_deref()), (AlertStateWord::Firing, Some("no such series")));
    assert_eq!(view.value, Some(1.0));
    assert_eq!(bench.alerts.get(&key("HighCpu")).map(|alert| alert.true_now), Some(false));
    bench.answer(20, "HighCpu", Truth::True, Some(1.0));
    assert_eq!(bench.last_view().error, None);
}

#[test]
fn no_data_is_told_where_the_rule_asks_for_it() {
    let asking = || Rule { no_data: NoData::Alert, ..rule("HighCpu") };
    let mut bench = Bench::of(vec![asking()]);
    bench.answer(0, "HighCpu", Truth::True, None);
    bench.answer(1000, "HighCpu", Truth::NoData, None);
    assert_eq!(
        bench.words[1..],
        [
            "HighCpu DataLost: value None".to_owned(),
            "NoData Fired: HighCpu on checkout has no data; it still counts as firing".to_owned()
        ]
    );
    assert_eq!(bench.last_view().labels.get("rule"), Some("HighCpu"));
    assert_eq!(bench.last_view().labels.get("tier"), Some("web"), "routed as the deployment is");
    bench.answer(2000, "HighCpu", Truth::True, None);
    assert!(bench.words.contains(&"HighCpu DataBack: value None".to_owned()));
    assert_eq!(bench.alerts.views().len(), 1);
    bench.answer(3000, "HighCpu", Truth::NoData, None);
    bench.replace(4000, Vec::new());
    assert!(bench.alerts.views().is_empty(), "it goes with the alert it is about");
}

#[test]
fn an_invalid_policy_is_an_alert_until_the_next_good_one() {
    let diagnostic = |line, message: &str| Diagnostic {
        file: "rules/a.yaml".into(),
        line,
        column: 1,
        length: 1,
        severity: DiagnosticLevel::Error,
        code: "unknown-key".into(),
        message: message.into(),
        help: None,
        source_line: String::new(),
    };
    let mut bench = Bench::of(Vec::new());
    let both = vec![diagnostic(3, "`whne` is not known"), diagnostic(9, "no rule `X`")];
    bench.turn(0, |alerts, turn| alerts.policy_invalid(turn, both));
    assert_eq!(
        bench.words,
        ["PolicyInvalid Fired: the saved policy is not valid: rules/a.yaml:3: `whne` is not known (and 1 more)"]
    );
    bench.turn(10, |alerts, turn| alerts.policy_invalid(turn, vec![diagnostic(9, "no rule `X`")]));
    assert_eq!(bench.words.len(), 1, "one alert for as long as it lasts");
    bench.until(5000);
    assert!(bench.last_view().summary.ends_with("rules/a.yaml:9: no rule `X`"));
    bench.replace(6000, Vec::new());
    assert!(bench.words[1].starts_with("PolicyInvalid Resolved"));
    assert!(bench.alerts.views().is_empty());
}

#[test]
fn moving_figures_are_shown_at_most_once_a_second() {
    let mut bench = Bench::of(vec![rule("HighCpu")]);
    for step in 0..30 {
        bench.until(step * 100);
        bench.answer(step * 100, "HighCpu", Truth::True, Some(step as f64));
    }
    bench.until(10_000);
    let shown: Vec<_> = bench.views.iter().map(|view| (view.value, view.summary.as_str())).collect();
    assert_eq!(
        shown,
        [
            (Some(0.0), "value Some(0.0)"),
            (Some(9.0), "value Some(9.0)"),
            (Some(19.0), "value Some(19.0)"),
            (Some(29.0), "value Some(29.0)")
        ]
    );
    assert_eq!(bench.asked, 4);
    assert_eq!(bench.words.len(), 1);
    assert_eq!(bench.alerts.next_deadline(), None);
}

#[test]
fn a_repair_that_ends_after_its_alert_is_still_shown() {
    let facts = |state: &str| RemediationFacts { state: state.into(), rung: 0, rungs: 1, runs: Vec::new() };
    let mut bench = Bench::of(vec![rule("HighCpu")]);
    bench.answer(0, "HighCpu", Truth::True, None);
    bench.turn(1, |alerts, turn| alerts.show_remediation(turn, &key("HighCpu"), Some(facts("working"))));
    bench.answer(2, "HighCpu", Truth::False, None);
    bench.turn(3, |alerts, turn| alerts.show_remediation(turn, &key("HighCpu"), Some(facts("resting"))));
    let view = bench.last_view();
    assert_eq!(view.state, AlertStateWord::Resolved);
    assert_eq!(view.remediation, Some(facts("resting")));
    assert_eq!(
        bench.alerts.get(&key("HighCpu")).map(|alert| (alert.firing, alert.ended_at)),
        Some((false, Some(at(2))))
    );
}

#[test]
fn a_relapse_belongs_to_its_episode() {
    let mut bench = Bench::of(vec![Rule { cooldown: Duration::from_secs(60), ..rule("HighCpu") }]);
    for (now, when) in [(0, Truth::True), (1000, Truth::False), (2000, Truth::True)] {
        bench.answer(now, "HighCpu", when, None);
    }
    let alert = bench.alerts.get(&key("HighCpu")).unwrap_or_else(|| panic!("it fires"));
    assert_eq!((alert.started_at, alert.fired_at, alert.relapse, alert.ended_at), (at(0), at(2000), 1, None));
    assert_eq!(bench.alerts.cooldown_until(&key("HighCpu")), Some(at(61_000)));
    let deployment = DeploymentId::from("checkout");
    assert_eq!(bench.alerts.firing_on(&deployment).count(), 1);
    bench.answer(3000, "HighCpu", Truth::False, None);
    assert_eq!(bench.alerts.firing_on(&deployment).count(), 0);
    bench.until(61_000);
    let kinds: Vec<_> = bench.words.iter().filter_map(|word| word.split([' ', ':']).nth(1)).collect();
    assert_eq!(kinds, ["Fired", "Resolved", "Relapsed", "Resolved", "EpisodeOver"]);
}

#[test]
fn given_alerts_are_what_they_are_given_as() {
    let mut bench = Bench::of(vec![rule("HighCpu")]);
    bench.answer(1000, "HighCpu", Truth::True, None);
    let firing = bench.alerts.get(&key("HighCpu")).cloned().unwrap_or_else(|| panic!("it fires"));
    let resolved = Alert { firing: false, ended_at: Some(at(2000)), key: key("Other"), ..firing.clone() };
    let alerts = Alerts::with(vec![firing, resolved]);
    let states: Vec<_> = alerts.views().into_iter().map(|view| view.state).collect();
    assert_eq!(states, [AlertStateWord::Firing, AlertStateWord::Resolved]);
}

#[test]
fn a_rule_that_comes_back_within_a_day_goes_on_with_its_alert() {
    let slow = || {
        let mut slow = Rule { cooldown: Duration::from_secs(600), ..rule("HighCpu") };
        slow.levels[0].for_ = Duration::from_secs(60);
        slow
    };
    let day = 24 * 60 * 60 * 1000;
    for (away, expected) in [(5000, "HighCpu Fired: value None"), (day, "")] {
        let mut bench = Bench::of(vec![slow()]);
        bench.answer(0, "HighCpu", Truth::True, None);
        bench.until(60_000);
        bench.replace(70_000, Vec::new());
        bench.words.clear();
        bench.policy = policy(vec![slow()]);
        bench.answer(70_000 + away, "HighCpu", Truth::True, None);
        assert_eq!(bench.words.concat(), expected, "away for {away} ms");
    }
    let mut cured = Bench::of(vec![slow()]);
    cured.answer(0, "HighCpu", Truth::True, None);
    cured.until(60_000);
    cured.replace(70_000, Vec::new());
    cured.words.clear();
    cured.policy = policy(vec![slow()]);
    cured.answer(80_000, "HighCpu", Truth::False, None);
    assert!(cured.words.is_empty(), "its end was told already: {:?}", cured.words);
}

#[test]
fn what_is_not_seen_stands_still() {
    let mut slow = rule("HighCpu");
    slow.levels[0].for_ = Duration::from_secs(60);
    let mut bench = Bench::of(vec![slow]);
    let answer = |now: i64, blind: bool| RuleAnswer {
        key: key("HighCpu"),
        at: at(now),
        rule_hash: 0,
        levels: vec![LevelAnswer { when: Truth::True, clear: Truth::False }],
        value: None,
        evidence: at(now),
        blind,
    };
    let second = 1_000;
    bench.turn(0, |alerts, turn| alerts.answer(turn, answer(0, false)));
    bench.turn(20 * second, |alerts, turn| alerts.answer(turn, answer(20 * second, true)));
    bench.until(500 * second);
    bench.turn(500 * second, |alerts, turn| alerts.answer(turn, answer(500 * second, true)));
    assert_eq!(bench.states().last(), Some(&("HighCpu", AlertStateWord::Pending)), "nobody saw it hold");
    bench.turn(600 * second, |alerts, turn| alerts.answer(turn, answer(600 * second, false)));
    bench.until(639 * second);
    assert_eq!(bench.states().last(), Some(&("HighCpu", AlertStateWord::Pending)));
    bench.until(640 * second);
    assert_eq!(bench.states().last(), Some(&("HighCpu", AlertStateWord::Firing)), "twenty seconds and forty");
}

#[test]
fn a_rule_that_costs_too_much_is_told_of_until_it_does_not() {
    let mut bench = Bench::of(vec![rule("HighCpu")]);
    bench.turn(0, |alerts, turn| alerts.slow(turn, &"HighCpu".into(), Some("it costs too much".into())));
    assert_eq!(bench.last_view().summary, "it costs too much");
    bench.turn(1, |alerts, turn| alerts.slow(turn, &"HighCpu".into(), None));
    assert_eq!(bench.states(), [("RuleError", AlertStateWord::Firing), ("RuleError", AlertStateWord::Resolved)]);
    bench.turn(2, |alerts, turn| alerts.slow(turn, &"HighCpu".into(), Some("again".into())));
    bench.replace(3, vec![]);
    assert_eq!(
        bench.states().last(),
        Some(&("RuleError", AlertStateWord::Resolved)),
        "a rule that is gone costs nothing"
    );
}
