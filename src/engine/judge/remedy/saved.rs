//! What a restored engine needs of the runs: their playbooks from the policies they are pinned to, what they wait for,
//! and all there is to show.

use std::collections::BTreeSet;

use smol_str::SmolStr;

use super::Remedy;
use super::state::{Doing, Run};
use super::views;
use crate::engine::effect::Effect;
use crate::engine::judge::turn::Turn;
use crate::engine::message::WatchId;
use crate::engine::saved::{PolicyOf, RestoreError};
use crate::engine::view::Change;
use crate::playbook::StepKind;
use crate::script::Condition;

impl Remedy {
    /// Puts every run's playbook in place. One that has ended is only shown and needs none.
    ///
    /// # Errors
    /// A policy is not kept, or has no such playbook.
    pub(in crate::engine::judge) fn relink(&mut self, policy_of: &mut PolicyOf<'_>) -> Result<(), RestoreError> {
        for run in self.runs.values_mut() {
            let playbook = policy_of(&run.policy).and_then(|policy| policy.playbooks.get(&run.playbook.name).cloned());
            match playbook {
                Some(playbook) => run.playbook = playbook,
                None if run.is_ended() => {}
                None => return Err(RestoreError::PolicyMissing(run.policy.clone())),
            }
        }
        Ok(())
    }

    /// The policies that runs which have not ended are pinned to.
    pub(in crate::engine::judge) fn policy_versions(&self) -> BTreeSet<SmolStr> {
        self.runs.values().filter(|run| !run.is_ended()).map(|run| run.policy.clone()).collect()
    }

    /// The condition a run waits for.
    pub(in crate::engine::judge) fn watched_condition(&self, id: &WatchId) -> Option<Condition> {
        match id {
            WatchId::Verify(run) => self.runs.get(run)?.playbook.verify.until.clone(),
            WatchId::Wait(run) => match self.step_at(run)?.2.kind {
                StepKind::WaitUntil { until, .. } => Some(until),
                _ => None,
            },
        }
    }

    /// Shows everything, and asks again for the probes under way.
    pub(in crate::engine::judge) fn show_all(&self, turn: &mut Turn<'_>) {
        self.show_engine(turn);
        for run in self.runs.values() {
            turn.show(Change::Run(Box::new(views::run_view(run))));
            turn.effects.extend(self.probe_of(run));
        }
    }

    fn probe_of(&self, run: &Run) -> Option<Effect> {
        let Doing::Probing(attempt) = &run.doing else { return None };
        let StepKind::Check { check } = self.step_at(&run.id)?.2.kind else { return None };
        Some(Effect::Probe { deployment: run.deployment.clone(), check, attempt: attempt.clone() })
    }
}
