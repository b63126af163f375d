//! For how long what was before an act may still be seen in what a rule reads.

use std::time::Duration;

use selfheal_model::AlertKey;
use selfheal_policy::Policy;
use selfheal_policy::rule::Rule;
use selfheal_script::{Func, Read};

/// What another system's alert looks back over is not known; few look back over more than this.
const POSTED_WINDOW: Duration = Duration::from_secs(15 * 60);

/// The longest window any part of the rule looks back over, or of a rule whose alerts it counts: until it has passed, evidence
/// from before is in it.
pub(super) fn longest_window(policy: &Policy, key: &AlertKey) -> Duration {
    if key.is_posted() {
        return POSTED_WINDOW;
    }
    policy.rule_of(key).map_or(Duration::ZERO, |rule| own_window(rule).max(counted_window(policy, rule)))
}

fn reads_of(rule: &Rule) -> impl Iterator<Item = &Read> {
    let levels = rule.levels.iter().flat_map(|level| std::iter::once(&level.when).chain(&level.clear_when));
    levels.chain(&rule.value).flat_map(|condition| condition.reads())
}

fn own_window(rule: &Rule) -> Duration {
    reads_of(rule).filter_map(|read| read.window).max().unwrap_or_default()
}

/// For how long the alerts that a rule counts with `firing(…)` may go on because of evidence from before: no cut reaches them.
/// Rules that count each other in a circle are no policy, so that this comes to an end.
pub(super) fn counted_window(policy: &Policy, rule: &Rule) -> Duration {
    let counted = reads_of(rule).filter(|read| read.func == Func::Firing);
    let rules = counted.filter_map(|read| policy.rules.get(read.subject.as_str()));
    let fires_on = |rule: &Rule| {
        let kept = rule.levels.iter().map(|level| level.keep_firing_for).max().unwrap_or_default();
        own_window(rule).max(counted_window(policy, rule)) + kept
    };
    rules.map(|rule| fires_on(rule)).max().unwrap_or_default()
}
