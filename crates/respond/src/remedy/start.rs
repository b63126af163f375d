//! From waiting to under way: the guards are asked, detect is asked, the guards again; then the run begins.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::guards::{limits_of, targets};
use super::parts::subs_of;
use super::state::{Cause, Doing, Run, Waiting};
use super::{CHAIN_WINDOW, Remedy, Timer, inputs};
use crate::alerts::Alerts;
use crate::guard::{self, Refusal};
use crate::queries::{Purpose, Reply};
use crate::run::{Course, Verdict};
use crate::turn::Turn;
use selfheal_contract::effect::Effect;
use selfheal_messages::{Answer, QueryKind};
use selfheal_model::{AlertKey, DeploymentId, Map, RunId, Severity, Timestamp};
use selfheal_policy::playbook::Playbook;
use selfheal_script::Truth;

/// Why a waiting run is withdrawn that has no rung any more.
const NOT_IN_POLICY: &str = "its ladder or playbook is no longer in the policy";

impl Remedy {
    /// A run that waits to be allowed.
    pub(super) fn new_run(
        &mut self,
        turn: &Turn<'_>,
        playbook: Arc<Playbook>,
        deployment: DeploymentId,
        cause: Cause,
        level: Option<Severity>,
    ) -> RunId {
        let place = self.places.at(&deployment);
        place.runs += 1;
        let id = RunId::of(&deployment, place.runs);
        let run = Run {
            level,
            policy: turn.policy.version.clone(),
            ..Run::new(id.clone(), playbook, deployment, cause, turn.now)
        };
        self.runs.insert(id.clone(), run);
        id
    }

    /// Asks the guards whether a waiting run may begin; if they see no reason against it, detect is asked.
    pub(super) fn consult(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get(id) else { return };
        let Doing::Waiting(Waiting { asked: false, .. }) = run.doing else { return };
        let key = run.alert().cloned();
        if let Cause::Schedule(name) = run.cause.clone() {
            self.fit_to_schedule(turn, &name, id);
        }
        if let Some(key) = &key {
            if !alerts.get(key).is_some_and(|alert| alert.firing) {
                return self.end_waiting(turn, alerts, id, Verdict::WentAway);
            }
            match self.fit_to_policy(turn, key, id) {
                Fit::Fits => {}
                Fit::Another => {
                    return self.ask_anew(turn, alerts, key, id, "a save has put another rung in the place of its own");
                }
                // what is under way on other targets ends first; then the ladder is looked at, once for all of them
                Fit::Gone if self.fan(key).is_some_and(|fan| fan.live.contains(id)) => {
                    return self.ask_anew(turn, alerts, key, id, NOT_IN_POLICY);
                }
                Fit::Gone => {
                    self.note(id, NOT_IN_POLICY.to_owned());
                    self.end_waiting(turn, alerts, id, Verdict::Cancelled);
                    return self.no_rung(turn, key);
                }
            }
        }
        if !self.guards_allow(turn, alerts, id, None) {
            return;
        }
        match self.runs.get(id).map(|run| run.cause.clone()) {
            Some(Cause::Alert(key)) => self.ask_rung(turn, alerts, &key, id),
            Some(Cause::Schedule(name)) => self.ask_scheduled(turn, alerts, &name, id),
            Some(Cause::Operator { .. }) => self.begin(turn, alerts, id),
            None => {}
        }
    }

    /// As the parameters, which are rendered when it is asked, the playbook is the schedule's of now.
    fn fit_to_schedule(&mut self, turn: &Turn<'_>, name: &SmolStr, id: &RunId) {
        let schedule = turn.policy.schedules.get(name);
        let playbook = schedule.and_then(|schedule| turn.policy.playbooks.get(&schedule.playbook));
        if let (Some(playbook), Some(run)) = (playbook.cloned(), self.runs.get_mut(id)) {
            run.playbook = playbook;
            run.policy = turn.policy.version.clone();
        }
    }

    /// Nothing is pinned before a run begins: a waiting one takes its rung's playbook from the policy as it is now. The
    /// deployment it has only fits the rung it was made for.
    fn fit_to_policy(&mut self, turn: &Turn<'_>, key: &AlertKey, id: &RunId) -> Fit {
        let Some((rungs, index)) = self.rung_of(&turn.policy, key) else { return Fit::Gone };
        let Some(rung) = rungs.rungs.get(index) else { return Fit::Gone };
        let playbook = turn.policy.playbooks.get(&rung.playbook).cloned();
        let (Some(playbook), Some(run)) = (playbook, self.runs.get_mut(id)) else { return Fit::Gone };
        let fits = match run.made_for {
            Some(made_for) => made_for.identity == rung.identity(),
            None => run.playbook.name == rung.playbook,
        };
        if !fits {
            return Fit::Another;
        }
        run.playbook = playbook;
        run.policy = turn.policy.version.clone();
        Fit::Fits
    }

    /// The rung is not the one any more that a waiting run was made for: the run is withdrawn, counted nowhere, and the
    /// ladder asks anew with the rung as it is.
    fn ask_anew(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, id: &RunId, why: &str) {
        let Some(deployment) = self.runs.get(id).map(|run| run.deployment.clone()) else { return };
        self.note(id, why.to_owned());
        let fan = self.fan(key).filter(|fan| fan.live.contains(id));
        let of_several = fan.is_some();
        if let Some(fan) = fan {
            // the targets that are left have to see the new rung, too, once those under way have ended
            fan.waiting.push_back(deployment);
        }
        self.end_waiting(turn, alerts, id, Verdict::WentAway);
        if !of_several {
            self.due(turn, key, Duration::ZERO);
        }
    }

    /// Asks every guard about a waiting run. Where one refuses the run goes on waiting, or ends if that will not pass.
    pub(super) fn guards_allow(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        evidence: Option<Timestamp>,
    ) -> bool {
        let Some(run) = self.runs.get(id) else { return false };
        let targets = match targets(&turn.policy, &run.playbook, &run.deployment) {
            Ok(targets) => targets,
            Err(refusal) => {
                self.refuse_for_good(turn, alerts, id, refusal);
                return false;
            }
        };
        self.judge_storm(turn, alerts);
        let Some(run) = self.runs.get(id) else { return false };
        let situation = self.situation(&turn.policy, alerts, run, &targets, turn.now, evidence);
        let answers = guard::ask(&turn.policy.guards, &situation);
        let refusals: Vec<Refusal> = answers.refusals().cloned().collect();
        if let Some(run) = self.runs.get_mut(id) {
            run.guards = answers;
        }
        match refusals.first() {
            None => return true,
            Some(refusal) if !refusal.may_pass() => self.refuse_for_good(turn, alerts, id, refusal.clone()),
            Some(_) => self.keep_waiting(turn, id, refusals),
        }
        false
    }

    fn ask_rung(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, id: &RunId) {
        let Some((rungs, index)) = self.rung_of(&turn.policy, key) else { return };
        let Some(rung) = rungs.rungs.get(index) else { return };
        let Some(run) = self.runs.get_mut(id) else { return };
        run.doing = Doing::Waiting(Waiting { asked: true, gave_up: run.gave_up() });
        let context = run.context(turn, alerts);
        let symptom = run.symptom_level(alerts, key);
        let kind = QueryKind::BeginRung { symptom, if_: rung.if_.clone(), with: rung.with.clone() };
        turn.query(Purpose::Rung(id.clone()), context, kind);
    }

    /// Whether the run still waits for what became of its query; it then waits no more.
    pub(super) fn takes_reply(&mut self, id: &RunId) -> bool {
        match self.runs.get_mut(id).map(|run| &mut run.doing) {
            Some(Doing::Waiting(waiting)) => std::mem::take(&mut waiting.asked),
            _ => false,
        }
    }

    /// No answer came: the run asks again after a while, and people see why it waits.
    pub(super) fn keep_waiting_for_detect(&mut self, turn: &mut Turn<'_>, id: &RunId) {
        let of = "detect gave no answer about the symptom".to_owned();
        self.keep_waiting(turn, id, vec![Refusal::NoData { of }]);
    }

    /// What became of the query about a rung: is the symptom there, does its `if` hold, and what are the inputs? Where it has
    /// no answer that counts, the run asks again.
    pub(super) fn rung_replied(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, reply: Reply) {
        if !self.takes_reply(id) {
            return;
        }
        let (symptom, if_, with) = match reply {
            Reply::Answered(Answer::BeginRung { symptom, if_, with }) => (symptom, if_, with),
            Reply::PolicyReplaced => return self.consult(turn, alerts, id),
            Reply::Answered(_) | Reply::Unanswered => return self.keep_waiting_for_detect(turn, id),
        };
        match symptom.truth {
            Truth::True => {}
            Truth::False => return self.end_waiting(turn, alerts, id, Verdict::WentAway),
            Truth::NoData | Truth::Error(_) => {
                let of = no_answer("its alert's condition", &symptom.truth);
                return self.keep_waiting(turn, id, vec![Refusal::NoData { of }]);
            }
        }
        match if_ {
            None | Some(Truth::True) => {}
            Some(Truth::False) => return self.refuse_for_good(turn, alerts, id, Refusal::If),
            Some(truth) => {
                let of = no_answer("the rung's `if`", &truth);
                return self.keep_waiting(turn, id, vec![Refusal::NoData { of }]);
            }
        }
        if self.guards_allow(turn, alerts, id, Some(symptom.evidence)) {
            self.begin_with(turn, alerts, id, with);
        }
    }

    pub(super) fn begin_with(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, params: Result<Map, String>) {
        let Some(run) = self.runs.get_mut(id) else { return };
        match params.and_then(|given| inputs::typed(&run.playbook.inputs, &given)) {
            Ok(inputs) => {
                let run = self.runs.get(id);
                if run.is_some_and(|run| self.wants_approval(turn, run, &inputs)) {
                    return self.ask_before(turn, id, inputs);
                }
                if let Some(run) = self.runs.get_mut(id) {
                    run.inputs = inputs;
                }
                self.begin(turn, alerts, id);
            }
            Err(why) => {
                self.note(id, format!("its inputs are wrong: {why}"));
                self.end_waiting(turn, alerts, id, Verdict::NotCured);
            }
        }
    }

    /// The run stays as it is and asks again; the first "no" is the reason.
    pub(super) fn keep_waiting(&mut self, turn: &mut Turn<'_>, id: &RunId, refusals: Vec<Refusal>) {
        let passes_at = refusals.iter().filter_map(|refusal| refusal.passes_at(turn.now)).min();
        let latest = turn.now + self.asks_again_after();
        self.timers.set(Timer::Again(id.clone()), passes_at.map_or(latest, |at| at.min(latest)));
        let Some(run) = self.runs.get_mut(id) else { return };
        let Some(first) = refusals.into_iter().next() else { return };
        let moved = run.refusal.as_ref() != Some(&first);
        run.refusal = Some(first);
        if moved {
            self.tell_refused(turn, id);
            self.show(turn, id);
        }
    }

    fn refuse_for_good(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, refusal: Refusal) {
        if let Some(run) = self.runs.get_mut(id) {
            run.refusal = Some(refusal);
            self.tell_refused(turn, id);
            self.end_waiting(turn, alerts, id, Verdict::Refused);
        }
    }

    /// It has waited for as long as anyone would wait without being told.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get(id).filter(|run| run.is_waiting()) else { return };
        // until a person's time is over nobody has said no, and then it is that
        let asked = run.approval.as_ref().and_then(|approval| self.approvals.get(approval));
        if let Some((approval, expires_at)) = asked.map(|view| (view.id.clone(), view.expires_at)) {
            if expires_at <= turn.now {
                return self.approval_expired(turn, alerts, &approval);
            }
            if run.alert().is_none() {
                return self.timers.set(Timer::GiveUp(id.clone()), expires_at);
            }
        }
        let Some(run) = self.runs.get_mut(id) else { return };
        if run.alert().is_none() {
            self.note(id, "nobody waits for it any longer".to_owned());
            return self.end_waiting(turn, alerts, id, Verdict::Refused);
        }
        if let Doing::Waiting(waiting) = &mut run.doing {
            waiting.gave_up = true;
        }
        self.tell_gave_up(turn, id);
    }

    /// Every guard allows it: leases are taken, and from here on its playbook and inputs are pinned.
    fn begin(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get(id) else { return };
        let Ok(targets) = targets(&turn.policy, &run.playbook, &run.deployment) else { return };
        self.take_leases(id, targets.keys());
        // nobody is asked any more where the mode no longer wants a word
        self.withdraw(turn, id);
        let Some(run) = self.runs.get_mut(id) else { return };
        run.targets = targets;
        let chain = self.places.at(&run.deployment).chain;
        run.depth = match chain {
            Some((at, depth)) if turn.now.since(at) < CHAIN_WINDOW => depth.saturating_add(1),
            _ => 1,
        };
        run.refusal = None;
        run.begun_at = Some(turn.now);
        run.subs = subs_of(&turn.policy, &run.playbook);
        run.observed = run.observed_by(&turn.policy);
        run.course = Course::begin(run.shape());
        for timer in [Timer::Again(id.clone()), Timer::GiveUp(id.clone())] {
            self.timers.clear(&timer);
        }
        let deadline = limits_of(&turn.policy, &run.deployment).run_deadline;
        self.timers.set(Timer::Deadline(id.clone()), turn.now + deadline);
        self.tell_started(turn, id);
        self.survey.forget();
        self.advance(turn, alerts, id);
        self.survey.forget();
    }

    /// The guards have seen that they are free; where one is not, acting there is refused for want of a lease.
    pub(super) fn take_leases<'a>(&mut self, id: &RunId, targets: impl Iterator<Item = &'a DeploymentId>) {
        self.survey.forget();
        let Some(run) = self.runs.get_mut(id) else { return };
        for target in targets {
            if let Some(fence) = self.places.lease(target, id) {
                run.leases.insert(target.clone(), fence);
            }
        }
    }

    /// Asks an edge to look at a deployment now.
    pub(super) fn look_at(turn: &mut Turn<'_>, deployment: &DeploymentId) {
        turn.effects.push(Effect::Observe { deployment: deployment.clone() });
    }
}

/// Whether a waiting run is for the rung its ladder stands at.
enum Fit {
    Fits,
    /// For another playbook, or for other deployments.
    Another,
    /// There is none.
    Gone,
}

/// What is missing, and why.
pub(super) fn no_answer(of: &str, truth: &Truth) -> String {
    match truth {
        Truth::Error(why) => format!("{of} fails: {why}"),
        _ => of.to_owned(),
    }
}
