//! Stories about the detecting half alone: what it is told, and what it says to judge.

mod answers;
mod budget;
mod documented;
mod posted;
mod questions;
mod quick;
mod reloads;
mod scopes;
mod sources;
mod time;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use selfheal_messages::{
    Answer, Context, Finding, Generation, LevelRef, Query, QueryId, QueryKind, RenderedMaterial, StepMaterial, Watch,
    WatchSubject,
};
use selfheal_model::{
    AdapterDef, AdapterName, Allow, Check, CheckKind, CheckStatus, Deployment, EventKind, Facts, HealthyWhen, Map,
    Origin, Reach, Replica, Selector, Severity, SourceRef, Value,
};
use selfheal_policy::guards::Guards;
use selfheal_policy::route::{GroupBy, Route};
use selfheal_policy::rule::{Level, NoData, Rule, RuleMode};
use selfheal_policy::{Server, UnknownDeployments};
use selfheal_script::{Condition, Expect, Names, ScriptHost, Truth};

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

pub(super) fn script(text: &str, expect: Expect) -> Condition {
    let host = ScriptHost::new(&[]).unwrap_or_else(|_| panic!("no functions, no faults"));
    let settings = Map::from_iter([("limit".to_owned(), Value::from(80))]);
    let names = Names { settings: Some(&settings), has_value: true, ..Names::default() };
    Condition::compile(&host, text, expect, &names).unwrap_or_else(|problems| panic!("{text}: {problems:?}")).0
}

pub(super) fn condition(text: &str) -> Condition {
    script(text, Expect::Bool)
}

pub(super) fn rule(name: &str, per: &[&str], when: &str) -> Rule {
    Rule {
        name: name.into(),
        source: SourceRef { file: "rules/test.yaml".into(), line: 1, column: 1 },
        description: String::new(),
        select: Selector::default(),
        per: per.iter().map(|label| (*label).into()).collect(),
        value: None,
        levels: vec![level(Severity::Warning, when, None)],
        no_data: NoData::Keep,
        cooldown: Duration::ZERO,
        labels: Labels::default(),
        summary: None,
        annotations: Vec::new(),
        mode: RuleMode::Live,
        routine: false,
        hash: selfheal_model::fingerprint([name, when]),
    }
}

pub(super) fn level(severity: Severity, when: &str, clear_when: Option<&str>) -> Level {
    Level {
        severity,
        when: condition(when),
        clear_when: clear_when.map(condition),
        for_: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
    }
}

pub(super) fn deployment(id: &str, own: &[(&str, &str)]) -> Deployment {
    Deployment {
        id: id.into(),
        adapter: None,
        labels: labels(own),
        depends_on: Vec::new(),
        target: Map::new(),
        checks: Vec::new(),
        healthy_when: HealthyWhen::All,
        auth: None,
        settings: Map::new(),
        source: None,
    }
}

pub(super) fn checked(id: &str, failures: u32, successes: u32) -> Deployment {
    let check = Check {
        name: "http".into(),
        kind: CheckKind::Tcp { address: "localhost:{{ port }}".to_owned(), reach: Reach::default() },
        every: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        connect_timeout: None,
        retries: 0,
        retry_delay: Duration::ZERO,
        failure_threshold: failures,
        success_threshold: successes,
        start_period: Duration::ZERO,
        min_confidence: selfheal_model::Confidence::NONE,
    };
    Deployment { checks: vec![check], ..deployment(id, &[]) }
}

pub(super) fn policy(deployments: Vec<Deployment>, rules: Vec<Rule>) -> Policy {
    Policy {
        version: "0".into(),
        server: Server { listen: String::new(), external_url: String::new() },
        data_dir: PathBuf::new(),
        storage: selfheal_policy::StorageRules::default(),
        adapters: BTreeMap::new(),
        unknown_deployments: UnknownDeployments::Register,
        deployments: deployments.into_iter().map(|own| (own.id.clone(), Arc::new(own))).collect(),
        receivers: BTreeMap::new(),
        route: Route {
            path: "0".into(),
            receiver: "oncall".into(),
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
        settings: Arc::new(Map::from_iter([("limit".to_owned(), Value::from(80))])),
        rules: rules.into_iter().map(|rule| (rule.name.clone(), Arc::new(rule))).collect(),
        ladders: BTreeMap::new(),
        playbooks: BTreeMap::new(),
        schedules: BTreeMap::new(),
        heartbeat: None,
        remediations: Default::default(),
        severities: Default::default(),
        secrets: Default::default(),
        warnings: Vec::new(),
    }
}

/// Detect with a clock, and what it said as lines: `12 Rule{scope} true/false [value]`.
pub(super) struct Bench {
    pub detect: Detect,
    pub said: Vec<String>,
    pub evidence: Vec<Timestamp>,
    pub effects: Vec<Effect>,
    /// By rule, what its last answer said of being seen.
    blind: BTreeMap<String, bool>,
    now: Timestamp,
}

impl Bench {
    pub fn new(policy: Policy) -> Bench {
        let policy = Arc::new(policy);
        let detect = Detect::new(at(0), policy.clone());
        let mut bench = Bench {
            detect,
            said: Vec::new(),
            evidence: Vec::new(),
            effects: Vec::new(),
            blind: BTreeMap::new(),
            now: at(0),
        };
        bench.turn(0, |detect, now, out, effects| detect.replace_policy(now, policy, out, effects));
        bench
    }

    pub fn of(rules: Vec<Rule>) -> Bench {
        Bench::new(policy(vec![deployment("shop", &[("tier", "web")])], rules))
    }

    /// Fires what is due up to then, at its own instants, like the engine does.
    pub fn turn(
        &mut self,
        seconds: i64,
        act: impl FnOnce(&mut Detect, Timestamp, &mut VecDeque<ToRespond>, &mut Vec<Effect>),
    ) {
        self.until(seconds);
        let mut out = VecDeque::new();
        act(&mut self.detect, at(seconds), &mut out, &mut self.effects);
        self.note(out);
    }

    pub fn until(&mut self, seconds: i64) {
        while let Some(due) = self.detect.next_deadline().filter(|due| *due <= at(seconds)) {
            assert!(due > self.now || self.now == at(0), "a timer for {due} was set at {}", self.now);
            self.now = due.max(self.now);
            let mut out = VecDeque::new();
            self.detect.fire(self.now, &mut out, &mut self.effects);
            self.note(out);
        }
        self.now = at(seconds);
    }

    fn note(&mut self, out: VecDeque<ToRespond>) {
        let seconds = self.now.as_millis() as f64 / 1000.0;
        for message in out {
            let line = match message {
                ToRespond::Rule(answer) => {
                    self.blind.insert(answer.key.rule.to_string(), answer.blind);
                    self.evidence.push(answer.evidence);
                    let levels: Vec<_> = answer.levels.iter().map(|level| word(&level.when)).collect();
                    let clear: Vec<_> = answer.levels.iter().map(|level| word(&level.clear)).collect();
                    let value = answer.value.map(|value| format!(" {value}")).unwrap_or_default();
                    format!("{seconds} {} {}/{}{value}", answer.key, levels.join(","), clear.join(","))
                }
                ToRespond::Watched { seen, .. } => format!("{seconds} watched {}", word(&seen.truth)),
                ToRespond::Posted(posted) => format!("{seconds} posted {} {}", posted.key.rule, word(&posted.stands)),
                ToRespond::ScopeGone { key } => format!("{seconds} gone {key}"),
                ToRespond::Health(health) => format!("{seconds} {} is {}", health.deployment, health.health),
                ToRespond::Facts { .. } => continue,
                ToRespond::Slow { rule, why } => {
                    format!("{seconds} {rule} is {}", if why.is_some() { "slow" } else { "not slow" })
                }
                ToRespond::Answer { answer, .. } => match answer {
                    Answer::RetryStep { symptom: Finding { truth, evidence } } => {
                        format!("{seconds} told {} of {}", word(&truth), evidence.as_millis() / 1000)
                    }
                    Answer::CheckHealthy { healthy: truth }
                    | Answer::BeginStep { material: RenderedMaterial::Assertion { truth, .. }, .. } => {
                        format!("{seconds} told {}", word(&truth))
                    }
                    other => panic!("{other:?}"),
                },
                ToRespond::Unwatched(span) => {
                    let (from, to) = (span.from.as_millis() / 1000, span.to.as_millis() / 1000);
                    format!("{seconds} unwatched {from} to {to}")
                }
            };
            self.said.push(line);
        }
    }

    /// Whether the last answer of a rule rests on something that may have gone on unseen.
    pub fn blind(&self, rule: &str) -> bool {
        self.blind.get(rule).copied().unwrap_or(false)
    }

    /// What was said since this was last asked.
    pub fn heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    pub fn event(&mut self, now: i64, deployment: &str, time: i64, kind: EventKind, origin: Origin) {
        let event = Event { deployment: deployment.into(), time: at(time), kind, origin };
        self.turn(now, |detect, now, out, effects| detect.events(now, vec![event], out, effects));
    }

    pub fn metric_of(&mut self, deployment: &str, seconds: i64, name: &str, own: &[(&str, &str)], value: f64) {
        let kind = EventKind::Metric { name: name.into(), value, labels: labels(own) };
        self.event(seconds, deployment, seconds, kind, Origin::External);
    }

    pub fn metric(&mut self, seconds: i64, name: &str, value: f64) {
        self.metric_of("shop", seconds, name, &[], value);
    }

    pub fn verdict(&mut self, seconds: i64, replica: Option<u32>, healthy: bool) {
        let status = if healthy { CheckStatus::Healthy } else { CheckStatus::Unhealthy };
        let kind = EventKind::Health {
            check: "http".into(),
            replica,
            status,
            latency_ms: Some(12.0),
            reason: None,
            message: String::new(),
            confidence: None,
        };
        self.event(seconds, "shop", seconds, kind, Origin::External);
    }

    pub fn signal(&mut self, seconds: i64, name: &str, origin: Origin) {
        let fields = Map::from_iter([("version".to_owned(), Value::from("v2"))]);
        self.event(seconds, "shop", seconds, EventKind::Signal { name: name.into(), fields }, origin);
    }

    pub fn observed(&mut self, seconds: i64, facts: &[(&str, Value)], replicas: &[u32]) {
        let mut observation = Observation::default();
        facts.iter().for_each(|(name, value)| observation.facts.set(name, value.clone()));
        observation.replicas = replicas.iter().map(|index| replica(*index)).collect();
        self.turn(seconds, |detect, now, out, effects| {
            detect.observed(now, &"shop".into(), Ok(observation), out, effects);
        });
    }

    pub fn firing(&mut self, seconds: i64, rule: &str, scope: &[(&str, &str)], firing: bool) {
        let key = AlertKey { rule: rule.into(), scope: labels(scope) };
        self.message(seconds, ToDetect::Firing { key, firing });
    }

    pub fn message(&mut self, seconds: i64, message: ToDetect) {
        self.turn(seconds, |detect, now, out, effects| detect.message(now, message, out, effects));
    }

    pub fn replace(&mut self, seconds: i64, policy: Policy) {
        let policy = Arc::new(policy);
        self.turn(seconds, |detect, now, out, effects| detect.replace_policy(now, policy, out, effects));
    }

    /// As the engine does it: what is due in the gap fires after it.
    pub fn gap(&mut self, from: i64, to: i64) {
        self.until(from);
        self.now = at(to);
        let mut out = VecDeque::new();
        self.detect.resumed(at(from), at(to), Gap::Blind, &mut out);
        self.note(out);
        if self.detect.next_deadline().is_some_and(|due| due < at(to)) {
            let mut out = VecDeque::new();
            self.detect.fire(at(to), &mut out, &mut self.effects);
            self.note(out);
        }
        self.until(to);
    }

    /// Goes on with what was saved.
    pub fn restore(&mut self) {
        let bytes = rmp_serde::to_vec_named(&self.detect.saving()).expect("plain data");
        let saved = rmp_serde::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}"));
        let policy = self.detect.policy.clone();
        self.detect = Detect::restored(saved, policy, BTreeMap::new()).unwrap_or_else(|error| panic!("{error}"));
        let again = rmp_serde::to_vec_named(&self.detect.saving()).expect("plain data");
        assert!(bytes == again, "a restored state is another one");
    }

    /// What a condition comes to for `shop`, now.
    pub fn ask(&mut self, seconds: i64, text: &str, cut: Option<i64>) -> String {
        let context = Context { cut: cut.map(at), ..context("shop") };
        let material = StepMaterial::Assertion { condition: condition(text), message: None };
        let kind = QueryKind::BeginStep { if_: None, symptom: None, material };
        self.message(seconds, ToDetect::Query(Query { id: QueryId(1), context, kind }));
        self.said.pop().unwrap_or_default()
    }

    /// Whether the newest raw verdict of a check of `shop` is healthy.
    pub fn check_healthy(&mut self, seconds: i64, check: &str, cut: Option<i64>) -> String {
        let context = Context { cut: cut.map(at), ..context("shop") };
        let kind = QueryKind::CheckHealthy { check: check.into() };
        self.message(seconds, ToDetect::Query(Query { id: QueryId(1), context, kind }));
        self.said.pop().unwrap_or_default()
    }

    pub fn truth(&mut self, seconds: i64, text: &str) -> String {
        self.ask(seconds, text, None).split(' ').nth(2).unwrap_or_default().to_owned()
    }

    pub fn truth_after(&mut self, seconds: i64, text: &str, cut: i64) -> String {
        self.ask(seconds, text, Some(cut)).split(' ').nth(2).unwrap_or_default().to_owned()
    }
}

pub(super) fn context(deployment: &str) -> Context {
    Context { deployment: Some(deployment.into()), ..Context::default() }
}

pub(super) fn replica(index: u32) -> Replica {
    Replica { index, port: None, pid: None, up: true, incarnation: 1 }
}

fn word(truth: &Truth) -> String {
    match truth {
        Truth::True => "true".to_owned(),
        Truth::False => "false".to_owned(),
        Truth::NoData => "nodata".to_owned(),
        Truth::Error(why) => format!("error({why})"),
    }
}
