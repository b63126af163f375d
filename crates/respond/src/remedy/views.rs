//! Pictures of ladders, runs and the engine, for reads and messages.

use smol_str::SmolStr;

use super::Remedy;
use super::memory::Maintenance;
use super::state::{Cause, Doing, Run, Stand};
use crate::guard::{Answer, Refusal};
use crate::turn::Turn;
use selfheal_contract::notification::{RemediationFacts, RunFacts};
use selfheal_contract::view::{Change, EngineView, GuardView, MaintenanceView, RefusalView, RunView, StepView};
use selfheal_model::AlertKey;

fn state_word(doing: &Doing) -> &'static str {
    match doing {
        Doing::Waiting(_) => "waiting",
        Doing::Approving => "approving",
        Doing::Verifying(_) => "verifying",
        Doing::Ended(_) => "ended",
        Doing::Asking(_)
        | Doing::Held
        | Doing::Regaining
        | Doing::Calling(_)
        | Doing::Pausing(_)
        | Doing::Together(_)
        | Doing::Settling(_)
        | Doing::Sleeping
        | Doing::WaitingUntil
        | Doing::Probing(_) => "running",
    }
}

fn maintenance_view(id: &SmolStr, one: &Maintenance) -> MaintenanceView {
    MaintenanceView {
        id: id.clone(),
        matchers: one.select.0.iter().map(ToString::to_string).collect(),
        by: one.by.clone(),
        reason: one.reason.clone(),
        since: one.since,
        until: one.until,
    }
}

fn refusal_view(refusal: &Refusal) -> RefusalView {
    RefusalView { guard: refusal.guard(), figures: refusal.to_string(), may_pass: refusal.may_pass() }
}

pub(super) fn guard_view(answer: &Answer) -> GuardView {
    GuardView {
        guard: answer.guard,
        of: answer.of.clone(),
        allows: answer.refusal.is_none() || answer.overridden,
        overridden: answer.overridden,
        figures: answer.figures.clone(),
    }
}

fn run_view(run: &Run, steps: Vec<StepView>) -> RunView {
    let cause = match &run.cause {
        Cause::Alert(key) => format!("rule:{}", key.rule),
        Cause::Schedule(name) => format!("schedule:{name}"),
        Cause::Operator { who, .. } => format!("operator:{who}"),
    };
    RunView {
        id: run.id.clone(),
        playbook: run.playbook.name.clone(),
        deployment: run.deployment.clone(),
        alert: run.alert().map(AlertKey::id),
        alert_name: run.alert().map(|key| key.rule.to_string()),
        cause,
        approval: run.approval.clone(),
        approved_by: run.approved.as_ref().map(|approved| approved.by.clone()),
        guards: run.guards.0.iter().map(guard_view).collect(),
        state: state_word(&run.doing).into(),
        verdict: run.verdict().map(|verdict| verdict.as_str().into()),
        refused: run.refusal.as_ref().map(refusal_view),
        why: why(run),
        started_at: run.begun_at.unwrap_or(run.created_at),
        ended_at: run.ended_at,
        steps,
        policy: run.policy.clone(),
    }
}

/// The whole reason, with what an operator said first.
fn why(run: &Run) -> Option<String> {
    let said = match &run.cause {
        Cause::Operator { reason, .. } if !reason.is_empty() => Some(reason.clone()),
        _ => None,
    };
    let parts: Vec<String> = said.into_iter().chain(run.why.iter().cloned()).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn step_sentence(step: &StepView) -> String {
    let mut text = format!("{}: {}", step.id, step.outcome);
    if let (true, Some(seconds)) = (step.outcome == "done", step.seconds) {
        text.push_str(&format!(" in {seconds:.1}s"));
    }
    if let (true, Some(message)) = (step.outcome != "done", &step.message) {
        text.push_str(&format!(" ({message})"));
    }
    text
}

fn facts_of_run(run: &Run) -> RunFacts {
    let verdict = match (run.verdict(), run.is_waiting()) {
        (Some(verdict), _) => verdict.as_str(),
        (None, true) => "waiting",
        (None, false) => "running",
    };
    let refused = run.refusal.as_ref().map(|refusal| format!("{}: {refusal}", refusal.guard()));
    RunFacts {
        run: run.id.clone(),
        playbook: run.playbook.name.clone(),
        deployment: run.deployment.clone(),
        verdict: verdict.into(),
        why: refused.into_iter().chain(why(run)).collect::<Vec<_>>().join("; "),
        started_at: run.begun_at.unwrap_or(run.created_at),
        ended_at: run.ended_at,
        steps: run.steps.iter().map(step_sentence).collect(),
    }
}

/// `restart on checkout (checkout-3): not_cured: the symptom was still there after 5m; steps: restart: done in 2.1s`
pub(super) fn sentence(run: &Run) -> String {
    let facts = facts_of_run(run);
    let mut text = format!("{} on {} ({}): {}", facts.playbook, facts.deployment, facts.run, facts.verdict);
    if !facts.why.is_empty() {
        text.push_str(&format!(": {}", facts.why));
    }
    if !facts.steps.is_empty() {
        text.push_str(&format!("; steps: {}", facts.steps.join(", ")));
    }
    text
}

impl Remedy {
    pub(super) fn facts_of(&self, key: &AlertKey) -> Option<RemediationFacts> {
        let ladder = self.ladders.get(key)?;
        let state = match &ladder.stand {
            Stand::Judging if ladder.judging.is_some() => "working",
            _ if ladder.over && !matches!(ladder.stand, Stand::Run(_) | Stand::Fan(_)) => "idle",
            // between firing and the first act
            Stand::Due => "waiting",
            Stand::Run(run) if self.runs.get(run).is_some_and(Run::is_waiting) => "waiting",
            Stand::Run(_) | Stand::Fan(_) | Stand::Judging => "working",
            Stand::Resting(_) => "resting",
            Stand::Exhausted => "exhausted",
            Stand::Stopped => "stopped",
        };
        Some(RemediationFacts {
            state: state.into(),
            rung: ladder.rung,
            rungs: ladder.rungs,
            runs: ladder.runs.iter().filter_map(|id| self.runs.get(id)).map(facts_of_run).collect(),
        })
    }

    /// A run with the steps of its parts under way.
    pub(super) fn view(&self, run: &Run) -> RunView {
        let parts = self.parts_of(&run.id);
        let below = parts.iter().filter_map(|part| self.runs.get(part)).flat_map(|part| &part.steps);
        run_view(run, run.steps.iter().chain(below).cloned().collect())
    }

    pub(super) fn show_engine(&self, turn: &mut Turn<'_>) {
        let view = EngineView {
            policy_version: turn.policy.version.clone(),
            policy_loaded_at: self.policy_loaded_at,
            policy_errors: self.policy_errors.clone(),
            rules: turn.policy.rules.len(),
            playbooks: turn.policy.playbooks.len(),
            paused: self.paused.clone(),
            maintenance: self.memory.open(turn.now).map(|(id, one)| maintenance_view(id, one)).collect(),
            guard_mode: turn.policy.guards.mode.as_str().into(),
        };
        turn.show(Change::Engine(Box::new(view)));
    }
}
