//! What a restored engine needs of the runs: their playbooks from the policies they are pinned to, what they wait for,
//! and all there is to show.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smol_str::SmolStr;

use super::Remedy;
use super::state::{Doing, Part, Run};
use crate::turn::Turn;
use selfheal_contract::effect::Effect;
use selfheal_contract::saved::RestoreError;
use selfheal_contract::view::Change;
use selfheal_messages::WatchId;
use selfheal_model::RunId;
use selfheal_policy::PolicyOf;
use selfheal_policy::playbook::{Playbook, StepKind};
use selfheal_script::Condition;

impl Remedy {
    /// Puts every run's playbook in place. One that has ended is only shown and needs none.
    ///
    /// # Errors
    /// A policy is not kept, or has no such playbook.
    pub(crate) fn relink(&mut self, policy_of: &mut PolicyOf<'_>) -> Result<(), RestoreError> {
        // a part comes after the run above it, whose playbook it may be of
        let mut linked: BTreeMap<RunId, Arc<Playbook>> = BTreeMap::new();
        for run in self.runs.values_mut() {
            let policy = policy_of(&run.policy);
            let named = policy.as_ref().and_then(|policy| policy.playbooks.get(&run.playbook.name).cloned());
            let above = run.parent.as_ref().and_then(|above| linked.get(above));
            let playbook = match run.part {
                Part::Whole => named,
                Part::Branch { .. } | Part::Undo { .. } => above.and_then(|above| run.part.playbook(above)),
            };
            match playbook {
                Some(playbook) => run.playbook = playbook,
                None if run.is_ended() => {}
                None => return Err(RestoreError::PolicyMissing(run.policy.clone())),
            }
            linked.insert(run.id.clone(), run.playbook.clone());
            for (name, sub) in &mut run.subs {
                let kept = policy.as_ref().and_then(|policy| policy.playbooks.get(name).cloned());
                match kept {
                    Some(kept) => *sub = kept,
                    None if run.doing.is_ended() => {}
                    None => return Err(RestoreError::PolicyMissing(run.policy.clone())),
                }
            }
        }
        Ok(())
    }

    /// The policies that runs which have not ended are pinned to.
    pub(crate) fn policy_versions(&self) -> BTreeSet<SmolStr> {
        self.runs.values().filter(|run| !run.is_ended()).map(|run| run.policy.clone()).collect()
    }

    /// The condition a run waits for.
    pub(crate) fn watched_condition(&self, id: &WatchId) -> Option<Condition> {
        match id {
            WatchId::Verify(run) => self.runs.get(run)?.playbook.verify.until.clone(),
            WatchId::Wait(run) => match self.step_at(run)?.2.kind {
                StepKind::WaitUntil { until, .. } => Some(until),
                _ => None,
            },
            // by what its alert is clear, which is none of a playbook's
            WatchId::Rung(_) => None,
        }
    }

    /// What runs and ladders watch, by their state.
    pub(crate) fn open_watches(&self) -> Vec<WatchId> {
        let of_run = |run: &Run| match run.doing {
            Doing::Verifying(_) => Some(WatchId::Verify(run.id.clone())),
            Doing::WaitingUntil => Some(WatchId::Wait(run.id.clone())),
            _ => None,
        };
        let judged = self.ladders.iter().filter(|(_, ladder)| ladder.judging.is_some());
        let of_ladders = judged.map(|(key, _)| WatchId::Rung(key.clone()));
        self.runs.values().filter_map(of_run).chain(of_ladders).collect()
    }

    /// Shows everything, and asks again for the probes under way.
    pub(crate) fn show_all(&self, turn: &mut Turn<'_>) {
        self.show_engine(turn);
        for view in self.approvals.values() {
            turn.show(Change::Approval(Box::new(view.clone())));
        }
        for run in self.runs.values() {
            if run.parent.is_none() {
                turn.show(Change::Run(Box::new(self.view(run))));
            }
            turn.effects.extend(self.probe_of(run));
        }
    }

    fn probe_of(&self, run: &Run) -> Option<Effect> {
        let Doing::Probing(attempt) = &run.doing else { return None };
        let StepKind::Check { check } = self.step_at(&run.id)?.2.kind else { return None };
        Some(Effect::Probe { deployment: run.deployment.clone(), check, attempt: attempt.clone() })
    }
}
