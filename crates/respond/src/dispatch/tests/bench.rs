//! A dispatch with a world of alerts and ladders that the story sets, and peers that answer as it says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::alerts::Alert;
use crate::dispatch::{Dispatch, Known};
use crate::turn::{AlertChange, AlertChangeKind, NewsAbout, NewsFor, Turn};
use selfheal_contract::effect::{Delivery, Effect};
use selfheal_contract::input::DeliveryResult;
use selfheal_contract::notification::{
    DependentsFacts, FlushReason, News, NewsKind, Notification, RemediationFacts, RootFacts,
};
use selfheal_contract::receiver::{Notifier, NotifyRate, Receiver, WebhookDef, WebhookFormat};
use selfheal_contract::view::{Change, DeliveryView};
use selfheal_model::{AlertKey, DeliveryId, DeploymentId, Labels, ReceiverName, Selector, Severity, Timestamp};
use selfheal_policy::guards::Guards;
use selfheal_policy::route::{GroupBy, Route};
use selfheal_policy::{Policy, Server, UnknownDeployments};

/// What the parts before dispatch know.
#[derive(Default)]
pub struct World {
    alerts: BTreeMap<AlertKey, Alert>,
    pub cooldowns: BTreeMap<AlertKey, Timestamp>,
    ladders: BTreeMap<AlertKey, (&'static str, bool)>,
    muted: BTreeSet<AlertKey>,
    /// What explains an alert, and whom it explains.
    pub roots: BTreeMap<AlertKey, RootFacts>,
    pub held: BTreeMap<DeploymentId, DependentsFacts>,
    acknowledged: BTreeSet<AlertKey>,
}

impl Known for World {
    fn alert(&self, key: &AlertKey) -> Option<&Alert> {
        self.alerts.get(key)
    }
    fn cooldown_until(&self, key: &AlertKey) -> Option<Timestamp> {
        self.cooldowns.get(key).copied()
    }
    fn remediation_of(&self, key: &AlertKey) -> Option<RemediationFacts> {
        let (state, _) = self.ladders.get(key)?;
        Some(RemediationFacts { state: (*state).into(), rung: 0, rungs: 1, runs: vec![] })
    }
    fn is_working(&self, key: &AlertKey) -> bool {
        self.ladders.get(key).is_some_and(|(_, working)| *working)
    }
    fn is_muted(&self, key: &AlertKey, _now: Timestamp) -> bool {
        self.muted.contains(key)
    }
    fn is_acknowledged(&self, key: &AlertKey) -> bool {
        self.acknowledged.contains(key)
    }
    fn root_of(&self, key: &AlertKey) -> Option<RootFacts> {
        self.roots.get(key).cloned()
    }
    fn held_under(&self, root: &DeploymentId) -> Option<DependentsFacts> {
        self.held.get(root).cloned()
    }
    fn wall(&self, at: Timestamp) -> Timestamp {
        at
    }
    fn at_wall(&self, wall: Timestamp) -> Timestamp {
        wall
    }
}

/// How a peer answers; `None`: not until the story says so.
type Peer = Box<dyn FnMut(&Delivery) -> Option<DeliveryResult>>;

pub struct Bench {
    pub dispatch: Dispatch,
    pub world: World,
    pub policy: Policy,
    now: Timestamp,
    pub peer: Peer,
    /// Every attempt: when, and what.
    pub attempts: Vec<(Duration, Delivery)>,
    pub views: BTreeMap<DeliveryId, DeliveryView>,
}

pub fn key(rule: &str, deployment: &str) -> AlertKey {
    AlertKey { rule: rule.into(), scope: [("deployment", deployment)].into_iter().collect() }
}

pub fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub fn route(path: &str, receiver: &str, matchers: &[&str], routes: Vec<Route>) -> Route {
    Route {
        path: path.into(),
        receiver: receiver.into(),
        group_by: GroupBy::Labels(vec!["deployment".into()]),
        group_wait: secs(10),
        group_interval: secs(300),
        repeat_interval: secs(4 * 3600),
        wait_for_repair: Duration::ZERO,
        matchers: Selector(matchers.iter().map(|text| text.parse().expect("a matcher")).collect()),
        continue_: false,
        hours: Default::default(),
        routes,
    }
}

pub fn receiver(name: &str, webhooks: usize) -> Receiver {
    let hook = |index: usize| {
        Notifier::Webhook(Arc::new(WebhookDef {
            url: format!("https://example.com/{index}"),
            format: WebhookFormat::Default,
            secret: None,
            headers: vec![],
            timeout: secs(10),
            template: None,
        }))
    };
    Receiver {
        name: name.into(),
        notifiers: (0..webhooks).map(hook).collect(),
        send: NewsKind::DEFAULT.into_iter().collect(),
        rate: NotifyRate { count: 1_000, window: secs(60) },
        max_age: secs(3600),
    }
}

impl Bench {
    /// Receivers `oncall` and `dba`, one notifier each; everything goes to `oncall`.
    pub fn new() -> Bench {
        let policy = Policy {
            version: "0".into(),
            server: Server { listen: String::new(), external_url: "http://selfheal".to_owned() },
            data_dir: "data".into(),
            storage: selfheal_policy::StorageRules::default(),
            adapters: BTreeMap::new(),
            unknown_deployments: UnknownDeployments::Register,
            deployments: BTreeMap::new(),
            receivers: BTreeMap::new(),
            route: route("0", "oncall", &[], vec![]),
            inhibit_rules: vec![],
            guards: Guards::default(),
            time_intervals: Arc::default(),
            intake: selfheal_policy::Intake::default(),
            settings: Arc::default(),
            rules: BTreeMap::new(),
            ladders: BTreeMap::new(),
            playbooks: BTreeMap::new(),
            schedules: BTreeMap::new(),
            heartbeat: None,
            remediations: Default::default(),
            severities: Default::default(),
            secrets: Default::default(),
            warnings: vec![],
        };
        let mut bench = Bench {
            dispatch: Dispatch::new(at(Duration::ZERO)),
            world: World::default(),
            policy,
            now: at(Duration::ZERO),
            peer: Box::new(|_| Some(DeliveryResult::Delivered)),
            attempts: vec![],
            views: BTreeMap::new(),
        };
        bench.has(receiver("oncall", 1));
        bench.has(receiver("dba", 1));
        bench
    }

    pub fn routed(route: Route) -> Bench {
        let mut bench = Bench::new();
        bench.policy.route = route;
        bench
    }

    pub fn has(&mut self, receiver: Receiver) {
        self.policy.receivers.insert(receiver.name.clone(), Arc::new(receiver));
    }

    pub fn wants(&mut self, receiver: &str, kinds: &[NewsKind]) {
        let mut own = (*self.policy.receivers[receiver]).clone();
        own.send = kinds.iter().copied().collect();
        self.has(own);
    }

    /// Lets time pass to so long after the start.
    pub fn at(&mut self, since_start: Duration) -> &mut Self {
        let until = at(since_start);
        while let Some(due) = self.dispatch.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.turn(|dispatch, turn, world| dispatch.fire_knowing(turn, world));
        }
        self.now = until;
        self
    }

    pub fn fires(&mut self, rule: &str, on: &str, severity: Severity) -> &mut Self {
        self.begins(rule, on, severity, 0);
        self.change(&key(rule, on), AlertChangeKind::Fired)
    }

    pub fn relapses(&mut self, rule: &str, on: &str, severity: Severity) -> &mut Self {
        let relapse = self.world.alerts.get(&key(rule, on)).map_or(0, |alert| alert.relapse) + 1;
        self.begins(rule, on, severity, relapse);
        self.change(&key(rule, on), AlertChangeKind::Relapsed)
    }

    pub fn turns(&mut self, rule: &str, on: &str, to: Severity) -> &mut Self {
        let alert = self.world.alerts.get_mut(&key(rule, on)).expect("an alert");
        let from = std::mem::replace(&mut alert.severity, to);
        alert.labels = alert.labels.with_label("severity", to.as_str());
        self.change(&key(rule, on), AlertChangeKind::SeverityChanged { from, to })
    }

    pub fn resolves(&mut self, rule: &str, on: &str) -> &mut Self {
        self.stops(rule, on);
        self.change(&key(rule, on), AlertChangeKind::Resolved)
    }

    pub fn is_unwatched(&mut self, rule: &str, on: &str) -> &mut Self {
        self.stops(rule, on);
        self.change(&key(rule, on), AlertChangeKind::Ended)
    }

    pub fn ladder(&mut self, rule: &str, on: &str, state: &'static str, working: bool) -> &mut Self {
        self.world.ladders.insert(key(rule, on), (state, working));
        self.turn(|dispatch, turn, world| dispatch.reconsider(turn, world, &key(rule, on)));
        self
    }

    /// A silence or an inhibition begins or ends.
    pub fn mute(&mut self, rule: &str, on: &str, muted: bool) -> &mut Self {
        let key = key(rule, on);
        match muted {
            true => self.world.muted.insert(key.clone()),
            false => self.world.muted.remove(&key),
        };
        self.turn(|dispatch, turn, world| dispatch.reconsider_mute(turn, world, &key));
        self
    }

    pub fn acknowledge(&mut self, rule: &str, on: &str) -> &mut Self {
        let key = key(rule, on);
        self.world.acknowledged.insert(key.clone());
        self.turn(|dispatch, turn, world| dispatch.reconsider_mute(turn, world, &key));
        self
    }

    pub fn news(&mut self, kind: NewsKind, reason: FlushReason, about: NewsAbout) -> &mut Self {
        let news = News {
            kind,
            at: self.now,
            alert: None,
            deployment: Some("shop".into()),
            run: None,
            approval: None,
            text: format!("text of {}", kind.as_str()),
        };
        self.turn(|dispatch, turn, world| dispatch.take_news(turn, world, NewsFor { about, news, reason }));
        self
    }

    pub fn reload(&mut self) -> &mut Self {
        self.turn(|dispatch, turn, world| dispatch.adopt_policy(turn, world));
        self
    }

    pub fn answer(&mut self, delivery: usize, result: DeliveryResult) -> &mut Self {
        let (id, attempt) = (self.attempts[delivery].1.id.clone(), self.attempts[delivery].1.attempt);
        self.turn(|dispatch, turn, _| dispatch.ended(turn, &id, attempt, result));
        self
    }

    /// What people got, one line per first attempt: when, who, why and the subject.
    pub fn sent(&self) -> Vec<String> {
        self.attempts
            .iter()
            .filter(|(_, delivery)| delivery.attempt == 1)
            .map(|(when, delivery)| {
                let Notification { receiver, reason, .. } = &*delivery.notification;
                format!("{}s {receiver} {reason:?} {}", when.as_secs_f64(), delivery.notification.subject())
            })
            .collect()
    }

    /// Since the last look.
    pub fn newly_sent(&mut self) -> Vec<String> {
        let sent = self.sent();
        self.attempts.clear();
        sent
    }

    pub fn last(&self) -> &Notification {
        &self.attempts.last().expect("something was sent").1.notification
    }

    fn begins(&mut self, rule: &str, on: &str, severity: Severity, relapse: u32) {
        let key = key(rule, on);
        let labels: Labels =
            [("alertname", rule), ("deployment", on), ("severity", severity.as_str())].into_iter().collect();
        let alert = Alert {
            labels,
            deployment: key.deployment(),
            severity,
            firing: true,
            true_now: true,
            value: Some(1.0),
            summary: format!("{rule} on {on}"),
            annotations: Labels::default(),
            started_at: self.now,
            fired_at: self.now,
            ended_at: None,
            relapse,
            without_data: false,
            evidence: self.now,
            generator_url: String::new(),
            began_at: None,
            ran_out: false,
            key: key.clone(),
        };
        self.world.alerts.insert(key, alert);
    }

    fn stops(&mut self, rule: &str, on: &str) {
        let now = self.now;
        let alert = self.world.alerts.get_mut(&key(rule, on)).expect("an alert");
        alert.firing = false;
        alert.ended_at = Some(now);
    }

    pub fn change(&mut self, key: &AlertKey, kind: AlertChangeKind) -> &mut Self {
        let change = AlertChange { key: key.clone(), kind };
        self.turn(|dispatch, turn, world| dispatch.take_change(turn, world, &change));
        self
    }

    /// One turn; then the peers answer what was released, until all is quiet.
    pub fn turn(&mut self, act: impl FnOnce(&mut Dispatch, &mut Turn<'_>, &World)) {
        let mut effects = Vec::new();
        // the bench's policy is edited between turns, so each turn gets its picture
        let policy = Arc::new(self.policy.clone());
        act(&mut self.dispatch, &mut Turn::new(self.now, policy.clone(), &mut effects), &self.world);
        let mut queue: VecDeque<Effect> = effects.into();
        while let Some(effect) = queue.pop_front() {
            match effect {
                Effect::Show(Change::Delivery(view)) => {
                    self.views.insert(view.id.clone(), *view);
                }
                Effect::Deliver(delivery) => {
                    let answer = (self.peer)(&delivery);
                    let (id, attempt) = (delivery.id.clone(), delivery.attempt);
                    self.attempts.push((self.now.since(at(Duration::ZERO)), *delivery));
                    if let Some(result) = answer {
                        let mut effects = Vec::new();
                        let mut turn = Turn::new(self.now, policy.clone(), &mut effects);
                        self.dispatch.ended(&mut turn, &id, attempt, result);
                        queue.extend(effects);
                    }
                }
                _ => {}
            }
        }
    }
}

/// An instant so long after the start of every story.
pub fn at(since_start: Duration) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000) + since_start
}

pub fn about(rule: &str, on: &str) -> NewsAbout {
    NewsAbout::Alert(key(rule, on))
}

pub fn transient(retry_after: Option<Duration>) -> DeliveryResult {
    DeliveryResult::Transient { why: "busy".to_owned(), retry_after }
}

pub fn states(bench: &Bench, receiver: &str) -> Vec<String> {
    let name = ReceiverName::from(receiver);
    bench.views.values().filter(|view| view.receiver == name).map(|view| view.state.to_string()).collect()
}
