//! What has been done about an alert, what is next, and what every guard says of it now.

use super::fan::is_in;
use super::guards::{labels_of, targets};
use super::state::{Cause, LadderState, Rest, Run, Stand};
use super::{Remedy, Timer, views};
use crate::alerts::Alerts;
use crate::guard;
use selfheal_contract::explanation::{Explanation, LadderExplained, RungExplained, TimerExplained};
use selfheal_contract::view::GuardView;
use selfheal_model::{AlertKey, DeploymentId, Labels, RunId, Severity, Timestamp};
use selfheal_policy::Policy;
use selfheal_policy::ladder::{On, Rung};
use selfheal_script::Truth;

impl Remedy {
    pub(crate) fn explain(&self, policy: &Policy, alerts: &Alerts, key: &AlertKey, explained: &mut Explanation) {
        let now = explained.at;
        let Some(ladder) = self.ladders.get(key) else {
            let severity = explained.alert.as_ref().map(|alert| alert.severity);
            let has = Severity::ALL.into_iter().any(|level| policy.ladder_of(key, level).is_some());
            let of_level = severity.is_none_or(|level| policy.ladder_of(key, level).is_some());
            match (has, of_level, &explained.alert) {
                (false, ..) if key.is_posted() => {
                    explained.because.push("nothing is repaired for it: none of `remediations` matches".to_owned());
                }
                (false, ..) => explained.because.push(format!("{} repairs nothing: it has no `remediate`", key.rule)),
                (true, false, Some(alert)) => {
                    let text = format!("{} repairs nothing at severity {}", key.rule, alert.severity);
                    explained.because.push(text);
                }
                _ => {}
            }
            return;
        };
        explained.because.push(self.stand_sentence(ladder));
        self.explain_timers(key, ladder, explained);
        let rung = self.rung_of(policy, key);
        let rungs = rung.as_ref().map(|(rungs, _)| rungs.clone());
        let name = |index: usize| rungs.as_ref().and_then(|rungs| Some(rungs.rungs.get(index)?.playbook.to_string()));
        let count = rungs.as_ref().map_or(ladder.rungs, |rungs| rungs.rungs.len());
        let named = |index: usize, run: &Run| name(index).is_some_and(|name| run.playbook.name.as_str() == name);
        // of a level below, or of a rung that a save has moved, only the playbook tells where it belongs
        let place_of = |run: &Run| {
            let own = run.made_for.filter(|_| run.level == Some(ladder.level)).map(|made_for| made_for.rung);
            own.filter(|own| named(*own, run)).or_else(|| (0..count).find(|index| named(*index, run)))
        };
        let runs = || ladder.runs.iter().filter_map(|id| self.runs.get(id));
        let explained_rungs = (0..count).filter_map(|index| {
            let playbook = name(index)?;
            let tried = runs().filter(|run| place_of(run) == Some(index)).map(|run| self.view(run)).collect();
            Some(RungExplained { current: index == ladder.rung, runs: tried, playbook })
        });
        let guards = self.guards_now(policy, alerts, key, now).unwrap_or_default();
        explained.ladder = Some(LadderExplained {
            state: self.facts_of(key).map(|facts| facts.state).unwrap_or_default(),
            rungs: explained_rungs.collect(),
            guards,
        });
    }

    /// What the guards say of the rung that is next, or of the run that waits.
    fn guards_now(&self, policy: &Policy, alerts: &Alerts, key: &AlertKey, now: Timestamp) -> Option<Vec<GuardView>> {
        let waiting = self.runs_of(key).into_iter().filter_map(|id| self.runs.get(&id)).find(|run| run.is_waiting());
        let made;
        let run = match waiting {
            Some(run) => run,
            None => {
                let (rungs, index) = self.rung_of(policy, key)?;
                let rung = rungs.rungs.get(index)?;
                let playbook = policy.playbooks.get(&rung.playbook)?.clone();
                let deployment = self.next_target(policy, alerts, key, rung)?;
                made = Run::new(RunId::new(""), playbook, deployment, Cause::Alert(key.clone()), now);
                &made
            }
        };
        let targets = targets(policy, &run.playbook, &run.deployment).ok()?;
        let evidence = alerts.get(key).map(|alert| alert.evidence);
        self.survey.forget();
        let situation = self.situation(policy, alerts, run, &targets, now, evidence);
        Some(guard::ask(&policy.guards, &situation).0.iter().map(views::guard_view).collect())
    }

    /// The deployment a rung would begin on, where that can be told without asking: of several the first; of one that a text
    /// names, that of its last run.
    fn next_target(&self, policy: &Policy, alerts: &Alerts, key: &AlertKey, rung: &Rung) -> Option<DeploymentId> {
        let in_scope = |labels: &Labels| key.is_posted() || is_in(&key.scope, labels);
        match &rung.on {
            None => Remedy::own_deployment(alerts, key),
            Some(on @ On::Deployment(_)) => on.literal().or_else(|| {
                let own = |run: &&Run| run.made_for.is_some_and(|made_for| made_for.identity == rung.identity());
                let runs = self.ladders.get(key)?.runs.iter().rev();
                runs.filter_map(|id| self.runs.get(id)).find(own).map(|run| run.deployment.clone())
            }),
            Some(On::Firing(rule)) => {
                let firing = alerts.firing_of(rule).filter(|one| !one.key.is_posted() && in_scope(&one.labels));
                firing.filter_map(|one| one.deployment.clone()).min()
            }
            Some(On::Select(select)) => {
                let all = policy.deployments.values().map(|one| (one.id.clone(), labels_of(one)));
                all.filter(|(_, labels)| select.matches(labels) && in_scope(labels)).map(|(id, _)| id).min()
            }
        }
    }

    fn explain_timers(&self, key: &AlertKey, ladder: &LadderState, explained: &mut Explanation) {
        let mut timer = |timer: Timer, what: String| {
            if let Some(at) = self.timers.deadline_of(&timer) {
                explained.timers.push(TimerExplained { what, at });
            }
        };
        let rung = ladder.rung + 1;
        let next = match ladder.stand {
            Stand::Judging => format!("the time in which what rung {rung} has done has to show itself is over"),
            _ => format!("rung {rung} is due"),
        };
        timer(Timer::Ladder(key.clone()), next);
        timer(Timer::HoldRung(key.clone()), format!("rung {rung} has been clear for long enough to count as cured"));
        for id in self.runs_of(key) {
            timer(Timer::Again(id.clone()), format!("{id} asks its guards again"));
            timer(Timer::GiveUp(id.clone()), format!("people are told that {id} has waited for long"));
            timer(Timer::Step(id.clone()), format!("the time of the step of {id} is over"));
            timer(Timer::Hold(id.clone()), format!("{id} has been clear for long enough to count as cured"));
            timer(Timer::Within(id.clone()), format!("the verification of {id} is over"));
            timer(Timer::Deadline(id.clone()), format!("{id} has taken as long as a run may"));
            if let Some(approval) = self.runs.get(&id).and_then(|run| run.approval.clone()) {
                timer(Timer::Approval(approval.clone()), format!("{approval} counts as denied if nobody answers"));
            }
        }
    }

    fn stand_sentence(&self, ladder: &LadderState) -> String {
        let rung = format!("rung {} of {}", ladder.rung + 1, ladder.rungs);
        let last = ladder.runs.last().and_then(|id| self.runs.get(id)).map(views::sentence);
        let after = last.map(|last| format!("; the last run was: {last}")).unwrap_or_default();
        match &ladder.stand {
            Stand::Due => format!("its ladder is about to try {rung}{after}"),
            Stand::Run(id) => match self.runs.get(id) {
                Some(run) => format!("its ladder is at {rung}: {}", self.run_sentence(run)),
                None => format!("its ladder is at {rung}"),
            },
            Stand::Fan(fan) => {
                format!("its ladder is at {rung}: {} runs live, {} to come", fan.live.len(), fan.waiting.len())
            }
            Stand::Judging => {
                let seen = match ladder.judging.as_ref().map(|judging| &judging.seen.truth) {
                    Some(Truth::True) => "the alert is clear since",
                    Some(Truth::False) => "the alert is not clear yet",
                    _ => "there is no data since",
                };
                format!("{rung} has run on all its targets, and is judged by what came after that: {seen}")
            }
            Stand::Resting(Rest::Clear) => format!("its ladder rests: the alert is clear{after}"),
            Stand::Resting(Rest::Cured) => format!("its ladder rests: it counts as cured{after}"),
            Stand::Resting(Rest::WentAway) => {
                format!("its ladder rests: the symptom went before anything was done{after}")
            }
            Stand::Exhausted => format!("no rung is left; a person is needed{after}"),
            Stand::Stopped => format!("its ladder has stopped until `selfheal retry` or a new episode{after}"),
        }
    }

    fn run_sentence(&self, run: &Run) -> String {
        let waits = match (&run.approval, &run.refusal) {
            (Some(approval), _) => format!(" waits for a person: selfheal approve {approval}"),
            (None, Some(refusal)) => format!(" is refused by {}: {refusal}", refusal.guard()),
            (None, None) if run.is_waiting() => " waits".to_owned(),
            (None, None) => " is under way".to_owned(),
        };
        format!("{} on {} ({}){waits}", run.playbook.name, run.deployment, run.id)
    }
}
