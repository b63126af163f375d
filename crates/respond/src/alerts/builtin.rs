//! The alerts the engine raises about itself: a rule that fails, a firing alert without data, a policy that does not
//! compile, a journal that takes nothing, a recovery that came to something else. They are told like any other and never repaired, as no ladder names them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::entry::Entry;
use super::{Alert, Alerts, Due};
use crate::lifecycle::Sight;
use crate::turn::{Said, Turn};
use selfheal_contract::input::Storage;
use selfheal_contract::{BuiltInAlert, Diagnostic};
use selfheal_model::{AlertKey, Labels, RuleName, Severity, Timestamp};
use selfheal_script::Truth;

/// One failure may pass by itself; so many in a row do not.
const ERRORS_IN_A_ROW: u32 = 3;
/// A failure that stays the same is answered only once, so one that stands so long counts as well.
const ERROR_STANDS: Duration = Duration::from_secs(60);

/// Which rule a built-in alert is about.
const RULE_LABEL: &str = "rule";

/// Scripts that fail now, by rule and scope; and rules that cost too much, with what is said of it.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Troubles(BTreeMap<AlertKey, Trouble>, BTreeMap<RuleName, String>);

#[derive(serde::Serialize, serde::Deserialize)]
struct Trouble {
    in_a_row: u32,
    since: Timestamp,
    why: String,
}

impl Trouble {
    fn is_serious(&self, now: Timestamp) -> bool {
        self.in_a_row >= ERRORS_IN_A_ROW || now >= self.since + ERROR_STANDS
    }
}

impl Troubles {
    fn of<'a>(&'a self, rule: &'a RuleName) -> impl Iterator<Item = (&'a AlertKey, &'a Trouble)> {
        let first = AlertKey { rule: rule.clone(), scope: Labels::default() };
        self.0.range(first..).take_while(move |(key, _)| key.rule == *rule)
    }

    /// What is serious enough to be told of a rule.
    fn summary(&self, rule: &RuleName, now: Timestamp) -> Option<String> {
        let mut serious = self.of(rule).filter(|(_, trouble)| trouble.is_serious(now));
        let Some((key, trouble)) = serious.next() else { return self.1.get(rule).cloned() };
        let more = match serious.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some(format!("{key} cannot be evaluated: {}{more}", trouble.why))
    }

    /// When the next one becomes serious by standing.
    fn deadline(&self, rule: &RuleName, now: Timestamp) -> Option<Timestamp> {
        self.of(rule).filter(|(_, trouble)| !trouble.is_serious(now)).map(|(_, it)| it.since + ERROR_STANDS).min()
    }
}

impl Alerts {
    /// Raises the built-in alert `PolicyInvalid`; the next good policy ends it.
    pub fn policy_invalid(&mut self, turn: &mut Turn<'_>, diagnostics: Vec<Diagnostic>) {
        let errors = || diagnostics.iter().filter(|it| it.severity == selfheal_contract::diagnostic::Level::Error);
        let summary = match errors().next().or(diagnostics.first()) {
            None => "the saved policy is not valid; the last good one stays in use".to_owned(),
            Some(first) => {
                let more = match errors().count().saturating_sub(1) {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                format!("the saved policy is not valid: {}:{}: {}{more}", first.file, first.line, first.message)
            }
        };
        self.raise(turn, policy_invalid(), summary);
    }

    pub(super) fn policy_is_valid(&mut self, turn: &mut Turn<'_>) {
        self.clear(turn, &policy_invalid());
    }

    /// Raises or ends `NoData` about an alert whose rule asks for it.
    pub(super) fn judge_no_data(&mut self, turn: &mut Turn<'_>, source: &Alert, blind: bool) {
        let key = no_data(&source.key);
        if source.firing && source.without_data {
            // that nothing came where nobody watched is not said
            if blind {
                return;
            }
            let summary = format!("{} has no data; it still counts as firing", super::texts::built_in(&source.key));
            self.raise(turn, key, summary);
        } else {
            self.clear(turn, &key);
        }
    }

    pub(super) fn drop_no_data(&mut self, turn: &mut Turn<'_>, source: &AlertKey) {
        self.clear(turn, &no_data(source));
    }

    /// Counts one answer of a rule, good or not.
    pub(super) fn note_trouble(&mut self, turn: &mut Turn<'_>, key: &AlertKey, error: Option<String>) {
        let Some(why) = error else { return self.forget_trouble(turn, key) };
        let trouble = self.troubles.0.entry(key.clone()).or_insert_with(|| Trouble {
            in_a_row: 0,
            since: turn.now,
            why: String::new(),
        });
        trouble.in_a_row = trouble.in_a_row.saturating_add(1);
        trouble.why = why;
        self.judge_trouble(turn, &key.rule);
    }

    pub(super) fn forget_trouble(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        if self.troubles.0.remove(key).is_some() {
            self.judge_trouble(turn, &key.rule);
        }
    }

    /// A rule costs too much, or no longer.
    pub fn slow(&mut self, turn: &mut Turn<'_>, rule: &RuleName, why: Option<String>) {
        match why {
            Some(why) => self.troubles.1.insert(rule.clone(), why),
            None => self.troubles.1.remove(rule),
        };
        self.judge_trouble(turn, rule);
    }

    /// Rules that are gone fail no more.
    pub(super) fn forget_troubles_of_gone_rules(&mut self, turn: &mut Turn<'_>) {
        let gone: Vec<_> =
            self.troubles.0.keys().filter(|key| !turn.policy.rules.contains_key(&key.rule)).cloned().collect();
        for key in gone {
            self.forget_trouble(turn, &key);
        }
        let slow: Vec<_> =
            self.troubles.1.keys().filter(|rule| !turn.policy.rules.contains_key(*rule)).cloned().collect();
        for rule in slow {
            self.slow(turn, &rule, None);
        }
    }

    /// Raises or ends `RuleError` about a rule.
    pub(super) fn judge_trouble(&mut self, turn: &mut Turn<'_>, rule: &RuleName) {
        let key = rule_error(rule);
        match self.troubles.summary(rule, turn.now) {
            Some(summary) => self.raise(turn, key, summary),
            None => self.clear(turn, &key),
        }
        match self.troubles.deadline(rule, turn.now) {
            Some(at) => self.timers.set(Due::Trouble(rule.clone()), at),
            None => self.timers.clear(&Due::Trouble(rule.clone())),
        }
    }

    /// Raises or ends `StorageFailed`.
    pub fn storage(&mut self, turn: &mut Turn<'_>, storage: &Storage) {
        match storage {
            Storage::Failing { why } => {
                let summary = format!(
                    "selfheal cannot write down what happens: {why}. Events are refused and nothing is repaired until it can"
                );
                self.raise_as(turn, own(BuiltInAlert::StorageFailed), Severity::Critical, summary);
            }
            Storage::Working => self.clear(turn, &own(BuiltInAlert::StorageFailed)),
        }
    }

    /// Raises `Divergence`; it stands until a person has seen it.
    pub fn diverged(&mut self, turn: &mut Turn<'_>, why: &str) {
        let summary = format!(
            "recovery came to other decisions than the journal has, and automation is paused; `selfheal resume` ends both: \
             {why}"
        );
        self.raise_as(turn, own(BuiltInAlert::Divergence), Severity::Critical, summary);
    }

    pub fn divergence_seen(&mut self, turn: &mut Turn<'_>) {
        self.clear(turn, &own(BuiltInAlert::Divergence));
    }

    /// Raises or ends `RunStuck` or `ScheduledRunFailed`, which the runs say.
    pub fn said_by_runs(&mut self, turn: &mut Turn<'_>, said: Said) {
        let Said { name, scope, summary } = said;
        let key = AlertKey { rule: name.name().into(), scope };
        match summary {
            Some(summary) => self.raise(turn, key, summary),
            None => self.clear(turn, &key),
        }
    }

    fn raise(&mut self, turn: &mut Turn<'_>, key: AlertKey, summary: String) {
        self.raise_as(turn, key, Severity::Warning, summary);
    }

    fn raise_as(&mut self, turn: &mut Turn<'_>, key: AlertKey, severity: Severity, summary: String) {
        let mut entry = match self.entries.remove(&key) {
            Some(entry) => entry,
            None => Entry::built_in(&turn.policy, key, severity, turn.now),
        };
        entry.alert.summary = summary;
        entry.alert.evidence = turn.now;
        let moves = see(&mut entry, turn.now, Truth::True, Truth::False);
        self.settle(turn, entry, moves);
    }

    fn clear(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        let Some(mut entry) = self.entries.remove(key) else { return };
        let moves = see(&mut entry, turn.now, Truth::False, Truth::True);
        self.settle(turn, entry, moves);
    }
}

fn see(entry: &mut Entry, now: Timestamp, when: Truth, clear: Truth) -> Vec<crate::lifecycle::Move> {
    let severity = entry.terms.levels.keys().next().copied().unwrap_or_default();
    entry.life.see(now, [(severity, &Sight { when, clear, blind: false })], &entry.terms)
}

/// A built-in alert about the whole of selfheal.
fn own(alert: BuiltInAlert) -> AlertKey {
    AlertKey { rule: alert.name().into(), scope: Labels::default() }
}

fn policy_invalid() -> AlertKey {
    own(BuiltInAlert::PolicyInvalid)
}

fn rule_error(rule: &RuleName) -> AlertKey {
    AlertKey { rule: BuiltInAlert::RuleError.name().into(), scope: [(RULE_LABEL, rule.as_str())].into_iter().collect() }
}

fn no_data(source: &AlertKey) -> AlertKey {
    AlertKey {
        rule: BuiltInAlert::NoData.name().into(),
        scope: source.scope.with_label(RULE_LABEL, source.rule.as_str()),
    }
}
