//! The composition root: one running selfheal, put together in a straight line (`start`), and taken down in order
//! ([`Running::drain`]).

mod as_of;
mod backend;
pub mod clock;
mod data_dir;
mod decode;
pub mod driver;
pub mod effects;
mod history;
pub mod inbox;
mod link_key;
mod observers;
pub mod policies;
pub mod policy_archive;
pub mod recovery;
pub mod replay;
pub mod shipped;
mod snapshotter;
mod start;
pub mod telemetry;

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

pub use backend::EngineBackend;
pub use data_dir::{data_dir_of, lock_data_dir};
use effects::UnderWay;
use selfheal_engine::{Engine, Input};
use selfheal_store::Store;
use selfheal_store::history::History;
use snapshotter::Snapshotter;

/// How long a drain waits for running steps and deliveries.
const DRAIN_GRACE: Duration = Duration::from_secs(25);
/// How often a drain checks whether all of them have ended.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// What `selfheal run` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub policy_dir: PathBuf,
    /// Overrides the address in the policy.
    pub listen: Option<String>,
    /// Overrides the data folder in the policy.
    pub data_dir: Option<PathBuf>,
    /// Listen beyond loopback although the API has no authentication.
    pub allow_unauthenticated: bool,
    /// Watch the policy folder and reload on save.
    pub watch: bool,
    /// Start although the journal ends later than the machine's clock.
    pub accept_clock: bool,
    /// How often selfheal's own metrics become series of the deployment `selfheal`.
    pub own_series_every: Duration,
}

/// The result of a drain, for the last line of the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Steps cut off at the end of the grace period. The next start treats their outcome as unknown.
    pub steps_cut: usize,
    /// Deliveries cut off at the end of the grace period. The next start repeats them under the same id.
    pub deliveries_cut: usize,
    /// Notifications that wait for their group or for another attempt. The next start sends them.
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
    /// The sequence number of the newest batch.
    sequence: Arc<AtomicU64>,
    _lock: File,
}

impl Running {
    /// Starts everything. Events are accepted when this returns.
    ///
    /// # Errors
    /// The policy does not compile (its diagnostics are the error's text), the address is taken or open to the
    /// world, or the data folder is in use or cannot be written.
    pub async fn start(options: Options) -> anyhow::Result<Running> {
        start::start(options).await
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
                tokio::time::sleep(DRAIN_POLL).await;
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
