//! Two notifications become one: nothing that either says is lost, and what both say is said as the later has it.

use std::collections::BTreeSet;

use super::group::arrange;
use selfheal_contract::notification::{AlertChangeWord, AlertFacts, AlertStatus, FlushReason, Notification};
use selfheal_model::Labels;

/// The later one, with what only the earlier one says.
pub(super) fn merge(earlier: Notification, mut later: Notification) -> Notification {
    let mut known = BTreeSet::new();
    for alert in &mut later.alerts {
        known.insert(alert.id.clone());
        if let Some(before) = earlier.alerts.iter().find(|before| before.id == alert.id) {
            alert.change = since_before(before, alert);
        }
    }
    let mut all = later.alerts.clone();
    all.extend(earlier.alerts.iter().filter(|alert| !known.contains(&alert.id)).cloned());
    later.news.splice(0..0, earlier.news.iter().cloned());
    let mut dependents = earlier.dependents.clone();
    dependents.retain(|before| {
        let fires =
            |alert: &AlertFacts| alert.status == AlertStatus::Firing && alert.deployment.as_ref() == Some(&before.root);
        all.iter().any(fires) && later.dependents.iter().all(|after| after.root != before.root)
    });
    later.dependents.splice(0..0, dependents);
    later.merged += earlier.merged;
    // in one group both may have left out the same alerts; in two they cannot
    later.truncated = match earlier.group == later.group {
        true => total(&earlier).max(total(&later)).saturating_sub(all.len()),
        false => earlier.truncated + later.truncated,
    };
    later.alerts = all;
    later.possible_repeat |= earlier.possible_repeat;
    later.unwatched = later.unwatched.map(|span| span.with(earlier.unwatched)).or(earlier.unwatched);
    if earlier.group != later.group {
        later.group_labels = in_common(&earlier.group_labels, &later.group_labels);
    }
    later.reason = match (earlier.reason, later.reason) {
        (FlushReason::Urgent, _) | (_, FlushReason::Urgent) => FlushReason::Urgent,
        (FlushReason::New, _) => FlushReason::New,
        (before, FlushReason::Repeat) => before,
        (_, after) => after,
    };
    arrange(&mut later);
    later
}

fn total(notification: &Notification) -> usize {
    notification.alerts.len() + notification.truncated
}

/// What changed for a reader who has seen neither.
fn since_before(before: &AlertFacts, after: &AlertFacts) -> AlertChangeWord {
    match (before.change, after.change) {
        (change, AlertChangeWord::Same) => change,
        (change @ (AlertChangeWord::New | AlertChangeWord::FiringAgain), AlertChangeWord::SeverityChanged) => change,
        // it ended and began again, and the reader knows only that it fired
        (AlertChangeWord::Ended, AlertChangeWord::New) => AlertChangeWord::FiringAgain,
        (_, change) => change,
    }
}

fn in_common(a: &Labels, b: &Labels) -> Labels {
    a.iter().filter(|(name, value)| b.get(name) == Some(*value)).collect()
}
