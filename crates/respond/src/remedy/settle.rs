//! What becomes of a call of which nobody knows whether it happened.
//!
//! Invariant: the lease stays until an observation that was begun after the outcome says what happened, or until the verb's
//! `settle` is over: so long the system may still be at it. A look that failed says nothing, and is asked for again.

use super::state::{Call, Doing};
use super::steps::StepOver;
use super::{ASK_AGAIN, Remedy, Timer};
use crate::alerts::Alerts;
use crate::turn::Turn;
use selfheal_model::{DeploymentId, Facts, Map, RunId, Value, Verb};

/// Parameters that say where a verb goes to, with the facts that say where a deployment is.
const GOES_TO: [(&str, &str, &str); 5] = [
    ("scale", "replicas", "replicas"),
    ("scale", "cpu", "cpu_limit"),
    ("scale", "memory", "memory_limit"),
    ("scale", "disk", "disk_limit"),
    ("rollback", "to", "version"),
];

/// Whether what was seen is where this call was to go to: what it shows, as a sentence goes on. Verbs that go nowhere
/// leave nothing to be seen.
fn has_come_to(verb: &Verb, params: &Map, facts: &Facts) -> Option<String> {
    let mut shown = Vec::new();
    for (name, wanted) in params.iter().filter(|(_, wanted)| !wanted.is_null()) {
        let goes_to = |(own, param, _): &&(&str, &str, &str)| *own == verb.as_str() && *param == name.as_str();
        let (_, _, fact) = GOES_TO.iter().find(goes_to)?;
        let seen = facts.get(fact).filter(|seen| is_same(seen, wanted))?;
        shown.push(format!("{fact} is {}", seen.as_str().map_or_else(|| seen.to_string(), str::to_owned)));
    }
    (!shown.is_empty()).then(|| shown.join(", "))
}

/// `4` and `4.0` are the same.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

impl Remedy {
    /// A look at this deployment has ended; `None`: it failed.
    pub fn observed(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, deployment: &DeploymentId, facts: Option<&Facts>) {
        self.survey.forget();
        // while the call may still be going on, nothing that is seen says what will have come of it
        let waits = |call: &Call| call.target == *deployment && !call.at_large;
        let settling = self.runs.values().filter(|run| matches!(&run.doing, Doing::Settling(call) if waits(call)));
        let runs: Vec<_> = settling.map(|run| run.id.clone()).collect();
        for run in runs {
            self.looked_at(turn, alerts, &run, facts);
        }
        self.calm(turn, alerts);
    }

    fn looked_at(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, facts: Option<&Facts>) {
        let Some(Doing::Settling(call)) = self.runs.get_mut(id).map(|run| &mut run.doing) else { return };
        // one look at a time: the first that ends may have begun before the outcome was known, no later one has
        if !std::mem::replace(&mut call.looked, true) {
            let target = call.target.clone();
            return Remedy::look_at(turn, &target);
        }
        let shown = facts.and_then(|facts| has_come_to(&call.own_or_refresh(), &call.params, facts));
        match shown {
            Some(shown) => self.settled(turn, alerts, id, &shown),
            None if facts.is_some() && self.may_repeat(turn, id) => self.repeat_lost(turn, alerts, id),
            None => self.timers.set(Timer::Again(id.clone()), turn.now + ASK_AGAIN),
        }
    }

    /// What was seen says nothing yet: another look.
    pub(super) fn look_again(&mut self, turn: &mut Turn<'_>, id: &RunId) {
        if let Some(Doing::Settling(call)) = self.runs.get(id).map(|run| &run.doing) {
            Remedy::look_at(turn, &call.target);
        }
    }

    /// It has happened after all.
    fn settled(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, shown: &str) {
        self.timers.clear(&Timer::Again(id.clone()));
        self.note_act_ended(id, turn.now);
        let Some(run) = self.runs.get_mut(id) else { return };
        run.doing = Doing::Sleeping;
        let what = run.open_step().and_then(|record| record.message.take()).unwrap_or_default();
        let message = Some(format!("{what}; looked at since, {shown}"));
        self.step_over(turn, alerts, id, StepOver { message, ..StepOver::done() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes(verb: &str, params: &[(&str, Value)], facts: &[(&str, Value)]) -> Option<String> {
        let params: Map = params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let mut seen = Facts::default();
        facts.iter().for_each(|(name, value)| seen.set(name, value.clone()));
        has_come_to(&verb.into(), &params, &seen)
    }

    #[test]
    fn only_what_goes_to_a_place_can_be_seen_to_be_there() {
        let four = Value::from(4);
        assert_eq!(
            comes("scale", &[("replicas", four.clone())], &[("replicas", Value::from(4.0))]).as_deref(),
            Some("replicas is 4.0")
        );
        assert_eq!(comes("scale", &[("replicas", four.clone())], &[("replicas", Value::from(2))]), None);
        assert_eq!(comes("scale", &[("replicas", four.clone())], &[]), None);
        let both = [("replicas", four.clone()), ("memory", Value::from(512))];
        assert_eq!(comes("scale", &both, &[("replicas", four.clone())]), None, "only half of it is there");
        assert_eq!(comes("scale", &[("replicas", four.clone()), ("how", four.clone())], &[("replicas", four)]), None);
        let to = |version: &str| [("to", Value::from(version))];
        let at = [("version", Value::from("v41"))];
        assert_eq!(comes("rollback", &to("v41"), &at).as_deref(), Some("version is v41"));
        assert_eq!(comes("rollback", &to("previous"), &at), None);
        assert_eq!(comes("restart", &[], &at), None, "a restart goes nowhere");
    }
}
