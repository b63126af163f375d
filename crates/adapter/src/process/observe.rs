//! Looking at a deployment's replicas: facts, samples, and the verbs that only read.

use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Map, json};
use tokio::time::Instant;

use super::state::{Managed, Running};
use super::system::{self, Member, Table};
use super::target::{Ready, Target};
use super::{Shared, logs, releases, replica};
use crate::Redactor;
use selfheal_contract::Observation;
use selfheal_model::{Facts, Labels, MetricName, Outcome, Replica, Value};

/// How long a replica may take to say that it is ready when it is looked at. Looks come every two seconds.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// Lines of log in `diagnose`, for each replica.
const DIAGNOSE_LINES: usize = 3;

struct Seen {
    index: u32,
    running: Option<Running>,
    members: Vec<Member>,
    up: bool,
    ready: bool,
}

impl Seen {
    fn resident_bytes(&self) -> u64 {
        self.members.iter().map(|member| member.resident_bytes).sum()
    }

    fn age(&self) -> Option<f64> {
        self.running.as_ref().filter(|_| self.up).and_then(|running| system::age(running.start))
    }
}

/// Facts, replicas and samples of this moment. Also keeps the rhythm of what needs one: the history of versions and
/// the size of the logs.
pub async fn observe(shared: &Shared, managed: &Managed, target: &Target) -> Observation {
    note_version(managed, target);
    for index in managed.read(|state| state.running.keys().copied().collect::<Vec<_>>()) {
        let log = logs::path(&managed.dir, index);
        if let Err(error) = logs::cut_if_large(&log) {
            tracing::warn!(deployment = %managed.id, log = %log.display(), %error, "a large log could not be cut");
        }
    }
    let seen = look(shared, managed, target, &shared.table()).await;
    let state = managed.read(Clone::clone);
    let mut metrics = Vec::new();
    let mut over_memory = false;
    {
        let (mut meter, now) = (managed.meter.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        for one in &seen {
            let Some(running) = one.running.as_ref().filter(|_| one.up) else {
                meter.forget(one.index);
                continue;
            };
            let labels: Labels = [("replica", one.index.to_string())].into_iter().collect();
            let bytes = one.resident_bytes();
            let ticks = one.members.iter().map(|member| member.cpu_ticks).sum();
            let is_over = state.memory.is_some_and(|limit| bytes > limit);
            let reading = meter.sample(one.index, running.incarnation, ticks, is_over, now);
            over_memory |= reading.over_memory;
            let mut push = |name: &str, value: f64| metrics.push((MetricName::new(name), value, labels.clone()));
            push("memory_bytes", bytes as f64);
            if let Some(limit) = state.memory.filter(|limit| *limit > 0) {
                push("memory_percent", 100.0 * bytes as f64 / limit as f64);
            }
            if let Some(percent) = reading.cpu_percent {
                push("cpu_percent", percent);
            }
        }
    }
    let mut facts = Facts::default();
    facts.set("replicas", state.replicas);
    facts.set("ready_replicas", seen.iter().filter(|one| one.ready && one.index < state.replicas).count());
    facts.set("min_replicas", target.min_replicas);
    facts.set("max_replicas", target.max_replicas);
    facts.set("restarts", state.restarts);
    if let Some(version) = releases::current(&target.dir) {
        facts.set("version", version);
        let there = releases::versions(&target.dir);
        if let Some(previous) = state.previous_version(|version| there.iter().any(|known| known == version)) {
            facts.set("previous_version", previous);
        }
    }
    if let Some(uptime) = seen.iter().filter_map(Seen::age).min_by(f64::total_cmp) {
        facts.set("uptime", uptime);
    }
    if let Some(limit) = state.memory {
        facts.set("memory_limit", limit);
        facts.set("over_memory", over_memory);
    }
    if let Some((_, Some(available))) = system::memory() {
        facts.set("memory_available", available);
    }
    let replicas = seen.iter().map(Seen::replica).collect();
    Observation { facts, replicas, metrics }
}

impl Seen {
    fn replica(&self) -> Replica {
        let running = self.running.as_ref();
        Replica {
            index: self.index,
            port: running.and_then(|running| running.port),
            pid: running.filter(|_| self.up).and_then(|running| running.pid),
            up: self.up,
            incarnation: running.map_or(0, |running| running.incarnation),
        }
    }
}

/// Remembers a version that somebody else switched to.
pub fn note_version(managed: &Managed, target: &Target) {
    let Some(version) = releases::current(&target.dir) else { return };
    if managed.read(|state| state.history.last() == Some(&version)) {
        return;
    }
    if let Err(error) = managed.change(|state| state.saw_version(&version)) {
        tracing::warn!(deployment = %managed.id, %error, "a new version could not be remembered");
    }
}

/// Every replica that is wanted or was started, in order.
async fn look(shared: &Shared, managed: &Managed, target: &Target, table: &Table) -> Vec<Seen> {
    let (wanted, running) = managed.read(|state| (state.replicas, state.running.clone()));
    let last = running.keys().next_back().map_or(0, |index| index + 1);
    let looks = (0..wanted.max(last)).filter(|index| *index < wanted || running.contains_key(index)).map(|index| {
        let running = running.get(&index).cloned();
        async move {
            let up = running.as_ref().is_some_and(Running::is_alive);
            let members = match &running {
                Some(running) if up => {
                    running.identity().map_or(&[][..], |identity| table.session(identity.pid)).to_vec()
                }
                _ => Vec::new(),
            };
            let ready = match &running {
                Some(running) if up => is_ready(shared, target, index, running).await,
                _ => false,
            };
            Seen { index, running, members, up, ready }
        }
    });
    join_all(looks).await
}

async fn is_ready(shared: &Shared, target: &Target, index: u32, running: &Running) -> bool {
    match replica::filled(target, index, running) {
        Ok(Ready::After(span)) => system::age(running.start).is_some_and(|age| age >= span.as_secs_f64()),
        Ok(asked) => replica::probe(&shared.context.http, &asked, READY_WITHIN).await.is_ok(),
        Err(_) => false,
    }
}

/// The last lines of every replica's log, each with the same share of what an output may hold.
pub fn logs_of(managed: &Managed, redactor: &Redactor, lines: usize) -> String {
    let indices: Vec<u32> = managed.read(|state| state.running.keys().copied().collect());
    if indices.is_empty() {
        return "no replica was ever started".to_owned();
    }
    let share = Outcome::MAX_OUTPUT / indices.len();
    let parts: Vec<String> = indices
        .iter()
        .map(|index| {
            let heading = format!("== replica {index} ==\n");
            let tail = logs::tail(&logs::path(&managed.dir, *index), lines)
                .unwrap_or_else(|error| format!("(its log cannot be read: {error})"));
            // masked before it is cut, or half a secret could stay
            let tail = redactor.text(&tail);
            let room = share.saturating_sub(heading.len() + 1);
            let from = tail.ceil_char_boundary(tail.len().saturating_sub(room));
            let kept = &tail[from..];
            let whole = if from > 0 { kept.split_once('\n').map_or(kept, |(_, rest)| rest) } else { kept };
            format!("{heading}{whole}")
        })
        .collect();
    parts.join("\n")
}

/// Everything that is known of every replica, for people.
pub async fn diagnose(shared: &Shared, managed: &Managed, target: &Target) -> Value {
    let seen = look(shared, managed, target, &Table::read()).await;
    let state = managed.read(Clone::clone);
    let replicas: Vec<Value> = seen
        .iter()
        .map(|one| {
            let running = one.running.as_ref();
            let tail = logs::tail(&logs::path(&managed.dir, one.index), DIAGNOSE_LINES).unwrap_or_default();
            json!({
                "replica": one.index,
                "up": one.up,
                "ready": one.ready,
                "pid": running.and_then(|running| running.pid),
                "port": running.and_then(|running| running.port),
                "version": running.and_then(|running| running.version.clone()),
                "incarnation": running.map(|running| running.incarnation),
                "started_at": running.map(|running| running.started_at),
                "ended": running.and_then(|running| running.ended.clone()),
                "memory_bytes": one.resident_bytes(),
                "processes": one.members.len(),
                "threads": one.members.iter().map(|member| member.threads).sum::<u64>(),
                "log": tail,
            })
        })
        .collect();
    let mut summary = Map::new();
    summary.insert("replicas_wanted".to_owned(), json!(state.replicas));
    summary.insert("restarts".to_owned(), json!(state.restarts));
    summary.insert("memory_limit".to_owned(), json!(state.memory));
    summary.insert("version".to_owned(), json!(releases::current(&target.dir)));
    summary.insert("versions".to_owned(), json!(releases::versions(&target.dir)));
    summary.insert("history".to_owned(), json!(state.history));
    // values may be secret, names are not
    summary.insert("configured".to_owned(), json!(state.env.keys().collect::<Vec<_>>()));
    summary.insert("replicas".to_owned(), Value::Array(replicas));
    Value::Object(summary)
}
