//! Looks at every wanted deployment in its adapter's rhythm, and at once when asked.
//!
//! Invariant: one look per deployment at a time; what it saw, or why it could not, always reaches the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify as Signal, watch};
use tokio::task::JoinHandle;

use super::inbox::Inbox;
use selfheal_adapter::Adapters;
use selfheal_contract::{Desired, DesiredDeployment};
use selfheal_engine::Input;
use selfheal_model::DeploymentId;

/// After this an observation counts as failed.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(20);

struct Observer {
    wanted: watch::Sender<DesiredDeployment>,
    now: Arc<Signal>,
    task: JoinHandle<()>,
}

/// One observer task per deployment with an adapter.
pub struct Observers {
    adapters: Arc<Adapters>,
    inbox: Inbox,
    running: BTreeMap<DeploymentId, Observer>,
}

impl Observers {
    pub fn new(adapters: Arc<Adapters>, inbox: Inbox) -> Self {
        Observers { adapters, inbox, running: BTreeMap::new() }
    }

    /// Starts, changes and ends observers so that they match.
    pub fn apply(&mut self, desired: &Desired) {
        let wanted: BTreeMap<_, _> = desired
            .deployments
            .iter()
            .filter(|entry| entry.adapter.is_some())
            .map(|entry| (entry.deployment.id.clone(), entry))
            .collect();
        self.running.retain(|id, observer| {
            let keep = wanted.contains_key(id);
            if !keep {
                observer.task.abort();
            }
            keep
        });
        for (id, entry) in wanted {
            match self.running.get(&id) {
                Some(observer) => observer.wanted.send_if_modified(|own| {
                    let changed = own.deployment != entry.deployment || own.adapter != entry.adapter;
                    *own = entry.clone();
                    changed
                }),
                None => {
                    self.running.insert(id, self.start(entry.clone()));
                    true
                }
            };
        }
    }

    /// Looks as soon as the look under way, if any, has ended.
    pub fn look_now(&self, deployment: &DeploymentId) {
        match self.running.get(deployment) {
            Some(observer) => observer.now.notify_one(),
            None => self.inbox.end(Input::Observed {
                deployment: deployment.clone(),
                observation: Err("the deployment has no adapter".to_owned()),
            }),
        }
    }

    fn start(&self, entry: DesiredDeployment) -> Observer {
        let (wanted, changes) = watch::channel(entry);
        let now = Arc::new(Signal::new());
        let task = tokio::spawn(observe(self.adapters.clone(), self.inbox.clone(), changes, now.clone()));
        Observer { wanted, now, task }
    }
}

async fn observe(
    adapters: Arc<Adapters>,
    inbox: Inbox,
    mut changes: watch::Receiver<DesiredDeployment>,
    now: Arc<Signal>,
) {
    let mut ensure = true;
    loop {
        let entry = changes.borrow_and_update().clone();
        let id = entry.deployment.id.clone();
        if ensure && let Err(why) = adapters.ensure(&entry).await {
            tracing::error!(deployment = %id, why, "cannot start or adopt");
        }
        ensure = false;
        let observation = match tokio::time::timeout(OBSERVE_TIMEOUT, adapters.observe(&entry)).await {
            Ok(observation) => observation,
            Err(_) => Err(format!("no observation within {}s", OBSERVE_TIMEOUT.as_secs())),
        };
        inbox.end(Input::Observed { deployment: id, observation });
        tokio::select! {
            () = tokio::time::sleep(adapters.observe_every(&entry)) => {}
            () = now.notified() => {}
            changed = changes.changed() => match changed {
                // another target: adopt or start what it names
                Ok(()) => ensure = true,
                Err(_) => return,
            },
        }
    }
}
