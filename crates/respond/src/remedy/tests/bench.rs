//! A remedy with a small policy, alerts as given, and a detect that answers as it is told to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::super::Remedy;
use crate::alerts::{Alert, Alerts};
use crate::queries::{Purpose, Reply, Request};
use crate::turn::{AlertChange, AlertChangeKind, Said, Turn, Word};
use selfheal_contract::effect::{Effect, OperatorAnswer, StepCall};
use selfheal_contract::input::{Operator, OperatorCommand, StepEnd};
use selfheal_contract::notification::{FlushReason, NewsKind};
use selfheal_contract::view::{ApprovalState, ApprovalView, Change, EngineView, RunView};
use selfheal_messages::{
    Answer, DeploymentHealth, Finding, QueryKind, RenderedMaterial, Sighting, StepMaterial, ToDetect, WatchId,
};
use selfheal_model::{
    AdapterDef, AlertKey, Allow, ApprovalId, Check, CheckKind, Confidence, Deployment, DeploymentId, Effectfulness,
    Event, Facts, FailureClass, Health, HealthyWhen, Labels, Map, Outcome, Reach, RunId, Selector, Severity, SourceRef,
    StepId, Timestamp, Value, VerbSpec,
};
use selfheal_policy::guards::{Guards, Mode};
use selfheal_policy::ladder::{Ladder, Rung};
use selfheal_policy::playbook::{OnFailure, Playbook, Retry, SetCheck, Step, StepKind, Verify};
use selfheal_policy::route::{GroupBy, Route};
use selfheal_policy::rule::{Level, NoData, Rule, RuleMode};
use selfheal_policy::{Policy, Server, UnknownDeployments};
use selfheal_script::{Condition, Expect, Names, Param, ScriptHost, Truth};

pub const START: Timestamp = Timestamp::from_millis(1_000_000_000);

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn key(rule: &str, deployment: &str) -> AlertKey {
    AlertKey { rule: rule.into(), scope: [("deployment", deployment)].into_iter().collect() }
}

pub fn action(verb: &str) -> Step {
    Step {
        id: StepId::new(verb),
        kind: StepKind::Action {
            verb: verb.into(),
            with: vec![("how".to_owned(), Param::Literal(Value::from("gently")))],
            deployment: None,
        },
        if_: None,
        timeout: secs(60),
        best_effort: false,
        retry: Retry::default(),
        undo: None,
    }
}

pub fn step(id: &str, kind: StepKind) -> Step {
    Step { id: id.into(), kind, ..action(id) }
}

/// What it says is what the bench is told to answer; the text only has to compile.
pub fn condition() -> Condition {
    condition_of("last(\"x\") > 1")
}

pub fn condition_of(text: &str) -> Condition {
    let host = ScriptHost::new(&[]).unwrap_or_else(|_| panic!("an empty host"));
    let compiled = Condition::compile(&host, text, Expect::Bool, &Names::default());
    compiled.unwrap_or_else(|problems| panic!("{problems:?}")).0
}

pub fn playbook(name: &str, steps: Vec<Step>) -> Playbook {
    Playbook {
        name: name.into(),
        source: SourceRef { file: "playbooks/test.yaml".into(), line: 1, column: 1 },
        description: String::new(),
        mode: Mode::Auto,
        inputs: Vec::new(),
        steps,
        on_failure: OnFailure::Stop,
        rescue: Vec::new(),
        finally: Vec::new(),
        verify: Verify { until: None, hold: secs(30), within: secs(300) },
        hash: 0,
    }
}

/// One about the whole fleet, critical while [`condition`] holds.
pub fn rule(name: &str) -> Rule {
    let level = Level {
        severity: Severity::Critical,
        when: condition(),
        clear_when: None,
        for_: secs(0),
        keep_firing_for: secs(0),
    };
    Rule {
        name: name.into(),
        source: SourceRef { file: "rules/test.yaml".into(), line: 1, column: 1 },
        description: String::new(),
        select: Selector::default(),
        per: Vec::new(),
        value: None,
        levels: vec![level],
        no_data: NoData::Keep,
        cooldown: secs(0),
        labels: Labels::default(),
        summary: None,
        annotations: Vec::new(),
        mode: RuleMode::Live,
        routine: false,
        hash: 0,
    }
}

pub fn check(name: &str) -> Check {
    Check {
        name: name.into(),
        kind: CheckKind::Tcp { address: "127.0.0.1:80".to_owned(), reach: Reach::default() },
        every: secs(10),
        timeout: secs(2),
        connect_timeout: None,
        retries: 0,
        retry_delay: secs(0),
        failure_threshold: 3,
        success_threshold: 2,
        start_period: secs(0),
        min_confidence: Confidence::NONE,
    }
}

pub fn ladder(playbooks: &[&str]) -> Arc<Ladder> {
    let rung = |name: &&str| Rung::plain((*name).into(), Vec::new());
    Arc::new(Ladder { rungs: playbooks.iter().map(rung).collect() })
}

pub fn deployment(id: &str, tier: &str) -> Deployment {
    Deployment {
        id: id.into(),
        adapter: Some("local".into()),
        labels: [("tier", tier)].into_iter().collect(),
        depends_on: Vec::new(),
        target: Map::new(),
        checks: Vec::new(),
        healthy_when: HealthyWhen::All,
        auth: None,
        settings: Map::new(),
        source: None,
    }
}

fn adapter() -> AdapterDef {
    let verb =
        |verb: &str, effect| VerbSpec { verb: verb.into(), params: None, effect, idempotent: false, settle: None };
    AdapterDef {
        name: "local".into(),
        kind: "test".into(),
        options: Map::new(),
        verbs: vec![
            verb("restart", Effectfulness::Disrupt),
            verb("rollback", Effectfulness::Disrupt),
            verb("scale", Effectfulness::Change),
            verb("tidy", Effectfulness::Change),
            verb("refresh_auth", Effectfulness::Change),
            verb("logs", Effectfulness::Read),
        ],
        allow: Allow::default(),
    }
}

/// Deployments `checkout`, `cart` and `search` of tier web and `db`; playbooks `restart` and `rollback`; a ladder of
/// both for every `Down`.
pub fn policy() -> Policy {
    let deployments =
        [deployment("checkout", "web"), deployment("cart", "web"), deployment("search", "web"), deployment("db", "db")];
    let playbooks = [playbook("restart", vec![action("restart")]), playbook("rollback", vec![action("rollback")])];
    Policy {
        version: "1".into(),
        server: Server { listen: String::new(), external_url: String::new() },
        data_dir: "data".into(),
        storage: selfheal_policy::StorageRules::default(),
        adapters: BTreeMap::from([("local".into(), Arc::new(adapter()))]),
        unknown_deployments: UnknownDeployments::Register,
        deployments: deployments.into_iter().map(|entry| (entry.id.clone(), Arc::new(entry))).collect(),
        receivers: BTreeMap::new(),
        route: Route {
            path: "0".into(),
            receiver: "oncall".into(),
            group_by: GroupBy::All,
            group_wait: secs(0),
            group_interval: secs(0),
            repeat_interval: secs(0),
            wait_for_repair: secs(0),
            matchers: Selector::default(),
            continue_: false,
            hours: Default::default(),
            routes: Vec::new(),
        },
        inhibit_rules: Vec::new(),
        guards: Guards { start_grace: secs(0), ..Guards::default() },
        time_intervals: Arc::default(),
        intake: selfheal_policy::Intake::default(),
        settings: Arc::default(),
        rules: BTreeMap::new(),
        ladders: BTreeMap::from([
            (("Down".into(), Severity::Critical), ladder(&["restart", "rollback"])),
            (("Slow".into(), Severity::Warning), ladder(&["restart"])),
        ]),
        playbooks: playbooks.into_iter().map(|entry| (entry.name.clone(), Arc::new(entry))).collect(),
        schedules: BTreeMap::new(),
        heartbeat: None,
        remediations: Default::default(),
        severities: Default::default(),
        secrets: Default::default(),
        warnings: Vec::new(),
    }
}

pub struct Bench {
    pub remedy: Remedy,
    pub policy: Arc<Policy>,
    pub now: Timestamp,
    pub alerts: BTreeMap<AlertKey, Alert>,
    /// What detect says to `Level` questions, and how old its evidence is.
    pub symptom: Truth,
    pub evidence_age: Duration,
    /// What detect says to every other condition.
    pub condition: Truth,
    /// What a watched condition is when it is first asked.
    pub watched: Truth,
    pub watches: BTreeSet<WatchId>,
    withholds: bool,
    withheld: Vec<Request>,
    pub cuts: Vec<Option<Timestamp>>,
    pub calls: Vec<StepCall>,
    pub cancelled: Vec<String>,
    pub observes: Vec<DeploymentId>,
    pub probes: Vec<String>,
    pub news: Vec<(NewsKind, FlushReason, String)>,
    pub emitted: Vec<Event>,
    pub runs: BTreeMap<RunId, RunView>,
    pub engine: Option<EngineView>,
    pub audit: Vec<String>,
    pub approvals: BTreeMap<ApprovalId, ApprovalView>,
    pub said: Vec<Said>,
    pub set: Vec<SetCheck>,
    pub answers: Vec<Result<OperatorAnswer, String>>,
}

impl Bench {
    pub fn new() -> Self {
        Bench::with(policy())
    }

    pub fn with(policy: Policy) -> Self {
        Bench {
            remedy: Remedy::new(START),
            policy: Arc::new(policy),
            now: START,
            alerts: BTreeMap::new(),
            symptom: Truth::True,
            evidence_age: Duration::ZERO,
            condition: Truth::True,
            watched: Truth::False,
            watches: BTreeSet::new(),
            cuts: Vec::new(),
            calls: Vec::new(),
            cancelled: Vec::new(),
            observes: Vec::new(),
            probes: Vec::new(),
            news: Vec::new(),
            emitted: Vec::new(),
            runs: BTreeMap::new(),
            engine: None,
            audit: Vec::new(),
            approvals: BTreeMap::new(),
            said: Vec::new(),
            set: Vec::new(),
            answers: Vec::new(),
            withholds: false,
            withheld: Vec::new(),
        }
    }

    /// From now on detect does not answer, until [`Bench::lets_through`].
    pub fn withholds(&mut self) {
        self.withholds = true;
    }

    /// What became of the query that was withheld last: `None`, and detect answers it.
    pub fn lets_through(&mut self, instead: Option<Reply>) {
        self.withholds = false;
        let (purpose, kind) = self.withheld_query();
        let evidence = self.now - self.evidence_age;
        let answers = Answers { symptom: &self.symptom, condition: &self.condition, evidence };
        let reply = instead.unwrap_or_else(|| Reply::Answered(answers.to(&kind)));
        self.turn(|remedy, turn, alerts| remedy.replied(turn, alerts, purpose, reply));
    }

    fn withheld_query(&mut self) -> (Purpose, QueryKind) {
        let queries = std::mem::take(&mut self.withheld).into_iter().rev();
        let query =
            |request| if let Request::Query { purpose, kind, .. } = request { Some((purpose, kind)) } else { None };
        queries.filter_map(query).next().expect("something was asked")
    }

    /// One turn, and what becomes due at this very instant.
    pub fn turn(&mut self, act: impl FnOnce(&mut Remedy, &mut Turn<'_>, &Alerts)) {
        self.one_turn(act);
        self.pass(Duration::ZERO);
    }

    /// One turn, and what detect answers to it.
    fn one_turn(&mut self, act: impl FnOnce(&mut Remedy, &mut Turn<'_>, &Alerts)) {
        let alerts = Alerts::with(self.alerts.values().cloned().collect());
        let mut effects = Vec::new();
        let mut requests = VecDeque::new();
        let mut turn = Turn::new(self.now, self.policy.clone(), &mut effects);
        act(&mut self.remedy, &mut turn, &alerts);
        let (words, first) = (std::mem::take(&mut turn.words), std::mem::take(&mut turn.requests));
        self.hear(words);
        requests.extend(first);
        while let Some(request) = requests.pop_front() {
            if self.withholds {
                self.withheld.push(request);
                continue;
            }
            let mut turn = Turn::new(self.now, self.policy.clone(), &mut effects);
            match request {
                Request::Query { purpose, kind, .. } => {
                    let evidence = self.now - self.evidence_age;
                    let answers = Answers { symptom: &self.symptom, condition: &self.condition, evidence };
                    self.remedy.replied(&mut turn, &alerts, purpose, Reply::Answered(answers.to(&kind)));
                }
                Request::Watch { id, context, .. } => {
                    self.cuts.push(context.cut);
                    self.watches.insert(id.clone());
                    let seen = Sighting { truth: self.watched.clone(), blind: false };
                    self.remedy.watched(&mut turn, &alerts, id, self.now, seen);
                }
                Request::Unwatch(id) => {
                    self.watches.remove(&id);
                }
                Request::Send(ToDetect::Emit(event)) => self.emitted.push(event),
                Request::Send(ToDetect::SetCheck { set, .. }) => self.set.push(set),
                Request::Send(_) => {}
            }
            let (words, more) = (std::mem::take(&mut turn.words), std::mem::take(&mut turn.requests));
            self.hear(words);
            requests.extend(more);
        }
        for effect in effects {
            self.take(effect);
        }
    }

    fn hear(&mut self, words: VecDeque<Word>) {
        for word in words {
            match word {
                Word::News(news) => self.news.push((news.news.kind, news.reason, news.news.text)),
                Word::Said(said) if said.summary.is_some() || !self.said.is_empty() => self.said.push(said),
                _ => {}
            }
        }
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::StartStep(call) => self.calls.push(*call),
            Effect::CancelStep { id, .. } => self.cancelled.push(id.to_string()),
            Effect::Observe { deployment } => self.observes.push(deployment),
            Effect::Probe { attempt, .. } => self.probes.push(attempt.to_string()),
            Effect::Show(Change::Run(view)) => {
                self.runs.insert(view.id.clone(), *view);
            }
            Effect::Show(Change::Approval(view)) => {
                self.approvals.insert(view.id.clone(), *view);
            }
            Effect::Show(Change::Engine(view)) => self.engine = Some(*view),
            Effect::Show(Change::Audit(entry)) => self.audit.push(entry.what),
            Effect::Answer { answer, .. } => self.answers.push(answer),
            _ => {}
        }
    }

    /// Time passes, and every timer fires at its instant.
    pub fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(due) = self.remedy.next_deadline().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.one_turn(|remedy, turn, alerts| remedy.fire(turn, alerts));
        }
        self.now = until;
    }

    fn change(&mut self, key: &AlertKey, kind: AlertChangeKind) {
        let change = AlertChange { key: key.clone(), kind };
        self.turn(|remedy, turn, alerts| remedy.alert_changed(turn, alerts, &change));
    }

    /// The alert fires (again).
    pub fn fires(&mut self, key: &AlertKey, severity: Severity, kind: AlertChangeKind) {
        let labels: Labels = key.scope.with_label("alertname", key.rule.as_str());
        let alert = Alert {
            key: key.clone(),
            labels,
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
        };
        self.alerts.insert(key.clone(), alert);
        self.change(key, kind);
    }

    pub fn down(&mut self, deployment: &str) -> AlertKey {
        let key = key("Down", deployment);
        self.fires(&key, Severity::Critical, AlertChangeKind::Fired);
        key
    }

    pub fn resolves(&mut self, key: &AlertKey) {
        if let Some(alert) = self.alerts.get_mut(key) {
            (alert.firing, alert.true_now) = (false, false);
        }
        self.change(key, AlertChangeKind::Resolved);
    }

    pub fn says(&mut self, key: &AlertKey, kind: AlertChangeKind) {
        self.change(key, kind);
    }

    /// The newest call of this verb ends so.
    pub fn verb_ends(&mut self, verb: &str, outcome: Outcome) {
        let call = self.calls.iter().rev().find(|call| call.verb.as_str() == verb).expect("it was called");
        let end = StepEnd { id: call.id.clone(), outcome, log: "log".into(), took: secs(2) };
        self.turn(|remedy, turn, alerts| remedy.step_ended(turn, alerts, end));
    }

    /// The newest call ends so.
    pub fn ends(&mut self, outcome: Outcome) {
        let call = self.calls.last().expect("something was called");
        let end = StepEnd { id: call.id.clone(), outcome, log: "log".into(), took: secs(2) };
        self.turn(|remedy, turn, alerts| remedy.step_ended(turn, alerts, end));
    }

    pub fn ends_done(&mut self) {
        self.ends(Outcome::done("ok"));
    }

    pub fn ends_failed(&mut self, class: FailureClass) {
        self.ends(Outcome::failed(class, "it broke"));
    }

    /// The newest watched condition becomes so.
    pub fn watch_says(&mut self, truth: Truth) {
        let id = self.watches.last().expect("something is watched").clone();
        let now = self.now;
        let seen = Sighting { truth, blind: false };
        self.turn(|remedy, turn, alerts| remedy.watched(turn, alerts, id, now, seen));
    }

    pub fn health(&mut self, deployment: &str, health: Health) {
        let health = DeploymentHealth {
            deployment: deployment.into(),
            at: self.now,
            health,
            checks: vec![("http".into(), health)],
            sick_replicas: if health == Health::Unhealthy { vec![1] } else { Vec::new() },
            flapping: Vec::new(),
        };
        self.turn(|remedy, turn, alerts| remedy.health(turn, alerts, health));
    }

    /// Its only check changes its mind all the time.
    pub fn flaps(&mut self, deployment: &str, check: &str) {
        self.checked(deployment, check, true);
    }

    /// Its only check does not.
    pub fn steady(&mut self, deployment: &str, check: &str) {
        self.checked(deployment, check, false);
    }

    fn checked(&mut self, deployment: &str, check: &str, flaps: bool) {
        let health = DeploymentHealth {
            deployment: deployment.into(),
            at: self.now,
            health: Health::Healthy,
            checks: vec![(check.into(), Health::Healthy)],
            sick_replicas: Vec::new(),
            flapping: if flaps { vec![(check.into(), 60)] } else { Vec::new() },
        };
        self.turn(|remedy, turn, alerts| remedy.health(turn, alerts, health));
    }

    pub fn facts(&mut self, deployment: &str, name: &str, value: Value) {
        let mut facts = Facts::default();
        facts.set(name, value);
        self.turn(|remedy, turn, alerts| remedy.facts(turn, alerts, &deployment.into(), facts));
    }

    pub fn looked_at(&mut self, deployment: &str) {
        self.turn(|remedy, turn, alerts| remedy.observed(turn, alerts, &deployment.into(), Some(&Facts::default())));
    }

    /// It was looked at, and that is what was seen.
    pub fn saw(&mut self, deployment: &str, fact: &str, value: Value) {
        let mut facts = Facts::default();
        facts.set(fact, value);
        self.turn(|remedy, turn, alerts| remedy.observed(turn, alerts, &deployment.into(), Some(&facts)));
    }

    pub fn could_not_look(&mut self, deployment: &str) {
        self.turn(|remedy, turn, alerts| remedy.observed(turn, alerts, &deployment.into(), None));
    }

    pub fn operator(&mut self, command: OperatorCommand) -> Result<OperatorAnswer, String> {
        let operator = Operator { who: "ana".into(), command, ticket: 7 };
        self.turn(|remedy, turn, alerts| remedy.operator(turn, alerts, operator));
        self.answers.pop().expect("every word is answered")
    }

    pub fn pauses(&mut self) {
        let answer = self.operator(OperatorCommand::Pause { reason: "moving".into() });
        assert_eq!(answer, Ok(OperatorAnswer::Ok));
    }

    pub fn resumes(&mut self) {
        let answer = self.operator(OperatorCommand::Resume { reason: "moved".into() });
        assert_eq!(answer, Ok(OperatorAnswer::Ok));
    }

    pub fn triggers(&mut self, playbook: &str, deployment: &str) -> Result<OperatorAnswer, String> {
        self.operator(OperatorCommand::Trigger {
            playbook: playbook.into(),
            deployment: deployment.into(),
            with: Map::new(),
            reason: String::new(),
            overrides: Vec::new(),
        })
    }

    pub fn new_policy(&mut self, policy: Policy) {
        self.policy = Arc::new(policy);
        self.turn(|remedy, turn, alerts| remedy.replace_policy(turn, alerts));
    }

    /// The verbs called so far, in order.
    pub fn verbs(&self) -> Vec<&str> {
        self.calls.iter().map(|call| call.verb.as_str()).collect()
    }

    pub fn run(&self, id: &str) -> &RunView {
        self.runs.get(id).unwrap_or_else(|| panic!("no run {id} was shown; there are {:?}", self.runs.keys()))
    }

    pub fn verdict(&self, id: &str) -> Option<&str> {
        self.run(id).verdict.as_deref()
    }

    pub fn refused_by(&self, id: &str) -> Option<&str> {
        self.run(id).refused.as_ref().map(|refusal| refusal.guard.as_str())
    }

    pub fn state(&self, key: &AlertKey) -> String {
        self.remedy.remediation_of(key).map(|facts| facts.state.to_string()).unwrap_or_default()
    }

    /// The state of a question, as its view says it.
    pub fn asked(&self, id: &str) -> ApprovalState {
        self.approvals.get(id).unwrap_or_else(|| panic!("nothing was asked as {id}: {:?}", self.approvals)).state
    }

    pub fn told(&self, kind: NewsKind) -> Vec<(FlushReason, &str)> {
        let of_kind = self.news.iter().filter(|(other, ..)| *other == kind);
        of_kind.map(|(_, reason, text)| (*reason, text.as_str())).collect()
    }
}

/// What detect answers to a query.
struct Answers<'a> {
    symptom: &'a Truth,
    condition: &'a Truth,
    evidence: Timestamp,
}

impl Answers<'_> {
    fn to(&self, kind: &QueryKind) -> Answer {
        let symptom = || Finding { truth: self.symptom.clone(), evidence: self.evidence };
        let truth = |_: &Condition| self.condition.clone();
        match kind {
            QueryKind::AlertTexts { .. } => panic!("texts belong to the alerts"),
            QueryKind::RungTarget { on } => Answer::RungTarget { on: Ok(literal(on)) },
            QueryKind::BeginRung { if_, with, .. } => {
                Answer::BeginRung { symptom: symptom(), if_: if_.as_ref().map(truth), with: Ok(literals(with)) }
            }
            QueryKind::BeginScheduled { with } => Answer::BeginScheduled { with: Ok(literals(with)) },
            QueryKind::BeginStep { if_, symptom: level, material } => Answer::BeginStep {
                if_: if_.as_ref().map(truth),
                symptom: level.as_ref().map(|_| symptom()),
                material: match material {
                    StepMaterial::Nothing => RenderedMaterial::Nothing,
                    StepMaterial::Params(params) => RenderedMaterial::Params(Ok(literals(params))),
                    StepMaterial::Text(_) => RenderedMaterial::Text(Ok("a text".into())),
                    StepMaterial::Assertion { condition, message } => RenderedMaterial::Assertion {
                        truth: truth(condition),
                        message: message.as_ref().map(|_| Ok("a text".into())),
                    },
                },
            },
            QueryKind::RetryStep { .. } => Answer::RetryStep { symptom: symptom() },
            QueryKind::CheckHealthy { .. } => Answer::CheckHealthy { healthy: self.condition.clone() },
        }
    }
}

fn literals(params: &[(String, Param)]) -> Map {
    params.iter().map(|(name, param)| (name.clone(), literal(param))).collect()
}

fn literal(param: &Param) -> Value {
    match param {
        Param::Literal(value) => value.clone(),
        _ => panic!("only literals here"),
    }
}
