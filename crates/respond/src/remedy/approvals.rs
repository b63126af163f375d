//! Waiting for a person: before a run begins, or at a step of it.
//!
//! Invariants: what waits holds no lease, no slot and counts in no budget; a word is taken once; once it is given
//! everything is asked again, and it holds only for the parameters that were shown; unanswered is denied.

use super::guards::{mode_of, targets};
use super::parts::subs_of;
use super::state::{Approved, Doing, Run};
use super::steps::StepOver;
use super::{ASK_AGAIN, Remedy, Timer};
use crate::alerts::Alerts;
use crate::guard::{self, Refusal};
use crate::run::{Interrupt, Verdict};
use crate::turn::Turn;
use selfheal_contract::view::{ApprovalState, ApprovalView, Change};
use selfheal_model::ids::fingerprint;
use selfheal_model::units::format_duration;
use selfheal_model::{AlertKey, ApprovalId, Map, RunId, StepId, Value};
use selfheal_policy::Policy;
use selfheal_policy::guards::Mode;
use selfheal_policy::playbook::{Approve, Playbook, StepKind};

/// A playbook with those its steps run: a word given for one is none for another.
fn content_of(policy: &Policy, playbook: &Playbook) -> u64 {
    let subs = subs_of(policy, playbook);
    let parts = std::iter::once(playbook).chain(subs.values().map(|sub| &**sub));
    let parts: Vec<String> = parts.map(|part| format!("{} {:016x}", part.name, part.hash)).collect();
    fingerprint(parts.iter().map(String::as_str))
}

impl Remedy {
    /// Whether a person has to allow this run before it begins, and has not.
    pub(super) fn wants_approval(&self, turn: &Turn<'_>, run: &Run, inputs: &Map) -> bool {
        let by_rung = run
            .alert()
            .and_then(|key| self.rung_of(&turn.policy, key))
            .is_some_and(|(ladder, index)| ladder.rungs.get(index).is_some_and(|rung| rung.approval));
        let subs = subs_of(&turn.policy, &run.playbook);
        let targets = targets(&turn.policy, &run.playbook, &run.deployment).unwrap_or_default();
        let deployments = std::iter::once(&run.deployment).chain(targets.keys());
        let (mode, _) = mode_of(&turn.policy, &run.playbook, &subs, deployments);
        // one that only says what it would do needs nobody's word
        let wanted = mode != Mode::Observe && (by_rung || mode == Mode::Approve);
        let playbook = content_of(&turn.policy, &run.playbook);
        let same = |approved: &Approved| approved.shown == *inputs && approved.playbook == playbook;
        let given = run.approved.as_ref().is_some_and(same);
        wanted && run.is_asked_for_by_itself() && !given
    }

    /// Asks for a person's word, unless that is asked already for the same.
    pub(super) fn ask_before(&mut self, turn: &mut Turn<'_>, id: &RunId, inputs: Map) {
        let Some(run) = self.runs.get_mut(id) else { return };
        run.refusal = None;
        let pending = run.approval.as_ref().and_then(|approval| self.approvals.get(approval));
        let playbook = content_of(&turn.policy, &run.playbook);
        if pending.is_some_and(|pending| pending.shown == inputs) && run.asked_for == playbook {
            return;
        }
        run.asked_for = playbook;
        self.withdraw(turn, id);
        self.ask_for(turn, id, None, &Approve::default(), inputs);
        self.show(turn, id);
    }

    /// Before a step that acts and was begun without a person's word, which the mode wants by now; or the step that asks for
    /// one. The run gives everything back meanwhile.
    pub(super) fn begin_approve(&mut self, turn: &mut Turn<'_>, id: &RunId, step: &StepId, approve: &Approve) {
        let root = self.root_of(id);
        self.give_leases_back(&root);
        let Some(run) = self.runs.get_mut(id) else { return };
        run.doing = Doing::Approving;
        run.refusal = None;
        let shown = run.inputs.clone();
        self.ask_for(turn, id, Some(step.clone()), approve, shown);
        self.stirred = true;
        self.show(turn, id);
    }

    /// Whether the step at its place is the one that asks, rather than one that waits for a word.
    fn is_at_approve(&self, id: &RunId) -> bool {
        self.step_at(id).is_some_and(|(_, _, step)| matches!(step.kind, StepKind::Approve(_)))
    }

    /// Runs that wait before a step for a word which the mode wants no more go on.
    pub(super) fn go_on_without_word(&mut self, turn: &mut Turn<'_>, alerts: &Alerts) {
        let wanted = |run: &Run| {
            let whole = self.runs.get(&self.root_of(&run.id));
            self.is_at_approve(&run.id)
                || whole.is_some_and(|whole| whole.forbidden_by_mode(&turn.policy, &run.deployment).is_some())
        };
        let approving = self.runs.values().filter(|run| matches!(run.doing, Doing::Approving));
        let free: Vec<RunId> = approving.filter(|run| !wanted(run)).map(|run| run.id.clone()).collect();
        for run in free {
            self.withdraw(turn, &run);
            self.regain(turn, alerts, &run);
        }
    }

    fn ask_for(&mut self, turn: &mut Turn<'_>, id: &RunId, step: Option<StepId>, approve: &Approve, shown: Map) {
        let root = self.root_of(id);
        let Some(whole) = self.runs.get_mut(&root) else { return };
        whole.approvals += 1;
        let approval = ApprovalId::of(&root, whole.approvals);
        let with = if shown.is_empty() { String::new() } else { format!(" with {}", Value::Object(shown.clone())) };
        let what = match &step {
            Some(step) => format!("go on with {} on {} at step {step}{with}", whole.playbook.name, whole.deployment),
            None => format!("run {} on {}{with}", whole.playbook.name, whole.deployment),
        };
        let view = ApprovalView {
            id: approval.clone(),
            run: id.clone(),
            playbook: whole.playbook.name.clone(),
            deployment: whole.deployment.clone(),
            alert: whole.alert().map(AlertKey::id),
            alert_name: whole.alert().map(|key| key.rule.to_string()),
            step,
            ask: approve.ask.clone(),
            by: approve.by.clone(),
            what,
            shown,
            state: ApprovalState::Waiting,
            asked_at: turn.now,
            expires_at: turn.now + approve.timeout,
            answered_by: None,
            answered_at: None,
            reason: String::new(),
        };
        if let Some(run) = self.runs.get_mut(id) {
            run.approval = Some(approval.clone());
        }
        self.timers.set(Timer::Approval(approval.clone()), view.expires_at);
        self.tell_approval(turn, &view);
        turn.show(Change::Approval(Box::new(view.clone())));
        self.approvals.insert(approval, view);
    }

    /// Takes an approval out of the open ones: its word is given, or is wanted no more.
    fn close(
        &mut self,
        turn: &mut Turn<'_>,
        approval: &ApprovalId,
        state: ApprovalState,
        by: Option<&str>,
        reason: &str,
    ) -> Option<ApprovalView> {
        let mut view = self.approvals.remove(approval)?;
        self.timers.clear(&Timer::Approval(approval.clone()));
        view.state = state;
        view.answered_by = by.map(str::to_owned);
        view.answered_at = by.map(|_| turn.now);
        view.reason = reason.to_owned();
        turn.show(Change::Approval(Box::new(view.clone())));
        if let Some(run) = self.runs.get_mut(&view.run) {
            run.approval = None;
        }
        Some(view)
    }

    /// Nobody has to answer any more.
    pub(super) fn withdraw(&mut self, turn: &mut Turn<'_>, id: &RunId) {
        let open = self.runs.get(id).and_then(|run| run.approval.clone());
        if let Some(approval) = open {
            self.close(turn, &approval, ApprovalState::Withdrawn, None, "");
        }
    }

    /// # Errors
    /// There is no such open approval.
    pub(super) fn approve(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        who: &str,
        approval: &ApprovalId,
        reason: &str,
    ) -> Result<RunId, String> {
        let Some(view) = self.close(turn, approval, ApprovalState::Approved, Some(who), reason) else {
            return Err(self.no_approval(approval));
        };
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        Remedy::audit(turn, who, format!("approved {approval} ({}){because}", view.what));
        self.note(&view.run, format!("approved by {who}{because}"));
        let root = self.root_of(&view.run);
        if let Some(run) = self.runs.get_mut(&root) {
            run.approved = Some(Approved { by: who.to_owned(), shown: view.shown, playbook: run.asked_for });
        }
        match self.runs.get(&view.run).map(|run| &run.doing) {
            Some(Doing::Waiting(_)) => self.consult(turn, alerts, &view.run),
            Some(Doing::Approving) => self.regain(turn, alerts, &view.run),
            _ => {}
        }
        Ok(root)
    }

    /// # Errors
    /// There is no such open approval.
    pub(super) fn deny(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        who: &str,
        approval: &ApprovalId,
        reason: &str,
    ) -> Result<RunId, String> {
        let Some(view) = self.close(turn, approval, ApprovalState::Denied, Some(who), reason) else {
            return Err(self.no_approval(approval));
        };
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        Remedy::audit(turn, who, format!("denied {approval} ({}){because}", view.what));
        self.denied(turn, alerts, &view, format!("denied by {who}{because}"));
        Ok(self.root_of(&view.run))
    }

    /// Nobody has answered in time: that is a no.
    pub(super) fn approval_expired(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, approval: &ApprovalId) {
        if let Some(view) = self.close(turn, approval, ApprovalState::Expired, None, "") {
            let waited = format_duration(turn.now.since(view.asked_at));
            self.denied(turn, alerts, &view, format!("nobody answered within {waited}, which is a no"));
        }
    }

    fn denied(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, view: &ApprovalView, why: String) {
        self.note(&view.run, why.clone());
        if self.runs.get(&view.run).is_some_and(Run::is_waiting) {
            return self.end_waiting(turn, alerts, &view.run, Verdict::Denied);
        }
        let root = self.root_of(&view.run);
        self.note(&root, why);
        self.interrupt(turn, alerts, &root, Interrupt::Denied);
    }

    fn no_approval(&self, approval: &ApprovalId) -> String {
        let open: Vec<&str> = self.approvals.keys().map(ApprovalId::as_str).collect();
        match open.as_slice() {
            [] => format!("nothing waits for approval {approval}: it was answered, has expired, or never was"),
            open => format!("nothing waits for approval {approval}; open are {}", open.join(", ")),
        }
    }

    /// A run that was allowed to go on takes back what it gave away, once every guard agrees again.
    pub(super) fn regain(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let root = self.root_of(id);
        let Some(whole) = self.runs.get(&root) else { return };
        let targets = match targets(&turn.policy, &whole.playbook, &whole.deployment) {
            Ok(targets) => targets,
            Err(refusal) => return self.may_not_act(turn, alerts, id, refusal),
        };
        self.survey.forget();
        let situation = self.situation(&turn.policy, alerts, whole, &targets, turn.now, None);
        let answers = guard::ask(&turn.policy.guards, &situation);
        // also where it is itself the run that tries a playbook out of service
        let own_doing = |refusal: &&Refusal| {
            !matches!(
                refusal,
                Refusal::PerDeployment { .. }
                    | Refusal::PerPlaybook { .. }
                    | Refusal::Velocity { .. }
                    | Refusal::Breaker { probe_at: None, .. }
                    | Refusal::BreakerBeside { .. }
            )
        };
        // a run that acted before it asked is in its budgets already
        let counted = whole.course.acted();
        let refusal = answers.refusals().find(|refusal| !counted || own_doing(refusal)).cloned();
        if let Some(whole) = self.runs.get_mut(&root) {
            whole.guards = answers;
        }
        match refusal {
            Some(refusal) if !refusal.may_pass() => self.may_not_act(turn, alerts, id, refusal),
            Some(refusal) => {
                let Some(run) = self.runs.get_mut(id) else { return };
                let moved = run.refusal.as_ref() != Some(&refusal);
                run.doing = Doing::Regaining;
                run.refusal = Some(refusal);
                self.timers.set(Timer::Again(id.clone()), turn.now + ASK_AGAIN);
                if moved {
                    self.tell_refused(turn, id);
                    self.show(turn, id);
                }
            }
            None => {
                self.take_leases(&root, targets.keys());
                if let Some(run) = self.runs.get_mut(id) {
                    run.refusal = None;
                    run.doing = Doing::Sleeping;
                }
                match self.is_at_approve(id) {
                    true => self.step_over(turn, alerts, id, StepOver::done()),
                    // the step it waited before has not begun
                    false => self.advance(turn, alerts, id),
                }
            }
        }
    }
}
