//! Alerts that other systems raised and post here: true while they are posted again, clear only when they are posted as
//! over.
//!
//! Invariant: silence proves nothing. One that is not posted again has no data first, and then runs out: that ends it for
//! people, as it would in Alertmanager, and is no cure of anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::queries::Found;
use super::{Detect, Due};
use selfheal_messages::{POSTED_KEPT, PostedNow, ToRespond, WatchId};
use selfheal_model::{AlertKey, Labels, PostedAlert, Timestamp};
use selfheal_script::Truth;

/// One that does not say when it ends runs out after this without another posting: Alertmanager's `resolve_timeout`.
const RUNS_OUT_AFTER: Duration = Duration::from_secs(5 * 60);
/// Longer than Prometheus says by itself nobody is believed: four times the rhythm in which it posts.
const SAYS_AT_MOST: Duration = Duration::from_secs(5 * 60);
/// More at a time are refused.
pub(super) const MAX_POSTED: usize = 100_000;

/// All that were posted and are not forgotten.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Posted {
    alerts: BTreeMap<AlertKey, Known>,
    /// Those of them that do not stand: they make room first.
    over: BTreeSet<AlertKey>,
}

impl Posted {
    fn insert(&mut self, key: AlertKey, known: Known) {
        match known.state {
            State::Standing { .. } => self.over.remove(&key),
            State::RanOut { .. } | State::Over { .. } => self.over.insert(key.clone()),
        };
        self.alerts.insert(key, known);
    }

    fn remove(&mut self, key: &AlertKey) -> Option<Known> {
        self.over.remove(key);
        self.alerts.remove(key)
    }
}

/// One as it was posted last.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    /// It says itself that it stands for so long: for three quarters of it another posting may be on its way.
    #[serde(default)]
    says: Duration,
    annotations: Labels,
    generator_url: String,
    /// Since when it stands, as it says.
    #[serde(default)]
    began_at: Option<Timestamp>,
    posted_at: Timestamp,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// Posted as standing; without another posting it runs out then.
    Standing { runs_out_at: Timestamp },
    /// Nobody has posted it any more.
    RanOut { at: Timestamp },
    /// Posted as over, first at `at`; it says itself that it ended at `ended_at`.
    Over {
        at: Timestamp,
        #[serde(default)]
        ended_at: Timestamp,
    },
}

impl Known {
    fn fresh_until(&self, max_age: Duration) -> Timestamp {
        self.posted_at + max_age.max(self.says / 4 * 3)
    }

    /// Whether it stands, as people are told.
    fn stands(&self, now: Timestamp, max_age: Duration) -> Truth {
        match self.state {
            State::Standing { .. } if now < self.fresh_until(max_age) => Truth::True,
            State::Standing { .. } => Truth::NoData,
            State::RanOut { .. } | State::Over { .. } => Truth::False,
        }
    }

    /// Whether it is over, by what was posted after `cut` alone. That it ended before the cut proves nothing of what came after.
    fn is_over(&self, now: Timestamp, max_age: Duration, cut: Option<Timestamp>) -> Truth {
        let counts = cut.is_none_or(|cut| self.posted_at > cut);
        match self.state {
            State::Over { ended_at, .. } if cut.is_none_or(|cut| ended_at > cut) => Truth::True,
            State::Standing { .. } if counts && now < self.fresh_until(max_age) => Truth::False,
            _ => Truth::NoData,
        }
    }

    /// When any of this changes by itself.
    fn next(&self, now: Timestamp, max_age: Duration) -> Timestamp {
        match self.state {
            State::Standing { runs_out_at } => {
                let ages_at = Some(self.fresh_until(max_age)).filter(|at| *at > now);
                ages_at.map_or(runs_out_at, |at| at.min(runs_out_at))
            }
            State::RanOut { at } | State::Over { at, .. } => at + POSTED_KEPT,
        }
    }
}

impl Detect {
    pub fn posted(&mut self, now: Timestamp, posted: Vec<PostedAlert>, out: &mut VecDeque<ToRespond>) {
        self.now = self.now.max(now);
        let wall = self.world.wall(now);
        for alert in posted {
            let key = alert.key();
            let before = self.posted.alerts.get(&key).map(|known| known.state);
            if before.is_none() && self.posted.alerts.len() >= MAX_POSTED && !self.forget_one_that_is_over() {
                self.tally.too_many_posted += 1;
                continue;
            }
            let ended_at = alert.ends_at.filter(|at| *at <= wall).map(|at| now - wall.since(at));
            let state = match (ended_at, before) {
                // the end of what nobody heard of is no news
                (Some(_), None) => continue,
                // it is posted as over for a while after its end
                (Some(ended_at), Some(State::Over { at, .. })) => State::Over { at, ended_at },
                (Some(ended_at), Some(_)) => State::Over { at: now, ended_at },
                (None, _) => {
                    let runs_out_at =
                        alert.ends_at.map_or(now + RUNS_OUT_AFTER, |at| now + at.since(wall).max(Duration::ZERO));
                    State::Standing { runs_out_at }
                }
            };
            let says = match state {
                State::Standing { runs_out_at } => runs_out_at.since(now).min(SAYS_AT_MOST),
                State::RanOut { .. } | State::Over { .. } => Duration::ZERO,
            };
            let PostedAlert { annotations, generator_url, starts_at, .. } = alert;
            // nothing began in the future
            let began_at = starts_at.map(|at| now - wall.since(at));
            self.posted
                .insert(key.clone(), Known { says, annotations, generator_url, began_at, posted_at: now, state });
            self.posted_moved(now, &key, out);
        }
    }

    /// It is no longer fresh, runs out, or is forgotten.
    pub(super) fn posted_due(&mut self, now: Timestamp, key: &AlertKey, out: &mut VecDeque<ToRespond>) {
        let Some(known) = self.posted.remove(key) else { return };
        // it may be posted in vain now: nothing runs out before that is over
        if self.world.deaf_since().is_some() && matches!(known.state, State::Standing { .. }) {
            return self.posted.insert(key.clone(), known);
        }
        let known = match known.state {
            State::Standing { runs_out_at } if runs_out_at <= now => {
                Known { state: State::RanOut { at: now }, ..known }
            }
            State::RanOut { at } | State::Over { at, .. } if at + POSTED_KEPT <= now => return,
            _ => known,
        };
        self.posted.insert(key.clone(), known);
        self.posted_moved(now, key, out);
    }

    /// Nothing could be posted meanwhile: what stood runs out that much later, and is not fresh any more.
    pub(super) fn posted_unwatched(&mut self, from: Timestamp, to: Timestamp, out: &mut VecDeque<ToRespond>) {
        let mut due = Vec::new();
        for (key, known) in &mut self.posted.alerts {
            if let State::Standing { runs_out_at } = &mut known.state {
                *runs_out_at = *runs_out_at + to.since(from);
                due.push(key.clone());
            }
        }
        for key in due {
            self.posted_moved(to, &key, out);
        }
    }

    /// Under a new policy all of it may mean something else.
    pub(super) fn posted_anew(&mut self, now: Timestamp, out: &mut VecDeque<ToRespond>) {
        let standing =
            |(key, known): (&AlertKey, &Known)| matches!(known.state, State::Standing { .. }).then(|| key.clone());
        let keys: Vec<AlertKey> = self.posted.alerts.iter().filter_map(standing).collect();
        for key in keys {
            self.posted_moved(now, &key, out);
        }
    }

    /// Whether the alert stands: for a run that is about to act.
    pub(super) fn find_posted(&self, now: Timestamp, key: &AlertKey) -> Found {
        let max_age = self.policy.guards.max_event_age;
        let Some(known) = self.posted.alerts.get(key) else { return Found::nothing(now) };
        // that it ran out is not known to be its end
        let truth = match (known.stands(now, max_age), known.state) {
            (_, State::RanOut { .. }) => Truth::NoData,
            (truth, _) => truth,
        };
        Found { truth, evidence: known.posted_at, next: None, blind: false }
    }

    /// Whether the alert is over, by what came after `cut`: for a run that verifies.
    pub(super) fn find_posted_over(&self, now: Timestamp, key: &AlertKey, cut: Option<Timestamp>) -> Found {
        let max_age = self.policy.guards.max_event_age;
        let Some(known) = self.posted.alerts.get(key) else { return Found::nothing(now) };
        let truth = known.is_over(now, max_age, cut);
        // its end may be posted in vain
        let blind = truth != Truth::True && self.world.deaf_since().is_some();
        // what should have run out meanwhile is looked at when it is heard again
        let next = Some(known.next(now, max_age)).filter(|next| *next > now);
        Found { truth, evidence: known.posted_at, next, blind }
    }

    /// What is known of it, for people.
    pub(super) fn posted_sentence(&self, key: &AlertKey) -> String {
        let now = self.now;
        let Some(known) = self.posted.alerts.get(key) else {
            return "it comes from elsewhere, and is not posted any more".to_owned();
        };
        let posted_at = known.posted_at;
        match known.state {
            State::Standing { runs_out_at } if now < known.fresh_until(self.policy.guards.max_event_age) => {
                format!(
                    "it comes from elsewhere: posted last at {posted_at}; unless it comes again it runs out at {runs_out_at}"
                )
            }
            State::Standing { runs_out_at } => format!(
                "it comes from elsewhere and was not posted again since {posted_at}, longer than `max_event_age`: that is no \
                 data; it runs out at {runs_out_at}"
            ),
            State::RanOut { at } => format!(
                "it comes from elsewhere, was posted last at {posted_at}, and ran out at {at}: to people it is over, to a run \
                 that proves nothing"
            ),
            State::Over { at, ended_at } => {
                format!("it comes from elsewhere, and was posted as over at {at}; it says that it ended at {ended_at}")
            }
        }
    }

    fn posted_moved(&mut self, now: Timestamp, key: &AlertKey, out: &mut VecDeque<ToRespond>) {
        self.time_posted(now, key);
        let Some(known) = self.posted.alerts.get(key) else { return };
        out.push_back(ToRespond::Posted(Box::new(PostedNow {
            key: key.clone(),
            at: now,
            stands: known.stands(now, self.policy.guards.max_event_age),
            severity: self.policy.severities.of(&key.scope),
            annotations: known.annotations.clone(),
            generator_url: known.generator_url.clone(),
            began_at: known.began_at,
            evidence: known.posted_at,
            ran_out: matches!(known.state, State::RanOut { .. }),
        })));
        let waits = |watching: &super::Watching| watching.watch.context.alert.as_ref() == Some(key);
        let concerned: Vec<WatchId> =
            self.watches.iter().filter(|(_, watching)| waits(watching)).map(|(id, _)| id.clone()).collect();
        for id in concerned {
            self.look(now, &id, out);
        }
    }

    fn time_posted(&mut self, now: Timestamp, key: &AlertKey) {
        let due = Due::Posted(key.clone());
        match self.posted.alerts.get(key) {
            Some(known) => self.timers.set(due, known.next(now, self.policy.guards.max_event_age)),
            None => self.timers.clear(&due),
        }
    }

    /// Makes room for one that stands.
    fn forget_one_that_is_over(&mut self) -> bool {
        let Some(key) = self.posted.over.first().cloned() else { return false };
        self.posted.remove(&key);
        self.timers.clear(&Due::Posted(key));
        true
    }
}
