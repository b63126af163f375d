//! What respond has asked detect: the open queries and the open watches.
//!
//! The components say what they want to know and for which purpose; this module numbers the queries and watches, and decides
//! what an incoming answer or sighting means:
//!
//! - A purpose has at most one open query. A new query for the same purpose replaces the open one, whose answer is then
//!   dropped.
//! - An answer to a query that is not open (replaced, overdue, answered already) is dropped.
//! - Where the policy decides what is asked (which rung or schedule begins a run), an answer that comes after the policy was
//!   replaced is withheld, and the component asks again.
//! - A query that has no answer after [`ANSWER_WITHIN`] is closed; the component asks again or goes on without data.
//! - A sighting of another generation than that of the open watch is dropped.
//!
//! Whether an answer still matters to its purpose (the run has not ended, the step is still the same) is for the component
//! to decide: it compares the answer with its own state.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use selfheal_messages::{
    Answer, Context, Generation, Query, QueryId, QueryKind, ToDetect, Watch, WatchId, WatchSubject,
};
use selfheal_model::{AlertKey, RunId, StepId, Timestamp};

/// A query without an answer after this long counts as unanswered.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why a query is asked, and so who gets the answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// The summary and annotations of an alert.
    AlertTexts(AlertKey),
    /// The deployment that a rung is for. `rung` is the rung's
    /// [identity](selfheal_policy::ladder::Rung::identity) when the query was asked.
    RungTarget { key: AlertKey, rung: u64 },
    /// The beginning of the run of a rung.
    Rung(RunId),
    /// The beginning of a scheduled run.
    Scheduled(RunId),
    /// A step of a run: its beginning, another try, or the verdict of its check. The run knows which.
    Step { run: RunId, step: StepId },
}

impl Purpose {
    /// Whether the present policy, and not the one a run is pinned to, decides what is asked.
    fn follows_policy(&self) -> bool {
        match self {
            Purpose::RungTarget { .. } | Purpose::Rung(_) | Purpose::Scheduled(_) => true,
            Purpose::AlertTexts(_) | Purpose::Step { .. } => false,
        }
    }
}

/// What a component wants of detect.
#[derive(Clone)]
pub enum Request {
    Query {
        purpose: Purpose,
        context: Context,
        kind: QueryKind,
    },
    Watch {
        id: WatchId,
        context: Context,
        subject: WatchSubject,
    },
    Unwatch(WatchId),
    /// A message that needs no answer.
    Send(ToDetect),
}

/// What became of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Answered(Answer),
    /// The policy was replaced since the query was asked.
    PolicyReplaced,
    /// No answer came within [`ANSWER_WITHIN`].
    Unanswered,
}

#[derive(Serialize, Deserialize)]
struct Open {
    purpose: Purpose,
    /// Version of the policy under which it was asked.
    policy: SmolStr,
    due: Timestamp,
}

/// The open queries and watches.
#[derive(Default, Serialize, Deserialize)]
pub struct Queries {
    /// The number that was given last, to a query or to a watch.
    last: u64,
    open: BTreeMap<QueryId, Open>,
    /// The open query of each purpose.
    by_purpose: BTreeMap<Purpose, QueryId>,
    watches: BTreeMap<WatchId, Generation>,
    /// Answers and sightings that were dropped, in all.
    dropped: u64,
}

impl Queries {
    /// Registers what a component wants, and gives the message for detect. `None`: there is nothing to send.
    pub fn send(&mut self, now: Timestamp, policy: &SmolStr, request: Request) -> Option<ToDetect> {
        Some(match request {
            Request::Query { purpose, context, kind } => {
                let id = QueryId(self.next());
                if let Some(replaced) = self.by_purpose.insert(purpose.clone(), id) {
                    self.open.remove(&replaced);
                }
                self.open.insert(id, Open { purpose, policy: policy.clone(), due: now + ANSWER_WITHIN });
                ToDetect::Query(Query { id, context, kind })
            }
            Request::Watch { id, context, subject } => {
                let generation = Generation(self.next());
                self.watches.insert(id.clone(), generation);
                ToDetect::Watch(Watch { id, generation, context, subject })
            }
            Request::Unwatch(id) => {
                let generation = self.watches.remove(&id)?;
                ToDetect::Unwatch { id, generation }
            }
            Request::Send(message) => message,
        })
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Closes the query that is answered. `None`: it is not open, and the answer is dropped.
    pub fn answered(&mut self, id: QueryId, answer: Answer, policy: &SmolStr) -> Option<(Purpose, Reply)> {
        let Some(open) = self.close(id) else {
            self.dropped += 1;
            return None;
        };
        let is_void = open.policy != *policy && open.purpose.follows_policy();
        let reply = if is_void { Reply::PolicyReplaced } else { Reply::Answered(answer) };
        Some((open.purpose, reply))
    }

    /// Closes the oldest query whose answer is overdue at `now`.
    pub fn overdue(&mut self, now: Timestamp) -> Option<(Purpose, Reply)> {
        let (id, _) = self.open.first_key_value().filter(|(_, open)| open.due <= now)?;
        let open = self.close(*id)?;
        Some((open.purpose, Reply::Unanswered))
    }

    /// When the answer of the oldest open query is overdue.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        // all have the same time, so that the oldest comes first
        self.open.first_key_value().map(|(_, open)| open.due)
    }

    fn close(&mut self, id: QueryId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.by_purpose.remove(&open.purpose);
        Some(open)
    }

    /// Whether a sighting belongs to the open watch; where it does not, it is dropped.
    pub fn accepts(&mut self, id: &WatchId, generation: Generation) -> bool {
        let is_open = self.watches.get(id) == Some(&generation);
        self.dropped += u64::from(!is_open);
        is_open
    }

    /// The open watches, in order of id.
    pub fn watches(&self) -> impl Iterator<Item = &WatchId> {
        self.watches.keys()
    }

    /// Answers and sightings that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Registers watches that a snapshot of an engine without generations has open.
    pub fn adopt(&mut self, watches: impl IntoIterator<Item = WatchId>) {
        for id in watches {
            self.watches.entry(id).or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfheal_messages::Finding;
    use selfheal_script::Truth;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn ask(queries: &mut Queries, seconds: i64, purpose: Purpose) -> QueryId {
        let kind = QueryKind::CheckHealthy { check: "http".into() };
        let request = Request::Query { purpose, context: Context::default(), kind };
        match queries.send(at(seconds), &"p1".into(), request) {
            Some(ToDetect::Query(query)) => query.id,
            _ => panic!("a query is sent"),
        }
    }

    fn step() -> Purpose {
        Purpose::Step { run: "shop-1".into(), step: StepId::from("answers") }
    }

    fn healthy() -> Answer {
        Answer::CheckHealthy { healthy: Truth::True }
    }

    #[test]
    fn a_query_is_answered_once() {
        let mut queries = Queries::default();
        let id = ask(&mut queries, 0, step());
        assert_eq!(queries.answered(id, healthy(), &"p1".into()), Some((step(), Reply::Answered(healthy()))));
        assert_eq!(queries.answered(id, healthy(), &"p1".into()), None);
        assert_eq!((queries.next_deadline(), queries.dropped()), (None, 1));
    }

    #[test]
    fn of_two_queries_for_one_purpose_only_the_later_counts() {
        let mut queries = Queries::default();
        let first = ask(&mut queries, 0, step());
        let second = ask(&mut queries, 1, step());
        assert_eq!(queries.answered(first, healthy(), &"p1".into()), None);
        assert_eq!(queries.next_deadline(), Some(at(1) + ANSWER_WITHIN));
        assert!(queries.answered(second, healthy(), &"p1".into()).is_some());
    }

    #[test]
    fn after_a_new_policy_what_the_policy_decides_is_asked_again() {
        let mut queries = Queries::default();
        let symptom = Finding { truth: Truth::True, evidence: at(0) };
        let answer = Answer::BeginRung { symptom, if_: None, with: Ok(selfheal_model::Map::new()) };
        let rung = ask(&mut queries, 0, Purpose::Rung("shop-1".into()));
        let of_run = ask(&mut queries, 0, step());
        assert_eq!(
            queries.answered(rung, answer, &"p2".into()),
            Some((Purpose::Rung("shop-1".into()), Reply::PolicyReplaced))
        );
        assert_eq!(queries.answered(of_run, healthy(), &"p2".into()), Some((step(), Reply::Answered(healthy()))));
    }

    #[test]
    fn an_overdue_query_is_closed_and_its_late_answer_dropped() {
        let mut queries = Queries::default();
        let id = ask(&mut queries, 0, step());
        assert_eq!(queries.overdue(at(0)), None);
        assert_eq!(queries.overdue(at(0) + ANSWER_WITHIN), Some((step(), Reply::Unanswered)));
        assert_eq!(queries.answered(id, healthy(), &"p1".into()), None);
    }

    #[test]
    fn a_sighting_of_an_older_watch_is_dropped() {
        let mut queries = Queries::default();
        let id = WatchId::Verify("shop-1".into());
        let watch = |queries: &mut Queries| {
            let subject =
                WatchSubject::Clear(selfheal_messages::LevelRef { rule: "R".into(), severity: Default::default() });
            let request = Request::Watch { id: id.clone(), context: Context::default(), subject };
            match queries.send(at(0), &"p1".into(), request) {
                Some(ToDetect::Watch(watch)) => watch.generation,
                _ => panic!("a watch is sent"),
            }
        };
        let (first, second) = (watch(&mut queries), watch(&mut queries));
        assert!(!queries.accepts(&id, first));
        assert!(queries.accepts(&id, second));
        let ended = queries.send(at(1), &"p1".into(), Request::Unwatch(id.clone()));
        assert!(matches!(ended, Some(ToDetect::Unwatch { generation, .. }) if generation == second));
        assert!(!queries.accepts(&id, second));
        assert!(queries.send(at(1), &"p1".into(), Request::Unwatch(id)).is_none());
    }
}
