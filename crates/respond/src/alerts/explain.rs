//! Where an alert stands, in sentences.

use super::Alerts;
use super::entry::{Entry, Kind};
use crate::lifecycle::Stage;
use selfheal_contract::explanation::{Explanation, TimerExplained};
use selfheal_contract::view::AlertView;
use selfheal_model::AlertKey;
use selfheal_model::units::format_duration;

impl Alerts {
    /// The alert with this short id, living or ended.
    pub fn key_of(&self, id: &str) -> Option<AlertKey> {
        let all = self.entries.values().chain(self.ended.iter());
        all.map(|entry| &entry.alert.key).find(|key| key.id() == id).cloned()
    }

    /// The alerts of that name, those that are quiet by now left out.
    pub fn keys_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a AlertKey> {
        self.entries.keys().filter(move |key| key.rule.as_str() == name)
    }

    /// Whether selfheal raised it about itself.
    pub fn is_own(&self, key: &AlertKey) -> bool {
        self.entries.get(key).or_else(|| self.ended.get(key)).is_some_and(|entry| entry.kind == Kind::BuiltIn)
    }

    /// The alert as it is shown, shadow ones and those that ended too.
    pub fn view_of(&self, key: &AlertKey) -> Option<AlertView> {
        self.entries.get(key).or_else(|| self.ended.get(key)).map(Entry::view)
    }

    pub(crate) fn explain(&self, key: &AlertKey, explained: &mut Explanation) {
        let Some(entry) = self.entries.get(key) else {
            let conditions = explained.levels.iter().map(|level| level.when.comes_to.as_str());
            let quiet = match conditions
                .max_by_key(|answer| ["false", "no data", "true"].iter().position(|one| one == answer))
            {
                Some("false") => "it is quiet: its condition is false",
                Some("no data") => "it is quiet: its condition has no data, and on no data nothing begins",
                Some("true") => "its condition is true, and its alert is about to begin",
                Some(_) => "it is quiet: its condition fails",
                None => return,
            };
            explained.because.push(quiet.to_owned());
            return;
        };
        let now = explained.at;
        let sentence = match entry.life.stage() {
            Stage::Quiet => "it is quiet".to_owned(),
            Stage::Pending { started_at } => {
                format!("its condition has held for {}, which is not yet `for`", format_duration(now.since(started_at)))
            }
            Stage::Firing { severity, fired_at, without_data: true, .. } => {
                format!("it fires at {severity} since {fired_at}, and has no data now: no ladder starts or goes on")
            }
            Stage::Firing { severity, fired_at, .. } if !entry.alert.true_now => {
                format!(
                    "it fires at {severity} since {fired_at}, but only because it is kept firing: its condition is not true now"
                )
            }
            Stage::Firing { severity, fired_at, .. } => format!("it fires at {severity} since {fired_at}"),
            Stage::Cooling { ended_at, .. } => {
                format!("it was resolved at {ended_at}; until its cooldown is over a new firing is a relapse")
            }
        };
        explained.because.push(sentence);
        if entry.kind == Kind::Shadow {
            explained.because.push("its rule is in shadow: nobody is told, and nothing is done".to_owned());
        }
        if entry.blind_since.is_some() {
            explained.because.push("what it reads may have gone on unseen: its time stands still".to_owned());
        }
        let moves = entry.deadline().map(|at| TimerExplained { what: "the alert moves on by itself".to_owned(), at });
        let cooldown =
            self.cooldown_until(key).map(|at| TimerExplained { what: "its cooldown is over".to_owned(), at });
        explained.timers.extend(moves.into_iter().chain(cooldown));
    }
}
