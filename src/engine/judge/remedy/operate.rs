//! Operators' words: each is answered in its turn, and every one that changed something is audited.

use super::guards::targets;
use super::inputs::{self, nearest};
use super::state::{Cause, Run};
use super::{HAND_GIVE_UP, MAX_BY_HAND, Remedy, Timer};
use crate::engine::effect::{Effect, OperatorAnswer};
use crate::engine::input::{Operator, OperatorCommand};
use crate::engine::judge::alerts::Alerts;
use crate::engine::judge::turn::Turn;
use crate::engine::view::{AuditEntry, Change, PauseView};
use crate::model::{DeploymentId, Map, PlaybookName, RunId};
use crate::playbook::run::Interrupt;

/// The name under which people hear of the kill switch.
const PAUSED: &str = "Paused";

impl Remedy {
    pub(super) fn operate(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, operator: Operator) {
        let Operator { who, command, ticket } = operator;
        let answer = match command {
            OperatorCommand::Trigger { playbook, deployment, with, reason } => {
                self.trigger(turn, alerts, &who, &playbook, &deployment, &with, reason)
            }
            OperatorCommand::Pause { reason } => {
                self.pause(turn, who, reason);
                Ok(OperatorAnswer::Ok)
            }
            OperatorCommand::Resume { reason } => self.resume(turn, &who, &reason),
            OperatorCommand::CancelRun { run, reason } => self.cancel(turn, alerts, &who, &run, &reason),
        };
        turn.effects.push(Effect::Answer { ticket, answer });
    }

    pub(super) fn audit(turn: &mut Turn<'_>, who: &str, what: String) {
        let entry = AuditEntry { at: turn.now, who: who.to_owned(), what };
        turn.show(Change::Audit(entry));
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one word")]
    fn trigger(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        who: &str,
        playbook: &PlaybookName,
        deployment: &DeploymentId,
        with: &Map,
        reason: String,
    ) -> Result<OperatorAnswer, String> {
        let policy = turn.policy.clone();
        let Some(found) = policy.playbooks.get(playbook).cloned() else {
            return Err(unknown("playbook", playbook.as_str(), policy.playbooks.keys().map(PlaybookName::as_str)));
        };
        if !policy.deployments.contains_key(deployment) {
            let names = policy.deployments.keys().map(DeploymentId::as_str);
            return Err(unknown("deployment", deployment.as_str(), names));
        }
        let typed = inputs::typed(&found.inputs, with).map_err(|why| format!("playbook `{playbook}`: {why}"))?;
        // what can never be allowed is said at once instead of being queued
        targets(&policy, &found, deployment).map_err(|refusal| format!("refused by {}: {refusal}", refusal.guard()))?;
        let by_hand = self.runs.values().filter(|run| run.alert().is_none() && !run.is_ended()).count();
        if by_hand >= MAX_BY_HAND {
            return Err(format!("{by_hand} runs asked for by hand are waiting or under way; that is the limit"));
        }
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let cause = Cause::Operator { who: who.to_owned(), reason };
        let id = self.new_run(turn, found, deployment.clone(), cause, None);
        if let Some(run) = self.runs.get_mut(&id) {
            run.inputs = typed;
        }
        Remedy::audit(turn, who, format!("triggered {playbook} on {deployment} ({id}){because}"));
        self.timers.set(Timer::GiveUp(id.clone()), turn.now + HAND_GIVE_UP);
        self.show(turn, &id);
        self.consult(turn, alerts, &id);
        Ok(OperatorAnswer::Run(id))
    }

    /// Stops all automatic action. A second pause keeps the first's instant, and its own owner and reason.
    pub(super) fn pause(&mut self, turn: &mut Turn<'_>, who: String, reason: String) {
        Remedy::audit(turn, &who, format!("paused all automatic action: {reason}"));
        Remedy::tell_all(turn, PAUSED, format!("{who} paused all automatic action: {reason}"));
        let since = self.paused.as_ref().map_or(turn.now, |pause| pause.since);
        self.paused = Some(PauseView { by: who, reason, since });
        self.stirred = true;
        self.show_engine(turn);
    }

    fn resume(&mut self, turn: &mut Turn<'_>, who: &str, reason: &str) -> Result<OperatorAnswer, String> {
        let Some(pause) = self.paused.take() else {
            return Err("nothing is paused".to_owned());
        };
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        Remedy::audit(turn, who, format!("resumed automatic action{because}"));
        let text = format!("{who} resumed automatic action, paused by {} since {}{because}", pause.by, pause.since);
        Remedy::tell_all(turn, PAUSED, text);
        self.stirred = true;
        self.show_engine(turn);
        Ok(OperatorAnswer::Ok)
    }

    fn cancel(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        who: &str,
        id: &RunId,
        reason: &str,
    ) -> Result<OperatorAnswer, String> {
        let Some(run) = self.runs.get(id) else {
            let live = self.runs.values().filter(|run| !run.is_ended()).map(|run| run.id.as_str());
            return Err(unknown("run", id.as_str(), live));
        };
        if run.is_ended() {
            return Err(format!("run {id} has ended already"));
        }
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        Remedy::audit(turn, who, format!("cancelled {id}{because}"));
        self.note(id, format!("cancelled by {who}{because}"));
        self.cancel_call(turn, id);
        self.interrupt(turn, alerts, id, Interrupt::Cancelled);
        if self.runs.get(id).is_some_and(Run::is_under_way) {
            self.show(turn, id);
        }
        Ok(OperatorAnswer::Ok)
    }
}

fn unknown<'a>(kind: &str, wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    match nearest(wrong, names) {
        Some(near) => format!("there is no {kind} `{wrong}`; did you mean `{near}`?"),
        None => format!("there is no {kind} `{wrong}`"),
    }
}
