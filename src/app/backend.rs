//! The engine as the API and the watcher of the policy folder see it.
//!
//! Invariant: nothing is answered as taken before the engine's thread said that it is written down.

mod explain;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::as_of::AsOf;
use super::clock;
use super::decode::{self, Read, Taken};
use super::effects::Tickets;
use super::history::Lookup;
use super::inbox::{Inbox, Refused};
use super::policies::{LoadFailure, PolicyLoader};
use super::policy_archive::SharedArchive;
use super::telemetry::{Exposition, Kinds, Reason, Telemetry, Way};
use selfheal_api::{
    Backend, Busy, Explain, Explained, Form, HistoryPage, HistoryQuery, Ingested, NoHistory, NotExplained, NotRead,
    NotTaken, ReloadAnswer,
};
use selfheal_contract::view::DeploymentView;
use selfheal_contract::{Operator, OperatorAnswer, OperatorCommand};
use selfheal_engine::Input;
use selfheal_model::Timestamp;
use selfheal_policy::record::{Answers, PolicyRecord, Recorded};
use selfheal_policy::{Policy, UnknownDeployments, secrets_by_name};
use selfheal_store::history::History;

/// A body of so many bytes is parsed in less time than another thread takes to wake up for it.
const SMALL_BODY: usize = 8 * 1024;

/// Whether a body is parsed where it came in. What is still compressed may be large, and so may be the search for what a
/// deployment that is not listed was meant to be.
fn is_little_work(body: &[u8], form: &Form, policy: &Policy) -> bool {
    let is_plain = matches!(form, Form::Events { .. });
    is_plain && body.len() <= SMALL_BODY && policy.unknown_deployments != UnknownDeployments::Reject
}

/// The engine as the API sees it.
pub struct EngineBackend {
    pub(super) inbox: Inbox,
    policy: Mutex<Arc<Policy>>,
    loader: PolicyLoader,
    tickets: Tickets,
    next_ticket: AtomicU64,
    draining: AtomicBool,
    reloading: tokio::sync::Mutex<()>,
    /// Fingerprint of the last text that did not compile, so that it is said once.
    refused_source: Mutex<Option<u64>>,
    history: Lookup,
    /// `None` until recovery has ended: nothing is reloaded before.
    records: Mutex<Option<Records>>,
    exposition: Arc<Exposition>,
}

/// The engine's records on disk: available once recovery has ended.
pub(super) struct Records {
    pub archive: SharedArchive,
    /// The newest batch, as far as it is known here: a policy is named by a later one.
    pub sequence: Arc<AtomicU64>,
    pub as_of: Arc<AsOf>,
}

impl EngineBackend {
    pub(super) fn new(
        exposition: Arc<Exposition>,
        policy: Arc<Policy>,
        loader: PolicyLoader,
        tickets: Tickets,
        history: Arc<History>,
    ) -> Self {
        EngineBackend {
            inbox: exposition.inbox.clone(),
            policy: Mutex::new(policy),
            loader,
            tickets,
            next_ticket: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            reloading: tokio::sync::Mutex::new(()),
            refused_source: Mutex::new(None),
            history: Lookup::new(history),
            records: Mutex::new(None),
            exposition,
        }
    }

    /// Recovery has ended: policies are kept here from now on.
    pub(super) fn attach_records(&self, records: Records) {
        *self.records.lock().unwrap_or_else(PoisonError::into_inner) = Some(records);
    }

    /// Keeps a policy before a batch names it.
    fn keep(&self, recorded: &PolicyRecord, answers: &Answers, policy: &Arc<Policy>) -> Result<(), String> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Records { archive, sequence, .. }) = records.as_ref() else {
            return Err(Refused::Recovering.to_string());
        };
        let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
        let next = sequence.load(Ordering::SeqCst) + 1;
        archive.keep(recorded, answers, policy, next).map_err(|error| format!("{error:#}"))
    }

    /// From now on no event is taken and no save is loaded.
    pub(super) fn stop_taking(&self) {
        self.draining.store(true, Ordering::SeqCst);
        if let Some(records) = self.records.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            records.as_of.stop();
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(super) fn policy_dir(&self) -> &Path {
        self.loader.dir()
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn telemetry(&self) -> &Telemetry {
        &self.exposition.telemetry
    }

    async fn ingest(&self, body: bytes::Bytes, form: Form) -> Result<Ingested, NotTaken> {
        let way = Way::of(&form);
        let read = self.read(body, form).await.inspect_err(|why| self.telemetry().refused(Reason::of(why), 1))?;
        let Read { taken, answer, unreadable, unknown_deployment, late } = read;
        self.telemetry().refused(Reason::Unreadable, unreadable);
        self.telemetry().refused(Reason::UnknownDeployment, unknown_deployment);
        if taken.len() > 0 {
            self.store(way, taken, late).await?;
        }
        Ok(answer)
    }

    async fn read(&self, body: bytes::Bytes, form: Form) -> Result<Read, NotTaken> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(Busy::Draining.into());
        }
        // asked before a large body is parsed for nothing
        self.inbox.takes_events().map_err(busy)?;
        let arrival = clock::wall();
        let policy = self.policy();
        if is_little_work(&body, &form, &policy) {
            return decode::parse(&body, form, arrival, &policy);
        }
        let parsed = tokio::task::spawn_blocking(move || decode::parse(&body, form, arrival, &policy));
        parsed.await.map_err(|_| Busy::Draining)?
    }

    /// Hands events over, and counts what became of them also where the caller goes away before it is told.
    async fn store(&self, way: Way, taken: Taken, late: usize) -> Result<(), Busy> {
        let kinds = match &taken {
            Taken::Events(events) => Kinds::of(events),
            Taken::Alerts(alerts) => Kinds::alerts(alerts.len()),
        };
        let count = taken.len();
        let refused = move |telemetry: &Telemetry, why: &Busy| telemetry.refused(Reason::of_busy(why), count);
        let stored = match taken {
            Taken::Events(events) => self.inbox.events(events),
            Taken::Alerts(alerts) => self.inbox.alerts(alerts),
        };
        let stored = stored.map_err(busy).inspect_err(|why| refused(self.telemetry(), why))?;
        let exposition = self.exposition.clone();
        let counted = tokio::spawn(async move {
            let stored = match stored.await {
                Ok(stored) => stored.map_err(|why| busy(Refused::Unwritable(why))),
                Err(_) => Err(Busy::Draining),
            };
            match &stored {
                Ok(()) => {
                    exposition.telemetry.taken(way, kinds);
                    exposition.telemetry.late(late);
                }
                Err(why) => refused(&exposition.telemetry, why),
            }
            stored
        });
        counted.await.unwrap_or(Err(Busy::Draining))
    }

    async fn operate(&self, who: String, command: OperatorCommand) -> Result<OperatorAnswer, String> {
        // what is no name of a secret may be one, and shall not come into the journal
        if let OperatorCommand::Trigger { playbook, with, .. } = &command {
            let policy = self.policy();
            let inputs = policy.playbooks.get(playbook).map(|playbook| playbook.inputs.as_slice()).unwrap_or_default();
            secrets_by_name(inputs, with.clone(), &policy.secrets)
                .map_err(|why| format!("playbook `{playbook}`: {why}"))?;
        }
        let ticket = self.next_ticket.fetch_add(1, Ordering::SeqCst);
        let (answer, wait) = oneshot::channel();
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, answer);
        let taken = self.inbox.operator(Input::Operator(Operator { who, command, ticket }));
        if let Err(refused) = taken {
            self.tickets.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
            return Err(refused.to_string());
        }
        wait.await.unwrap_or_else(|_| Err(Refused::Closed.to_string()))
    }

    /// Reads and compiles the folder. A good policy that differs goes live, a bad one changes nothing.
    pub async fn reload(self: &Arc<Self>) -> ReloadAnswer {
        let _one_at_a_time = self.reloading.lock().await;
        let this = self.clone();
        let loaded = tokio::task::spawn_blocking(move || this.loader.load()).await;
        match loaded {
            Ok(Ok(recorded)) => self.take_policy(recorded).await,
            Ok(Err(failure)) => self.refuse_policy(failure).await,
            Err(error) => ReloadAnswer::Failed(format!("loading the policy failed: {error}")),
        }
    }

    async fn take_policy(&self, recorded: Recorded) -> ReloadAnswer {
        let Recorded { policy, record, answers } = recorded;
        let policy = Arc::new(policy);
        let before = self.policy();
        let was_refused = self.refused_source.lock().unwrap_or_else(PoisonError::into_inner).take().is_some();
        let version = policy.version.to_string();
        if policy.version == before.version && !was_refused {
            return ReloadAnswer::Unchanged { version };
        }
        if policy.server != before.server || policy.data_dir != before.data_dir {
            tracing::warn!("`server` and `data_dir` change by restart only; the rest of the policy is live now");
        }
        if let Err(why) = self.keep(&record, &answers, &policy) {
            return ReloadAnswer::Failed(why);
        }
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy.clone();
        match self.inbox.operator(Input::PolicyReplaced(policy.clone())) {
            Ok(handled) => {
                if handled.await.is_err() {
                    return ReloadAnswer::Failed(Refused::Closed.to_string());
                }
            }
            Err(refused) => return ReloadAnswer::Failed(refused.to_string()),
        }
        tracing::info!(version, rules = policy.rules.len(), playbooks = policy.playbooks.len(), "policy is live");
        ReloadAnswer::Live { version, warnings: policy.warnings.clone() }
    }

    async fn refuse_policy(&self, failure: LoadFailure) -> ReloadAnswer {
        let fingerprint = failure.fingerprint();
        let before = self.refused_source.lock().unwrap_or_else(PoisonError::into_inner).replace(fingerprint);
        let diagnostics = failure.diagnostics();
        if before != Some(fingerprint) {
            tracing::error!("the policy did not compile; the old one stays live\n{failure}");
            if let Ok(handled) = self.inbox.operator(Input::PolicyInvalid(diagnostics.clone())) {
                // an engine that ends meanwhile takes the old policy with it
                let _ = handled.await;
            }
        }
        ReloadAnswer::Refused(diagnostics)
    }
}

fn busy(refused: Refused) -> Busy {
    match refused {
        Refused::Full => Busy::Full,
        Refused::Closed => Busy::Draining,
        Refused::Recovering => Busy::Recovering,
        Refused::Unwritable(why) => Busy::Unwritable(why.0),
    }
}

impl Backend for EngineBackend {
    fn ingest(&self, body: bytes::Bytes, form: Form) -> BoxFuture<'_, Result<Ingested, NotTaken>> {
        Box::pin(EngineBackend::ingest(self, body, form))
    }

    fn not_read(&self, why: NotRead) {
        self.telemetry().refused(Reason::of_unread(why), 1);
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(self.exposition.text())
    }

    fn operate(&self, who: String, command: OperatorCommand) -> BoxFuture<'_, Result<OperatorAnswer, String>> {
        Box::pin(EngineBackend::operate(self, who, command))
    }

    fn reload(self: Arc<Self>) -> BoxFuture<'static, ReloadAnswer> {
        Box::pin(async move { EngineBackend::reload(&self).await })
    }

    fn deployments(&self) -> BoxFuture<'_, Result<Vec<DeploymentView>, Busy>> {
        Box::pin(async {
            let answer = self.inbox.query(|engine| engine.detect().deployment_views()).map_err(busy)?;
            answer.await.map_err(|_| Busy::Draining)
        })
    }

    fn explain(&self, what: Explain, at: Option<Timestamp>) -> BoxFuture<'_, Result<Box<Explained>, NotExplained>> {
        Box::pin(self.explained(what, at))
    }

    fn history(&self, query: HistoryQuery) -> BoxFuture<'_, Result<HistoryPage, NoHistory>> {
        Box::pin(self.history.read(query))
    }

    fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::SeqCst) && self.inbox.takes_events() != Err(Refused::Recovering)
    }
}

#[cfg(test)]
mod tests;
