//! What is repaired: ladders, guards, leases and runs.
//!
//! A ladder belongs to one alert and tries one rung after the other; each try is a `Run`. A run waits until every
//! guard allows it, takes the lease of every deployment it will act on, goes through its playbook step by step, and
//! is judged by evidence from after its last acting step. What follows what is decided by the tables of
//! [`selfheal_policy::playbook`]; here they are given the facts, and what they decide is carried out.
//!
//! Invariants: no acting call without the lease of its deployment, with the symptom known to be there and the kill
//! switch off; an unknown outcome is never repeated; every lease is given back when its run ends, and only then.

mod approvals;
mod conclude;
mod context;
mod exec;
mod explain;
mod fan;
mod guards;
mod inputs;
mod interrupts;
mod judging;
mod ladders;
mod memory;
mod operate;
mod outages;
mod parts;
mod reconciler;
mod retries;
mod same_ladder;
mod saved;
mod schedules;
mod scope;
mod settle;
mod start;
mod state;
mod steps;
mod survey;
mod tell;
mod verify;
mod views;
mod windows;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use smol_str::SmolStr;

use super::alerts::Alerts;
use super::turn::{AlertChange, AlertChangeKind, Said, Turn, Word};
use crate::guard::{HeldBy, Refusal};
use crate::queries::{Purpose, Reply};
use crate::run::Interrupt;
pub(super) use guards::limits_of;
use memory::Memory;
use outages::Outages;
pub use outages::Root;
pub(super) use outages::all_under;
use schedules::Schedules;
use selfheal_contract::input::{Gap, Operator, StepEnd, Storage, Upgraded};
use selfheal_contract::notification::RemediationFacts;
use selfheal_contract::saved::ENGINE_VERSION;
use selfheal_contract::view::{ApprovalView, PauseView, RunView};
use selfheal_contract::{BuiltInAlert, Diagnostic};
use selfheal_messages::{DeploymentHealth, Sighting, WatchId};
use selfheal_model::timers::Timers;
use selfheal_model::{AlertKey, ApprovalId, DeploymentId, Facts, Labels, RunId, StepAttemptId, Timestamp};
use state::{Doing, LadderState, Places, Run, Stand};
use survey::Survey;

/// `finally` of a run past its deadline may take so much longer.
const CLEAN_UP_WITHIN: Duration = Duration::from_secs(600);
/// An edge ends a step at its timeout; when no word has come so much later, its outcome is unknown.
const STEP_MARGIN: Duration = Duration::from_secs(10);
/// A run that waits asks again at least so often: not everything a guard looks at announces its changes.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Of the runs that wait, so many at most ask when something has changed, those first that come first; and with more ladders than
/// [`AT_EASE`] each asks by itself that much more seldom. So many that wait cannot hold up what else there is to do.
const ASKED_AT_ONCE: usize = 100;
const AT_EASE: usize = 1_000;
/// A run asked for by hand that is refused for so long ends as refused.
const HAND_GIVE_UP: Duration = Duration::from_secs(1800);
/// Runs asked for by hand that may wait or be under way at a time.
const MAX_BY_HAND: usize = 1_000;
/// Maintenances that may be open at a time.
const MAX_MAINTENANCES: usize = 1_000;
/// Ended runs kept per alert, and altogether of those asked for by hand.
const KEPT_PER_ALERT: usize = 20;
const KEPT_BY_HAND: usize = 200;
/// Ladders of episodes that are over, kept to be shown.
const KEPT_OVER: usize = 1_000;
/// Events of runs that were set off by events of runs: beyond so many links nothing more is emitted.
const MAX_DEPTH: u8 = 5;
/// A run within so long of a run's event about its deployment counts as set off by it.
const CHAIN_WINDOW: Duration = Duration::from_secs(600);

/// The scope of `RunStuck` about a deployment. The next run there that ends in time ends the alert.
fn stuck_scope(deployment: &DeploymentId) -> Labels {
    [("deployment", deployment.as_str())].into_iter().collect()
}

/// At the same instant they fire in this order: what ends well comes before what runs out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
enum Timer {
    /// The condition has been clear for `hold`.
    Hold(RunId),
    /// The same of a rung for several deployments.
    HoldRung(AlertKey),
    /// The step or pause under way is over.
    Step(RunId),
    /// The verification is over.
    Within(RunId),
    Deadline(RunId),
    BreakOff(RunId),
    GiveUp(RunId),
    /// Nobody has answered in time.
    Approval(ApprovalId),
    /// A waiting run asks again, and one that settles looks again.
    Again(RunId),
    /// Somebody fell sick, or got well: is the sensor suspect?
    Sensor,
    /// A rung is due, or a rest is looked at.
    Ladder(AlertKey),
    /// A schedule's time has come.
    Schedule(SmolStr),
    /// The next of a schedule's deployments is due.
    Scheduled(SmolStr),
    /// People are to hear that selfheal is there.
    Heartbeat,
    /// What waits may ask again, once for all that was heard at this instant.
    Stirred,
}

/// Ladders and runs.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Remedy {
    watching_since: Timestamp,
    policy_loaded_at: Timestamp,
    #[serde(with = "selfheal_contract::diagnostic::in_full")]
    policy_errors: Vec<Diagnostic>,
    paused: Option<PauseView>,
    draining: bool,
    /// Why nothing can be written down, while nothing can.
    unwritable: Option<String>,
    runs: BTreeMap<RunId, Run>,
    ladders: BTreeMap<AlertKey, LadderState>,
    ladders_begun: u64,
    places: Places,
    memory: Memory,
    #[serde(default)]
    outages: Outages,
    schedules: Schedules,
    /// Firing alerts whose ladder something holds back.
    held_back: BTreeMap<AlertKey, HeldBy>,
    /// The open ones.
    approvals: BTreeMap<ApprovalId, ApprovalView>,
    timers: Timers<Timer>,
    /// Something the guards look at has changed in this turn.
    stirred: bool,
    ended_by_hand: VecDeque<RunId>,
    over: VecDeque<(AlertKey, u64)>,
    #[serde(skip)]
    survey: Survey,
}

impl Remedy {
    pub fn new(start: Timestamp) -> Self {
        Remedy {
            watching_since: start,
            policy_loaded_at: start,
            policy_errors: Vec::new(),
            paused: None,
            draining: false,
            unwritable: None,
            runs: BTreeMap::new(),
            ladders: BTreeMap::new(),
            ladders_begun: 0,
            places: Places::new(start),
            memory: Memory::default(),
            outages: Outages::default(),
            schedules: Schedules::default(),
            held_back: BTreeMap::new(),
            approvals: BTreeMap::new(),
            timers: Timers::default(),
            stirred: false,
            ended_by_hand: VecDeque::new(),
            over: VecDeque::new(),
            survey: Survey::default(),
        }
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next_deadline()
    }

    /// Does what is due first.
    pub fn fire(&mut self, turn: &mut Turn<'_>, alerts: &Alerts) {
        let Some((_, timer)) = self.timers.pop_due(turn.now) else { return };
        // who only asks, and goes on waiting, changes nothing that others are told
        let only_asks = matches!(timer, Timer::Again(_) | Timer::Ladder(_) | Timer::GiveUp(_));
        if !only_asks {
            self.survey.forget();
        }
        match timer {
            Timer::Hold(run) => self.held_clear(turn, alerts, &run),
            Timer::HoldRung(key) => self.rung_held_clear(turn, alerts, &key),
            Timer::Step(run) => self.step_timer(turn, alerts, &run),
            Timer::Within(run) => self.verification_over(turn, alerts, &run),
            Timer::Deadline(run) => self.deadline(turn, alerts, &run),
            Timer::BreakOff(run) => self.break_off(turn, alerts, &run),
            Timer::GiveUp(run) => self.give_up(turn, alerts, &run),
            Timer::Approval(approval) => self.approval_expired(turn, alerts, &approval),
            Timer::Again(run) => self.ask_again(turn, alerts, &run),
            Timer::Ladder(key) => self.ladder_due(turn, alerts, &key),
            Timer::Sensor => self.judge_sensor(turn),
            Timer::Heartbeat => self.beat(turn),
            Timer::Stirred => self.stirred = true,
            Timer::Schedule(name) => self.schedule_due(turn, alerts, &name),
            Timer::Scheduled(name) => self.run_scheduled(turn, alerts, &name),
        }
        match only_asks {
            true => self.let_ask(turn, alerts),
            false => self.calm(turn, alerts),
        }
    }

    pub fn alert_changed(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, change: &AlertChange) {
        self.survey.forget();
        if !alerts.get(&change.key).is_some_and(|alert| alert.firing) {
            self.held_back.remove(&change.key);
        }
        if let Some(deployment) = alerts.get(&change.key).and_then(|alert| alert.deployment.clone()) {
            self.note_sickness(turn, alerts, &deployment);
            self.places.touched.insert(deployment);
        }
        self.ladder_hears(turn, alerts, change);
        // one more alert lets nothing go that was held
        if !matches!(change.kind, AlertChangeKind::Fired | AlertChangeKind::Relapsed) {
            self.timers.set(Timer::Stirred, turn.now);
        }
        self.calm(turn, alerts);
    }

    /// A silence, an inhibition or a person holds the ladder of an alert back, or does no more. A run under way that a person
    /// has silenced stops after its step.
    pub fn held_changed(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, held: Option<HeldBy>) {
        self.survey.forget();
        let Some(held) = held else {
            self.stirred |= self.held_back.remove(key).is_some();
            return self.calm(turn, alerts);
        };
        self.held_back.insert(key.clone(), held.clone());
        for run in self.runs_of(key) {
            match self.runs.get(&run) {
                Some(found) if found.is_waiting() => self.consult(turn, alerts, &run),
                Some(_) if !matches!(held, HeldBy::Inhibition { .. }) => {
                    self.may_not_act(turn, alerts, &run, Refusal::Suppressed(held.clone()));
                }
                _ => {}
            }
        }
        self.calm(turn, alerts);
    }

    /// What became of a query.
    pub fn replied(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, purpose: Purpose, reply: Reply) {
        self.survey.forget();
        match purpose {
            Purpose::Rung(run) => self.rung_replied(turn, alerts, &run, reply),
            Purpose::Scheduled(run) => self.scheduled_replied(turn, alerts, &run, reply),
            Purpose::RungTarget { key, rung } => self.rung_target_replied(turn, alerts, &key, rung, reply),
            Purpose::Step { run, step } => self.step_replied(turn, alerts, &run, &step, reply),
            // texts belong to the alerts
            Purpose::AlertTexts(_) => {}
        }
        self.calm(turn, alerts);
    }

    pub fn watched(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: WatchId, at: Timestamp, seen: Sighting) {
        self.survey.forget();
        match id {
            WatchId::Verify(run) => self.verify_watched(turn, &run, at, seen),
            WatchId::Wait(run) => self.wait_watched(turn, alerts, &run, &seen.truth),
            WatchId::Rung(key) => self.rung_watched(turn, &key, at, seen),
        }
        self.calm(turn, alerts);
    }

    pub fn health(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, health: DeploymentHealth) {
        self.survey.forget();
        let id = health.deployment.clone();
        self.places.at(&id).health = Some(health);
        self.note_sickness(turn, alerts, &id);
        self.places.touched.insert(id);
        self.timers.set(Timer::Stirred, turn.now);
        self.calm(turn, alerts);
    }

    pub fn facts(&mut self, _turn: &mut Turn<'_>, _alerts: &Alerts, deployment: &DeploymentId, facts: Facts) {
        self.places.at(deployment).facts = facts;
    }

    pub fn step_ended(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, end: StepEnd) {
        self.survey.forget();
        self.call_ended(turn, alerts, end);
        self.calm(turn, alerts);
    }

    /// The check a `check` step asked for has run: detect knows its verdict by now.
    pub fn probed(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, attempt: &StepAttemptId) {
        self.survey.forget();
        let waits = |run: &Run| matches!(&run.doing, Doing::Probing(probe) if probe == attempt);
        let run = self.runs.values().find(|run| waits(run)).map(|run| run.id.clone());
        if let Some(run) = run {
            self.ask_check_verdict(turn, alerts, &run);
        }
        self.calm(turn, alerts);
    }

    pub fn operator(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, operator: Operator) {
        self.survey.forget();
        self.operate(turn, alerts, operator);
        self.calm(turn, alerts);
    }

    pub fn replace_policy(&mut self, turn: &mut Turn<'_>, alerts: &Alerts) {
        self.survey.forget();
        self.policy_loaded_at = turn.now;
        self.policy_errors.clear();
        self.show_engine(turn);
        self.leave_what_is_gone(turn, alerts);
        self.go_on_without_word(turn, alerts);
        self.memory.sick.retain(|id, _| turn.policy.deployments.contains_key(id));
        self.note_all_outages(turn, alerts);
        self.sickness_moved(turn);
        self.follow_schedules(turn);
        self.follow_heartbeat(turn);
        self.stirred = true;
        self.calm(turn, alerts);
    }

    /// A save that did not compile: shown until the next good one.
    pub fn policy_invalid(&mut self, turn: &mut Turn<'_>, diagnostics: Vec<Diagnostic>) {
        self.policy_errors = diagnostics;
        self.show_engine(turn);
    }

    /// What is under way gets the time back in which nothing was watched, and ladders wait for `start_grace` again. Where
    /// selfheal itself was not there, nobody will report the end of a call that was under way.
    pub fn resumed(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, from: Timestamp, to: Timestamp, because: Gap) {
        self.survey.forget();
        self.watching_since = to.max(self.watching_since);
        let gap = to.since(from);
        let mut moved = Timers::default();
        while let Some((at, timer)) = self.timers.pop_due(Timestamp::MAX) {
            // what waits for something to show itself gets the time back, too
            let shows = |key: &AlertKey| {
                let stand = self.ladders.get(key).map(|ladder| &ladder.stand);
                matches!(stand, Some(Stand::Judging | Stand::Resting(_)))
            };
            let waits_to_see = matches!(&timer, Timer::Ladder(key) if shows(key));
            // what only asks again may do so at once
            let asks = !waits_to_see
                && matches!(
                    timer,
                    Timer::Again(_)
                        | Timer::Ladder(_)
                        | Timer::Schedule(_)
                        | Timer::Scheduled(_)
                        | Timer::Heartbeat
                        | Timer::Sensor
                        | Timer::Stirred
                );
            moved.set(timer, if asks { at.max(turn.now) } else { at + gap });
        }
        self.timers = moved;
        if because == Gap::Stopped {
            self.draining = false;
            self.unwritable = None;
            let calling = |run: &Run| matches!(run.doing, Doing::Calling(_));
            let lost: Vec<_> = self.runs.values().filter(|run| calling(run)).map(|run| run.id.clone()).collect();
            for run in lost {
                self.call_lost(turn, alerts, &run);
            }
            self.stirred = true;
            self.calm(turn, alerts);
        }
    }

    /// What was sent up to then was refused for a while: ladders wait for `start_grace`, and for evidence from after it.
    pub fn unwatched(&mut self, to: Timestamp) {
        self.survey.forget();
        self.watching_since = to.max(self.watching_since);
    }

    /// Whether what is done can be written down.
    pub fn storage(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, storage: &Storage) {
        self.survey.forget();
        self.unwritable = match storage {
            Storage::Working => None,
            Storage::Failing { why } => Some(why.clone()),
        };
        self.stirred = true;
        self.calm(turn, alerts);
    }

    /// Recovery came to other decisions than the journal has: nothing acts until a person says so.
    pub fn diverged(&mut self, turn: &mut Turn<'_>, why: &str) {
        self.pause(
            turn,
            "selfheal".to_owned(),
            format!("recovery came to other decisions than the journal has: {why}"),
        );
    }

    /// What an engine of another version did after the last snapshot is known only as far as this one would have done
    /// the same.
    pub fn upgraded(&mut self, turn: &mut Turn<'_>, upgraded: &Upgraded) {
        let Upgraded { from, batches, unknown_steps } = upgraded;
        let mut text = format!(
            "selfheal ended abruptly and came back as another version: {batches} batches that engine version {from} had \
             decided on were taken in again by version {ENGINE_VERSION}. Messages from that time may come once more"
        );
        if !unknown_steps.is_empty() {
            let steps: Vec<&str> = unknown_steps.iter().map(StepAttemptId::as_str).collect();
            text += &format!(". These steps were started, and their runs count as inconclusive: {}", steps.join(", "));
        }
        Remedy::audit(turn, "selfheal", text.clone());
        Remedy::tell_all(turn, "Upgraded", text);
    }

    /// No new acting step begins; steps under way may end.
    pub fn draining(&mut self, _turn: &mut Turn<'_>) {
        self.draining = true;
    }

    /// Where the repair of an alert stands; `None` without a ladder.
    pub fn remediation_of(&self, key: &AlertKey) -> Option<RemediationFacts> {
        self.facts_of(key)
    }

    /// A ladder works on it: a run is waiting or under way (what `wait_for_repair` asks).
    pub fn is_working(&self, key: &AlertKey) -> bool {
        let works = |stand: &Stand| matches!(stand, Stand::Due | Stand::Run(_) | Stand::Fan(_) | Stand::Judging);
        self.ladders.get(key).is_some_and(|ladder| !ladder.over && works(&ladder.stand))
    }

    pub fn run_views(&self) -> Vec<RunView> {
        self.runs.values().filter(|run| run.parent.is_none()).map(|run| self.view(run)).collect()
    }

    /// Lets everything that waits ask again, if anything it looks at has changed. Bounded: each round either begins
    /// or ends a run, or is the last.
    fn calm(&mut self, turn: &mut Turn<'_>, alerts: &Alerts) {
        self.survey.forget();
        self.let_ask(turn, alerts);
    }

    /// [`Remedy::calm`] where nothing that is counted can have changed but by what forgets it itself.
    fn let_ask(&mut self, turn: &mut Turn<'_>, alerts: &Alerts) {
        self.note_outages(turn, alerts);
        while std::mem::take(&mut self.stirred) {
            let mut full = self.is_full(turn);
            for run in self.waiting_in_order(full) {
                // in a storm many wait for the same few places: those keep their reason until their own next asking
                if full && self.runs.get(&run).is_some_and(|run| run.refusal.is_some()) {
                    continue;
                }
                self.consult(turn, alerts, &run);
                if self.runs.get(&run).is_some_and(Run::is_under_way) {
                    full = self.is_full(turn);
                }
            }
            let regaining = |run: &&Run| matches!(run.doing, Doing::Regaining);
            let regaining: Vec<_> = self.runs.values().filter(regaining).map(|run| run.id.clone()).collect();
            for run in regaining {
                self.regain(turn, alerts, &run);
            }
            let held: Vec<_> =
                self.runs.values().filter(|run| matches!(run.doing, Doing::Held)).map(|run| run.id.clone()).collect();
            if self.may_act().is_ok() {
                for run in held {
                    self.resume_held(turn, alerts, &run);
                }
            }
            self.note_outages(turn, alerts);
        }
    }

    /// A heartbeat that is there already keeps its rhythm unless it is to beat sooner.
    fn follow_heartbeat(&mut self, turn: &Turn<'_>) {
        let Some(heartbeat) = &turn.policy.heartbeat else { return self.timers.clear(&Timer::Heartbeat) };
        let next = turn.now + heartbeat.every;
        let earlier = self.timers.deadline_of(&Timer::Heartbeat).filter(|at| *at < next);
        self.timers.set(Timer::Heartbeat, earlier.unwrap_or(next));
    }

    fn beat(&mut self, turn: &mut Turn<'_>) {
        let Some(heartbeat) = turn.policy.heartbeat.clone() else { return };
        self.timers.set(Timer::Heartbeat, turn.now + heartbeat.every);
        let running = self.runs.values().filter(|run| run.takes_a_slot()).count();
        let paused = if self.paused.is_some() { "; automatic repair is paused" } else { "" };
        let text = format!("selfheal is there: {running} runs under way{paused}");
        Remedy::tell_receiver(turn, heartbeat.receiver, text);
    }

    /// What waits asks its guards again.
    fn ask_again(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        match self.runs.get(id).map(|run| &run.doing) {
            Some(Doing::Regaining) => self.regain(turn, alerts, id),
            Some(Doing::Held) => self.resume_held(turn, alerts, id),
            Some(Doing::Settling(_)) => self.look_again(turn, id),
            _ => self.consult(turn, alerts, id),
        }
    }

    /// Nothing at all may begin now.
    fn is_full(&self, turn: &Turn<'_>) -> bool {
        let running = self.runs.values().filter(|run| run.takes_a_slot()).count();
        let storm = self.memory.storm.until(turn.policy.guards.storm, turn.now).is_some();
        let full = running >= turn.policy.guards.max_running as usize;
        self.may_act().is_err() || full || storm || self.memory.sensor_told
    }

    /// Waiting runs by severity (what people asked for first), then age. `full`: only those that have not asked yet.
    fn waiting_in_order(&self, full: bool) -> Vec<RunId> {
        let asks = |run: &&Run| run.is_waiting() && !(full && run.refusal.is_some());
        let order = |run: &&Run| (run.level.map(std::cmp::Reverse), run.created_at, run.id.clone());
        let mut waiting: Vec<&Run> = self.runs.values().filter(asks).collect();
        if waiting.len() > ASKED_AT_ONCE {
            waiting.select_nth_unstable_by_key(ASKED_AT_ONCE, order);
            waiting.truncate(ASKED_AT_ONCE);
        }
        waiting.sort_by_key(order);
        waiting.into_iter().map(|run| run.id.clone()).collect()
    }

    /// After how long a run that waits asks by itself again.
    fn asks_again_after(&self) -> Duration {
        let crowd = u32::try_from(self.ladders.len() / AT_EASE).unwrap_or(u32::MAX);
        ASK_AGAIN.saturating_mul(crowd.max(1))
    }

    fn deadline(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get(id) else { return };
        let deadline = guards::limits_of(&turn.policy, &run.deployment).run_deadline;
        let text = format!("it has taken longer than {}", selfheal_model::units::format_duration(deadline));
        let summary = format!("run {id} of {} on {}: {text}", run.playbook.name, run.deployment);
        let said = Said { name: BuiltInAlert::RunStuck, scope: stuck_scope(&run.deployment), summary: Some(summary) };
        turn.say(Word::Said(said));
        self.note(id, text);
        self.timers.set(Timer::BreakOff(id.clone()), turn.now + CLEAN_UP_WITHIN);
        self.cancel_call(turn, id);
        self.interrupt(turn, alerts, id, Interrupt::Deadline);
    }
}
