//! What repair costs when much is sick at once: 10,000 deployments of one tier, all of them with a ladder that may not start.
//!
//! `cargo bench --bench storm`. The engine alone, on one thread: how long it takes over the instants at which they fall sick,
//! over each minute in which their runs wait, and over the one in which they get well. None of it is acted on: no step ends.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selfheal_adapter::Catalog;
use selfheal_contract::{Effect, SourceFile};
use selfheal_engine::{Engine, Input};
use selfheal_model::{Event, EventKind, Labels, Origin, Timestamp};
use selfheal_policy::Policy;

const START_MS: i64 = 1_795_000_000_000;
/// Events handed over at once.
const BATCH: usize = 1_000;

/// Upkeep is no storm: all but a few of its runs wait for other guards.
fn policy(deployments: usize, upkeep: bool) -> Arc<Policy> {
    let mut config =
        "format: 1\nadapters: { a: { type: http, base_url: \"http://127.0.0.1:9\", verbs: { restart: { path: /restart } } } }\n\
         receivers: [{ name: nobody }]\nroute: { receiver: nobody, group_by: [alertname] }\nguards: { start_grace: 0s }\ndeployments:\n"
        .to_owned();
    for n in 0..deployments {
        writeln!(config, "  - {{ id: web-{n}, adapter: a, labels: {{ tier: web }} }}").expect("a text takes it");
    }
    let rules = format!(
        "rules:\n  - {{ alert: Hot, when: 'last(\"heat\") > 80', severity: critical, routine: {upkeep}, remediate: [restart] }}\n"
    );
    let playbook = "playbook: restart\nsteps: [{ action: restart }]\n";
    let files = [("selfheal.yaml", config.as_str()), ("rules/r.yaml", rules.as_str()), ("playbooks/p.yaml", playbook)]
        .map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
    match selfheal_policy::compile(&files, &Catalog::new(".".into()), &|_| None, &|_| None) {
        Ok(policy) => Arc::new(policy),
        Err(mistakes) => panic!("{}", selfheal_contract::diagnostic::render(&mistakes, false)),
    }
}

struct Fleet {
    engine: Engine,
    now: Timestamp,
    deployments: usize,
}

impl Fleet {
    /// All say how hot they are.
    fn say(&mut self, heat: f64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for first in (0..self.deployments).step_by(BATCH) {
            let event = |n: usize| Event {
                deployment: format!("web-{n}").as_str().into(),
                time: self.now,
                kind: EventKind::Metric { name: "heat".into(), value: heat, labels: Labels::default() },
                origin: Origin::External,
            };
            let events = (first..(first + BATCH).min(self.deployments)).map(event).collect();
            self.engine.handle(self.now, Input::Events(events), &mut effects);
        }
        effects
    }

    /// A second in which nothing comes in.
    fn second(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.now = self.now + Duration::from_secs(1);
        self.engine.handle(self.now, Input::Tick, &mut effects);
        effects
    }
}

fn story(deployments: usize, what: &str, upkeep: bool) {
    let start = Timestamp::from_millis(START_MS);
    let mut fleet = Fleet { engine: Engine::new(start, policy(deployments, upkeep)).0, now: start, deployments };
    fleet.say(10.0);
    fleet.second();
    let mut longest = Duration::ZERO;
    let mut steps = 0;
    let mut timed = |what: &mut dyn FnMut() -> Vec<Effect>| {
        let began = Instant::now();
        steps += what().iter().filter(|effect| matches!(effect, Effect::StartStep(_))).count();
        longest = longest.max(began.elapsed());
        began.elapsed()
    };
    let sick = timed(&mut || fleet.say(99.0));
    let minutes: Vec<Duration> = (0..3)
        .map(|_| {
            (0..60)
                .map(
                    |second| {
                        if second % 10 == 9 { timed(&mut || fleet.say(99.0)) } else { timed(&mut || fleet.second()) }
                    },
                )
                .sum()
        })
        .collect();
    let well = timed(&mut || fleet.say(10.0));
    println!(
        "{deployments:>6} sick, {what}: falling sick {sick:.2?}, the three minutes of waiting {minutes:.2?}, getting well {well:.2?}; \
         the longest turn {longest:.2?}; {steps} steps started"
    );
}

fn main() {
    for deployments in [1_000, 10_000] {
        story(deployments, "held by the storm", false);
        story(deployments, "upkeep, held by velocity", true);
    }
}
