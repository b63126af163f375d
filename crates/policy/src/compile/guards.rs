//! `guards:`, the limits around every playbook.
//!
//! Invariant: what is read is finite: every count and every span has its bound here.

use std::time::Duration;

use smol_str::SmolStr;

use super::intervals;
use super::keys::Keys;
use super::reader::Reader;
use super::yaml::{Kind, Node};
use crate::TimeIntervals;
use crate::guards::{BreakerLimits, Flap, Freeze, Guards, Limit, MinHealthy, Mode, Override, Rate, Sensor, Storm};
use selfheal_model::units::format_duration;

/// More runs than this at a time is no limit.
pub(crate) const MAX_RUNNING: u32 = 10_000;
/// So many runs, failures or starts are remembered: a limit above it would never be reached.
const MAX_COUNT: u32 = 1_000;
/// Waits and windows: what was longer ago says nothing about now, and what waits longer is off.
pub(crate) const MAX_SPAN: Duration = Duration::from_secs(30 * 24 * 3600);
/// A fleet that is said to be smaller than this can always be looked at as a whole.
const MAX_FLEET: u32 = 10_000;
/// Verdicts that are remembered of a check.
const MAX_VERDICTS: u32 = 100;

/// What can be said of one deployment, and so in `overrides` too.
const OF_A_DEPLOYMENT: [&str; 12] = [
    "mode",
    "freeze",
    "max_event_age",
    "act_after",
    "grace",
    "dependency_hold",
    "dependency_wait",
    "recurrence",
    "per_deployment",
    "velocity",
    "blast_radius",
    "run_deadline",
];
/// What only makes sense for all of them together.
const OF_THE_ENGINE: [&str; 8] =
    ["start_grace", "sensor", "storm", "flap", "breaker", "per_playbook", "max_running", "overrides"];

/// Every mode there is, as it is written.
pub(crate) const MODES: [(&str, Mode); 3] =
    [("auto", Mode::Auto), ("approve", Mode::Approve), ("observe", Mode::Observe)];

pub(crate) fn read(reader: &Reader<'_>, intervals: &TimeIntervals, node: Option<&Node>) -> Guards {
    let mut guards = Guards::default();
    let Some(keys) = node.and_then(|node| Keys::of(reader, "guards section", node)) else { return guards };
    let read = Limits { reader, intervals, keys: &keys };
    for limit in read.of_a_deployment() {
        guards.set(limit);
    }
    guards.start_grace = read.wait("start_grace").unwrap_or(guards.start_grace);
    guards.max_running = keys.count("max_running", 1, MAX_RUNNING, guards.max_running);
    if let Some(keys) = read.map("per_playbook", "per_playbook guard") {
        guards.per_playbook = required_rate(reader, &keys).unwrap_or(guards.per_playbook);
        keys.finish(&[]);
    }
    if let Some(keys) = read.map("sensor", "sensor guard") {
        sensor(reader, &keys, &mut guards.sensor);
    }
    if let Some(keys) = read.map("storm", "storm guard") {
        storm(reader, &keys, &mut guards.storm);
    }
    if let Some(keys) = read.map("flap", "flap guard") {
        flap(reader, &keys, &mut guards.flap);
    }
    if let Some(keys) = read.map("breaker", "breaker guard") {
        breaker(reader, &keys, &mut guards.breaker);
    }
    if let Some(node) = keys.section("overrides") {
        let list = reader.list(node, "a list of overrides");
        guards.overrides = list.iter().filter_map(|node| override_(reader, intervals, guards.mode, node)).collect();
    }
    keys.finish(&[]);
    guards
}

/// `{ select: { tier: db }, mode: approve, … }`
fn override_(reader: &Reader<'_>, intervals: &TimeIntervals, of_all: Mode, node: &Node) -> Option<Override> {
    let keys = Keys::of(reader, "guards override", node)?;
    let select = keys.required("select").map(|node| reader.selector(node));
    for entry in node.entries()?.iter().filter(|entry| OF_THE_ENGINE.contains(&entry.key.as_str())) {
        let message =
            format!("`{}` holds for all deployments together, so it cannot be overridden for some", entry.key);
        let help = format!("set it in `guards` itself; an override has {}", OF_A_DEPLOYMENT.join(", "));
        reader.error_with_help(entry.key_span, "conflict", message, help);
    }
    for key in OF_THE_ENGINE {
        let _ = keys.entry_if_there(key);
    }
    let limits = Limits { reader, intervals, keys: &keys }.of_a_deployment();
    keys.finish(&[]);
    if node.entries()?.iter().all(|entry| entry.key == "select") {
        let help = format!("an override has {}", OF_A_DEPLOYMENT.join(", "));
        reader.error_with_help(node.span, "empty-value", "this override changes nothing", help);
    }
    if let (Some(Limit::Mode(mode)), Some(node)) = (limits.first(), keys.section("mode"))
        && *mode <= of_all
    {
        let message = format!("of all modes the strictest holds, and `guards` says `{}` already", of_all.as_str());
        reader.warn(node.span, "no-effect", message, None);
    }
    Some(Override { select: select??, limits })
}

/// The limits that one map says.
struct Limits<'r> {
    reader: &'r Reader<'r>,
    intervals: &'r TimeIntervals,
    keys: &'r Keys<'r>,
}

impl<'r> Limits<'r> {
    fn of_a_deployment(&self) -> Vec<Limit> {
        let (reader, keys) = (self.reader, self.keys);
        let mut limits = Vec::new();
        limits.extend(keys.get("mode").and_then(|node| reader.word(node, &MODES)).map(Limit::Mode));
        if keys.has("freeze") {
            limits.push(Limit::Freeze(self.freeze()));
        }
        limits.extend(self.span("max_event_age").map(Limit::MaxEventAge));
        limits.extend(self.wait("act_after").map(Limit::ActAfter));
        limits.extend(self.wait("grace").map(Limit::Grace));
        limits.extend(self.wait("dependency_hold").map(Limit::DependencyHold));
        limits.extend(self.wait("dependency_wait").map(Limit::DependencyWait));
        if let Some(keys) = self.map("recurrence", "recurrence guard") {
            let cured = keys.get("cured").and_then(|node| reader.count(node, 1, MAX_COUNT));
            limits.extend(cured.map(Limit::RecurrenceCured));
            limits.extend(span(reader, &keys, "within").map(Limit::RecurrenceWithin));
            keys.finish(&[]);
        }
        if let Some(keys) = self.map("per_deployment", "per_deployment guard") {
            limits.extend(required_rate(reader, &keys).map(Limit::PerDeployment));
            keys.finish(&[]);
        }
        if let Some(keys) = self.map("velocity", "velocity guard") {
            limits.extend(keys.get("disrupt").and_then(|node| rate(reader, node)).map(Limit::VelocityDisrupt));
            limits.extend(group_by(reader, &keys).map(Limit::VelocityGroupBy));
            keys.finish(&[]);
        }
        if let Some(keys) = self.map("blast_radius", "blast_radius guard") {
            limits.extend(group_by(reader, &keys).map(Limit::BlastRadiusGroupBy));
            limits.extend(keys.get("min_healthy").and_then(|node| min_healthy(reader, node)).map(Limit::MinHealthy));
            let most = keys.get("max_at_once").and_then(|node| reader.count(node, 1, MAX_RUNNING));
            limits.extend(most.map(Limit::MaxAtOnce));
            keys.finish(&[]);
        }
        limits.extend(self.span("run_deadline").map(Limit::RunDeadline));
        limits
    }

    /// Names of `time_intervals`, or intervals as they are written there.
    fn freeze(&self) -> Vec<Freeze> {
        let reader = self.reader;
        let Some(node) = self.keys.section("freeze") else { return Vec::new() };
        let one = |node: &Node| {
            if let Kind::Map(_) = node.kind {
                let read = intervals::named(reader, node)?;
                return Some(Freeze { name: read.name, times: read.times.into() });
            }
            let name = reader.text(node)?;
            let Some(times) = self.intervals.get(name.as_str()) else {
                let known = self.intervals.keys().map(SmolStr::as_str);
                reader.unknown(node.span, "unknown-interval", "time interval", &name, known);
                return None;
            };
            Some(Freeze { name: name.into(), times: times.clone().into() })
        };
        reader.list(node, "a list of names of `time_intervals`").iter().filter_map(one).collect()
    }

    /// A wait, which may be none.
    fn wait(&self, key: &'static str) -> Option<Duration> {
        let node = self.keys.get(key)?;
        bounded(self.reader, node, key)
    }

    fn span(&self, key: &'static str) -> Option<Duration> {
        span(self.reader, self.keys, key)
    }

    fn map(&self, key: &'static str, what: &'static str) -> Option<Keys<'r>> {
        self.keys.section(key).and_then(|node| Keys::of(self.reader, what, node))
    }
}

fn bounded(reader: &Reader<'_>, node: &Node, key: &str) -> Option<Duration> {
    let span = reader.duration(node)?;
    if span > MAX_SPAN {
        let message = format!("`{key}` is at most {}, not {}", format_duration(MAX_SPAN), format_duration(span));
        reader.error(node.span, "out-of-range", message);
        return None;
    }
    Some(span)
}

/// Longer than nothing: a window of 0s counts nothing, which is no limit.
fn span(reader: &Reader<'_>, keys: &Keys<'_>, key: &'static str) -> Option<Duration> {
    let node = keys.get(key)?;
    let span = bounded(reader, node, key)?;
    if span.is_zero() {
        reader.error(node.span, "out-of-range", format!("`{key}` must be longer than 0s"));
        return None;
    }
    Some(span)
}

fn rate(reader: &Reader<'_>, node: &Node) -> Option<Rate> {
    let (count, window) = reader.rate(node)?;
    if count > MAX_COUNT || window > MAX_SPAN {
        let longest = format_duration(MAX_SPAN);
        let message = format!("a guard's rate is at most {MAX_COUNT} in at most {longest}: more is no limit");
        reader.error(node.span, "out-of-range", message);
        return None;
    }
    Some(Rate { count, window })
}

fn required_rate(reader: &Reader<'_>, keys: &Keys<'_>) -> Option<Rate> {
    keys.required("rate").and_then(|node| rate(reader, node))
}

/// Labels that make a group; `[]` is one group of all.
fn group_by(reader: &Reader<'_>, keys: &Keys<'_>) -> Option<Vec<SmolStr>> {
    let node = keys.get("group_by")?;
    let labels = reader.texts(node)?;
    let good = labels.iter().all(|label| reader.label_name(label, node.span));
    good.then(|| labels.into_iter().map(SmolStr::from).collect())
}

fn min_healthy(reader: &Reader<'_>, node: &Node) -> Option<MinHealthy> {
    let text = reader.text(node)?;
    match (reader.ratio(&text), text.parse::<u32>()) {
        (Some(ratio), _) => Some(MinHealthy::Ratio(ratio)),
        (None, Ok(count)) => Some(MinHealthy::Count(count)),
        _ => {
            reader.wrong_type(node, "a part such as 50%, or a number of deployments");
            None
        }
    }
}

/// More than nothing, at most all.
fn part(reader: &Reader<'_>, keys: &Keys<'_>, key: &'static str, default: f64) -> f64 {
    let Some(node) = keys.get(key) else { return default };
    let Some(text) = reader.text(node) else { return default };
    let part = reader.ratio(&text).filter(|part| *part > 0.0);
    if part.is_none() {
        reader.wrong_type(node, "a part of more than 0%, such as 80%");
    }
    part.unwrap_or(default)
}

fn sensor(reader: &Reader<'_>, keys: &Keys<'_>, guard: &mut Sensor) {
    guard.sick = part(reader, keys, "sick", guard.sick);
    guard.of_at_least = keys.count("of_at_least", 2, MAX_FLEET, guard.of_at_least);
    guard.within = span(reader, keys, "within").unwrap_or(guard.within);
    keys.finish(&[]);
}

fn storm(reader: &Reader<'_>, keys: &Keys<'_>, guard: &mut Storm) {
    guard.ladders = keys.get("ladders").and_then(|node| rate(reader, node)).unwrap_or(guard.ladders);
    guard.cool_down = span(reader, keys, "cool_down").unwrap_or(guard.cool_down);
    keys.finish(&[]);
}

fn flap(reader: &Reader<'_>, keys: &Keys<'_>, guard: &mut Flap) {
    guard.start = part(reader, keys, "start", guard.start);
    guard.stop = part(reader, keys, "stop", guard.stop);
    guard.of = keys.count("of", 2, MAX_VERDICTS, guard.of);
    keys.finish(&[]);
    if guard.stop >= guard.start
        && let Some(node) = keys.section("stop").or_else(|| keys.section("start"))
    {
        let percent = |part: f64| format!("{}%", part * 100.0);
        let message = format!(
            "`stop` must be less than `start`: a check that began to flap at {} would never end to at {}",
            percent(guard.start),
            percent(guard.stop)
        );
        reader.error(node.span, "conflict", message);
    }
}

fn breaker(reader: &Reader<'_>, keys: &Keys<'_>, guard: &mut BreakerLimits) {
    guard.failures = keys.count("failures", 1, MAX_COUNT, guard.failures);
    guard.deployments = keys.count("deployments", 1, MAX_COUNT, guard.deployments);
    guard.within = span(reader, keys, "within").unwrap_or(guard.within);
    guard.probe_after = span(reader, keys, "probe_after").unwrap_or(guard.probe_after);
    keys.finish(&[]);
    if guard.deployments > guard.failures
        && let Some(node) = keys.section("failures").or_else(|| keys.section("deployments"))
    {
        let message = format!(
            "`failures: {}` says nothing: the breaker opens after failures on `deployments: {}` different ones",
            guard.failures, guard.deployments
        );
        reader.warn(node.span, "no-effect", message, None);
    }
}
