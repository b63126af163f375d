//! Steps that are made of steps: another playbook, several at the same time, and undoing those.
//!
//! Each part is a run of its own below the run it belongs to: it has its own course and records, and no lease, slot,
//! budget, deadline or word to people; those are the whole's. Invariant: a part lives only while the step it is of is
//! under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::exec::Rendered;
use super::state::{Doing, Part, PartEnd, Run, Together};
use super::steps::StepOver;
use super::{Remedy, Timer, inputs};
use crate::alerts::Alerts;
use crate::run::{At, Course, Interrupt, Shape, StepResult, Verdict};
use crate::turn::Turn;
use selfheal_model::{FailureClass, PlaybookName, RunId, StepId, Timestamp};
use selfheal_policy::Policy;
use selfheal_policy::playbook::{Playbook, Section, Step, StepKind};

/// Every playbook a run may come to, by its steps of kind `playbook`, deepest included.
pub(super) fn subs_of(policy: &Policy, playbook: &Playbook) -> BTreeMap<PlaybookName, Arc<Playbook>> {
    fn collect(policy: &Policy, playbook: &Playbook, into: &mut BTreeMap<PlaybookName, Arc<Playbook>>) {
        for step in playbook.all_steps().map(|(_, step)| step) {
            if let StepKind::Playbook { name, .. } = &step.kind
                && !into.contains_key(name)
                && let Some(sub) = policy.playbooks.get(name)
            {
                into.insert(name.clone(), sub.clone());
                collect(policy, sub, into);
            }
        }
    }
    let mut subs = BTreeMap::new();
    collect(policy, playbook, &mut subs);
    subs
}

impl Part {
    /// The steps of this part, of the playbook `whole` that the run above it goes through.
    pub fn playbook(&self, whole: &Arc<Playbook>) -> Option<Arc<Playbook>> {
        let of = |steps: Vec<Step>| {
            let mut part = Playbook::empty(whole.name.clone());
            (part.source, part.steps) = (whole.source.clone(), steps);
            Some(Arc::new(part))
        };
        match self {
            Part::Whole => Some(whole.clone()),
            Part::Branch { section, index, branch } => {
                let StepKind::Parallel(branches) = section.step(whole, *index)?.kind else { return None };
                of(vec![branches.get(*branch)?.clone()])
            }
            Part::Undo { index, branches } => {
                let StepKind::Parallel(all) = &whole.steps.get(*index)?.kind else { return None };
                let undo = |place: &usize| all.get(*place)?.undo.as_deref().cloned();
                of(branches.iter().rev().filter_map(undo).collect())
            }
        }
    }
}

impl Remedy {
    /// The run that has the lease.
    pub(super) fn root_of(&self, id: &RunId) -> RunId {
        let mut root = id.clone();
        while let Some(parent) = self.runs.get(&root).and_then(|run| run.parent.clone()) {
            root = parent;
        }
        root
    }

    /// The parts under way of a run, and theirs.
    pub(super) fn parts_of(&self, id: &RunId) -> Vec<RunId> {
        let mut parts = Vec::new();
        if let Some(Doing::Together(together)) = self.runs.get(id).map(|run| &run.doing) {
            for part in &together.live {
                parts.push(part.clone());
                parts.extend(self.parts_of(part));
            }
        }
        parts
    }

    /// This run and every one above it.
    pub(super) fn lineage(&self, id: &RunId) -> Vec<RunId> {
        let mut lineage = vec![id.clone()];
        while let Some(parent) = lineage.last().and_then(|id| self.runs.get(id)).and_then(|run| run.parent.clone()) {
            lineage.push(parent);
        }
        lineage
    }

    /// Whether it is one of several at the same time, or part of one.
    pub(super) fn is_beside_others(&self, id: &RunId) -> bool {
        let lineage = self.lineage(id);
        lineage.iter().filter_map(|id| self.runs.get(id)).any(|run| matches!(run.part, Part::Branch { .. }))
    }

    /// Whether the steps at this place of a run need the symptom: cleaning up and undoing do not, nor does any part of it.
    pub(super) fn needs_symptom(&self, id: &RunId) -> bool {
        self.lineage(id).iter().filter_map(|id| self.runs.get(id)).all(|run| match run.course.at() {
            At::Step(section, _) => section.needs_symptom(),
            At::Verify | At::Ended(_) => false,
        })
    }

    /// The last acting step of a run has ended, and so that of every run it is part of.
    pub(super) fn note_act_ended(&mut self, id: &RunId, now: Timestamp) {
        for id in self.lineage(id) {
            if let Some(run) = self.runs.get_mut(&id) {
                run.last_act_ended = Some(now);
            }
        }
    }

    /// Begins a step that runs another playbook.
    pub(super) fn begin_playbook(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        step: &Step,
        name: &PlaybookName,
        rendered: Rendered,
    ) {
        let Some(run) = self.runs.get(id) else { return };
        let failed = |why: String| StepOver::failed(step.best_effort, FailureClass::Permanent, why);
        let Some(playbook) = run.subs.get(name).cloned() else {
            let over = failed(format!("there was no playbook {name} when this run began"));
            return self.step_over(turn, alerts, id, over);
        };
        match inputs::typed(&playbook.inputs, &rendered.params) {
            Ok(inputs) => {
                let part = self.part(turn, id, &step.id, Part::Whole, playbook);
                if let Some(part) = part.and_then(|part| self.runs.get_mut(&part)) {
                    part.inputs = inputs;
                }
                self.go_together(turn, alerts, id, step);
            }
            Err(why) => self.step_over(turn, alerts, id, failed(why)),
        }
    }

    /// Begins a step of several at the same time; in `undo`, the undoing of those that ended done, last first.
    pub(super) fn begin_parallel(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, step: &Step) {
        let Some(run) = self.runs.get(id) else { return };
        let (At::Step(section, index), StepKind::Parallel(branches)) = (run.course.at(), &step.kind) else { return };
        let whole = run.playbook.clone();
        let parts: Vec<(StepId, Part)> = if section == Section::Undo {
            let done = |branch: &Step| {
                let name = format!("{}{}", run.prefix, branch.id);
                run.steps.iter().any(|record| record.id == name && record.outcome == "done")
            };
            let undone = branches.iter().enumerate().filter(|(_, branch)| branch.undo.is_some() && done(branch));
            let branches = undone.map(|(place, _)| place).collect();
            vec![(StepId::new(format!("{}-undo", step.id)), Part::Undo { index, branches })]
        } else {
            let part = |(branch, step): (usize, &Step)| (step.id.clone(), Part::Branch { section, index, branch });
            branches.iter().enumerate().map(part).collect()
        };
        for (name, part) in parts {
            if let Some(playbook) = part.playbook(&whole) {
                self.part(turn, id, &name, part, playbook);
            }
        }
        self.go_together(turn, alerts, id, step);
    }

    /// Makes a part of a run; it begins with [`Remedy::go_together`].
    fn part(
        &mut self,
        turn: &Turn<'_>,
        above: &RunId,
        name: &StepId,
        part: Part,
        playbook: Arc<Playbook>,
    ) -> Option<RunId> {
        let parent = self.runs.get(above)?;
        let id = RunId::new(format!("{above}/{name}"));
        let shape = Shape {
            // the alert is the whole's to judge
            verifies: part == Part::Whole && playbook.verify.until.is_some(),
            ..Shape::of(&playbook, false, parent.observed.is_some())
        };
        let run = Run {
            id: id.clone(),
            parent: Some(above.clone()),
            prefix: if part == Part::Whole { format!("{}{name}.", parent.prefix) } else { parent.prefix.clone() },
            part,
            deployment: parent.deployment.clone(),
            cause: parent.cause.clone(),
            level: parent.level,
            inputs: parent.inputs.clone(),
            policy: parent.policy.clone(),
            subs: parent.subs.clone(),
            begun_at: Some(turn.now),
            doing: Doing::Sleeping,
            course: Course::begin(shape),
            last_act_ended: parent.last_act_ended,
            observed: parent.observed,
            depth: parent.depth,
            ..Run::new(id.clone(), playbook, parent.deployment.clone(), parent.cause.clone(), turn.now)
        };
        self.runs.insert(id.clone(), run);
        let above = self.runs.get_mut(above)?;
        match &mut above.doing {
            Doing::Together(together) => {
                together.live.insert(id.clone());
            }
            doing => {
                let live = [id.clone()].into_iter().collect();
                *doing = Doing::Together(Together { live, ended: Vec::new() });
            }
        }
        Some(id)
    }

    fn go_together(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, step: &Step) {
        self.timers.set(Timer::Step(id.clone()), turn.now + step.timeout);
        self.show(turn, id);
        let Some(Doing::Together(together)) = self.runs.get(id).map(|run| &run.doing) else {
            return self.step_over(turn, alerts, id, StepOver::done());
        };
        for part in together.live.clone() {
            self.advance(turn, alerts, &part);
        }
    }

    /// A part has ended: its records become its run's; with the last one the step is over.
    pub(super) fn part_ended(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, verdict: Verdict) {
        let Some(part) = self.runs.remove(id) else { return };
        let Some(above) = part.parent.clone() else { return };
        let end = PartEnd { verdict, in_doubt: part.course.in_doubt(), why: part.why.join("; ") };
        let Some(run) = self.runs.get_mut(&above) else { return };
        run.steps.extend(part.steps);
        run.why.extend(part.why.into_iter().filter(|_| part.observed.is_some()));
        let Doing::Together(together) = &mut run.doing else { return };
        together.live.remove(id);
        together.ended.push(end);
        if !together.live.is_empty() {
            return self.show(turn, &above);
        }
        let ended = std::mem::take(&mut together.ended);
        run.doing = Doing::Sleeping;
        let best_effort = self.step_at(&above).is_some_and(|(_, _, step)| step.best_effort);
        self.step_over(turn, alerts, &above, together_over(&ended, best_effort));
    }

    /// What came between reaches every part, unless the run goes on with what it is at all the same.
    pub(super) fn interrupt_parts(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, why: Interrupt) {
        let Some(run) = self.runs.get(id) else { return };
        let goes_on = match run.course.at() {
            At::Step(Section::Finally, _) => true,
            At::Step(Section::Undo, _) => why < Interrupt::Deadline,
            _ => false,
        };
        let Doing::Together(together) = &run.doing else { return };
        for part in together.live.clone().into_iter().filter(|_| !goes_on) {
            self.interrupt(turn, alerts, &part, why);
        }
    }

    /// The step has taken longer than it may.
    pub(super) fn together_overdue(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(Doing::Together(together)) = self.runs.get(id).map(|run| &run.doing) else { return };
        for part in together.live.clone() {
            self.note(&part, "its step has taken longer than it may".to_owned());
            self.cancel_call(turn, &part);
            self.interrupt(turn, alerts, &part, Interrupt::Deadline);
        }
    }
}

/// How a step ended whose parts ended so: the worst of them decides.
fn together_over(ended: &[PartEnd], best_effort: bool) -> StepOver {
    let why = |wanted: fn(&PartEnd) -> bool| {
        let said = ended.iter().filter(|end| wanted(end) && !end.why.is_empty()).map(|end| end.why.as_str());
        said.collect::<Vec<_>>().join("; ")
    };
    let unsure = |end: &PartEnd| end.in_doubt || end.verdict == Verdict::Inconclusive;
    let failed = |end: &PartEnd| end.verdict == Verdict::NotCured;
    let left =
        |end: &PartEnd| !matches!(end.verdict, Verdict::Cured | Verdict::Eased | Verdict::Done | Verdict::NotCured);
    if ended.iter().any(unsure) {
        let message = Some(why(unsure));
        return StepOver { result: StepResult::Unsettled, outcome: "unknown", class: None, message };
    }
    if ended.iter().any(failed) {
        return StepOver::failed(best_effort, FailureClass::Permanent, why(failed));
    }
    if ended.iter().any(left) {
        return StepOver::skipped(&why(left));
    }
    StepOver::done()
}
