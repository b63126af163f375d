//! Answers what scripts ask, for one scope at one instant, and notes how new what they read is and when it next
//! changes by itself.
//!
//! Invariant: an answer is a function of the state, the scope, the cut and the instant. As long as nothing comes in, it
//! stays the same until the instant noted.

mod metrics;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use smol_str::SmolStr;

use super::CHECK_UP;
use super::checks::CheckState;
use super::plan::Plan;
use super::series::Series;
use super::signals::Signal;
use super::subject::Subject;
use super::windows::{Total, changes};
use selfheal_model::{DeploymentId, Health, Labels, OWN_DEPLOYMENT, RuleName, Timestamp, Value, Zone};
use selfheal_script::{Evidence, Func, Read, Reading};

/// How often what grows by itself (an age) is looked at again.
const TICK: Duration = Duration::from_secs(1);
/// Series or deployments an error names.
const NAMED: usize = 5;
/// Gaps remembered; an age that spans more of them counts the shortest as watched.
const MAX_GAPS: usize = 64;

/// What all scopes share.
pub(super) struct World {
    /// Nobody watched before this: the start, or the end of the last gap.
    pub watched_since: Timestamp,
    /// Spans in which nobody watched, oldest first; they count in no age.
    pub gaps: VecDeque<(Timestamp, Timestamp)>,
    /// Alerts that count for `firing(rule)`.
    pub firing: BTreeMap<RuleName, BTreeSet<Labels>>,
    pub plan: Plan,
    /// The wall clock, by which events say when, is so far ahead of the engine's time.
    pub offset_ms: i64,
    pub deaf: Deafness,
}

/// Why what is sent here is refused for now: its silence means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) enum Deaf {
    /// Nothing can be written down.
    Storage,
    /// More comes in than is taken.
    Shedding,
}

/// All reasons there are now, and since when there is one.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Deafness {
    because: BTreeSet<Deaf>,
    since: Option<Timestamp>,
}

impl World {
    pub fn new(start: Timestamp) -> Self {
        World {
            watched_since: start,
            gaps: VecDeque::new(),
            firing: BTreeMap::new(),
            plan: Plan::default(),
            offset_ms: 0,
            deaf: Deafness::default(),
        }
    }

    /// A reason for which what is sent is refused comes or goes. Whether that makes a difference.
    pub fn hears(&mut self, now: Timestamp, deaf: Deaf, hears: bool) -> bool {
        let was_deaf = self.deaf.since;
        if hears {
            self.deaf.because.remove(&deaf);
        } else {
            self.deaf.because.insert(deaf);
        }
        let is_deaf = !self.deaf.because.is_empty();
        self.deaf.since = is_deaf.then(|| was_deaf.unwrap_or(now));
        if let Some(since) = was_deaf.filter(|_| !is_deaf) {
            self.gap(since, now);
        }
        was_deaf.is_some() != is_deaf
    }

    /// Since when what is sent is refused, if it is.
    pub fn deaf_since(&self) -> Option<Timestamp> {
        self.deaf.since
    }

    /// Whether something whose newest sample is this one may have been refused.
    fn hides(&self, newest: Option<Timestamp>) -> bool {
        self.deaf.since.is_some_and(|since| newest.is_none_or(|newest| newest <= since))
    }

    /// Spans in which nobody watched, the present one too. In no order: a gap may lie within it.
    fn unwatched(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        self.gaps.iter().copied().chain(self.deaf.since.map(|since| (since, now)))
    }

    /// Nobody watches between the two.
    pub fn gap(&mut self, from: Timestamp, to: Timestamp) {
        self.watched_since = self.watched_since.max(to);
        let (mut from, mut to) = (from, to);
        // one within another counts once
        while let Some((begin, end)) = self.gaps.pop_back_if(|(_, end)| from <= *end) {
            (from, to) = (from.min(begin), to.max(end));
        }
        if from < to {
            self.gaps.push_back((from, to));
        }
        if self.gaps.len() > MAX_GAPS {
            let length = |(_, (from, to)): &(usize, &(Timestamp, Timestamp))| to.since(*from);
            let shortest = self.gaps.iter().enumerate().min_by_key(length).map(|(place, _)| place);
            shortest.map(|place| self.gaps.remove(place));
        }
    }

    /// What the wall clock shows.
    pub fn wall(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_add(self.offset_ms))
    }

    /// When the wall clock will show that.
    fn at_wall(&self, wall: Timestamp) -> Timestamp {
        if wall == Timestamp::MAX {
            wall
        } else {
            Timestamp::from_millis(wall.as_millis().saturating_sub(self.offset_ms))
        }
    }

    /// The watched time from `at` to `now`, in seconds: it stands still in gaps.
    fn watched(&self, at: Timestamp, now: Timestamp) -> f64 {
        seen(self.unwatched(now).collect(), at, now)
    }

    /// As [`World::watched`]; it also stands still while a source of the deployment fails.
    fn age(&self, subject: &Subject, at: Timestamp, now: Timestamp) -> f64 {
        seen(self.unwatched(now).chain(subject.sight.blind(now)).collect(), at, now)
    }
}

/// The seconds from `at` to `now` that lie in none of the spans.
fn seen(mut spans: Vec<(Timestamp, Timestamp)>, at: Timestamp, now: Timestamp) -> f64 {
    let (mut unseen, mut up_to) = (Duration::ZERO, at);
    spans.sort_unstable();
    for (from, to) in spans {
        unseen += to.min(now).since(from.max(up_to));
        up_to = up_to.max(to);
    }
    now.since(at).saturating_sub(unseen).as_secs_f64()
}

/// Reads for one scope.
pub(super) struct Reader<'a> {
    pub now: Timestamp,
    /// Only what came after this is seen.
    pub cut: Option<Timestamp>,
    pub world: &'a World,
    /// The deployments of the scope, in order.
    pub members: Vec<&'a Subject>,
    /// The scope's labels.
    pub scope: &'a Labels,
    /// The labels scripts see.
    pub labels: &'a Labels,
    /// The rule that asks: it does not see signals its own runs made.
    pub viewer: Option<&'a RuleName>,
    /// Since when that rule is there.
    pub rule_since: Timestamp,
    pub seen: Seen,
}

/// What an evaluation found out beside its answer.
#[derive(Debug)]
pub(super) struct Seen {
    newest: Cell<Option<Timestamp>>,
    next: Cell<Option<Timestamp>>,
    operations: Cell<u64>,
    blind: Cell<bool>,
    unseen_until: Cell<Option<Timestamp>>,
}

impl Seen {
    pub fn nothing() -> Self {
        Seen {
            newest: Cell::new(None),
            next: Cell::new(None),
            operations: Cell::new(0),
            blind: Cell::new(false),
            unseen_until: Cell::new(None),
        }
    }

    /// The instant of the newest evidence that was read.
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest.get()
    }

    /// Whether something that was read may have gone on unseen, because a source fails.
    pub fn is_blind(&self) -> bool {
        self.blind.get()
    }

    /// Something is missing where nobody watched for part of the time it could have come in: until then that it is missing
    /// means nothing.
    pub fn unseen_until(&self) -> Option<Timestamp> {
        self.unseen_until.get()
    }

    /// What it took: the scripts' operations, and one for each deployment looked at in each read.
    pub fn operations(&self) -> u64 {
        self.operations.get()
    }

    /// When passing time may next change an answer.
    pub fn next(&self) -> Option<Timestamp> {
        self.next.get()
    }
}

impl Evidence for Reader<'_> {
    fn spent(&self, operations: u64) {
        self.seen.operations.set(self.seen.operations.get().saturating_add(operations));
    }

    fn read(&self, read: &Read) -> Result<Reading, String> {
        self.spent(self.members.len() as u64);
        let answer = self.answer(read);
        if let Ok(Reading::Missing) = answer {
            self.note_unseen(read);
        }
        answer
    }
}

impl<'a> Reader<'a> {
    fn answer(&self, read: &Read) -> Result<Reading, String> {
        match read.func {
            Func::Last | Func::Age => self.newest_value(read),
            Func::Absent => self.absent(read),
            Func::Avg
            | Func::Min
            | Func::Max
            | Func::Sum
            | Func::Count
            | Func::Stddev
            | Func::P50
            | Func::P90
            | Func::P95
            | Func::P99
            | Func::Rate
            | Func::Increase
            | Func::Delta
            | Func::Changes
            | Func::Slope
            | Func::Zscore
            | Func::First
            | Func::Quantile
            | Func::Predict
            | Func::TimeTo
            | Func::History => self.window(read),
            Func::Status
            | Func::Healthy
            | Func::Unhealthy
            | Func::Failures
            | Func::Successes
            | Func::Reason
            | Func::Latency => self.check(read),
            Func::Flaps => Ok(self.flaps(read)),
            Func::SuccessRate => Ok(self.success_rate(read)),
            Func::Signal => Ok(self.count_signals(read)),
            Func::SignalAge => Ok(self.signal_age(read)),
            Func::SignalField => Ok(self.signal_field(read)),
            Func::Open => Ok(self.open(read)),
            Func::Label => Ok(self.label(&read.subject)),
            Func::Fact => self.fact(read),
            Func::Firing => Ok(self.firing(&read.subject)),
            Func::Hour | Func::Weekday | Func::InInterval => self.clock(read),
            Func::Deployments => Ok(self.deployments()),
        }
    }

    /// selfheal is no part of the fleet it watches, unless it is all there is of the scope or the policy lists it.
    fn deployments(&self) -> Reading {
        let is_own = |member: &&&Subject| member.id.as_str() == OWN_DEPLOYMENT && member.listed.is_none();
        let own = self.members.iter().filter(is_own).count();
        let others = self.members.len() - own;
        Reading::Number(if others == 0 { own } else { others } as f64)
    }

    /// What is missing could have come while nobody watched, for as long as that lies within what is looked back over.
    fn note_unseen(&self, read: &Read) {
        if self.world.deaf_since().is_some() {
            return self.seen.blind.set(true);
        }
        let of_check = || self.members.iter().filter_map(|member| member.checks.get(&read.subject));
        let newest =
            || self.longest_stale_after().max(of_check().map(CheckState::stale_after).max().unwrap_or_default());
        let until = self.world.watched_since + read.window.unwrap_or_else(newest);
        if until > self.now {
            let known = self.seen.unseen_until.get();
            self.seen.unseen_until.set(Some(known.map_or(until, |known| known.max(until))));
        }
    }

    fn note(&self, at: Timestamp) {
        self.seen.newest.set(Some(self.seen.newest.get().map_or(at, |newest| newest.max(at))));
    }

    /// The answer may be another one at that instant.
    fn changes_at(&self, at: Timestamp) {
        if at > self.now && at < Timestamp::MAX {
            self.seen.next.set(Some(self.seen.next.get().map_or(at, |next| next.min(at))));
        }
    }

    fn tick(&self) {
        self.changes_at(self.now + TICK);
    }

    /// What lies at or before this is not seen.
    fn edge(&self, window: Duration) -> Timestamp {
        (self.now - window).max(self.cut.unwrap_or(Timestamp::MIN))
    }

    /// Of what is said of the whole scope: the longest of its deployments'.
    fn longest_stale_after(&self) -> Duration {
        self.members.iter().map(|member| member.stale_after).max().unwrap_or_default()
    }

    fn after_cut(&self, at: Timestamp) -> bool {
        self.cut.is_none_or(|cut| at > cut)
    }

    /// Whether silence over the window means something; else notes when it will. Before that instant it is only
    /// that nobody listened.
    fn watched_for(&self, window: Duration) -> Option<Timestamp> {
        // while a source of one fails nobody can say; when that ends, the rule is asked again
        let clear = self.members.iter().map(|subject| subject.sight.clear_since()).collect::<Option<Vec<_>>>()?;
        self.listened_for(window, clear.into_iter().max())
    }

    /// As [`Reader::watched_for`], of what is sent and not fetched; and perhaps not before another instant.
    fn listened_for(&self, window: Duration, also: Option<Timestamp>) -> Option<Timestamp> {
        if self.world.deaf_since().is_some() {
            return None;
        }
        let known = self.members.iter().map(|subject| subject.known_since).max();
        let since = [Some(self.world.watched_since), Some(self.rule_since), known, self.cut, also];
        let full = since.into_iter().flatten().max().unwrap_or(self.now) + window;
        self.changes_at(full);
        (full <= self.now).then_some(full)
    }

    /// The one deployment of the scope that knows the check.
    fn check_of(&self, read: &Read) -> Result<Option<(&'a Subject, &'a CheckState)>, String> {
        let with = |subject: &'a Subject| subject.checks.get(&read.subject).map(|check| (subject, check));
        let found: Vec<_> = self.members.iter().copied().filter_map(with).collect();
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            many => Err(several("check", &read.subject, many.iter().map(|(subject, _)| &subject.id))),
        }
    }

    fn check(&self, read: &Read) -> Result<Reading, String> {
        let Some((subject, check)) = self.check_of(read)? else { return Ok(Reading::Missing) };
        for place in check.read(self.now, self.cut) {
            for at in place.latest.map(|latest| latest.at).into_iter().chain(place.sure_at) {
                self.note(at);
                self.changes_at(at + check.stale_after());
            }
        }
        let newest = check.read(self.now, self.cut).filter_map(|place| place.latest.map(|latest| latest.at)).max();
        if newest.is_some() && self.world.hides(newest) {
            self.seen.blind.set(true);
        }
        let healthy_when = subject.checks.healthy_when();
        let smoothed = || check.health(self.now, self.cut, healthy_when);
        let runs = |healthy: bool| {
            let ran = check.read(self.now, self.cut).filter_map(move |place| {
                let status = place.run.status?;
                Some(if (status == selfheal_model::CheckStatus::Healthy) == healthy { place.run.length } else { 0 })
            });
            // the longest run of failures of any replica; of successes what all of them have
            if healthy { ran.min() } else { ran.max() }
        };
        Ok(match read.func {
            Func::Status => match check.raw(self.now, self.cut, healthy_when) {
                Health::Unknown => Reading::Missing,
                known => Reading::Text(known.as_str().into()),
            },
            Func::Healthy => verdict(smoothed(), Health::Healthy),
            Func::Unhealthy => verdict(smoothed(), Health::Unhealthy),
            Func::Reason => {
                let reasons = check.read(self.now, self.cut).filter_map(|place| place.latest?.reason);
                reasons.map(|reason| Reading::Text(reason.as_str().into())).next().unwrap_or(Reading::Missing)
            }
            // the slowest replica's
            Func::Latency => {
                let latencies = check.read(self.now, self.cut).filter_map(|place| place.latest?.latency_ms);
                number(latencies.reduce(f64::max))
            }
            Func::Failures => number(runs(false).map(f64::from)),
            _ => number(runs(true).map(f64::from)),
        })
    }

    /// The series of a check's verdicts, by replica.
    fn verdicts<'s>(&'s self, check: &'s str) -> impl Iterator<Item = &'a Series> + 's {
        let of_check = move |member: &'a Subject| {
            member.series.of(CHECK_UP).filter(move |(labels, _)| {
                // what each name server of a dns check said is no verdict of the check
                labels.get("check") == Some(check) && labels.get("server").is_none()
            })
        };
        self.members.iter().copied().flat_map(of_check).map(|(_, series)| series)
    }

    fn success_rate(&self, read: &Read) -> Reading {
        let window = read.window.unwrap_or_default();
        let mut all = Total::default();
        for series in self.verdicts(&read.subject) {
            self.samples(series, window).for_each(|sample| all.add(sample.value));
        }
        number(all.average())
    }

    fn flaps(&self, read: &Read) -> Reading {
        let window = read.window.unwrap_or_default();
        let each = self.verdicts(&read.subject).filter_map(|series| changes(self.samples(series, window)));
        number(each.reduce(|all, one| all + one))
    }

    /// The scope's signals of a name after an edge, newest first within each deployment.
    fn signals<'s>(&'s self, name: &'s str, edge: Timestamp) -> impl Iterator<Item = &'a Signal> + 's {
        self.members.iter().copied().flat_map(move |member| member.signals.of(name, edge, self.viewer))
    }

    fn newest_signal(&self, name: &str) -> Option<&'a Signal> {
        let edge = self.cut.unwrap_or(Timestamp::MIN);
        // within a deployment the newest comes first, and of equals the first one stands
        let newest = self.signals(name, edge).reduce(|newest, other| if other.at > newest.at { other } else { newest });
        if let Some(newest) = newest {
            self.note(newest.at);
        }
        newest
    }

    fn count_signals(&self, read: &Read) -> Reading {
        let window = read.window.unwrap_or_default();
        let mut count = 0_u32;
        for signal in self.signals(&read.subject, self.edge(window)) {
            count += 1;
            self.note(signal.at);
            self.changes_at(signal.at + window);
        }
        match count {
            0 => number(self.listened_for(window, None).map(|_| 0.0)),
            count => number(Some(f64::from(count))),
        }
    }

    fn signal_age(&self, read: &Read) -> Reading {
        let Some(newest) = self.newest_signal(&read.subject) else { return Reading::Missing };
        self.tick();
        // signals are sent, not fetched: a source that fails says nothing about them
        number(Some(self.world.watched(newest.at, self.now)))
    }

    fn signal_field(&self, read: &Read) -> Reading {
        let Some(newest) = self.newest_signal(&read.subject) else { return Reading::Missing };
        let stale_at = newest.at + self.longest_stale_after();
        self.changes_at(stale_at);
        let field = read.other.as_ref().and_then(|key| newest.fields.get(key.as_str()));
        field.filter(|_| stale_at > self.now).map_or(Reading::Missing, reading)
    }

    fn open(&self, read: &Read) -> Reading {
        let opened = self.newest_signal(&read.subject).map(|signal| signal.at);
        let closed = read.other.as_ref().and_then(|name| self.newest_signal(name)).map(|signal| signal.at);
        match (opened, closed) {
            // after a cut, that neither came says nothing
            (None, None) if self.cut.is_some() => Reading::Missing,
            (opened, closed) => Reading::Bool(opened > closed),
        }
    }

    fn label(&self, name: &str) -> Reading {
        let own = || match self.members.as_slice() {
            [one] => one.labels.get(name),
            _ => None,
        };
        let value = self.scope.get(name).or_else(|| self.labels.get(name)).or_else(own);
        value.map_or(Reading::Missing, |value| Reading::Text(value.into()))
    }

    fn fact(&self, read: &Read) -> Result<Reading, String> {
        let mut found: Vec<(&Subject, &Value)> = Vec::new();
        for member in self.members.iter().copied() {
            let Some(at) = member.observed.at.filter(|at| self.after_cut(*at) && *at + member.stale_after > self.now)
            else {
                continue;
            };
            if let Some(value) = member.observed.facts.get(&read.subject) {
                self.note(at);
                self.changes_at(at + member.stale_after);
                found.push((member, value));
            }
        }
        match found.as_slice() {
            [] => Ok(Reading::Missing),
            [(_, value)] => Ok(reading(value)),
            many => Err(several("fact", &read.subject, many.iter().map(|(subject, _)| &subject.id))),
        }
    }

    /// What the wall clock shows, until it shows something else.
    fn clock(&self, read: &Read) -> Result<Reading, String> {
        let wall = self.world.wall(self.now);
        let (shows, until) = if read.func == Func::InInterval {
            let name = &read.subject;
            let intervals = self.world.plan.intervals.get(name);
            let intervals = intervals.ok_or_else(|| format!("there is no time interval `{name}`"))?;
            let is_in = intervals.iter().any(|interval| interval.contains(wall));
            let until = intervals.iter().map(|interval| interval.next_boundary(wall)).min();
            (Reading::Bool(is_in), until.unwrap_or(Timestamp::MAX))
        } else {
            let zone = Zone::named(&read.subject).ok_or_else(|| format!("there is no time zone `{}`", read.subject))?;
            match read.func {
                Func::Hour => (Reading::Number(f64::from(zone.hour(wall))), zone.next_hour(wall)),
                _ => (Reading::Number(f64::from(zone.weekday(wall))), zone.next_day(wall)),
            }
        };
        self.note(self.now);
        self.changes_at(self.world.at_wall(until));
        Ok(shows)
    }

    fn firing(&self, rule: &str) -> Reading {
        let alerts = self.world.firing.get(rule).into_iter().flatten();
        let count = alerts.filter(|scope| self.covers(scope)).count();
        // what the engine itself says is as new as can be
        self.note(self.now);
        Reading::Number(count as f64)
    }

    /// Whether an alert with these scope labels lies in this scope.
    fn covers(&self, alert: &Labels) -> bool {
        if let Some(deployment) = alert.get("deployment")
            && !self.members.iter().any(|member| member.id.as_str() == deployment)
        {
            return false;
        }
        let own = |name| match self.members.as_slice() {
            [one] => one.labels.get(name),
            _ => None,
        };
        alert.iter().all(|(name, value)| {
            name == "deployment" || self.scope.get(name).or_else(|| own(name)).is_none_or(|known| known == value)
        })
    }
}

fn verdict(health: Health, wanted: Health) -> Reading {
    match health {
        Health::Unknown => Reading::Missing,
        known => Reading::Bool(known == wanted),
    }
}

/// Not finite is no data.
fn number(value: Option<f64>) -> Reading {
    value.filter(|value| value.is_finite()).map_or(Reading::Missing, Reading::Number)
}

fn reading(value: &Value) -> Reading {
    match value {
        Value::Null => Reading::Missing,
        Value::Bool(value) => Reading::Bool(*value),
        Value::Number(value) => number(value.as_f64()),
        Value::String(text) => Reading::Text(SmolStr::new(text)),
        Value::Array(_) | Value::Object(_) => Reading::Json(value.clone()),
    }
}

fn several<'a>(what: &str, name: &str, ids: impl Iterator<Item = &'a DeploymentId> + Clone) -> String {
    let count = ids.clone().count();
    let named: Vec<&str> = ids.take(NAMED).map(DeploymentId::as_str).collect();
    let more = if count > NAMED { ", …" } else { "" };
    format!("the {what} \"{name}\" is ambiguous: {count} deployments of this scope have it, {}{more}", named.join(", "))
}
