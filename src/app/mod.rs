//! The composition root: one running selfheal, put together in a straight line, and taken down in order.

mod backend;
mod bodies;
pub mod clock;
pub mod demo;
pub mod driver;
pub mod effects;
mod history;
pub mod inbox;
mod link_key;
mod observers;
mod past;
pub mod policies;
pub mod recovery;
pub mod replay;
pub mod shipped;
pub mod sinks;
mod snapshotter;
pub mod telemetry;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::{mpsc, oneshot, watch};

pub use backend::EngineBackend;
use backend::Keeping;
use clock::Clock;
use driver::Driver;
use effects::{Edges, Now, Releaser, Tickets, UnderWay};
use inbox::Inbox;
use observers::Observers;
use past::Past;
use policies::PolicyLoader;
use recovery::{Recovered, SharedShelf, Shelf};
use selfheal_adapter::{Adapters, AdaptersConfig, Catalog};
use selfheal_api::Api;
use selfheal_api::links::Links;
use selfheal_api::model::ReadModel;
use selfheal_contract::Effect;
use selfheal_engine::{Engine, Input};
use selfheal_model::ResolveSecret;
use selfheal_notify::{Notifiers, NotifiersConfig};
use selfheal_policy::record::Recorded;
use selfheal_source::checks::Checks;
use selfheal_source::pull::Sources;
use selfheal_store::history::History;
use selfheal_store::recovery::Candidates;
use selfheal_store::secrets::PolicySecrets;
use selfheal_store::writer::Writer;
use selfheal_store::{Opened, Store, StoreOptions};
use snapshotter::Snapshotter;
use telemetry::{Exposition, Telemetry};

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
    /// Go on although the journal ends in what the machine's clock calls the future.
    pub accept_clock: bool,
    /// How often selfheal's own figures become series of the deployment `selfheal`.
    pub own_series_every: Duration,
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
    engine_thread: std::thread::JoinHandle<Option<Engine>>,
    edges: tokio::task::JoinHandle<()>,
    own_series: tokio::task::JoinHandle<()>,
    api: tokio::task::JoinHandle<()>,
    stop_api: watch::Sender<bool>,
    history: Arc<History>,
    snapshotter: Snapshotter,
    store: Store,
    /// Of the newest batch.
    sequence: Arc<AtomicU64>,
    _lock: File,
}

/// What was known before the start.
struct Memory {
    store: Store,
    snapshots: Candidates,
    shelf: SharedShelf,
    history: Arc<History>,
}

impl Memory {
    /// Brings back the engine, and to the history what it missed.
    async fn recover(mut self) -> anyhow::Result<Option<Recovered>> {
        let recovering = move || {
            let mut tell = |sequence, at, effects: &[Effect]| {
                let shown = |effect: &Effect| match effect {
                    Effect::Show(change) => Some(change.clone()),
                    _ => None,
                };
                self.history.take(sequence, at, effects.iter().filter_map(shown).collect());
            };
            recovery::recover(&self.store, &mut self.snapshots, &self.shelf, &mut tell)
        };
        let recovered = tokio::task::spawn_blocking(recovering).await.context("recovery failed")??;
        if let Some(Recovered { sequence, at, batches, events, .. }) = &recovered {
            tracing::info!(sequence, last_known = %at, batches, events, "recovered");
        }
        Ok(recovered)
    }
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
        let loaded = loader.load();
        let said = loaded.as_ref().ok().map(|loaded| loaded.policy.data_dir.clone());
        let data_dir = data_dir(&policy_dir, options.data_dir.as_deref(), said)?;
        let lock = lock_data_dir(&data_dir)?;
        let store = Store::at(&data_dir);
        let Opened { mut snapshots, policies } = store.open()?;
        let mut shelf = Shelf::new(policies, &data_dir);
        let last_sequence = store.last_sequence()?;
        let folder = loaded.map(|Recorded { policy, record, answers }| (Arc::new(policy), record, answers));
        if let Ok((policy, record, answers)) = &folder {
            shelf.keep(record, answers, policy, last_sequence + 1)?;
        }
        let folder = folder.map(|(policy, _, _)| policy);
        let shelf = Arc::new(Mutex::new(shelf));
        let clock = Clock::start();
        let now: Now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let links = Arc::new(Links::new(link_key::open(&data_dir)?, now.clone()));
        // what a broken folder says of it is not known; what is kept until the next start is not lost
        let keep = folder.as_ref().map(|policy| policy.storage).unwrap_or_default();
        let history = Arc::new(history::open(&data_dir, keep.history, clock.now(), last_sequence));
        snapshots.prefer_up_to(history.written());
        let memory = Memory { store: store.clone(), snapshots, shelf: shelf.clone(), history: history.clone() };

        // it answers as soon as it knows where; what it knew before is read next, or first where the folder is broken
        let (recovered, standing, early) = match &folder {
            Ok(policy) => (None, policy.clone(), Some(memory)),
            Err(failure) => match memory.recover().await? {
                None => bail!("{failure}"),
                Some(recovered) => {
                    let standing = recovered.engine.policy().clone();
                    (Some(recovered), standing, None)
                }
            },
        };
        let listen = options.listen.clone().unwrap_or_else(|| standing.server.listen.clone());
        let listener = bind(&listen, options.allow_unauthenticated).await?;
        let address = listener.local_addr()?;
        let secrets: Arc<dyn ResolveSecret> = Arc::new(PolicySecrets { policy_dir: policy_dir.clone() });
        let wall: Now = Arc::new(clock::wall);
        let (rounds, asked) = mpsc::channel(WAITING_ROUNDS);
        let sources = Sources::new(rounds, wall.clone(), secrets.clone(), policy_dir.clone());
        let (inbox, sources, under_way) = (Inbox::new(), Arc::new(sources), Arc::new(UnderWay::default()));
        let telemetry = Arc::new(Telemetry::default());
        let exposition = Arc::new(Exposition {
            telemetry: telemetry.clone(),
            inbox: inbox.clone(),
            under_way: under_way.clone(),
            sources: sources.clone(),
            history: history.clone(),
        });
        let model = Arc::new(ReadModel::default());
        let tickets = Tickets::default();
        let backend = Arc::new(EngineBackend::new(
            exposition.clone(),
            standing.clone(),
            loader,
            tickets.clone(),
            history.clone(),
        ));
        let (stop_api, stopped) = watch::channel(false);
        let answering = Api::new(backend.clone(), model.clone()).with_links(links.clone());
        let api = tokio::spawn(answering.serve(listener, stopped));
        let recovered = match early {
            Some(memory) => memory.recover().await?,
            None => recovered,
        };
        if let Some(recovered) = &recovered {
            clock.go_on_after(recovered.at, options.accept_clock)?;
        }

        let adapters = Arc::new(Adapters::new(AdaptersConfig {
            policy_dir: policy_dir.clone(),
            data_dir: data_dir.clone(),
            secrets: secrets.clone(),
            http: http_client()?,
            clock: wall.clone(),
        }));
        let (probes_ended, probed) = mpsc::unbounded_channel();
        let (verdicts, checked) = mpsc::channel(WAITING_VERDICTS);
        let checks = Arc::new(Checks::new(verdicts, wall.clone()).in_dir(policy_dir.clone()));
        tokio::spawn(effects::bring_verdicts(checked, probed, inbox.clone(), telemetry.clone()));
        tokio::spawn(effects::bring_rounds(asked, inbox.clone(), telemetry.clone()));
        let (to_edges, effects) = mpsc::unbounded_channel();
        let edges = tokio::spawn(
            Edges {
                inbox: inbox.clone(),
                now,
                adapters: adapters.clone(),
                notifier: Arc::new(Notifiers::new(NotifiersConfig { secrets, clock: wall, policy_dir })),
                checks,
                sources,
                probes_ended,
                observers: Observers::new(adapters, inbox.clone()),
                under_way: under_way.clone(),
                history: history.clone(),
                telemetry: telemetry.clone(),
                links,
            }
            .run(effects),
        );

        let keep = standing.storage;
        let snapshotter = Snapshotter::start(store.clone(), shelf.clone(), &data_dir, keep.journal)?;
        let journal_options = StoreOptions { durability: keep.durability, ..StoreOptions::default() };
        let journal = store.journal(journal_options, last_sequence, snapshotter.waker())?;
        let sequence = Arc::new(AtomicU64::new(last_sequence));
        let past = Arc::new(Past::new(store.clone(), shelf.clone()));
        backend.keep_in(Keeping { shelf, sequence: sequence.clone(), past });
        let (engine, opening) = recovery::opening(recovered, folder, clock.now())?;
        telemetry.begin(engine.detect().figures());
        let mut releaser =
            Releaser { model, history: history.clone(), tickets, to_edges, telemetry: telemetry.clone() };
        let written = sequence.clone();
        let driver = Driver {
            inbox,
            writer: Writer::new(journal, clock.now()),
            clock,
            release: Box::new(move |decisions| {
                written.store(decisions.sequence, Ordering::SeqCst);
                releaser.release(decisions);
            }),
            telemetry,
        };
        let (ready, is_ready) = oneshot::channel();
        let engine_thread =
            std::thread::Builder::new().name("engine".to_owned()).spawn(move || driver.run(engine, opening, ready))?;
        is_ready.await.context("the engine's thread ended at its start")?;
        let own_series = tokio::spawn(telemetry::feed(exposition, backend.clone(), options.own_series_every));
        if options.watch {
            policies::reload_on_save(backend.clone());
        }
        Ok(Running {
            address,
            backend,
            under_way,
            engine_thread,
            edges,
            own_series,
            api,
            stop_api,
            history,
            snapshotter,
            store,
            sequence,
            _lock: lock,
        })
    }

    /// Stops in order: no new events, no new acting steps; steps and deliveries under way get a grace period.
    pub async fn drain(self) -> Drained {
        self.backend.stop_taking();
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
        let Running { engine_thread, snapshotter, store, sequence, .. } = self;
        let ended = tokio::task::spawn_blocking(move || {
            let engine = engine_thread.join().ok().flatten();
            snapshotter.stop();
            // the next start, of this version or a later one, has nothing to fold
            let sequence = sequence.load(Ordering::SeqCst);
            if let Some(engine) = engine
                && let Err(error) = snapshotter::publish(&store, &engine, sequence, engine.now())
            {
                tracing::error!(error = format!("{error:#}"), "the last snapshot could not be made");
            }
        });
        // what went wrong there is logged there
        let _ = ended.await;
        self.own_series.abort();
        self.edges.abort();
        history::close(self.history).await;
        let _ = self.api.await;
        Drained { steps_cut, deliveries_cut, notifications_waiting: waiting.saturating_sub(deliveries_cut) }
    }
}

/// Verdicts of checks that may wait to be handed over; above it, checks wait with theirs.
const WAITING_VERDICTS: usize = 1_024;
/// Rounds of sources that may wait to be handed over; above it, sources wait with theirs. One may be a page of the
/// largest size.
const WAITING_ROUNDS: usize = 1;

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

/// What is asked for is meant as seen from here, what the policy says as seen from its folder.
fn data_dir(policy_dir: &Path, asked: Option<&Path>, said: Option<PathBuf>) -> std::io::Result<PathBuf> {
    match asked {
        Some(asked) => std::path::absolute(asked),
        None => std::path::absolute(policy_dir.join(said.unwrap_or_else(|| PathBuf::from(selfheal_policy::DATA_DIR)))),
    }
}

/// The data folder that `run` would use. A policy that does not compile is taken to have the usual one.
///
/// # Errors
/// There is no current folder.
pub fn data_dir_of(policy_dir: &Path, asked: Option<&Path>) -> std::io::Result<PathBuf> {
    let policy_dir = std::path::absolute(policy_dir)?;
    let loader = PolicyLoader::new(policy_dir.clone(), Catalog::new(policy_dir.clone()));
    data_dir(&policy_dir, asked, loader.load().ok().map(|loaded| loaded.policy.data_dir))
}

/// Two engines on one data folder would both act: the second is refused.
///
/// # Errors
/// Another selfheal has it, or it cannot be written.
pub fn lock_data_dir(data_dir: &Path) -> anyhow::Result<File> {
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
