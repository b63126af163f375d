//! Alerts from elsewhere: they live as those of rules do, with no `for` and the cooldown of their remediation.

use std::time::Duration;

use super::entry::{Entry, Kind};
use super::{Alerts, texts};
use crate::lifecycle::{Move, Sight, Terms};
use crate::turn::Turn;
use selfheal_messages::{POSTED_KEPT, PostedNow};
use selfheal_model::{AlertKey, Labels, Severity, Timestamp};
use selfheal_policy::Policy;
use selfheal_script::Truth;

/// What other systems call the text that says what is wrong, the best first.
const SUMMARIES: [&str; 3] = ["summary", "description", "message"];

impl Alerts {
    pub fn posted(&mut self, turn: &mut Turn<'_>, posted: PostedNow) {
        let known = self.entries.remove(&posted.key);
        if known.is_none() && posted.stands != Truth::True {
            return;
        }
        let comes_back = posted.stands == Truth::True && known.as_ref().is_some_and(|known| known.alert.ran_out);
        let terms = terms(&turn.policy, &posted.key, posted.severity, posted.ran_out || comes_back);
        let mut entry = known.unwrap_or_else(|| Entry::posted(posted.key.clone(), terms.clone(), turn.now));
        entry.terms = terms;
        entry.place(&turn.policy);
        let mut moves = entry.life.adopt(turn.now, &entry.terms);
        moves.extend(entry.take_posted(turn.now, posted));
        self.settle(turn, entry, moves);
    }

    /// Goes on under a new policy; what it is and how bad detect says in this turn.
    pub(super) fn adopt_posted(&mut self, turn: &mut Turn<'_>, mut entry: Entry) {
        entry.terms = terms(&turn.policy, &entry.alert.key, entry.alert.severity, entry.alert.ran_out);
        entry.place(&turn.policy);
        let moves = entry.life.adopt(turn.now, &entry.terms);
        self.settle(turn, entry, moves);
    }
}

impl Entry {
    fn posted(key: AlertKey, terms: Terms, at: Timestamp) -> Entry {
        let labels = key.scope.clone();
        let mut entry = Entry::quiet(key, labels, terms, Kind::Posted, at);
        entry.alert.labels = entry.labels();
        entry
    }

    fn take_posted(&mut self, now: Timestamp, posted: PostedNow) -> Vec<Move> {
        let PostedNow { stands, severity, annotations, generator_url, began_at, evidence, ran_out, .. } = posted;
        let clear = match &stands {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            unknown => unknown.clone(),
        };
        let sight = Sight { when: stands, clear, blind: false };
        let moves = self.life.see(now, [(severity, &sight)], &self.terms);
        self.alert.evidence = evidence;
        self.alert.summary = summary(&self.alert.key, &annotations);
        self.alert.annotations = annotations;
        self.alert.generator_url = generator_url;
        self.alert.began_at = began_at;
        if self.life.is_firing() {
            return moves;
        }
        self.alert.ran_out = ran_out;
        moves
    }

    /// Whose alert it is: what its label says, or what would be repaired for it.
    fn place(&mut self, policy: &Policy) {
        let key = &self.alert.key;
        let repaired = || policy.remediations.of(key).and_then(|remediation| remediation.deployment_of(&key.scope));
        self.alert.deployment = key.deployment().or_else(repaired);
    }
}

/// The episode of one that ran out goes on while it may come again: its ladder does not begin anew because whoever posts it was
/// away.
fn terms(policy: &Policy, key: &AlertKey, severity: Severity, ran_out: bool) -> Terms {
    let cooldown = policy.remediations.of(key).map_or(Duration::ZERO, |remediation| remediation.cooldown);
    let cooldown = if ran_out { cooldown.max(POSTED_KEPT) } else { cooldown };
    Terms { cooldown, ..Terms::immediate(severity) }
}

fn summary(key: &AlertKey, annotations: &Labels) -> String {
    let said = SUMMARIES.into_iter().find_map(|name| annotations.get(name).filter(|text| !text.trim().is_empty()));
    said.map_or_else(|| texts::built_in(key), str::to_owned)
}
