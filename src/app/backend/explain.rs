//! Whom an explanation is asked of: the running engine, one that is made as it was then, and history where neither knows.

use std::sync::{Arc, PoisonError};

use super::{EngineBackend, busy};
use crate::app::as_of::{AsOf, Named, NotAnswered, NotRebuilt, labels_of, out_of_history};
use selfheal_api::{Busy, Explain, Explained, NoHistory, NotExplained, Remembered, Told};
use selfheal_contract::explanation::Explanation;
use selfheal_engine::Engine;
use selfheal_model::{AlertKey, Labels, RuleName, Timestamp};

/// Alerts that are named where a name is that of several.
const NAMED: usize = 5;

/// What the running engine says of it.
struct Live {
    now: Timestamp,
    key: Option<AlertKey>,
    explained: Option<Explanation>,
    /// Alerts that go by the name that was given for an id.
    several: Vec<AlertKey>,
}

impl EngineBackend {
    pub(super) async fn explained(&self, what: Explain, at: Option<Timestamp>) -> Result<Box<Explained>, NotExplained> {
        let live = self.live(what.clone()).await?;
        if live.key.is_none() && live.several.len() > 1 {
            let some: Vec<String> =
                live.several.iter().take(NAMED).map(|key| format!("{} is {key}", key.id())).collect();
            let more = live.several.len() - some.len();
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            let why = format!(
                "{} alerts are called that, say which by its id: {}{more}",
                live.several.len(),
                some.join("; ")
            );
            return Err(NotExplained::Unknown(Some(why)));
        }
        match (at, live) {
            (None, Live { explained: Some(explanation), .. }) => {
                Ok(Box::new(Explained { explanation, told: Told::Engine }))
            }
            (None, live) => self.forgotten(&what, live).await,
            (Some(at), Live { now, .. }) if at > now => {
                Err(NotExplained::BadTime(format!("{at} is yet to come: by selfheal's clock it is {now}")))
            }
            (Some(at), live) => self.earlier(&what, live, at).await,
        }
    }

    async fn live(&self, what: Explain) -> Result<Live, Busy> {
        let asked = self.inbox.query(move |engine| {
            let several = match &what {
                Explain::Alert(name) if engine.alert_of(name).is_none() => engine.alerts_named(name),
                Explain::Alert(_) | Explain::Rule { .. } => Vec::new(),
            };
            let key = key_of(engine, &what);
            Live { now: engine.now(), explained: key.as_ref().and_then(|key| engine.explain(key)), key, several }
        });
        asked.map_err(busy)?.await.map_err(|_| Busy::Draining)
    }

    fn as_of(&self) -> Result<Arc<AsOf>, Busy> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.as_ref().map(|records| records.as_of.clone()).ok_or(Busy::Recovering)
    }

    /// What the running engine knows nothing of, and history may.
    async fn forgotten(&self, what: &Explain, live: Live) -> Result<Box<Explained>, NotExplained> {
        let figures_since = self.as_of()?.reaches_back_to().await;
        let figures = match figures_since {
            Some(since) => format!("`--at TIME` shows the figures of its condition, for times from {since} on"),
            None => "the figures of its condition are kept no more".to_owned(),
        };
        let why = format!("the running engine has forgotten it, so this is out of history; {figures}");
        let remembered = Remembered { why, figures_since, ..Remembered::default() };
        let told = out_of_history(&self.history, &named(what, live.key), remembered, live.now).await;
        told.map_err(unavailable)?.map(Box::new).ok_or(NotExplained::Unknown(None))
    }

    async fn earlier(&self, what: &Explain, live: Live, at: Timestamp) -> Result<Box<Explained>, NotExplained> {
        let past = self.as_of()?;
        let labels = match (what, &live.key) {
            (Explain::Alert(id), None) => labels_of(&self.history, id).await.map_err(unavailable)?,
            _ => None,
        };
        let (asked, key) = (what.clone(), live.key.clone());
        let question = move |engine: &Engine| {
            let key = key_of(engine, &asked).or(key).or_else(|| key_among(engine, &asked, labels?));
            engine.explain(&key?)
        };
        let why = match past.ask(at, question).await {
            Ok(Some(explained)) => return Ok(Box::new(explained)),
            Ok(None) => return Err(NotExplained::Unknown(Some(format!("at {at} there was no {what}")))),
            Err(NotAnswered::TooMany) => return Err(NotExplained::TooMany),
            Err(NotAnswered::Broken(why)) => return Err(NotExplained::Unavailable(why)),
            Err(NotAnswered::NotRebuilt(NotRebuilt::Stopping)) => return Err(Busy::Draining.into()),
            Err(NotAnswered::NotRebuilt(why)) => why,
        };
        let remembered = Remembered {
            asked_at: Some(at),
            why: format!("{why}; this is out of history, without the figures of its condition and its timers"),
            figures_since: past.reaches_back_to().await,
            ..Remembered::default()
        };
        let told = out_of_history(&self.history, &named(what, live.key), remembered, live.now).await;
        let told = told.map_err(unavailable)?;
        let is_before = matches!(why, NotRebuilt::BeforeBeginning(_));
        match told {
            Some(told) if !is_before || has_an_episode(&told) => Ok(Box::new(told)),
            // nothing is lost: there was nothing
            _ if is_before => Err(NotExplained::BadTime(why.to_string())),
            _ => Err(NotExplained::Unknown(Some(format!("{why}; history has nothing of {what} by then")))),
        }
    }
}

fn key_of(engine: &Engine, what: &Explain) -> Option<AlertKey> {
    match what {
        // by its name where that says which
        Explain::Alert(id) => engine.alert_of(id).or_else(|| match engine.alerts_named(id).as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        }),
        Explain::Rule { rule, deployment } => engine.scope_of(rule, deployment),
    }
}

/// The key of an alert that was not there, by what became known of it later.
fn key_among(engine: &Engine, what: &Explain, (rule, labels): (RuleName, Labels)) -> Option<AlertKey> {
    let key = engine.scope_among(&rule, &labels)?;
    matches!(what, Explain::Alert(id) if key.id() == *id).then_some(key)
}

fn named(what: &Explain, key: Option<AlertKey>) -> Named {
    match what {
        Explain::Alert(id) => Named { alert: Some(id.clone()), key, ..Named::default() },
        Explain::Rule { rule, deployment } => {
            Named { rule: Some(rule.clone()), deployment: Some(deployment.clone()), key, ..Named::default() }
        }
    }
}

fn has_an_episode(explained: &Explained) -> bool {
    matches!(&explained.told, Told::History(remembered) if !remembered.alerts.is_empty())
}

fn unavailable(why: NoHistory) -> NotExplained {
    match why {
        NoHistory::BadCursor(why) | NoHistory::Unavailable(why) => NotExplained::Unavailable(why),
    }
}
