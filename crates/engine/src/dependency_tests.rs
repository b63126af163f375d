//! Stories of dependents and their roots, told by the whole engine; after every input it is one restored from its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::{Engine, Input};
use selfheal_contract::notification::{DependentsFacts, Notification};
use selfheal_contract::view::{AlertView, Change, RunView};
use selfheal_contract::{DeliveryResult, Effect, Gap, SourceFile, StepEnd};
use selfheal_model::{
    AdapterCatalog, AdapterSpec, CheckStatus, Effectfulness, Event, EventKind, Map, Origin, Outcome, Timestamp, Value,
    VerbSpec,
};
use selfheal_policy::{Policy, compile};

const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const SAMPLE_EVERY: u64 = 5;
/// Seconds.
const MINUTE: u64 = 60;

/// What is `plain` nothing repairs; an `app` is restarted.
const HEAD: &str = r#"format: 1
adapters: { sim: { type: sim } }
receivers: [{ name: oncall, webhook: [{ url: "http://127.0.0.1:9/" }] }]
route: { receiver: oncall, group_by: [deployment], group_wait: 5s, group_interval: 1m, repeat_interval: 20m }
guards:
  start_grace: 0s
  act_after: 40s
  sensor: { of_at_least: 1000 }
  blast_radius: { min_healthy: 0%, max_at_once: 100 }
"#;
const RULES: &str = r#"rules:
  - alert: Out
    select: { tier: plain }
    when: 'unhealthy("http")'
    severity: critical
  - alert: Down
    select: { tier: app }
    when: 'unhealthy("http")'
    remediate: [restart]
"#;
const PLAYBOOK: &str = "playbook: restart\nsteps: [{ id: restart, action: restart }]\n";

struct Sim;

impl AdapterCatalog for Sim {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["sim"]
    }

    fn describe(&self, _kind: &str, _options: &Map) -> Result<AdapterSpec, String> {
        let restart = VerbSpec {
            verb: "restart".into(),
            params: None,
            effect: Effectfulness::Disrupt,
            idempotent: false,
            settle: None,
        };
        Ok(AdapterSpec { options: Vec::new(), target: None, verbs: vec![restart] })
    }
}

/// Deployments as `id tier needs…`.
fn policy(head: &str, deployments: &[&str]) -> Arc<Policy> {
    let mut text = format!("{head}deployments:\n");
    for words in deployments {
        let mut words = words.split(' ');
        let (id, tier) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let needs = words.collect::<Vec<_>>().join(", ");
        text += &format!(
            "  - {{ id: {id}, adapter: sim, labels: {{ tier: {tier} }}, depends_on: [{needs}], checks: [{{ name: http, \
             tcp: \"127.0.0.1:9\", every: 5s, failure_threshold: 1, success_threshold: 1 }}] }}\n"
        );
    }
    let files = [("selfheal.yaml", text.as_str()), ("rules/all.yaml", RULES), ("playbooks/all.yaml", PLAYBOOK)];
    let files = files.map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
    match compile(&files, &Sim, &|_| None, &|_| None) {
        Ok(policy) => Arc::new(policy),
        Err(diagnostics) => panic!("{diagnostics:#?}"),
    }
}

struct Story {
    engine: Engine,
    policies: Vec<Arc<Policy>>,
    now: u64,
    ids: BTreeSet<String>,
    sick: BTreeSet<String>,
    /// What is restarted is well.
    cures: bool,
    sent: Vec<(u64, Arc<Notification>)>,
    calls: Vec<String>,
    alerts: BTreeMap<String, AlertView>,
    runs: BTreeMap<String, RunView>,
}

/// `key` at `value` in place of its default.
fn with(key: &str, value: &str) -> String {
    HEAD.replace("guards:\n", &format!("guards:\n  {key}: {value}\n"))
}

impl Story {
    fn of(deployments: &[&str]) -> Story {
        Story::under(HEAD, deployments)
    }

    fn under(head: &str, deployments: &[&str]) -> Story {
        let policy = policy(head, deployments);
        let (engine, _) = Engine::new(START, policy.clone());
        let mut story = Story {
            engine,
            now: 0,
            ids: policy.deployments.keys().map(ToString::to_string).collect(),
            policies: vec![policy],
            sick: BTreeSet::new(),
            cures: true,
            sent: Vec::new(),
            calls: Vec::new(),
            alerts: BTreeMap::new(),
            runs: BTreeMap::new(),
        };
        story.sample();
        story
    }

    fn sicken(&mut self, ids: &[&str]) -> &mut Self {
        self.sick.extend(ids.iter().map(ToString::to_string));
        self
    }

    fn heal(&mut self, ids: &[&str]) -> &mut Self {
        self.sick.retain(|id| !ids.contains(&id.as_str()));
        self
    }

    /// Lets time pass to so many seconds after the start; a change of health shows itself with the next sample.
    fn at(&mut self, seconds: u64) -> &mut Self {
        while self.now < seconds {
            let sample = (self.now / SAMPLE_EVERY + 1) * SAMPLE_EVERY;
            let is_due = |second: &u64| {
                let at = START + Duration::from_secs(*second);
                self.engine.next_deadline().is_some_and(|due| due <= at)
            };
            self.now = (self.now + 1..=seconds.min(sample)).find(is_due).unwrap_or(seconds.min(sample));
            self.input(Input::Tick);
            if self.now == sample {
                self.sample();
            }
        }
        self
    }

    fn sample(&mut self) {
        let check = |id: &String| Event {
            deployment: id.as_str().into(),
            time: self.instant(),
            kind: EventKind::Health {
                check: "http".into(),
                status: if self.sick.contains(id) { CheckStatus::Unhealthy } else { CheckStatus::Healthy },
                latency_ms: None,
                reason: None,
                message: String::new(),
                replica: None,
                confidence: None,
            },
            origin: Origin::Watched,
        };
        let events = self.ids.iter().map(check).collect();
        self.input(Input::Events(events));
    }

    fn instant(&self) -> Timestamp {
        START + Duration::from_secs(self.now)
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            self.engine.handle(self.instant(), input, &mut effects);
            self.is_restored();
            for effect in effects {
                inputs.extend(self.perform(effect));
            }
        }
    }

    /// Goes on with an engine made of the saved state.
    fn is_restored(&mut self) {
        let saved = self.engine.save();
        let mut policy_of = |version: &str| self.policies.iter().find(|policy| policy.version == version).cloned();
        let restored = Engine::restore(&saved, &mut policy_of);
        self.engine = restored.unwrap_or_else(|error| panic!("{}s: {error}", self.now));
        assert!(self.engine.save() == saved, "a restored state is another one at {}s", self.now);
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Deliver(delivery) => {
                self.sent.push((self.now, delivery.notification.clone()));
                let (id, attempt) = (delivery.id, delivery.attempt);
                Some(Input::DeliveryEnded { id, attempt, result: DeliveryResult::Delivered })
            }
            Effect::StartStep(call) => {
                self.calls.push(format!("{}s {}", self.now, call.deployment.id));
                if self.cures {
                    self.sick.remove(call.deployment.id.as_str());
                }
                let (outcome, took) = (Outcome::done(Value::Null), Duration::from_secs(1));
                Some(Input::StepEnded(StepEnd { id: call.id, outcome, log: String::new(), took }))
            }
            Effect::Show(Change::Alert(view)) => {
                let name = format!("{} {}", view.alert, view.labels.get("deployment").unwrap_or_default());
                self.alerts.insert(name, *view);
                None
            }
            Effect::Show(Change::Run(view)) => {
                self.runs.insert(view.id.to_string(), *view);
                None
            }
            _ => None,
        }
    }

    /// What people got since the last look: when, and the subject.
    fn told(&mut self) -> Vec<String> {
        let sent = std::mem::take(&mut self.sent);
        sent.iter().map(|(at, message)| format!("{at}s {}", message.subject())).collect()
    }

    fn last(&self) -> &Notification {
        &self.sent.last().expect("something was sent").1
    }

    /// Whom the last message names as sick because of what it is about.
    fn listed(&self) -> Vec<String> {
        let ids = |of: &DependentsFacts| of.sick.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(" ");
        self.last().dependents.iter().map(|of| format!("{}: {} and {}", of.root, ids(of), of.more)).collect()
    }

    fn suppressed(&self, alert: &str) -> Option<&str> {
        self.alerts[alert].suppressed.as_deref()
    }

    fn because(&self, rule: &str, id: &str) -> String {
        let key = self.engine.scope_of(&rule.into(), &id.into()).expect("there is such a rule");
        self.engine.explain(&key).expect("it is known").because.join("\n")
    }
}

const ONE_ROOT: [&str; 4] = ["db plain", "api-1 app db", "api-2 app db", "web app"];

#[test]
fn a_root_seen_within_the_hold_is_told_once_for_all_of_them() {
    let mut story = Story::of(&ONE_ROOT);
    story.sicken(&["api-1", "api-2"]).at(20).sicken(&["db"]).at(5 * MINUTE);
    assert_eq!(story.listed(), ["db: api-1 api-2 and 0"]);
    assert_eq!(story.told(), ["30s [FIRING:1] Out db (critical)"]);
    assert_eq!((story.suppressed("Down api-1"), story.suppressed("Out db")), (Some("dependency"), None));
    // with their root they get well: nobody hears that they were not
    story.heal(&["db", "api-1", "api-2"]).at(20 * MINUTE);
    assert_eq!(story.told(), ["330s [RESOLVED] Out db"]);
    assert_eq!(story.calls, [""; 0]);
    assert!(
        story.engine.judge().dependents().next_deadline().is_some_and(|at| at < START + Duration::from_secs(3_906))
    );
    story.at(70 * MINUTE);
    assert_eq!(story.engine.judge().dependents().next_deadline(), None, "and nothing is kept of it");
}

#[test]
fn a_repair_that_began_before_its_root_was_out_is_no_news_either() {
    let all = "webhook: [{ url: \"http://127.0.0.1:9/\" }], send: [firing, resolved, cured]";
    let asking = HEAD.replace("webhook: [{ url: \"http://127.0.0.1:9/\" }]", all).replace("40s", "5s");
    let mut story = Story::under(&asking, &ONE_ROOT);
    story.cures = false;
    story.sicken(&["api-1", "web"]).at(12).sicken(&["db"]).at(30);
    assert_eq!(story.calls, ["10s api-1", "10s web"]);
    assert_eq!(story.told(), ["10s [FIRING:1] Down web (warning)", "20s [FIRING:1] Out db (critical)"]);
    story.heal(&["api-1", "web", "db"]).at(30 * MINUTE);
    assert_eq!(story.told(), ["70s [RESOLVED] Down web: repaired", "80s [RESOLVED] Out db"]);
}

#[test]
fn what_is_still_sick_a_grace_after_its_root_is_told_and_repaired() {
    let mut story = Story::of(&ONE_ROOT);
    story.sicken(&["api-1", "api-2", "db"]).at(5 * MINUTE).told();
    story.heal(&["db", "api-2"]).at(6 * MINUTE);
    assert_eq!(story.suppressed("Down api-1"), Some("dependency"));
    assert_eq!(story.runs["api-1-1"].refused.as_ref().map(|no| no.guard.as_str()), Some("dependency"));
    story.at(10 * MINUTE);
    // back at 305s, and two minutes of grace
    assert_eq!(
        story.told(),
        ["310s [RESOLVED] Out db", "425s [FIRING:1] Down api-1 (warning)", "485s [RESOLVED] Down api-1"]
    );
    assert_eq!(story.calls, ["425s api-1"]);
}

#[test]
fn what_was_held_for_long_is_told_with_its_root_named_and_still_waits_for_it() {
    let mut story = Story::of(&ONE_ROOT);
    story.sicken(&["api-1"]).at(20).sicken(&["db"]).at(15 * MINUTE + 24);
    assert_eq!(story.told(), ["30s [FIRING:1] Out db (critical)"]);
    story.at(16 * MINUTE);
    let root = story.last().alerts[0].dependency.clone().expect("it has a root");
    assert_eq!((root.deployment.as_str(), root.why.as_str()), ("db", "is unhealthy"));
    assert_eq!(root.since, START + Duration::from_secs(25));
    assert_eq!(story.told(), ["925s [FIRING:1] Down api-1 (warning)"]);
    assert_eq!(story.suppressed("Down api-1"), None);
    assert_eq!(story.calls, [""; 0]);
    story.heal(&["db"]).at(17 * MINUTE).told();
    assert!(story.calls.is_empty(), "it may get well by itself");
    story.at(20 * MINUTE);
    assert_eq!(story.calls, ["1085s api-1"]);
    assert_eq!(story.told(), ["1105s [RESOLVED] Down api-1"], "who was told hears the end");
}

#[test]
fn what_comes_and_goes_under_a_root_that_stays_out_is_held_no_longer_than_what_stays() {
    let mut story = Story::of(&ONE_ROOT);
    story.sicken(&["api-1", "db"]).at(10 * MINUTE).heal(&["api-1"]).at(11 * MINUTE).told();
    story.sicken(&["api-1"]).at(14 * MINUTE);
    assert_eq!(story.told(), [""; 0]);
    story.at(17 * MINUTE);
    let told = story.told();
    assert!(told.len() == 1 && told[0].contains("Down api-1"), "{told:?}");
}

#[test]
fn what_was_told_before_its_root_went_out_is_not_repeated_while_it_is() {
    let mut story = Story::under(&with("dependency_wait", "1h"), &["db plain", "api plain db"]);
    story.sicken(&["api"]).at(100).sicken(&["db"]).at(120);
    assert_eq!(story.told(), ["35s [FIRING:1] Out api (critical)", "110s [FIRING:1] Out db (critical)"]);
    assert_eq!(story.suppressed("Out api"), Some("dependency"));
    story.at(25 * MINUTE);
    assert_eq!(story.told(), ["1310s [FIRING:1] Out db (critical)"], "the root is repeated, and it is not");
    story.heal(&["api", "db"]).at(30 * MINUTE);
    assert_eq!(story.told(), ["1535s [RESOLVED] Out api", "1550s [RESOLVED] Out db"]);
}

#[test]
fn of_two_levels_the_root_is_named_and_then_what_stands_between() {
    let mut story = Story::of(&["db plain", "cache plain db", "api app cache", "web app"]);
    story.sicken(&["db", "cache", "api"]).at(100);
    assert_eq!(story.listed(), ["db: api cache and 0"]);
    assert_eq!(story.told(), ["10s [FIRING:1] Out db (critical)"]);
    // the cache does not get well with its root
    story.heal(&["db"]).at(5 * MINUTE);
    assert_eq!(story.listed(), ["cache: api and 0"]);
    assert_eq!(story.told(), ["130s [RESOLVED] Out db", "225s [FIRING:1] Out cache (critical)"]);
    story.heal(&["cache", "api"]).at(20 * MINUTE);
    assert_eq!(story.told(), ["345s [RESOLVED] Out cache"]);
    assert_eq!(story.calls, [""; 0]);
}

#[test]
fn only_what_depends_on_something_pays_the_hold() {
    let mut story = Story::of(&ONE_ROOT);
    story.sicken(&["api-1", "web"]).at(39);
    assert_eq!(story.told(), ["10s [FIRING:1] Down web (warning)", "35s [FIRING:1] Down api-1 (warning)"]);
    let mut hasty = Story::under(&with("dependency_hold", "0s"), &ONE_ROOT);
    hasty.sicken(&["api-1"]).at(39);
    assert_eq!(hasty.told(), ["10s [FIRING:1] Down api-1 (warning)"]);
}

#[test]
fn a_root_that_goes_out_before_the_word_went_out_still_holds_it() {
    let patient = HEAD.replace("group_wait: 5s", "group_wait: 1m");
    let mut story = Story::under(&patient, &["db plain", "api plain db"]);
    story.sicken(&["api"]).at(40).sicken(&["db"]).at(5 * MINUTE);
    assert_eq!(story.told(), ["105s [FIRING:1] Out db (critical)"]);
}

#[test]
fn a_root_that_comes_and_goes_holds_them_no_longer_than_one_that_stays_away() {
    let mut story = Story::of(&["db plain", "api plain db"]);
    story.sicken(&["api", "db"]);
    for round in 1..=12 {
        story.at(100 * round).heal(&["db"]).at(100 * round + 50).sicken(&["db"]);
    }
    let told = story.told();
    let of_api: Vec<_> = told.iter().filter(|line| line.contains("Out api")).collect();
    assert_eq!(of_api, ["905s [FIRING:1] Out api (critical)"], "{told:?}");
}

#[test]
fn time_in_which_nothing_was_watched_is_no_part_of_the_hold_nor_of_the_wait() {
    let mut story = Story::of(&["db plain", "api plain db"]);
    let stop = |story: &mut Story, seconds: u64| {
        let from = story.instant();
        story.now += seconds;
        let to = story.instant();
        story.input(Input::Resumed { from, to, because: Gap::Stopped });
    };
    story.sicken(&["api"]).at(20);
    stop(&mut story, 200);
    story.at(234);
    assert_eq!(story.told(), [""; 0]);
    story.sicken(&["db"]).at(300);
    assert_eq!(story.told().len(), 2, "the hold was over before the root was out");
    let mut held = Story::of(&["db plain", "api plain db"]);
    held.sicken(&["api", "db"]).at(60);
    stop(&mut held, 200);
    held.at(15 * MINUTE + 204).told();
    held.at(15 * MINUTE + 206);
    assert_eq!(held.told(), ["1105s [FIRING:1] Out api (critical)"]);
}

#[test]
fn a_policy_in_which_it_depends_on_nothing_lets_it_be_told() {
    let mut story = Story::of(&ONE_ROOT);
    story.sicken(&["api-1", "db"]).at(100).told();
    let free = policy(HEAD, &["db plain", "api-1 app", "api-2 app db", "web app"]);
    story.policies.push(free.clone());
    story.input(Input::PolicyReplaced(free));
    story.at(101);
    assert_eq!(story.told(), ["100s [FIRING:1] Down api-1 (warning)"]);
    assert_eq!(story.calls, ["100s api-1"]);
    let dependent = policy(HEAD, &ONE_ROOT);
    story.policies.push(dependent.clone());
    story.at(101).input(Input::PolicyReplaced(dependent));
    assert_eq!(story.suppressed("Down api-1"), Some("dependency"), "told already, and held again");
}

#[test]
fn explain_says_why_nobody_is_told_and_until_when() {
    let mut story = Story::of(&ONE_ROOT);
    let at = |seconds: u64| (START + Duration::from_secs(seconds)).to_string();
    story.sicken(&["api-1"]).at(20);
    assert!(story.because("Down", "api-1").contains(&format!("its first word waits since {} until {}", at(5), at(35))));
    story.sicken(&["db"]).at(30);
    let held = format!("db is unhealthy since {0}; held since {0}, it is told with db named at {1}", at(25), at(925));
    assert!(story.because("Down", "api-1").contains(&held), "{}", story.because("Down", "api-1"));
    let view = story.alerts["Down api-1"].held.as_ref().and_then(|held| held.dependency.clone()).expect("it is held");
    assert_eq!((view.state.as_str(), view.root.as_str(), view.why.as_str()), ("held", "db", "is unhealthy"));
    assert_eq!(view.until.map(|until| until.to_string()), Some(at(925)));
    story.heal(&["db"]).at(50);
    let back = format!("db was out from {} and is back since {}; what has not ended at {}", at(25), at(35), at(155));
    assert!(story.because("Down", "api-1").contains(&back), "{}", story.because("Down", "api-1"));
    story.sicken(&["db"]).at(16 * MINUTE);
    let told = format!("told of it with db named, which is unhealthy since {}", at(55));
    assert!(story.because("Down", "api-1").contains(&told), "{}", story.because("Down", "api-1"));
}
