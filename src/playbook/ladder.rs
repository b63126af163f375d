//! Ladders: the ordered playbooks of a rule, and what the end of a run means for the next rung.

use std::time::Duration;

use crate::model::PlaybookName;
use crate::script::{Condition, Param};

/// The rungs for one rule at one severity, at least one.
#[derive(Clone)]
pub struct Ladder {
    pub rungs: Vec<Rung>,
}

#[derive(Clone)]
pub struct Rung {
    pub playbook: PlaybookName,
    pub with: Vec<(String, Param)>,
    pub if_: Option<Condition>,
    /// A refusal that may pass is told to people after this.
    pub give_up: Duration,
}
