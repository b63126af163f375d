//! How one running selfheal is put together: what lies on disk, what listens, what acts, and last the engine's thread.
//!
//! Invariant: the API answers before the journal is recovered, and events are accepted only after it is. A policy folder
//! that does not compile starts nothing unless a data folder holds the policy that was live before.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::as_of::AsOf;
use super::backend::{EngineBackend, Records};
use super::clock::{self, Clock};
use super::data_dir::{data_dir, lock_data_dir};
use super::driver::{Driver, Opening, Release};
use super::effects::{self, Edges, Now, Releaser, Tickets, UnderWay};
use super::inbox::Inbox;
use super::observers::Observers;
use super::policies::{self, LoadFailure, PolicyLoader};
use super::policy_archive::{PolicyArchive, SharedArchive};
use super::recovery::{self, Recovered};
use super::snapshotter::Snapshotter;
use super::telemetry::{self, Exposition, Telemetry};
use super::{Options, Running, history, link_key};
use selfheal_adapter::{Adapters, AdaptersConfig, Catalog};
use selfheal_api::Api;
use selfheal_api::links::Links;
use selfheal_api::model::ReadModel;
use selfheal_contract::Effect;
use selfheal_engine::Engine;
use selfheal_model::{Event, ResolveSecret};
use selfheal_notify::{Notifiers, NotifiersConfig};
use selfheal_policy::Policy;
use selfheal_policy::record::Recorded;
use selfheal_source::checks::Checks;
use selfheal_source::pull::Sources;
use selfheal_store::history::History;
use selfheal_store::journal::SqliteJournal;
use selfheal_store::recovery::Candidates;
use selfheal_store::secrets::PolicySecrets;
use selfheal_store::writer::Writer;
use selfheal_store::{Opened, Store, StoreOptions};

/// Verdicts of checks that wait to be handed over. Above it, checks wait before they hand over theirs.
const WAITING_VERDICTS: usize = 1_024;
/// Rounds of sources that wait to be handed over. Above it, sources wait before they hand over theirs. A round may be a
/// page of the largest size.
const WAITING_ROUNDS: usize = 1;

/// The straight line.
pub(super) async fn start(options: Options) -> anyhow::Result<Running> {
    let clock = Clock::start();
    let (disk, loader, recovery) = Disk::open(&options, &clock)?;
    // the API answers as soon as its address is known; only a broken folder leaves that to recovery
    let (live, recovered, recovery) = match &disk.folder {
        Ok(policy) => (policy.clone(), None, Some(recovery)),
        Err(failure) => match recovery.run().await? {
            None => bail!("{failure}"),
            Some(recovered) => (recovered.engine.policy().clone(), Some(recovered), None),
        },
    };
    let listen = options.listen.as_deref().unwrap_or(&live.server.listen);
    let listener = bind(listen, options.allow_unauthenticated).await?;
    let address = listener.local_addr()?;
    let (shared, rounds) = Shared::new(&disk, &clock)?;
    let front = Front::serve(&shared, &disk, loader, live.clone(), listener);
    let recovered = match recovery {
        Some(recovery) => recovery.run().await?,
        None => recovered,
    };
    if let Some(recovered) = &recovered {
        clock.go_on_after(recovered.at, options.accept_clock)?;
    }
    let (edges, to_edges) = shared.start_edges(&disk, rounds)?;
    let records = disk.start_records(&live, &clock)?;
    front.backend.attach_records(Records {
        archive: disk.archive.clone(),
        sequence: records.sequence.clone(),
        as_of: Arc::new(AsOf::new(disk.store.clone(), disk.archive.clone())),
    });
    let (engine, opening) = recovery::opening(recovered, disk.folder, clock.now())?;
    shared.telemetry.begin(engine.detect().figures());
    let releaser = Releaser {
        model: front.model,
        history: disk.history.clone(),
        tickets: front.tickets,
        to_edges,
        telemetry: shared.telemetry.clone(),
    };
    let driver = Driver {
        inbox: shared.inbox.clone(),
        writer: records.writer,
        clock,
        release: releasing(releaser, records.sequence.clone()),
        telemetry: shared.telemetry.clone(),
    };
    let engine_thread = start_engine(driver, engine, opening).await?;
    let own_series =
        tokio::spawn(telemetry::feed(shared.exposition.clone(), front.backend.clone(), options.own_series_every));
    if options.watch {
        policies::reload_on_save(front.backend.clone());
    }
    Ok(Running {
        address,
        backend: front.backend,
        under_way: shared.under_way,
        engine_thread,
        edges,
        own_series,
        api: front.task,
        stop_api: front.stop,
        history: disk.history,
        snapshotter: records.snapshotter,
        store: disk.store,
        sequence: records.sequence,
        _lock: disk.lock,
    })
}

/// What lies on disk at the start, locked for this process.
struct Disk {
    policy_dir: PathBuf,
    data_dir: PathBuf,
    lock: File,
    /// The policy of the folder, or why it has none.
    folder: Result<Arc<Policy>, LoadFailure>,
    store: Store,
    archive: SharedArchive,
    history: Arc<History>,
    /// The sequence number of the newest batch in the journal.
    last_sequence: u64,
}

impl Disk {
    fn open(options: &Options, clock: &Clock) -> anyhow::Result<(Disk, PolicyLoader, Recovery)> {
        let policy_dir = std::path::absolute(&options.policy_dir)?;
        let loader = PolicyLoader::new(policy_dir.clone(), Catalog::new(policy_dir.clone()));
        let loaded = loader.load();
        let configured = loaded.as_ref().ok().map(|loaded| loaded.policy.data_dir.clone());
        let data_dir = data_dir(&policy_dir, options.data_dir.as_deref(), configured)?;
        let lock = lock_data_dir(&data_dir)?;
        let store = Store::at(&data_dir);
        let Opened { mut snapshots, policies } = store.open()?;
        let mut archive = PolicyArchive::new(policies, &data_dir);
        let last_sequence = store.last_sequence()?;
        let folder = match loaded {
            Ok(Recorded { policy, record, answers }) => {
                let policy = Arc::new(policy);
                archive.keep(&record, &answers, &policy, last_sequence + 1)?;
                Ok(policy)
            }
            Err(failure) => Err(failure),
        };
        // a broken folder does not say how long history is kept; the default loses nothing until the next start
        let keep = folder.as_ref().map(|policy| policy.storage).unwrap_or_default().history;
        let history = Arc::new(history::open(&data_dir, keep, clock.now(), last_sequence));
        snapshots.prefer_up_to(history.written());
        let archive = Arc::new(Mutex::new(archive));
        let recovery = Recovery { store: store.clone(), snapshots, archive: archive.clone(), history: history.clone() };
        let disk = Disk { policy_dir, data_dir, lock, folder, store, archive, history, last_sequence };
        Ok((disk, loader, recovery))
    }

    /// Opens the journal for writing and starts the thread that makes snapshots of its closed segments.
    fn start_records(&self, live: &Policy, clock: &Clock) -> anyhow::Result<Writing> {
        let keep = live.storage;
        let snapshotter = Snapshotter::start(self.store.clone(), self.archive.clone(), &self.data_dir, keep.journal)?;
        let options = StoreOptions { durability: keep.durability, ..StoreOptions::default() };
        let journal = self.store.journal(options, self.last_sequence, snapshotter.waker())?;
        let sequence = Arc::new(AtomicU64::new(self.last_sequence));
        Ok(Writing { writer: Writer::new(journal, clock.now()), snapshotter, sequence })
    }
}

/// What writes the engine's records to disk.
struct Writing {
    writer: Writer<SqliteJournal>,
    snapshotter: Snapshotter,
    /// The sequence number of the newest batch.
    sequence: Arc<AtomicU64>,
}

/// What recovery reads.
struct Recovery {
    store: Store,
    snapshots: Candidates,
    archive: SharedArchive,
    history: Arc<History>,
}

impl Recovery {
    /// Brings back the engine, and adds to the history what it missed. `None`: the data folder is empty.
    async fn run(mut self) -> anyhow::Result<Option<Recovered>> {
        let recovering = move || {
            let mut on_batch = |sequence, at, effects: &[Effect]| {
                let shown = |effect: &Effect| match effect {
                    Effect::Show(change) => Some(change.clone()),
                    _ => None,
                };
                self.history.take(sequence, at, effects.iter().filter_map(shown).collect());
            };
            recovery::recover(&self.store, &mut self.snapshots, &self.archive, &mut on_batch)
        };
        let recovered = tokio::task::spawn_blocking(recovering).await.context("recovery failed")??;
        if let Some(Recovered { sequence, at, batches, events, .. }) = &recovered {
            tracing::info!(sequence, last_known = %at, batches, events, "recovered");
        }
        Ok(recovered)
    }
}

/// What the front, the edges and the engine's thread share.
struct Shared {
    /// Engine time.
    now: Now,
    /// Wall-clock time.
    wall: Now,
    secrets: Arc<dyn ResolveSecret>,
    inbox: Inbox,
    sources: Arc<Sources>,
    under_way: Arc<UnderWay>,
    telemetry: Arc<Telemetry>,
    exposition: Arc<Exposition>,
    links: Arc<Links>,
}

/// The rounds of the sources, to be handed to the engine.
type Rounds = mpsc::Receiver<Vec<Event>>;

impl Shared {
    fn new(disk: &Disk, clock: &Clock) -> anyhow::Result<(Shared, Rounds)> {
        let now: Now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let wall: Now = Arc::new(clock::wall);
        let secrets: Arc<dyn ResolveSecret> = Arc::new(PolicySecrets { policy_dir: disk.policy_dir.clone() });
        let (rounds, collected) = mpsc::channel(WAITING_ROUNDS);
        let sources = Arc::new(Sources::new(rounds, wall.clone(), secrets.clone(), disk.policy_dir.clone()));
        let (inbox, under_way) = (Inbox::new(), Arc::new(UnderWay::default()));
        let telemetry = Arc::new(Telemetry::default());
        let exposition = Arc::new(Exposition {
            telemetry: telemetry.clone(),
            inbox: inbox.clone(),
            under_way: under_way.clone(),
            sources: sources.clone(),
            history: disk.history.clone(),
        });
        let links = Arc::new(Links::new(link_key::open(&disk.data_dir)?, now.clone()));
        Ok((Shared { now, wall, secrets, inbox, sources, under_way, telemetry, exposition, links }, collected))
    }

    /// Starts everything that acts: adapters, checks, sources, deliveries. Effects sent to the channel are carried out.
    fn start_edges(
        &self,
        disk: &Disk,
        rounds: Rounds,
    ) -> anyhow::Result<(JoinHandle<()>, mpsc::UnboundedSender<Effect>)> {
        let adapters = Arc::new(Adapters::new(AdaptersConfig {
            policy_dir: disk.policy_dir.clone(),
            data_dir: disk.data_dir.clone(),
            secrets: self.secrets.clone(),
            http: http_client()?,
            clock: self.wall.clone(),
        }));
        let notifiers = Notifiers::new(NotifiersConfig {
            secrets: self.secrets.clone(),
            clock: self.wall.clone(),
            policy_dir: disk.policy_dir.clone(),
        });
        let (probes_ended, probed) = mpsc::unbounded_channel();
        let (verdicts, checked) = mpsc::channel(WAITING_VERDICTS);
        let checks = Arc::new(Checks::new(verdicts, self.wall.clone()).in_dir(disk.policy_dir.clone()));
        tokio::spawn(effects::bring_verdicts(checked, probed, self.inbox.clone(), self.telemetry.clone()));
        tokio::spawn(effects::bring_rounds(rounds, self.inbox.clone(), self.telemetry.clone()));
        let edges = Edges {
            inbox: self.inbox.clone(),
            now: self.now.clone(),
            adapters: adapters.clone(),
            notifier: Arc::new(notifiers),
            checks,
            sources: self.sources.clone(),
            probes_ended,
            observers: Observers::new(adapters, self.inbox.clone()),
            under_way: self.under_way.clone(),
            history: disk.history.clone(),
            telemetry: self.telemetry.clone(),
            links: self.links.clone(),
        };
        let (to_edges, effects) = mpsc::unbounded_channel();
        Ok((tokio::spawn(edges.run(effects)), to_edges))
    }
}

/// The API, and what answers behind it.
struct Front {
    backend: Arc<EngineBackend>,
    model: Arc<ReadModel>,
    tickets: Tickets,
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Front {
    fn serve(shared: &Shared, disk: &Disk, loader: PolicyLoader, live: Arc<Policy>, listener: TcpListener) -> Front {
        let (model, tickets) = (Arc::new(ReadModel::default()), Tickets::default());
        let backend = Arc::new(EngineBackend::new(
            shared.exposition.clone(),
            live,
            loader,
            tickets.clone(),
            disk.history.clone(),
        ));
        let (stop, stopped) = watch::channel(false);
        let api = Api::new(backend.clone(), model.clone()).with_links(shared.links.clone());
        let task = tokio::spawn(api.serve(listener, stopped));
        Front { backend, model, tickets, task, stop }
    }
}

/// Releases what a batch decided, once the batch is written.
fn releasing(mut releaser: Releaser, sequence: Arc<AtomicU64>) -> Release {
    Box::new(move |decisions| {
        sequence.store(decisions.sequence, Ordering::SeqCst);
        releaser.release(decisions);
    })
}

/// Starts the engine's thread and waits until it takes events.
async fn start_engine(
    driver: Driver,
    engine: Engine,
    opening: Opening,
) -> anyhow::Result<std::thread::JoinHandle<Option<Engine>>> {
    let (ready, is_ready) = oneshot::channel();
    let thread =
        std::thread::Builder::new().name("engine".to_owned()).spawn(move || driver.run(engine, opening, ready))?;
    is_ready.await.context("the engine's thread ended at its start")?;
    Ok(thread)
}

pub(super) fn http_client() -> anyhow::Result<reqwest::Client> {
    // a second call finds the provider installed
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("cannot set up the HTTP client")
}

async fn bind(listen: &str, allow_unauthenticated: bool) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}; is another selfheal running? Choose another address with --listen")
    })?;
    let address: SocketAddr = listener.local_addr()?;
    if !address.ip().is_loopback() && !allow_unauthenticated {
        bail!(
            "{address} can be reached from other machines and the API has no authentication yet: \
             listen on 127.0.0.1, or pass --allow-unauthenticated"
        );
    }
    Ok(listener)
}
