//! The read model: what the engine showed last, bounded, ready to be read without asking the engine.
//!
//! Invariant: it is changed by the engine's thread before callers are answered, so a caller reads its own writes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use smol_str::SmolStr;

use selfheal_contract::view::{
    AlertStateWord, AlertView, ApprovalState, ApprovalView, AuditEntry, Change, DeliveryView, EngineView, RunView,
    SilenceView,
};
use selfheal_model::{ApprovalId, DeliveryId, RunId};

/// Ended alerts, runs and deliveries that stay readable.
const KEPT: usize = 1_000;
/// Lines of the audit that stay readable.
const KEPT_AUDIT: usize = 1_000;

/// Everything the API reads.
#[derive(Default)]
pub struct ReadModel(RwLock<Views>);

/// The views by id.
#[derive(Default)]
pub struct Views {
    pub alerts: BTreeMap<SmolStr, AlertView>,
    pub runs: BTreeMap<RunId, RunView>,
    pub deliveries: BTreeMap<DeliveryId, DeliveryView>,
    pub approvals: BTreeMap<ApprovalId, ApprovalView>,
    /// As many as the engine keeps.
    pub silences: BTreeMap<SmolStr, SilenceView>,
    pub audit: VecDeque<AuditEntry>,
    pub engine: Option<EngineView>,
}

impl ReadModel {
    pub fn read(&self) -> RwLockReadGuard<'_, Views> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what stood in its place.
    pub fn take(&self, change: Change) -> Option<Change> {
        let mut views = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Alert(view) => {
                let before = views.alerts.insert(view.id.clone(), *view);
                forget_oldest(&mut views.alerts, |view| match view.state {
                    AlertStateWord::Resolved | AlertStateWord::Ended => view.ended_at,
                    AlertStateWord::Pending | AlertStateWord::Firing => None,
                });
                before.map(|view| Change::Alert(Box::new(view)))
            }
            Change::Run(view) => {
                let before = views.runs.insert(view.id.clone(), *view);
                forget_oldest(&mut views.runs, |view| view.ended_at);
                before.map(|view| Change::Run(Box::new(view)))
            }
            Change::Delivery(view) => {
                let before = views.deliveries.insert(view.id.clone(), *view);
                forget_oldest(&mut views.deliveries, |view| view.ended_at);
                before.map(|view| Change::Delivery(Box::new(view)))
            }
            Change::Approval(view) => {
                let before = views.approvals.insert(view.id.clone(), *view);
                forget_oldest(&mut views.approvals, |view| {
                    (view.state != ApprovalState::Waiting).then(|| view.answered_at.unwrap_or(view.expires_at))
                });
                before.map(|view| Change::Approval(Box::new(view)))
            }
            Change::Silence(view) => {
                let before = views.silences.insert(view.id.clone(), *view);
                before.map(|view| Change::Silence(Box::new(view)))
            }
            Change::SilenceGone(id) => {
                views.silences.remove(&id);
                None
            }
            Change::Engine(view) => views.engine.replace(*view).map(|view| Change::Engine(Box::new(view))),
            Change::Audit(entry) => {
                views.audit.push_back(entry);
                if views.audit.len() > KEPT_AUDIT {
                    views.audit.pop_front();
                }
                None
            }
            // deployments are read from the engine itself: their newest values change with every event
            Change::Deployment(_) | Change::DeploymentGone(_) => None,
        }
    }
}

/// Keeps the map within bounds by dropping what ended first; what has not ended stays. A quarter goes at a time, so
/// that the search is paid for rarely.
fn forget_oldest<K: Ord + Clone, V>(
    views: &mut BTreeMap<K, V>,
    ended: impl Fn(&V) -> Option<selfheal_model::Timestamp>,
) {
    if views.len() <= KEPT + KEPT / 4 {
        return;
    }
    let mut by_end: Vec<_> = views.iter().filter_map(|(id, view)| ended(view).map(|at| (at, id.clone()))).collect();
    by_end.sort();
    for (_, id) in by_end.into_iter().take(KEPT / 4) {
        views.remove(&id);
    }
}
