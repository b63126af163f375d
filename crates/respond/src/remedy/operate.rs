//! Operators' words: each is answered in its turn, and every one that changed something is audited.

use std::collections::BTreeSet;
use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

use super::guards::targets;
use super::inputs::{self, nearest};
use super::memory::Maintenance;
use super::state::{Cause, Run};
use super::{HAND_GIVE_UP, MAX_BY_HAND, MAX_MAINTENANCES, Remedy, Timer};
use crate::alerts::Alerts;
use crate::guard::Breaker;
use crate::run::Interrupt;
use crate::turn::Turn;
use selfheal_contract::Guard;
use selfheal_contract::effect::{Effect, OperatorAnswer};
use selfheal_contract::input::{Operator, OperatorCommand};
use selfheal_contract::view::{AuditEntry, Change, PauseView};
use selfheal_model::{DeploymentId, Map, PlaybookName, RunId, Selector};
use selfheal_policy::secrets_by_name;

/// The name under which people hear of the kill switch.
const PAUSED: &str = "Paused";

impl Remedy {
    pub(super) fn operate(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, operator: Operator) {
        let Operator { who, command, ticket } = operator;
        let answer = match command {
            OperatorCommand::Trigger { playbook, deployment, with, reason, overrides } => {
                let asked = Trigger { playbook, deployment, with, reason, overrides };
                self.trigger(turn, alerts, &who, asked)
            }
            OperatorCommand::Maintain { select, for_, reason } => self.maintain(turn, who, select, for_, reason),
            OperatorCommand::EndMaintenance { id } => self.end_maintenance(turn, &who, &id),
            OperatorCommand::ResetPlaybook { playbook, reason } => self.reset_playbook(turn, &who, &playbook, &reason),
            OperatorCommand::Approve { approval, reason } => {
                self.approve(turn, alerts, &who, &approval, &reason).map(OperatorAnswer::Run)
            }
            OperatorCommand::Deny { approval, reason } => {
                self.deny(turn, alerts, &who, &approval, &reason).map(OperatorAnswer::Run)
            }
            OperatorCommand::Retry { alert, reason } => self.retry(turn, &who, &alert, &reason),
            OperatorCommand::Pause { reason } => {
                self.pause(turn, who, reason);
                Ok(OperatorAnswer::Ok)
            }
            OperatorCommand::Resume { reason } => self.resume(turn, &who, &reason),
            OperatorCommand::CancelRun { run, reason } => self.cancel(turn, alerts, &who, &run, &reason),
            OperatorCommand::Silence(_)
            | OperatorCommand::ExpireSilence { .. }
            | OperatorCommand::Ack { .. }
            | OperatorCommand::Unack { .. } => unreachable!("the part before this one answers these"),
        };
        turn.effects.push(Effect::Answer { ticket, answer });
    }

    pub(super) fn audit(turn: &mut Turn<'_>, who: &str, what: String) {
        let entry = AuditEntry { at: turn.now, who: who.to_owned(), what };
        turn.show(Change::Audit(entry));
    }

    fn trigger(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        who: &str,
        asked: Trigger,
    ) -> Result<OperatorAnswer, String> {
        let policy = turn.policy.clone();
        let Trigger { playbook, deployment, with, reason, overrides } = asked;
        let (playbook, deployment) = (&playbook, &deployment);
        let overridden = overridable(&overrides, &reason)?;
        let Some(found) = policy.playbooks.get(playbook).cloned() else {
            return Err(unknown("playbook", playbook.as_str(), policy.playbooks.keys().map(PlaybookName::as_str)));
        };
        if !policy.deployments.contains_key(deployment) {
            let names = policy.deployments.keys().map(DeploymentId::as_str);
            return Err(unknown("deployment", deployment.as_str(), names));
        }
        let with = secrets_by_name(&found.inputs, with, &policy.secrets)
            .map_err(|why| format!("playbook `{playbook}`: {why}"))?;
        let typed = inputs::typed(&found.inputs, &with).map_err(|why| format!("playbook `{playbook}`: {why}"))?;
        // what can never be allowed is said at once instead of being queued
        targets(&policy, &found, deployment).map_err(|refusal| format!("refused by {}: {refusal}", refusal.guard()))?;
        let by_hand =
            self.runs.values().filter(|run| matches!(run.cause, Cause::Operator { .. }) && !run.is_ended()).count();
        if by_hand >= MAX_BY_HAND {
            return Err(format!("{by_hand} runs asked for by hand are waiting or under way; that is the limit"));
        }
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let cause = Cause::Operator { who: who.to_owned(), reason };
        let id = self.new_run(turn, found, deployment.clone(), cause, None);
        if let Some(run) = self.runs.get_mut(&id) {
            run.inputs = typed;
            run.overridden = overridden;
        }
        let without = if overrides.is_empty() { String::new() } else { format!(" without {}", overrides.join(", ")) };
        Remedy::audit(turn, who, format!("triggered {playbook} on {deployment}{without} ({id}){because}"));
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

    fn maintain(
        &mut self,
        turn: &mut Turn<'_>,
        by: String,
        select: Selector,
        for_: Duration,
        reason: String,
    ) -> Result<OperatorAnswer, String> {
        let open = self.memory.maintenance.values().filter(|one| turn.now < one.until).count();
        if open >= MAX_MAINTENANCES {
            return Err(format!("{open} maintenances are open; that is the limit"));
        }
        self.memory.maintenance.retain(|_, one| turn.now < one.until);
        self.memory.maintenances_begun += 1;
        let id = format_smolstr!("m-{}", self.memory.maintenances_begun);
        let what = select.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let until = turn.now + for_;
        let text = format!("{by} paused the repair of {{{what}}} until {until} ({id}): {reason}");
        Remedy::audit(turn, &by, text.clone());
        Remedy::tell_all(turn, PAUSED, text);
        self.memory.maintenance.insert(id.clone(), Maintenance { select, by, reason, since: turn.now, until });
        self.show_engine(turn);
        Ok(OperatorAnswer::Id(id))
    }

    fn end_maintenance(&mut self, turn: &mut Turn<'_>, who: &str, id: &SmolStr) -> Result<OperatorAnswer, String> {
        if self.memory.maintenance.remove(id).is_none() {
            return Err(unknown("maintenance", id, self.memory.maintenance.keys().map(SmolStr::as_str)));
        }
        Remedy::audit(turn, who, format!("ended maintenance {id}"));
        self.stirred = true;
        self.show_engine(turn);
        Ok(OperatorAnswer::Ok)
    }

    fn reset_playbook(
        &mut self,
        turn: &mut Turn<'_>,
        who: &str,
        playbook: &PlaybookName,
        reason: &str,
    ) -> Result<OperatorAnswer, String> {
        if !self.memory.breakers.get_mut(playbook).is_some_and(Breaker::reset) {
            return Err(format!("{playbook} is not out of service"));
        }
        self.memory.breakers.remove(playbook);
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        Remedy::audit(turn, who, format!("put {playbook} back into service{because}"));
        self.stirred = true;
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

/// A word to run a playbook now.
struct Trigger {
    playbook: PlaybookName,
    deployment: DeploymentId,
    with: Map,
    reason: String,
    overrides: Vec<String>,
}

fn overridable(overrides: &[String], reason: &str) -> Result<BTreeSet<Guard>, String> {
    let overridden = overrides.iter().map(|name| overridable_guard(name)).collect::<Result<_, _>>()?;
    if !overrides.is_empty() && reason.trim().is_empty() {
        return Err("overruling a guard needs a reason".to_owned());
    }
    Ok(overridden)
}

fn overridable_guard(name: &str) -> Result<Guard, String> {
    let overridable = Guard::ALL.into_iter().filter(|guard| guard.can_be_overridden());
    match name.parse::<Guard>() {
        Ok(guard) if guard.can_be_overridden() => Ok(guard),
        _ if ["pause", "target", "lease"].contains(&name) => Err(format!("`{name}` can never be overruled")),
        _ => Err(unknown("guard", name, overridable.map(Guard::as_str))),
    }
}

fn unknown<'a>(kind: &str, wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    match nearest(wrong, names) {
        Some(near) => format!("there is no {kind} `{wrong}`; did you mean `{near}`?"),
        None => format!("there is no {kind} `{wrong}`"),
    }
}
