//! The lanes into the engine's thread, each bounded, served in order of urgency: operators, ends of effects, health
//! and signals, metrics. Only the last two ever refuse events because of load, and neither because the other is full.
//!
//! Invariant: no batch is too large for an empty lane; whoever comes again gets in once the engine has caught up.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use selfheal_contract::Intake;
use selfheal_engine::{Engine, Input};
use selfheal_model::{Event, EventKind, PostedAlert};
use selfheal_store::writer::{NotStored, Stored};
use shed::Shed;

mod shed;

/// With so many events waiting in it, a lane for events is full, and a caller is told to come back (429). Below it the
/// lane takes one more batch whole: a batch that had to fit in would find no room for as long as smaller ones come, and
/// a larger one never. So a lane holds less than this and the largest batch together: a posted body of
/// [`MAX_SAMPLES_PER_BODY`](selfheal_source::formats::MAX_SAMPLES_PER_BODY), or a source's round of twice that, where all
/// series of a page have ended and as many are new.
const MAX_WAITING_EVENTS: usize = 200_000;
/// Words of operators that may wait.
const MAX_WAITING_OPERATORS: usize = 1_000;
/// Items handed out at once: enough to spread the cost of a commit, few enough that timers are not late.
const MAX_BATCH: usize = 256;

/// Why an input was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the queue is full; try again in a second")]
    Full,
    #[error("selfheal is shutting down")]
    Closed,
    #[error("selfheal has not recovered yet; try again in a second")]
    Recovering,
    #[error("{0}")]
    Unwritable(NotStored),
}

pub(super) type Query = Box<dyn FnOnce(&Engine) + Send>;

pub(super) enum Item {
    Input(Input),
    Query(Query),
}

pub(super) struct Waiting {
    pub item: Item,
    pub done: Option<oneshot::Sender<Stored>>,
}

/// Whether events are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Gate {
    /// Nothing is taken before recovery has ended.
    #[default]
    Recovering,
    Open,
    /// The journal takes nothing: only what selfheal itself watches goes on.
    Unwritable(NotStored),
    Closed,
}

#[derive(Default)]
struct Lanes {
    operator: VecDeque<Waiting>,
    ends: VecDeque<Waiting>,
    urgent: VecDeque<Waiting>,
    metrics: VecDeque<Waiting>,
    urgent_events: usize,
    metric_events: usize,
    operator_shed: Shed,
    urgent_shed: Shed,
    metrics_shed: Shed,
    gate: Gate,
}

/// How full the lanes are, and what they refused.
pub struct Standing {
    pub lanes: [LaneStanding; 4],
}

pub struct LaneStanding {
    pub name: &'static str,
    /// Events, or inputs where the lane is not for events.
    pub waiting: usize,
    /// With so much waiting it is full. `None`: what comes is bounded by the engine itself.
    pub bound: Option<usize>,
    pub refused: u64,
}

const OPERATOR: &str = "operator";
const ENDS: &str = "ends";
/// Health and signals.
const URGENT: &str = "urgent";
const METRICS: &str = "metrics";

/// The lanes into the engine. Cheap to clone.
#[derive(Clone, Default)]
pub struct Inbox {
    shared: Arc<(Mutex<Lanes>, Condvar)>,
}

impl Inbox {
    pub fn new() -> Self {
        Inbox::default()
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, lane: impl FnOnce(&mut Lanes) -> Result<(), Refused>) -> Result<(), Refused> {
        let mut lanes = self.lanes();
        match &lanes.gate {
            Gate::Closed => return Err(Refused::Closed),
            Gate::Recovering => return Err(Refused::Recovering),
            Gate::Open | Gate::Unwritable(_) => {}
        }
        lane(&mut lanes)?;
        self.shared.1.notify_one();
        Ok(())
    }

    /// Takes events from outside. Resolves once their batch is appended, or is known not to be.
    ///
    /// # Errors
    /// The lane is full, the journal takes nothing or the engine is not there; nothing of it was taken.
    pub fn events(&self, events: Vec<Event>) -> Result<oneshot::Receiver<Stored>, Refused> {
        let (mut metrics, mut urgent): (Vec<_>, Vec<_>) = events
            .into_iter()
            .partition(|event| matches!(event.kind, EventKind::Metric { .. } | EventKind::Ended { .. }));
        self.push_in_lanes(&mut urgent, &mut metrics, |lanes| match &lanes.gate {
            Gate::Unwritable(why) => Err(Refused::Unwritable(why.clone())),
            Gate::Recovering | Gate::Open | Gate::Closed => Ok(()),
        })
    }

    /// Takes the metrics of a source that selfheal asks: also while nothing can be written, so that alerts go on.
    ///
    /// # Errors
    /// The lane is full or the engine is not there; `metrics` are as they were.
    pub(super) fn of_source(&self, metrics: &mut Vec<Event>) -> Result<oneshot::Receiver<Stored>, Refused> {
        self.push_in_lanes(&mut Vec::new(), metrics, |_| Ok(()))
    }

    /// Takes what selfheal's checks see and what it says of itself, also while nothing can be written: all of it beside
    /// health and signals, also its few metrics, so that it comes through when there are too many others.
    ///
    /// # Errors
    /// The lane is full or the engine is not there; `events` are as they were.
    pub(super) fn own(&self, events: &mut Vec<Event>) -> Result<oneshot::Receiver<Stored>, Refused> {
        self.push_in_lanes(events, &mut Vec::new(), |_| Ok(()))
    }

    /// Takes alerts that another system raised, beside health and signals. Resolves as [`Inbox::events`].
    ///
    /// # Errors
    /// The lane is full, the journal takes nothing or the engine is not there; nothing of it was taken.
    pub fn alerts(&self, alerts: Vec<PostedAlert>) -> Result<oneshot::Receiver<Stored>, Refused> {
        let (done, wait) = oneshot::channel();
        self.push(|lanes| {
            if let Gate::Unwritable(why) = &lanes.gate {
                return Err(Refused::Unwritable(why.clone()));
            }
            if !has_room(lanes.urgent_events, alerts.len()) {
                lanes.urgent_shed.refuse(URGENT, alerts.len());
                return Err(Refused::Full);
            }
            lanes.urgent_events += alerts.len();
            lanes.urgent.push_back(Waiting { item: Item::Input(Input::Posted(alerts)), done: Some(done) });
            Ok(())
        })?;
        Ok(wait)
    }

    /// All of it, which leaves both lists empty, or nothing: whoever is told to come back sends all of it again.
    fn push_in_lanes(
        &self,
        urgent: &mut Vec<Event>,
        metrics: &mut Vec<Event>,
        admit: impl FnOnce(&Lanes) -> Result<(), Refused>,
    ) -> Result<oneshot::Receiver<Stored>, Refused> {
        let (done, wait) = oneshot::channel();
        let events = urgent.len() + metrics.len();
        self.push(|lanes| {
            admit(lanes)?;
            if !has_room(lanes.urgent_events, urgent.len()) {
                lanes.urgent_shed.refuse(URGENT, events);
                return Err(Refused::Full);
            }
            if !has_room(lanes.metric_events, metrics.len()) {
                lanes.metrics_shed.refuse(METRICS, events);
                return Err(Refused::Full);
            }
            lanes.urgent_events += urgent.len();
            lanes.metric_events += metrics.len();
            let (urgent, metrics) = (std::mem::take(urgent), std::mem::take(metrics));
            // the slower lane carries the answer
            let (for_urgent, for_metrics) = if metrics.is_empty() { (Some(done), None) } else { (None, Some(done)) };
            if !urgent.is_empty() || metrics.is_empty() {
                lanes.urgent.push_back(Waiting { item: Item::Input(Input::Events(urgent)), done: for_urgent });
            }
            if !metrics.is_empty() {
                lanes.metrics.push_back(Waiting { item: Item::Input(Input::Events(metrics)), done: for_metrics });
            }
            Ok(())
        })?;
        Ok(wait)
    }

    /// The end of something the engine asked for, or what it learnt from it. Always has room: what is under way is
    /// bounded by the engine.
    pub fn end(&self, input: Input) {
        // when the engine is gone nobody waits for the end
        let _ = self.push(|lanes| {
            lanes.ends.push_back(Waiting { item: Item::Input(input), done: None });
            Ok(())
        });
    }

    /// # Errors
    /// Too many are waiting, or the engine is not there.
    pub fn operator(&self, input: Input) -> Result<oneshot::Receiver<Stored>, Refused> {
        self.operator_item(Item::Input(input))
    }

    /// Runs `query` between two inputs, on the engine's thread.
    ///
    /// # Errors
    /// Too many are waiting, or the engine is not there.
    pub fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Refused> {
        let (answer, wait) = oneshot::channel();
        self.operator_item(Item::Query(Box::new(move |engine| {
            // the asker may have gone away
            let _ = answer.send(query(engine));
        })))?;
        Ok(wait)
    }

    fn operator_item(&self, item: Item) -> Result<oneshot::Receiver<Stored>, Refused> {
        let (done, wait) = oneshot::channel();
        self.push(|lanes| {
            if lanes.operator.len() >= MAX_WAITING_OPERATORS {
                lanes.operator_shed.refuse(OPERATOR, 1);
                return Err(Refused::Full);
            }
            lanes.operator.push_back(Waiting { item, done: Some(done) });
            Ok(())
        })?;
        Ok(wait)
    }

    /// Whether events from outside are taken now.
    ///
    /// # Errors
    /// Why they are not.
    pub fn takes_events(&self) -> Result<(), Refused> {
        match &self.lanes().gate {
            Gate::Open => Ok(()),
            Gate::Recovering => Err(Refused::Recovering),
            Gate::Closed => Err(Refused::Closed),
            Gate::Unwritable(why) => Err(Refused::Unwritable(why.clone())),
        }
    }

    /// How often events began to be refused for want of room, and whether they are now.
    pub(super) fn shed(&self) -> (u64, Intake) {
        let lanes = self.lanes();
        let sheds = [&lanes.urgent_shed, &lanes.metrics_shed];
        let goes_on = sheds.iter().any(|shed| shed.goes_on());
        (sheds.iter().map(|shed| shed.bursts()).sum(), if goes_on { Intake::Shedding } else { Intake::Whole })
    }

    /// How full the lanes are now.
    pub fn standing(&self) -> Standing {
        let lanes = self.lanes();
        let lane = |name, waiting, bound, refused| LaneStanding { name, waiting, bound, refused };
        Standing {
            lanes: [
                lane(OPERATOR, lanes.operator.len(), Some(MAX_WAITING_OPERATORS), lanes.operator_shed.refused()),
                lane(ENDS, lanes.ends.len(), None, 0),
                lane(URGENT, lanes.urgent_events, Some(MAX_WAITING_EVENTS), lanes.urgent_shed.refused()),
                lane(METRICS, lanes.metric_events, Some(MAX_WAITING_EVENTS), lanes.metrics_shed.refused()),
            ],
        }
    }

    /// Recovery has ended, or the journal takes batches again.
    pub(super) fn open(&self) {
        self.set(Gate::Open);
    }

    pub(super) fn unwritable(&self, why: NotStored) {
        self.set(Gate::Unwritable(why));
    }

    fn set(&self, gate: Gate) {
        let mut lanes = self.lanes();
        if lanes.gate != Gate::Closed {
            lanes.gate = gate;
        }
    }

    /// Lets the engine's thread end after what is waiting now.
    pub fn close(&self) {
        self.lanes().gate = Gate::Closed;
        self.shared.1.notify_one();
    }

    /// Waits for items, at most `patience`; empty when none came. `None` when closed and drained.
    pub(super) fn take(&self, patience: Duration) -> Option<Vec<Waiting>> {
        let lanes = self.lanes();
        let (mut lanes, _) = self
            .shared
            .1
            .wait_timeout_while(lanes, patience, |lanes| lanes.is_empty() && lanes.gate != Gate::Closed)
            .unwrap_or_else(PoisonError::into_inner);
        if lanes.is_empty() && lanes.gate == Gate::Closed {
            return None;
        }
        let taken = std::iter::from_fn(|| lanes.next()).take(MAX_BATCH).collect();
        lanes.relax();
        Some(taken)
    }
}

impl Lanes {
    /// A lane that was full and is half empty takes again.
    fn relax(&mut self) {
        if self.operator.len() <= MAX_WAITING_OPERATORS / 2 {
            self.operator_shed.relax(OPERATOR);
        }
        if self.urgent_events <= MAX_WAITING_EVENTS / 2 {
            self.urgent_shed.relax(URGENT);
        }
        if self.metric_events <= MAX_WAITING_EVENTS / 2 {
            self.metrics_shed.relax(METRICS);
        }
    }

    fn is_empty(&self) -> bool {
        self.operator.is_empty() && self.ends.is_empty() && self.urgent.is_empty() && self.metrics.is_empty()
    }

    fn next(&mut self) -> Option<Waiting> {
        if let Some(waiting) = self.operator.pop_front().or_else(|| self.ends.pop_front()) {
            return Some(waiting);
        }
        let events = |waiting: &Waiting| match &waiting.item {
            Item::Input(Input::Events(events)) => events.len(),
            Item::Input(Input::Posted(alerts)) => alerts.len(),
            _ => 0,
        };
        if let Some(waiting) = self.urgent.pop_front() {
            self.urgent_events -= events(&waiting);
            return Some(waiting);
        }
        let waiting = self.metrics.pop_front()?;
        self.metric_events -= events(&waiting);
        Some(waiting)
    }
}

/// Whether a lane for events takes `more` beside what waits. Nothing always goes in.
fn has_room(waiting: usize, more: usize) -> bool {
    more == 0 || waiting < MAX_WAITING_EVENTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfheal_model::{Labels, MetricName, Origin, SignalName, Timestamp};

    fn event(kind: EventKind) -> Event {
        Event { deployment: "checkout".into(), time: Timestamp::from_millis(0), kind, origin: Origin::External }
    }

    fn metrics(count: usize) -> Vec<Event> {
        let kind = EventKind::Metric { name: MetricName::new("cpu"), value: 1.0, labels: Labels::default() };
        vec![event(kind); count]
    }

    fn signal() -> Event {
        event(EventKind::Signal { name: SignalName::new("deploy_failed"), fields: Default::default() })
    }

    fn waiting(inbox: &Inbox) -> [(&'static str, usize, u64); 4] {
        inbox.standing().lanes.map(|lane| (lane.name, lane.waiting, lane.refused))
    }

    #[test]
    fn too_many_metrics_refuse_no_signal_and_what_is_refused_is_counted_by_lane() {
        let inbox = Inbox::new();
        inbox.open();
        assert!(inbox.events(metrics(MAX_WAITING_EVENTS)).is_ok());
        assert_eq!(inbox.shed(), (0, Intake::Whole));
        assert_eq!(inbox.events(metrics(7)).err(), Some(Refused::Full));
        assert_eq!(inbox.shed(), (1, Intake::Shedding));
        let mixed = metrics(1).into_iter().chain([signal()]).collect();
        assert_eq!(inbox.events(mixed).err(), Some(Refused::Full), "all of a body or nothing");
        assert!(inbox.events(vec![signal()]).is_ok(), "signals have a lane of their own");
        assert!(inbox.own(&mut metrics(3)).is_ok(), "and so has what selfheal says of itself");
        let full = [("operator", 0, 0), ("ends", 0, 0), ("urgent", 4, 0), ("metrics", MAX_WAITING_EVENTS, 9)];
        assert_eq!(waiting(&inbox), full);
        let order: Vec<usize> = inbox
            .take(Duration::ZERO)
            .expect("it is open")
            .iter()
            .map(|waiting| match &waiting.item {
                Item::Input(Input::Events(events)) => events.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(order, [1, 3, MAX_WAITING_EVENTS], "what is urgent comes first");
        assert_eq!(inbox.shed(), (1, Intake::Whole), "the burst is over, and is not forgotten");
        assert!(inbox.events(metrics(1)).is_ok(), "there is room again");
    }

    #[test]
    fn a_batch_larger_than_a_lane_is_taken_unless_the_lane_is_full_and_comes_whole() {
        let inbox = Inbox::new();
        inbox.open();
        assert!(inbox.events(metrics(1)).is_ok());
        assert!(inbox.events(metrics(MAX_WAITING_EVENTS + 1)).is_ok(), "what waits already is no reason");
        let mut round = metrics(MAX_WAITING_EVENTS + 2);
        assert_eq!(inbox.of_source(&mut round).err(), Some(Refused::Full), "one beyond the bound at a time");
        assert_eq!(round.len(), MAX_WAITING_EVENTS + 2, "what is refused is not lost");
        assert!(inbox.own(&mut vec![signal(); MAX_WAITING_EVENTS + 1]).is_ok());
        assert_eq!(inbox.own(&mut vec![signal()]).err(), Some(Refused::Full));
        assert_eq!(inbox.take(Duration::ZERO).map(|taken| taken.len()), Some(3));
        assert!(inbox.of_source(&mut round).is_ok() && round.is_empty());
        assert_eq!(waiting(&inbox)[3], ("metrics", MAX_WAITING_EVENTS + 2, MAX_WAITING_EVENTS as u64 + 2));
    }

    #[test]
    fn nothing_is_taken_before_recovery_has_ended_and_no_events_while_nothing_can_be_written() {
        let inbox = Inbox::new();
        assert_eq!(inbox.events(Vec::new()).err(), Some(Refused::Recovering));
        assert_eq!(inbox.operator(Input::Tick).err(), Some(Refused::Recovering));
        inbox.open();
        assert!(inbox.events(Vec::new()).is_ok() && inbox.takes_events().is_ok());
        let why = NotStored("the disk is full".into());
        inbox.unwritable(why.clone());
        assert_eq!(inbox.events(Vec::new()).err(), Some(Refused::Unwritable(why)));
        assert!(inbox.of_source(&mut metrics(1)).is_ok(), "what selfheal watches itself goes on");
        assert!(inbox.operator(Input::Tick).is_ok(), "and so does what operators say");
        inbox.close();
        inbox.open();
        assert_eq!(inbox.events(Vec::new()).err(), Some(Refused::Closed), "a closed one stays closed");
    }
}
