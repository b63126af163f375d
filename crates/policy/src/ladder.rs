//! Ladders: the ordered playbooks of a rule, and what the end of a run means for the next rung.

use std::time::Duration;

use selfheal_model::ids::fingerprint;
use selfheal_model::{DeploymentId, PlaybookName, RuleName, Selector};
use selfheal_script::{Condition, Param};

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
    /// `None`: the deployment of the alert's scope.
    pub on: Option<On>,
    /// A person allows each run before it begins.
    pub approval: bool,
    /// So many runs at a time where the rung has several targets; `None`: as many as the guards allow.
    pub batch: Option<u32>,
    /// The wait between one batch and the next.
    pub pause: Duration,
    /// The rung is run again after so long while the alert fires.
    pub repeat: Option<Duration>,
    /// A refusal that may pass is told to people after this.
    pub give_up: Duration,
}

/// A refusal that may pass is told to people after this, where the rung says nothing else.
pub const GIVE_UP: Duration = Duration::from_secs(30 * 60);
/// The same for the rungs of a rule that is upkeep: people hear nothing else of it.
pub const ROUTINE_GIVE_UP: Duration = Duration::from_secs(15 * 60);

impl Rung {
    /// One that says no more than its playbook.
    pub fn plain(playbook: PlaybookName, with: Vec<(String, Param)>) -> Self {
        Rung {
            playbook,
            with,
            if_: None,
            on: None,
            approval: false,
            batch: None,
            pause: Duration::ZERO,
            repeat: None,
            give_up: GIVE_UP,
        }
    }

    /// What a run of it is made for. With another playbook, or for other deployments, it is another rung; all else of it is
    /// read anew whenever its run asks whether it may begin.
    pub fn identity(&self) -> u64 {
        let on = match &self.on {
            None => String::new(),
            Some(On::Deployment(param)) => format!("deployment {}", text_of(param)),
            Some(On::Firing(rule)) => format!("firing {rule}"),
            Some(On::Select(select)) => {
                format!("select {:?}", select.0.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
        };
        fingerprint([self.playbook.as_str(), &on])
    }
}

fn text_of(param: &Param) -> String {
    match param {
        Param::Literal(value) => value.to_string(),
        Param::Template(template) => template.source().to_owned(),
        Param::List(_) | Param::Map(_) => String::new(),
    }
}

/// Which deployments a rung is for. Each has a run of its own, under every guard; the rung is judged by the alert.
#[derive(Clone)]
pub enum On {
    Deployment(Param),
    /// Those on which this rule fires.
    Firing(RuleName),
    Select(Selector),
}

/// A deployment named outright; what a text comes to is known only when the rung is tried.
impl On {
    pub fn literal(&self) -> Option<DeploymentId> {
        match self {
            On::Deployment(Param::Literal(value)) => value.as_str().map(DeploymentId::from),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_is_another_one_with_another_playbook_or_for_other_deployments() {
        let rung = |playbook: &str, on: Option<On>| Rung { on, ..Rung::plain(playbook.into(), Vec::new()) }.identity();
        let named = |id: &str| Some(On::Deployment(Param::Literal(id.into())));
        let select = |text: &str| Some(On::Select(Selector(vec![text.parse().expect("a matcher")])));
        let all = [
            rung("restart", None),
            rung("rollback", None),
            rung("restart", named("db")),
            rung("restart", named("ci")),
            rung("restart", Some(On::Firing("db".into()))),
            rung("restart", select("tier=db")),
            rung("restart", select("tier!=db")),
        ];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
        let asks = Rung { approval: true, batch: Some(2), ..Rung::plain("restart".into(), Vec::new()) };
        assert_eq!(asks.identity(), all[0], "how it is asked and gone through is read anew");
    }
}
