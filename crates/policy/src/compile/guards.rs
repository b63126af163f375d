//! `guards:`, the limits around every playbook.
//!
//! Invariant: what is read is finite: every count and every span has its bound here.

use std::time::Duration;

use smol_str::SmolStr;

use super::intervals;
use super::keys::Keys;
use super::reader::Reader;
use super::yaml::{Entry, Kind, Node};
use crate::TimeIntervals;
use crate::guards::{BreakerLimits, Flap, Freeze, Guards, Limit, MinHealthy, Mode, Override, Rate, Sensor, Storm};
use crate::schema;
use selfheal_model::units::format_duration;

/// Waits and windows: what was longer ago says nothing about now, and what waits longer is off.
pub(crate) const MAX_SPAN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Every mode there is, as it is written.
pub(crate) const MODES: [(&str, Mode); 3] =
    [("auto", Mode::Auto), ("approve", Mode::Approve), ("observe", Mode::Observe)];

pub(crate) fn read(reader: &Reader<'_>, intervals: &TimeIntervals, node: Option<&Node>) -> Guards {
    let mut guards = Guards::default();
    let Some(keys) = node.and_then(|node| Keys::of(reader, &schema::GUARDS, node)) else { return guards };
    let read = Limits { reader, intervals, keys: &keys };
    for limit in read.of_a_deployment() {
        guards.set(limit);
    }
    guards.start_grace = read.wait("start_grace").unwrap_or(guards.start_grace);
    guards.max_running = keys.count("max_running");
    if let Some(keys) = read.map("per_playbook", &schema::PER_PLAYBOOK) {
        guards.per_playbook = required_rate(reader, &keys).unwrap_or(guards.per_playbook);
    }
    if let Some(keys) = read.map("sensor", &schema::SENSOR) {
        sensor(reader, &keys, &mut guards.sensor);
    }
    if let Some(keys) = read.map("storm", &schema::STORM) {
        storm(reader, &keys, &mut guards.storm);
    }
    if let Some(keys) = read.map("flap", &schema::FLAP) {
        flap(reader, &keys, &mut guards.flap);
    }
    if let Some(keys) = read.map("breaker", &schema::BREAKER) {
        breaker(reader, &keys, &mut guards.breaker);
    }
    if let Some(node) = keys.section("overrides") {
        let list = reader.list(node, "a list of overrides");
        guards.overrides = list.iter().filter_map(|node| override_(reader, intervals, guards.mode, node)).collect();
    }
    guards
}

/// `{ select: { tier: db }, mode: approve, … }`
fn override_(reader: &Reader<'_>, intervals: &TimeIntervals, mode_of_all: Mode, node: &Node) -> Option<Override> {
    let is_of_all = |entry: &Entry| schema::GUARDS.find(&entry.key).is_some();
    let keys = Keys::except(reader, &schema::GUARDS_OVERRIDE, node, is_of_all)?;
    let select = keys.get("select").map(|node| reader.selector(node));
    let own = || schema::GUARDS_OVERRIDE.names().filter(|name| *name != "select").collect::<Vec<_>>().join(", ");
    let of_all = |entry: &&Entry| is_of_all(entry) && schema::GUARDS_OVERRIDE.find(&entry.key).is_none();
    for entry in node.entries()?.iter().filter(of_all) {
        let message =
            format!("`{}` holds for all deployments together, so it cannot be overridden for some", entry.key);
        let help = format!("set it in `guards` itself; an override has {}", own());
        reader.error_with_help(entry.key_span, "conflict", message, help);
    }
    let limits = Limits { reader, intervals, keys: &keys }.of_a_deployment();
    if node.entries()?.iter().all(|entry| entry.key == "select") {
        let help = format!("an override has {}", own());
        reader.error_with_help(node.span, "empty-value", "this override changes nothing", help);
    }
    if let (Some(Limit::Mode(mode)), Some(node)) = (limits.first(), keys.section("mode"))
        && *mode <= mode_of_all
    {
        let message = format!("of all modes the strictest holds, and `guards` says `{}` already", mode_of_all.as_str());
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
        limits.extend(keys.word("mode", &MODES).map(Limit::Mode));
        if keys.entry("freeze").is_some() {
            limits.push(Limit::Freeze(self.freeze()));
        }
        limits.extend(self.span("max_event_age").map(Limit::MaxEventAge));
        limits.extend(self.wait("act_after").map(Limit::ActAfter));
        limits.extend(self.wait("grace").map(Limit::Grace));
        limits.extend(self.wait("dependency_hold").map(Limit::DependencyHold));
        limits.extend(self.wait("dependency_wait").map(Limit::DependencyWait));
        if let Some(keys) = self.map("recurrence", &schema::RECURRENCE) {
            let cured = keys.count_if_written("cured");
            limits.extend(cured.map(Limit::RecurrenceCured));
            limits.extend(span(reader, &keys, "within").map(Limit::RecurrenceWithin));
        }
        if let Some(keys) = self.map("per_deployment", &schema::PER_DEPLOYMENT) {
            limits.extend(required_rate(reader, &keys).map(Limit::PerDeployment));
        }
        if let Some(keys) = self.map("velocity", &schema::VELOCITY) {
            limits.extend(keys.get("disrupt").and_then(|node| rate(reader, node)).map(Limit::VelocityDisrupt));
            limits.extend(group_by(reader, &keys).map(Limit::VelocityGroupBy));
        }
        if let Some(keys) = self.map("blast_radius", &schema::BLAST_RADIUS) {
            limits.extend(group_by(reader, &keys).map(Limit::BlastRadiusGroupBy));
            limits.extend(keys.get("min_healthy").and_then(|node| min_healthy(reader, node)).map(Limit::MinHealthy));
            let most = keys.count_if_written("max_at_once");
            limits.extend(most.map(Limit::MaxAtOnce));
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

    fn map(&self, key: &'static str, section: &'static schema::Section) -> Option<Keys<'r>> {
        self.keys.section(key).and_then(|node| Keys::of(self.reader, section, node))
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
    if count > schema::MAX_COUNT || window > MAX_SPAN {
        let longest = format_duration(MAX_SPAN);
        let message = format!("a guard's rate is at most {} in at most {longest}: more is no limit", schema::MAX_COUNT);
        reader.error(node.span, "out-of-range", message);
        return None;
    }
    Some(Rate { count, window })
}

fn required_rate(reader: &Reader<'_>, keys: &Keys<'_>) -> Option<Rate> {
    keys.get("rate").and_then(|node| rate(reader, node))
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
    guard.of_at_least = keys.count("of_at_least");
    guard.within = span(reader, keys, "within").unwrap_or(guard.within);
}

fn storm(reader: &Reader<'_>, keys: &Keys<'_>, guard: &mut Storm) {
    guard.ladders = keys.get("ladders").and_then(|node| rate(reader, node)).unwrap_or(guard.ladders);
    guard.cool_down = span(reader, keys, "cool_down").unwrap_or(guard.cool_down);
}

fn flap(reader: &Reader<'_>, keys: &Keys<'_>, guard: &mut Flap) {
    guard.start = part(reader, keys, "start", guard.start);
    guard.stop = part(reader, keys, "stop", guard.stop);
    guard.of = keys.count("of");
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
    guard.failures = keys.count("failures");
    guard.deployments = keys.count("deployments");
    guard.within = span(reader, keys, "within").unwrap_or(guard.within);
    guard.probe_after = span(reader, keys, "probe_after").unwrap_or(guard.probe_after);
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
