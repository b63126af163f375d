//! Releases effects to the edges, and brings their ends back to the engine.
//!
//! Invariant: every released step, delivery and probe ends exactly once, also when it is cancelled, too late or
//! panics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify as Signal, mpsc, oneshot};

use super::clock::Stopwatch;
use super::driver::Decisions;
use super::inbox::{Inbox, Refused};
use super::observers::Observers;
use super::telemetry::{DeliveryOutcome, Kinds, Shows, StepOutcome, Telemetry, Way};
use selfheal_adapter::{Adapters, Called};
use selfheal_api::links::{Linked, Links};
use selfheal_api::model::ReadModel;
use selfheal_contract::view::Change;
use selfheal_contract::{Delivery, DeliveryResult, Effect, OperatorAnswer, StepCall, StepEnd};
use selfheal_engine::Input;
use selfheal_model::{Event, FailureClass, Outcome, StepAttemptId, Timestamp};
use selfheal_notify::Notify;
use selfheal_source::checks::Checks;
use selfheal_source::pull::Sources;
use selfheal_store::history::History;
use selfheal_store::writer::Stored;

/// Engine time, for edges that need it.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What waits for the engine's answer to an operator's word, by ticket.
pub type Tickets = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Result<OperatorAnswer, String>>>>>;

/// What is under way at the edges.
#[derive(Debug, Default)]
pub struct UnderWay {
    pub steps: AtomicUsize,
    pub deliveries: AtomicUsize,
}

/// Splits a batch of effects: views and answers are taken over at once, the rest goes to the edges' task.
pub struct Releaser {
    pub model: Arc<ReadModel>,
    pub history: Arc<History>,
    pub tickets: Tickets,
    pub to_edges: mpsc::UnboundedSender<Effect>,
    pub telemetry: Arc<Telemetry>,
}

impl Releaser {
    pub fn release(&mut self, decisions: Decisions) {
        let Decisions { sequence, at, effects, is_whole } = decisions;
        let mut changes = Vec::new();
        let shows = if is_whole { Shows::Everything } else { Shows::Changes };
        let mut answers = Vec::new();
        for effect in effects {
            match effect {
                Effect::Show(change) => {
                    let before = self.model.take(change.clone());
                    self.telemetry.shown(before.as_ref(), &change, shows);
                    changes.push(change);
                }
                Effect::Answer { ticket, answer } => answers.push((ticket, answer)),
                // the edges' task ends last; when it is gone nothing is released any more
                effect => drop(self.to_edges.send(effect)),
            }
        }
        // whoever is answered finds what came of it when they look
        for (ticket, answer) in answers {
            let waiting = self.tickets.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
            if let Some(waiting) = waiting {
                // the asker may have gone away
                let _ = waiting.send(answer);
            }
        }
        if is_whole {
            let (audit, changes) = changes.into_iter().partition(|change| matches!(change, Change::Audit(_)));
            self.history.take(sequence, at, audit);
            self.history.take_whole(sequence, at, changes);
        } else {
            self.history.take(sequence, at, changes);
        }
    }
}

/// The task that hands effects to the edges.
pub struct Edges {
    pub inbox: Inbox,
    pub now: Now,
    pub adapters: Arc<Adapters>,
    pub notifier: Arc<dyn Notify>,
    pub checks: Arc<Checks>,
    pub sources: Arc<Sources>,
    /// Probes whose verdicts were sent; see [`bring_verdicts`].
    pub probes_ended: mpsc::UnboundedSender<Input>,
    pub observers: Observers,
    pub under_way: Arc<UnderWay>,
    /// Takes what is too long for the engine.
    pub history: Arc<History>,
    pub telemetry: Arc<Telemetry>,
    pub links: Arc<Links>,
}

impl Edges {
    pub async fn run(mut self, mut effects: mpsc::UnboundedReceiver<Effect>) {
        let mut cancels: BTreeMap<StepAttemptId, Arc<Signal>> = BTreeMap::new();
        let (ended, mut step_ended) = mpsc::unbounded_channel::<StepAttemptId>();
        loop {
            tokio::select! {
                effect = effects.recv() => match effect {
                    None => return,
                    Some(Effect::StartStep(call)) => {
                        let cancel = Arc::new(Signal::new());
                        cancels.insert(call.id.clone(), cancel.clone());
                        self.start_step(*call, cancel, ended.clone());
                    }
                    Some(Effect::CancelStep { id, .. }) => {
                        if let Some(cancel) = cancels.get(&id) {
                            cancel.notify_one();
                        }
                    }
                    Some(effect) => self.release(effect),
                },
                Some(id) = step_ended.recv() => {
                    cancels.remove(&id);
                }
            }
        }
    }

    fn release(&mut self, effect: Effect) {
        match effect {
            Effect::Deliver(delivery) => self.deliver(*delivery),
            Effect::Observe { deployment } => self.observers.look_now(&deployment),
            Effect::Probe { deployment, check, attempt } => {
                let (checks, ended) = (self.checks.clone(), self.probes_ended.clone());
                tokio::spawn(async move {
                    if let Err(error) = checks.probe(&deployment, &check).await {
                        tracing::warn!(%deployment, %check, %error, "nothing was probed");
                    }
                    // the receiver lives as long as the engine
                    drop(ended.send(Input::Probed { deployment, check, attempt }));
                });
            }
            Effect::Desired(desired) => {
                self.checks.apply(&desired);
                self.sources.apply(&desired);
                self.observers.apply(&desired);
            }
            Effect::Emitted(event) => tracing::info!(deployment = %event.deployment, ?event.kind, "signal"),
            Effect::StartStep(_) | Effect::CancelStep { .. } | Effect::Show(_) | Effect::Answer { .. } => {}
        }
    }

    fn start_step(&self, call: StepCall, cancel: Arc<Signal>, ended: mpsc::UnboundedSender<StepAttemptId>) {
        let id = call.id.clone();
        let inbox = self.inbox.clone();
        let under_way = self.under_way.clone();
        if (self.now)() > call.not_after {
            let why = format!("not begun: it was decided for no later than {}", call.not_after);
            self.telemetry.step_ended(StepOutcome::NotBegun, Duration::ZERO);
            inbox.end(step_end(&id, Outcome::failed(FailureClass::Transient, why)));
            drop(ended.send(id));
            return;
        }
        tracing::info!(step = %id, deployment = %call.deployment.id, verb = %call.verb, fence = call.fence, "step starts");
        under_way.steps.fetch_add(1, Ordering::SeqCst);
        let adapters = self.adapters.clone();
        // a task of its own, so that a panic in an adapter is an outcome and not a lost step
        let (history, telemetry) = (self.history.clone(), self.telemetry.clone());
        let began = Stopwatch::start();
        let task = tokio::spawn(async move { adapters.call_in_full(call).await });
        let abort = task.abort_handle();
        tokio::spawn(async move {
            let end = tokio::select! {
                called = task => match called {
                    Ok(Called { end, long_log, long_output }) => {
                        if long_log.is_some() || long_output.is_some() {
                            history.take_output(&end.id, long_log, long_output);
                        }
                        end
                    }
                    Err(error) => StepEnd {
                        id: id.clone(),
                        outcome: Outcome::unknown(format!("the adapter failed: {error}")),
                        log: String::new(),
                        took: Duration::ZERO,
                    },
                },
                () = cancel.notified() => {
                    abort.abort();
                    StepEnd { id: id.clone(), outcome: Outcome::unknown("cancelled"), log: String::new(), took: Duration::ZERO }
                }
            };
            tracing::info!(step = %id, outcome = end.outcome.word(), "step ended");
            telemetry.step_ended(StepOutcome::of(&end.outcome), began.elapsed());
            inbox.end(Input::StepEnded(end));
            under_way.steps.fetch_sub(1, Ordering::SeqCst);
            drop(ended.send(id));
        });
    }

    fn deliver(&self, mut delivery: Delivery) {
        let (notifier, inbox, under_way) = (self.notifier.clone(), self.inbox.clone(), self.under_way.clone());
        under_way.deliveries.fetch_add(1, Ordering::SeqCst);
        let (id, attempt) = (delivery.id.clone(), delivery.attempt);
        let (telemetry, began) = (self.telemetry.clone(), Stopwatch::start());
        // at the last moment: a link acts, so nothing that is kept may hold it
        let veil = self.links.in_message(&delivery.notification).map(Linked::into_parts).map(|(message, veil)| {
            delivery.notification = Arc::new(message);
            veil
        });
        let veil = veil.unwrap_or_default();
        let task = tokio::spawn(async move { notifier.deliver(&delivery).await });
        tokio::spawn(async move {
            let result = task.await.unwrap_or_else(|error| DeliveryResult::Transient {
                why: format!("the notifier failed: {error}"),
                retry_after: None,
            });
            let result = match result {
                DeliveryResult::Delivered => DeliveryResult::Delivered,
                DeliveryResult::Transient { why, retry_after } => {
                    DeliveryResult::Transient { why: veil.over(why), retry_after }
                }
                DeliveryResult::Permanent { why } => DeliveryResult::Permanent { why: veil.over(why) },
            };
            match &result {
                DeliveryResult::Delivered => tracing::info!(delivery = %id, "delivered"),
                other => tracing::warn!(delivery = %id, attempt, result = ?other, "not delivered"),
            }
            telemetry.delivery_ended(DeliveryOutcome::of(&result), began.elapsed());
            inbox.end(Input::DeliveryEnded { id, attempt, result });
            under_way.deliveries.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn step_end(id: &StepAttemptId, outcome: Outcome) -> Input {
    Input::StepEnded(StepEnd { id: id.clone(), outcome, log: String::new(), took: Duration::ZERO })
}

/// Verdicts that came meanwhile are handed over together: each waits for the disk once, not for that of each before it.
const VERDICTS_AT_ONCE: usize = 1_024;

/// Brings the checks' verdicts to the engine, and the end of a probe only after the verdicts it gave.
pub async fn bring_verdicts(
    mut verdicts: mpsc::Receiver<Vec<Event>>,
    mut probes: mpsc::UnboundedReceiver<Input>,
    inbox: Inbox,
    telemetry: Arc<Telemetry>,
) {
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            came = verdicts.recv_many(&mut waiting, VERDICTS_AT_ONCE) => if came == 0 { return },
            Some(probed) = probes.recv() => {
                // its verdicts were sent before it, so they are here by now
                waiting.extend(std::iter::from_fn(|| verdicts.try_recv().ok()));
                tell_events(&inbox, Inbox::own, &telemetry, waiting.drain(..).flatten().collect()).await;
                inbox.end(probed);
            }
        }
        tell_events(&inbox, Inbox::own, &telemetry, waiting.drain(..).flatten().collect()).await;
    }
}

/// Brings the sources' rounds to the engine, apart from the verdicts: a page that takes long, or waits for room among
/// the metrics, holds up no check.
pub async fn bring_rounds(mut rounds: mpsc::Receiver<Vec<Event>>, inbox: Inbox, telemetry: Arc<Telemetry>) {
    while let Some(events) = rounds.recv().await {
        tell_events(&inbox, Inbox::of_source, &telemetry, events).await;
    }
}

/// Hands what selfheal watches itself to the engine, by the way that `put` is, waiting while its lane is full.
async fn tell_events(
    inbox: &Inbox,
    put: impl Fn(&Inbox, &mut Vec<Event>) -> Result<oneshot::Receiver<Stored>, Refused>,
    telemetry: &Telemetry,
    mut events: Vec<Event>,
) {
    const PAUSE_WHEN_FULL: Duration = Duration::from_millis(100);
    if events.is_empty() {
        return;
    }
    let kinds = Kinds::of(&events);
    loop {
        match put(inbox, &mut events) {
            Ok(handled) => {
                // an engine that ends meanwhile has taken nothing
                if handled.await.is_ok() {
                    telemetry.taken(Way::Watched, kinds);
                }
                return;
            }
            Err(Refused::Closed) => return,
            Err(Refused::Full | Refused::Recovering | Refused::Unwritable(_)) => {
                tokio::time::sleep(PAUSE_WHEN_FULL).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::inbox::{Item, Waiting};
    use selfheal_model::{EventKind, Labels, MetricName, Origin, SignalName};
    use selfheal_source::formats::MAX_SAMPLES_PER_BODY;

    const DEADLINE: Duration = Duration::from_secs(40);

    fn event(kind: EventKind) -> Event {
        Event { deployment: "shop".into(), time: Timestamp::from_millis(0), kind, origin: Origin::Watched }
    }

    fn round(samples: usize) -> Vec<Event> {
        let kind = EventKind::Metric { name: MetricName::new("a"), value: 1.0, labels: Labels::default() };
        vec![event(kind); samples]
    }

    /// What the engine would be handed next: how many events each input holds.
    async fn next(inbox: &Inbox) -> Vec<Waiting> {
        let inbox = inbox.clone();
        let taken = tokio::task::spawn_blocking(move || inbox.take(DEADLINE)).await.expect("no panic");
        taken.expect("it is open")
    }

    fn sizes(taken: &[Waiting]) -> Vec<usize> {
        let size = |waiting: &Waiting| match &waiting.item {
            Item::Input(Input::Events(events)) => events.len(),
            _ => 0,
        };
        taken.iter().map(size).collect()
    }

    fn stored(taken: Vec<Waiting>) {
        for done in taken.into_iter().filter_map(|waiting| waiting.done) {
            done.send(Ok(())).expect("somebody waits");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_largest_page_holds_up_no_check_and_no_other_source() {
        let inbox = Inbox::new();
        inbox.open();
        let telemetry = Arc::new(Telemetry::default());
        let (verdicts, checked) = mpsc::channel(1);
        let (rounds, asked) = mpsc::channel(1);
        let (_probes, probed) = mpsc::unbounded_channel();
        tokio::spawn(bring_verdicts(checked, probed, inbox.clone(), telemetry.clone()));
        tokio::spawn(bring_rounds(asked, inbox.clone(), telemetry));
        // every series of a page at its limit has ended, and as many are new
        let largest = 2 * MAX_SAMPLES_PER_BODY;
        rounds.send(round(largest)).await.expect("it is heard");
        let page = next(&inbox).await;
        assert_eq!(sizes(&page), [largest]);

        // it is being handled, others fill the lane behind it, and another source has something to say
        let full = inbox.events(round(largest));
        assert!(full.is_ok());
        rounds.send(round(2)).await.expect("it is heard");
        let signal = event(EventKind::Signal { name: SignalName::new("seen"), fields: Default::default() });
        verdicts.send([vec![signal], round(3)].concat()).await.expect("it is heard");
        let waits = async {
            while inbox.standing().lanes[2].waiting == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, waits).await.expect("a verdict waits for no metrics");
        let taken = next(&inbox).await;
        assert_eq!(sizes(&taken), [4, largest], "all of a verdict comes first");
        stored(page);
        stored(taken);
        assert_eq!(sizes(&next(&inbox).await), [2], "the other source");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn verdicts_wait_for_the_disk_together_and_a_probe_ends_after_its_own() {
        let inbox = Inbox::new();
        inbox.open();
        let (verdicts, checked) = mpsc::channel(8);
        let (probes, probed) = mpsc::unbounded_channel();
        for samples in [1, 2, 3] {
            verdicts.send(round(samples)).await.expect("there is room");
        }
        probes.send(Input::Tick).expect("it is heard");
        tokio::spawn(bring_verdicts(checked, probed, inbox.clone(), Arc::new(Telemetry::default())));
        let taken = next(&inbox).await;
        assert_eq!(sizes(&taken), [6], "the end of the probe waits for them");
        stored(taken);
        let taken = next(&inbox).await;
        assert!(matches!(&taken[..], [Waiting { item: Item::Input(Input::Tick), .. }]));
    }
}
