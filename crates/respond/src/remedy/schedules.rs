//! What runs when its time comes: each occurrence has a run on every deployment its schedule takes, spread over its jitter and
//! so many at a time.
//!
//! Invariants: an occurrence whose runs still wait or are under way skips the next; one that was missed or refused is made
//! up at most once, within `catch_up`, and never where it takes capacity away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use smol_str::SmolStr;

use super::guards::{labels_of, targets};
use super::state::{Cause, Doing, Run, Waiting};
use super::{Remedy, Timer};
use crate::alerts::Alerts;
use crate::queries::{Purpose, Reply};
use crate::run::Verdict;
use crate::turn::{NewsAbout, NewsFor, Said, Turn, Word};
use selfheal_contract::BuiltInAlert;
use selfheal_contract::notification::{FlushReason, NewsKind};
use selfheal_messages::{Answer, QueryKind};
use selfheal_model::{DeploymentId, Labels, RunId, Timestamp};
use selfheal_policy::playbook::Approve;
use selfheal_policy::schedule::Schedule;

/// A timer that fires so much later than it was set for has missed nothing yet.
const PUNCTUAL: Duration = Duration::from_secs(1);
/// Why a time is skipped that came while selfheal was down, or the machine slept.
const NOT_THERE: &str = "selfheal was not there then";

/// Where a schedule stands. Its times are by the wall clock.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct ScheduleState {
    next: Timestamp,
    /// The newest time that came: it does not come again when the wall clock goes back.
    last: Timestamp,
    /// The occurrence whose runs wait or are under way.
    occurrence: Option<Timestamp>,
    /// Deployments without a run yet, with when it begins, in that order.
    waiting: VecDeque<(Timestamp, DeploymentId)>,
    live: BTreeSet<RunId>,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Schedules {
    states: BTreeMap<SmolStr, ScheduleState>,
    /// The wall clock is so far ahead of the engine's time.
    offset_ms: i64,
}

impl Schedules {
    pub fn wall(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_millis(now.as_millis().saturating_add(self.offset_ms))
    }

    fn engine_time(&self, wall: Timestamp) -> Timestamp {
        Timestamp::from_millis(wall.as_millis().saturating_sub(self.offset_ms))
    }
}

impl Remedy {
    /// Takes over the policy's schedules. One that is edited comes next by its new text.
    pub(super) fn follow_schedules(&mut self, turn: &mut Turn<'_>) {
        let policy = turn.policy.clone();
        let gone: Vec<_> =
            self.schedules.states.keys().filter(|name| !policy.schedules.contains_key(*name)).cloned().collect();
        for name in gone {
            self.schedules.states.remove(&name);
            self.timers.clear(&Timer::Schedule(name.clone()));
            self.timers.clear(&Timer::Scheduled(name));
        }
        let wall = self.schedules.wall(turn.now);
        for (name, schedule) in &policy.schedules {
            let state = self.schedules.states.entry(name.clone()).or_default();
            // a time that is already past and not yet fired is not forgotten
            if state.next > wall || state.next == Timestamp::default() {
                state.next = schedule.next_after(wall.max(state.last));
            }
            self.arm_schedule(name);
        }
    }

    fn arm_schedule(&mut self, name: &SmolStr) {
        let Some(next) = self.schedules.states.get(name).map(|state| state.next) else { return };
        if next < Timestamp::MAX {
            self.timers.set(Timer::Schedule(name.clone()), self.schedules.engine_time(next));
        } else {
            self.timers.clear(&Timer::Schedule(name.clone()));
        }
    }

    pub(crate) fn clock_moved(&mut self, offset_ms: i64) {
        self.schedules.offset_ms = offset_ms;
        for name in self.schedules.states.keys().cloned().collect::<Vec<_>>() {
            self.arm_schedule(&name);
        }
    }

    /// A schedule's time has come.
    pub(super) fn schedule_due(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, name: &SmolStr) {
        let wall = self.schedules.wall(turn.now);
        let Some(schedule) = turn.policy.schedules.get(name).cloned() else { return };
        let Some(state) = self.schedules.states.get_mut(name) else { return };
        let first = state.next;
        // of several that have passed the newest counts: if any is still within `catch_up`, that one is
        let at = schedule.newest_within(first, wall).unwrap_or(first);
        state.last = at;
        state.next = schedule.next_after(at.max(wall));
        let busy = !state.waiting.is_empty() || !state.live.is_empty();
        self.arm_schedule(name);
        let late = wall.since(at);
        let missed = late > PUNCTUAL && (late > schedule.catch_up || self.would_disrupt(turn, &schedule));
        if missed && !busy {
            return self.tell_skipped(turn, &schedule, first, at, NOT_THERE);
        }
        if at > first {
            let before = schedule.newest_within(first, at - Duration::from_millis(1)).unwrap_or(first);
            self.tell_skipped(turn, &schedule, first, before, NOT_THERE);
        }
        if busy {
            return self.tell_skipped(turn, &schedule, at, at, "runs of the time before are not over yet");
        }
        let taken = turn.policy.deployments.values().filter(|one| schedule.select.matches(&labels_of(one)));
        let mut waiting: Vec<_> =
            taken.map(|one| (wall.max(at) + schedule.delay(&one.id, at), one.id.clone())).collect();
        if waiting.is_empty() {
            return self.tell_skipped(turn, &schedule, at, at, "it takes no listed deployment");
        }
        waiting.sort();
        if let Some(state) = self.schedules.states.get_mut(name) {
            state.occurrence = Some(at);
            state.waiting = waiting.into();
        }
        self.run_scheduled(turn, alerts, name);
    }

    fn would_disrupt(&self, turn: &Turn<'_>, schedule: &Schedule) -> bool {
        let Some(playbook) = turn.policy.playbooks.get(&schedule.playbook) else { return false };
        let taken = turn.policy.deployments.values().filter(|one| schedule.select.matches(&labels_of(one)));
        taken
            .map(|one| targets(&turn.policy, playbook, &one.id))
            .any(|found| found.is_ok_and(|targets| targets.values().any(|disrupts| *disrupts)))
    }

    /// Begins as many runs as may be under way and are due.
    pub(super) fn run_scheduled(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, name: &SmolStr) {
        let wall = self.schedules.wall(turn.now);
        let Some(schedule) = turn.policy.schedules.get(name).cloned() else { return };
        let Some(playbook) = turn.policy.playbooks.get(&schedule.playbook).cloned() else { return };
        loop {
            let Some(state) = self.schedules.states.get_mut(name) else { return };
            if state.live.len() >= schedule.at_once as usize {
                return;
            }
            match state.waiting.front() {
                None => return,
                Some((due, _)) if *due > wall => {
                    let due = *due;
                    let at = self.schedules.engine_time(due);
                    return self.timers.set(Timer::Scheduled(name.clone()), at);
                }
                Some(_) => {}
            }
            let Some((_, deployment)) = state.waiting.pop_front() else { return };
            let id = self.new_run(turn, playbook.clone(), deployment, Cause::Schedule(name.clone()), None);
            if let Some(state) = self.schedules.states.get_mut(name) {
                state.live.insert(id.clone());
            }
            // whatever it waits for, a person's word included, it does not wait for ever
            self.timers.set(Timer::GiveUp(id.clone()), turn.now + schedule.catch_up.max(Approve::default().timeout));
            self.show(turn, &id);
            self.consult(turn, alerts, &id);
            self.give_up_scheduled(turn, alerts, &id);
        }
    }

    /// A run that was refused waits within `catch_up`, unless it would take capacity away.
    fn give_up_scheduled(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let refused = |run: &&Run| run.is_waiting() && run.refusal.is_some();
        let Some(Cause::Schedule(name)) = self.runs.get(id).filter(refused).map(|run| run.cause.clone()) else {
            return;
        };
        let Some(schedule) = turn.policy.schedules.get(&name).cloned() else { return };
        let wall = self.schedules.wall(turn.now);
        let occurrence = self.schedules.states.get(&name).and_then(|state| state.occurrence).unwrap_or(wall);
        let until = self.schedules.engine_time(occurrence + schedule.catch_up);
        if until <= turn.now || self.would_disrupt(turn, &schedule) {
            self.end_waiting(turn, alerts, id, Verdict::Refused);
        } else {
            self.timers.set(Timer::GiveUp(id.clone()), until);
        }
    }

    /// Asks detect for the inputs of a scheduled run.
    pub(super) fn ask_scheduled(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, name: &SmolStr, id: &RunId) {
        let (Some(schedule), Some(run)) = (turn.policy.schedules.get(name), self.runs.get_mut(id)) else { return };
        run.doing = Doing::Waiting(Waiting { asked: true, gave_up: run.gave_up() });
        let context = run.context(turn, alerts);
        let kind = QueryKind::BeginScheduled { with: schedule.with.clone() };
        turn.query(Purpose::Scheduled(id.clone()), context, kind);
    }

    /// What became of the query about a scheduled run. Where it has no answer that counts, the run asks again.
    pub(super) fn scheduled_replied(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, reply: Reply) {
        if !self.takes_reply(id) {
            return;
        }
        let with = match reply {
            Reply::Answered(Answer::BeginScheduled { with }) => with,
            Reply::PolicyReplaced => return self.consult(turn, alerts, id),
            Reply::Answered(_) | Reply::Unanswered => return self.keep_waiting_for_detect(turn, id),
        };
        // others that were asked about at the same time may have begun meanwhile
        if self.guards_allow(turn, alerts, id, None) {
            self.begin_with(turn, alerts, id, with);
        } else {
            self.give_up_scheduled(turn, alerts, id);
        }
    }

    /// One of its runs has ended: that is news where it did not do its work, and there is room for the next.
    pub(super) fn scheduled_run_ended(&mut self, turn: &mut Turn<'_>, id: &RunId, verdict: Verdict) {
        let Some(run) = self.runs.get(id) else { return };
        let Cause::Schedule(name) = run.cause.clone() else { return };
        let scope: Labels =
            [("deployment", run.deployment.as_str()), ("schedule", name.as_str())].into_iter().collect();
        let good = matches!(verdict, Verdict::Cured | Verdict::Eased | Verdict::Done);
        let summary = (!good).then(|| format!("schedule {name}: {}", super::views::sentence(run)));
        turn.say(Word::Said(Said { name: BuiltInAlert::ScheduledRunFailed, scope, summary }));
        if let Some(state) = self.schedules.states.get_mut(&name) {
            state.live.remove(id);
            if state.live.is_empty() && state.waiting.is_empty() {
                state.occurrence = None;
            }
        }
        // as a timer: one after the other, however many there are
        self.timers.set(Timer::Scheduled(name), turn.now);
    }

    /// These times, and those between them.
    fn tell_skipped(&self, turn: &mut Turn<'_>, schedule: &Schedule, from: Timestamp, to: Timestamp, why: &str) {
        let labels: Labels =
            [("alertname", "ScheduleSkipped"), ("schedule", schedule.name.as_str()), ("severity", "warning")]
                .into_iter()
                .collect();
        let times = if from == to { from.to_string() } else { format!("{from} to {to}") };
        let text = format!("schedule {} of {times} is skipped: {why}", schedule.name);
        let news = Remedy::news_at_large(turn, NewsKind::Refused, text.clone());
        turn.say(Word::News(NewsFor { about: NewsAbout::Labels(labels), news, reason: FlushReason::Changed }));
        Remedy::audit(turn, "selfheal", text);
    }
}
