//! The life of a run: its states and the one table of transitions between them.
//!
//! A [`Course`] knows how many steps there are, where the run stands and what has happened so far; it is told how a
//! step ended, what interrupted the run, what the verification came to, and says where the run stands then. It knows
//! nothing of conditions, adapters or time.
//!
//! Invariants: a run moves forward only (`steps → undo → rescue → finally → verify → ended`); once an acting step has
//! begun `finally` is gone through whatever happens; a run that failed, was cancelled or ended in doubt is never cured.

#[cfg(test)]
mod tests;

use selfheal_policy::playbook::{OnFailure, Playbook, Section};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum At {
    Step(Section, usize),
    Verify,
    Ended(Verdict),
}

/// What a run achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    Cured,
    /// Cured, as far as a check tells that was relaxed for a while.
    Eased,
    /// There was nothing to verify.
    Done,
    NotCured,
    Inconclusive,
    /// Clear before the first acting step; counted nowhere.
    WentAway,
    Refused,
    /// A person said no, or nobody answered in time.
    Denied,
    Cancelled,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Cured => "cured",
            Verdict::Eased => "cured(eased)",
            Verdict::Done => "done",
            Verdict::NotCured => "not_cured",
            Verdict::Inconclusive => "inconclusive",
            Verdict::WentAway => "went_away",
            Verdict::Refused => "refused",
            Verdict::Denied => "denied",
            Verdict::Cancelled => "cancelled",
        }
    }
}

/// How a step ended, as far as the next one is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StepResult {
    Done,
    /// Its `if` is false.
    Skipped,
    Failed {
        best_effort: bool,
    },
    /// It may or may not have happened, and nobody could tell in time.
    Unsettled,
}

/// What may come between the steps of a run. Ordered: a later one outweighs an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Interrupt {
    /// The symptom is gone.
    SymptomGone,
    /// Whether the symptom is there cannot be told, or a live guard says no: no further acting step begins.
    MayNotAct,
    /// It has taken longer than a run may.
    Deadline,
    /// A person said no to going on, or nobody answered in time.
    Denied,
    /// By an operator, or because its rule, playbook or alert is gone.
    Cancelled,
}

/// What the verification came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verified {
    /// Clear for `hold`, in time.
    Clear,
    /// At the end of `within`: known to be there still.
    StillThere,
    /// At the end of `within`: no data, or clear for too short.
    NotKnown,
}

/// What a run's playbook looks like from here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    pub steps: usize,
    /// For each of the steps: whether it can be undone.
    pub undo: Vec<bool>,
    pub rescue: usize,
    pub finally: usize,
    pub on_failure: OnFailure,
    /// There is an alert, or the playbook says `until`.
    pub verifies: bool,
    /// Nothing is done for real: whatever comes of it, it was refused.
    pub observed: bool,
}

impl Shape {
    pub fn of(playbook: &Playbook, has_alert: bool, observed: bool) -> Self {
        Shape {
            steps: playbook.steps.len(),
            undo: playbook.steps.iter().map(|step| step.can_be_undone()).collect(),
            rescue: playbook.rescue.len(),
            finally: playbook.finally.len(),
            on_failure: playbook.on_failure,
            verifies: has_alert || playbook.verify.until.is_some(),
            observed,
        }
    }
}

/// A run's way through its playbook.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Course {
    shape: Shape,
    at: At,
    acted: bool,
    failed: bool,
    in_doubt: bool,
    interrupt: Option<Interrupt>,
    /// Steps that ended done and can be undone, in order.
    undoable: Vec<usize>,
}

impl Course {
    pub fn begin(shape: Shape) -> Self {
        let mut course = Course {
            shape,
            at: At::Verify,
            acted: false,
            failed: false,
            in_doubt: false,
            interrupt: None,
            undoable: Vec::new(),
        };
        course.at = course.step_or(Section::Steps, 0, Course::close);
        course
    }

    pub fn at(&self) -> At {
        self.at
    }

    /// An acting step has begun at least once.
    pub fn acted(&self) -> bool {
        self.acted
    }

    pub fn failed(&self) -> bool {
        self.failed
    }

    pub fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    pub fn interrupt(&self) -> Option<Interrupt> {
        self.interrupt
    }

    /// What came between ends the section it is at: nothing of it is tried again.
    pub fn is_leaving(&self) -> bool {
        matches!(self.at, At::Step(section, _) if self.leaves(section))
    }

    /// To be said before an acting step's first call is released.
    pub fn acting_step_begins(&mut self) {
        self.acted = true;
    }

    /// The step at [`Course::at`] has ended.
    pub fn step_ended(&mut self, result: StepResult) -> At {
        let At::Step(section, index) = self.at else { return self.at };
        self.at = match result {
            StepResult::Unsettled => {
                self.in_doubt = true;
                // cleaning up goes on: each of its steps is worth its try
                if section == Section::Finally { self.next_in(section, index) } else { self.close() }
            }
            StepResult::Failed { best_effort: false } => self.failed_in(section, index),
            StepResult::Done => {
                if section == Section::Steps && self.shape.undo.get(index) == Some(&true) {
                    self.undoable.push(index);
                }
                self.go_on(section, index)
            }
            StepResult::Skipped | StepResult::Failed { best_effort: true } => self.go_on(section, index),
        };
        self.at
    }

    /// Something came between. While a step is under way (`in_step`) it takes effect at the step's end.
    pub fn interrupted(&mut self, why: Interrupt, in_step: bool) -> At {
        self.interrupt = self.interrupt.max(Some(why));
        match self.at {
            At::Step(section, _) if !in_step && self.leaves(section) => self.at = self.close(),
            At::Verify if why >= Interrupt::Deadline => {
                self.at = At::Ended(self.conclusion().unwrap_or(Verdict::Inconclusive))
            }
            At::Step(..) | At::Verify | At::Ended(_) => {}
        }
        self.at
    }

    /// The run has to end now, wherever it stands: even its cleaning up has taken too long.
    pub fn broken_off(&mut self) -> At {
        if !matches!(self.at, At::Ended(_)) {
            self.interrupt = self.interrupt.max(Some(Interrupt::Deadline));
            self.at = At::Ended(self.conclusion().unwrap_or(Verdict::Inconclusive));
        }
        self.at
    }

    pub fn verified(&mut self, verified: Verified) -> At {
        if self.at == At::Verify {
            self.at = At::Ended(self.as_observed(match verified {
                Verified::Clear => Verdict::Cured,
                Verified::StillThere => Verdict::NotCured,
                Verified::NotKnown => Verdict::Inconclusive,
            }));
        }
        self.at
    }

    /// After a step that does not stop the run.
    fn go_on(&mut self, section: Section, index: usize) -> At {
        if self.leaves(section) { self.close() } else { self.next_in(section, index) }
    }

    fn next_in(&mut self, section: Section, index: usize) -> At {
        match section {
            Section::Steps | Section::Finally | Section::Rescue => {
                let then = if section == Section::Finally { Course::conclude } else { Course::close };
                self.step_or(section, index + 1, then)
            }
            Section::Undo => self.undo_or_rescue(),
        }
    }

    fn failed_in(&mut self, section: Section, index: usize) -> At {
        match section {
            Section::Steps => {
                self.failed = true;
                match self.shape.on_failure {
                    // also where the symptom went while the failing step was under way
                    OnFailure::Undo if !self.leaves(Section::Undo) => self.undo_or_rescue(),
                    OnFailure::Undo | OnFailure::Stop => self.step_or(Section::Rescue, 0, Course::close),
                }
            }
            // what was done before it is not undone: it may build on what is still there
            Section::Undo if self.leaves(section) => self.close(),
            Section::Undo => self.step_or(Section::Rescue, 0, Course::close),
            Section::Rescue => self.close(),
            Section::Finally => self.next_in(section, index),
        }
    }

    /// Whether what came between ends this section early.
    fn leaves(&self, section: Section) -> bool {
        match (section, self.interrupt) {
            (_, None) | (Section::Finally, _) => false,
            // undoing is owed whether the symptom is there or not
            (Section::Undo, Some(why)) => why >= Interrupt::Deadline,
            (Section::Steps | Section::Rescue, Some(_)) => true,
        }
    }

    fn undo_or_rescue(&mut self) -> At {
        match self.undoable.pop() {
            Some(index) => At::Step(Section::Undo, index),
            None => self.step_or(Section::Rescue, 0, Course::close),
        }
    }

    fn step_or(&mut self, section: Section, index: usize, otherwise: fn(&mut Course) -> At) -> At {
        let steps = match section {
            Section::Steps => self.shape.steps,
            Section::Undo => self.shape.undo.len(),
            Section::Rescue => self.shape.rescue,
            Section::Finally => self.shape.finally,
        };
        if index < steps && !self.leaves(section) { At::Step(section, index) } else { otherwise(self) }
    }

    /// No step of `steps`, `undo` or `rescue` is left.
    fn close(&mut self) -> At {
        if self.acted { self.step_or(Section::Finally, 0, Course::conclude) } else { self.conclude() }
    }

    fn conclude(&mut self) -> At {
        match self.conclusion() {
            Some(verdict) => At::Ended(verdict),
            None => At::Verify,
        }
    }

    /// The verdict where no verification is needed; `None`: verify.
    fn conclusion(&self) -> Option<Verdict> {
        let verdict = match self.interrupt {
            Some(Interrupt::Cancelled) => return Some(Verdict::Cancelled),
            Some(Interrupt::Denied) => return Some(Verdict::Denied),
            Some(Interrupt::Deadline) => Verdict::Inconclusive,
            _ if self.in_doubt => Verdict::Inconclusive,
            _ if self.failed => Verdict::NotCured,
            Some(Interrupt::SymptomGone) if !self.acted => return Some(Verdict::WentAway),
            Some(Interrupt::MayNotAct) if !self.acted => return Some(Verdict::Refused),
            _ if self.shape.verifies => return None,
            Some(Interrupt::MayNotAct) => Verdict::Inconclusive,
            Some(Interrupt::SymptomGone) | None => Verdict::Done,
        };
        Some(self.as_observed(verdict))
    }

    fn as_observed(&self, verdict: Verdict) -> Verdict {
        if self.shape.observed { Verdict::Refused } else { verdict }
    }
}
