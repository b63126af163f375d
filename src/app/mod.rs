//! The composition root: one running selfheal, put together in a straight line, and taken down in order.

pub mod clock;
pub mod demo;
pub mod driver;
pub mod effects;
mod history;
mod observers;
pub mod policies;
pub mod shipped;
pub mod sinks;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};

use crate::adapter::{Adapters, AdaptersConfig, Catalog};
use crate::api::model::ReadModel;
use crate::api::{Api, Backend, Busy, HistoryPage, HistoryQuery, Ingested, NoHistory, ReloadAnswer};
use crate::engine::view::DeploymentView;
use crate::engine::{Engine, Input, Operator, OperatorAnswer, OperatorCommand};
use crate::model::{DeploymentId, ResolveSecret};
use crate::notify::{Notifiers, NotifiersConfig};
use crate::policy::{Policy, UnknownDeployments};
use crate::source::checks::Checks;
use crate::source::ingest;
use crate::store::history::History;
use crate::store::journal::{Journal, MemoryJournal};
use crate::store::secrets::PolicySecrets;
use clock::Clock;
use driver::{Driver, Inbox, Refused};
use effects::{Edges, Now, Releaser, Tickets, UnderWay};
use observers::Observers;
use policies::PolicyLoader;

/// How long a drain waits for running steps and deliveries.
const DRAIN_GRACE: Duration = Duration::from_secs(25);
/// How often a drain looks whether all has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// What `selfheal run` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub policy_dir: PathBuf,
    /// Over the file's.
    pub listen: Option<String>,
    pub data_dir: Option<PathBuf>,
    /// Listen beyond loopback although the API has no authentication.
    pub allow_unauthenticated: bool,
    /// Watch the policy folder and reload on save.
    pub watch: bool,
}

/// What a drain came to, for the last line of the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Steps and deliveries cut off at the end of the grace period.
    pub steps_cut: usize,
    pub deliveries_cut: usize,
    /// Notifications that wait for another try or for their group: a restart forgets them.
    pub notifications_waiting: usize,
}

/// One running selfheal.
pub struct Running {
    pub address: SocketAddr,
    pub backend: Arc<EngineBackend>,
    under_way: Arc<UnderWay>,
    engine_thread: std::thread::JoinHandle<()>,
    edges: tokio::task::JoinHandle<()>,
    api: tokio::task::JoinHandle<()>,
    stop_api: watch::Sender<bool>,
    history: Arc<History>,
    _lock: File,
}

impl Running {
    /// Starts everything. Events are accepted when this returns.
    ///
    /// # Errors
    /// The policy does not compile (its diagnostics are the error's text), the address is taken or open to the
    /// world, or the data folder is in use or cannot be written.
    pub async fn start(options: Options) -> anyhow::Result<Running> {
        let policy_dir = std::path::absolute(&options.policy_dir)?;
        let loader = PolicyLoader::new(policy_dir.clone(), Catalog::new(policy_dir.clone()));
        let policy = Arc::new(loader.load().map_err(|failure| anyhow::anyhow!("{failure}"))?);
        let data_dir = options.data_dir.clone().unwrap_or_else(|| policy_dir.join(&policy.data_dir));
        let data_dir = std::path::absolute(&data_dir)?;
        let lock = lock_data_dir(&data_dir)?;
        let listen = options.listen.clone().unwrap_or_else(|| policy.server.listen.clone());
        let listener = bind(&listen, options.allow_unauthenticated).await?;
        let address = listener.local_addr()?;

        let clock = Clock::start();
        let now: Now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let secrets: Arc<dyn ResolveSecret> = Arc::new(PolicySecrets { policy_dir: policy_dir.clone() });
        let inbox = Inbox::new();
        let adapters = Arc::new(Adapters::new(AdaptersConfig {
            policy_dir: policy_dir.clone(),
            data_dir: data_dir.clone(),
            secrets: secrets.clone(),
            http: http_client()?,
            clock: now.clone(),
        }));
        let (check_events, checked) = mpsc::channel(CHECK_EVENTS);
        let (probes_ended, probed) = mpsc::unbounded_channel();
        let checks = Arc::new(Checks::new(check_events, now.clone()).in_dir(policy_dir.clone()));
        tokio::spawn(effects::bring_verdicts(checked, probed, inbox.clone()));
        let under_way = Arc::new(UnderWay::default());
        let model = Arc::new(ReadModel::default());
        let tickets = Tickets::default();
        let (to_edges, effects) = mpsc::unbounded_channel();
        let edges = tokio::spawn(
            Edges {
                inbox: inbox.clone(),
                now: now.clone(),
                adapters: adapters.clone(),
                notifier: Arc::new(Notifiers::new(NotifiersConfig { secrets, clock: now.clone(), policy_dir })),
                checks,
                probes_ended,
                observers: Observers::new(adapters, inbox.clone()),
                under_way: under_way.clone(),
            }
            .run(effects),
        );
        let journal = MemoryJournal::default();
        let history = Arc::new(history::open(&data_dir, clock.now(), journal.last_sequence()));
        let mut releaser = Releaser {
            model: model.clone(),
            history: history.clone(),
            sequence: journal.last_sequence(),
            now: now.clone(),
            tickets: tickets.clone(),
            to_edges,
        };
        let (engine, first) = Engine::new(clock.now(), policy.clone());
        let driver = Driver {
            inbox: inbox.clone(),
            clock,
            journal: Box::new(journal),
            release: Box::new(move |effects| releaser.release(effects)),
        };
        let engine_thread =
            std::thread::Builder::new().name("engine".to_owned()).spawn(move || driver.run(engine, first))?;

        let backend = Arc::new(EngineBackend {
            inbox,
            now,
            policy: Mutex::new(policy),
            loader,
            tickets,
            next_ticket: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            reloading: tokio::sync::Mutex::new(()),
            refused_source: Mutex::new(None),
            history: history::Lookup::new(history.clone()),
        });
        let (stop_api, stopped) = watch::channel(false);
        let api = tokio::spawn(Api::new(backend.clone(), model).serve(listener, stopped));
        if options.watch {
            policies::reload_on_save(backend.clone());
        }
        Ok(Running { address, backend, under_way, engine_thread, edges, api, stop_api, history, _lock: lock })
    }

    /// Stops in order: no new events, no new acting steps; steps and deliveries under way get a grace period.
    pub async fn drain(self) -> Drained {
        self.backend.draining.store(true, Ordering::SeqCst);
        let in_flight =
            || (self.under_way.steps.load(Ordering::SeqCst), self.under_way.deliveries.load(Ordering::SeqCst));
        if let Ok(handled) = self.backend.inbox.operator(Input::Draining) {
            // the engine's thread lives until the inbox is closed below
            let _ = handled.await;
        }
        let (steps, deliveries) = in_flight();
        tracing::info!(steps, deliveries, grace_s = DRAIN_GRACE.as_secs(), "draining");
        let all_ended = async {
            while in_flight() != (0, 0) {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        // what is cut is counted right below
        let _ = tokio::time::timeout(DRAIN_GRACE, all_ended).await;
        let (steps_cut, deliveries_cut) = in_flight();
        let waiting = match self.backend.inbox.query(|engine| engine.judge().dispatch().waiting()) {
            Ok(answer) => answer.await.unwrap_or(0),
            Err(_) => 0,
        };
        // a receiver that is gone has stopped already
        let _ = self.stop_api.send(true);
        self.backend.inbox.close();
        let _ = tokio::task::spawn_blocking(move || self.engine_thread.join()).await;
        self.edges.abort();
        history::close(self.history).await;
        let _ = self.api.await;
        Drained { steps_cut, deliveries_cut, notifications_waiting: waiting.saturating_sub(deliveries_cut) }
    }
}

/// Batches of check verdicts that may wait; a check waits when it is full.
const CHECK_EVENTS: usize = 1_024;

fn http_client() -> anyhow::Result<reqwest::Client> {
    // a second call finds the provider installed
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("cannot set up the HTTP client")
}

async fn bind(listen: &str, allow_unauthenticated: bool) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}; is another selfheal running? choose another with --listen")
    })?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() && !allow_unauthenticated {
        bail!(
            "{address} can be reached from other machines and the API has no authentication yet: \
             listen on 127.0.0.1, or say --allow-unauthenticated"
        );
    }
    Ok(listener)
}

/// Two engines on one data folder would both act: the second is refused.
fn lock_data_dir(data_dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot create the data folder {}", data_dir.display()))?;
    let path = data_dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot write to the data folder: {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!(
                "the data folder {} is in use by another selfheal; give this one its own with --data-dir",
                data_dir.display()
            )
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// The engine as the API sees it.
pub struct EngineBackend {
    inbox: Inbox,
    now: Now,
    policy: Mutex<Arc<Policy>>,
    loader: PolicyLoader,
    tickets: Tickets,
    next_ticket: AtomicU64,
    draining: AtomicBool,
    reloading: tokio::sync::Mutex<()>,
    /// Fingerprint of the last text that did not compile, so that it is said once.
    refused_source: Mutex<Option<u64>>,
    history: history::Lookup,
}

impl EngineBackend {
    fn policy(&self) -> Arc<Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ingest(&self, body: bytes::Bytes, content_type: Option<String>) -> Result<Ingested, Busy> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(Busy::Draining);
        }
        let arrival = (self.now)();
        let policy = self.policy();
        let parse = move || {
            let limits = ingest::Limits::default();
            let mut parsed = ingest::parse(&body, content_type.as_deref(), arrival, &limits);
            if policy.unknown_deployments == UnknownDeployments::Reject {
                parsed.admit(&limits, |event| match policy.deployments.contains_key(&event.deployment) {
                    true => Ok(()),
                    false => Err(unknown_deployment(&policy, &event.deployment)),
                });
            }
            parsed
        };
        let parsed = tokio::task::spawn_blocking(parse).await.map_err(|_| Busy::Draining)?;
        let taken = Ingested {
            accepted: parsed.events.len(),
            rejected: parsed.errors.len() + parsed.more_errors,
            errors: parsed.errors.iter().map(|error| serde_json::json!(error)).collect(),
        };
        if !parsed.events.is_empty() {
            let handled = self.inbox.events(parsed.events).map_err(busy)?;
            handled.await.map_err(|_| Busy::Draining)?;
        }
        Ok(taken)
    }

    async fn operate(&self, who: String, command: OperatorCommand) -> Result<OperatorAnswer, String> {
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
            Ok(Ok(policy)) => self.take_policy(Arc::new(policy)).await,
            Ok(Err(failure)) => self.refuse_policy(failure).await,
            Err(error) => ReloadAnswer::Failed(format!("loading the policy failed: {error}")),
        }
    }

    async fn take_policy(&self, policy: Arc<Policy>) -> ReloadAnswer {
        let before = self.policy();
        let was_refused = self.refused_source.lock().unwrap_or_else(PoisonError::into_inner).take().is_some();
        let version = policy.version.to_string();
        if policy.version == before.version && !was_refused {
            return ReloadAnswer::Unchanged { version };
        }
        if policy.server != before.server || policy.data_dir != before.data_dir {
            tracing::warn!("`server` and `data_dir` change by restart only; the rest of the policy is live now");
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

    async fn refuse_policy(&self, failure: policies::LoadFailure) -> ReloadAnswer {
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
    }
}

fn unknown_deployment(policy: &Policy, id: &DeploymentId) -> String {
    let near = policy
        .deployments
        .keys()
        .map(|known| (strsim::damerau_levenshtein(known.as_str(), id.as_str()), known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match near {
        Some((_, known)) => format!("deployment `{id}` is not listed; did you mean `{known}`?"),
        None => format!("deployment `{id}` is not listed, and `unknown_deployments` is `reject`"),
    }
}

impl Backend for EngineBackend {
    fn ingest(&self, body: bytes::Bytes, content_type: Option<String>) -> BoxFuture<'_, Result<Ingested, Busy>> {
        Box::pin(EngineBackend::ingest(self, body, content_type))
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

    fn history(&self, query: HistoryQuery) -> BoxFuture<'_, Result<HistoryPage, NoHistory>> {
        Box::pin(self.history.read(query))
    }

    fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::SeqCst)
    }
}
