//! Reads a data folder's whole journal after the fact, and folds it as recovery does.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use selfheal::app::policy_archive::{PolicyArchive, policy_of};
use selfheal_contract::Effect;
use selfheal_contract::view::Change;
use selfheal_engine::Engine;
use selfheal_model::EventKind;
use selfheal_store::record::{Decided, StoredInput};
use selfheal_store::replay::{self, BatchReplay};
use selfheal_store::{Store, StoredBatch};

/// What a journal accounts for.
#[derive(Default)]
pub struct Account {
    /// The samples of the metric `number`.
    pub numbers: BTreeSet<u64>,
    /// Every delivery that was decided.
    pub deliveries: BTreeSet<String>,
    /// Those whose words went out with another one, or that are shown as undelivered.
    pub merged: BTreeSet<String>,
    /// How often a batch was written by an engine that came back.
    pub lives: u64,
}

/// Folds the whole journal from its beginning.
pub fn account(data_dir: &Path) -> Account {
    let store = Store::at(data_dir);
    let opened = store.open().unwrap_or_else(|error| panic!("{error}"));
    let archive = Arc::new(Mutex::new(PolicyArchive::new(opened.policies, data_dir)));
    let mut policy_of = policy_of(&archive);
    let mut account = Account::default();
    let mut engine: Option<Engine> = None;
    for batch in store.tail(0).unwrap_or_else(|error| panic!("{error}")) {
        let mut batch = batch.unwrap_or_else(|error| panic!("{error}"));
        account.take(&batch);
        let mut effects = Vec::new();
        let engine = engine.get_or_insert_with(|| {
            let (engine, first) = replay::begin(&mut batch, &mut policy_of).unwrap_or_else(|error| panic!("{error}"));
            effects.extend(first);
            engine
        });
        let folded =
            replay::apply(engine, batch, &mut policy_of, &mut effects).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(folded, BatchReplay::Same, "the journal does not replay");
        for effect in effects {
            if let Effect::Show(Change::Delivery(view)) = effect
                && matches!(view.state.as_str(), "merged" | "undelivered")
            {
                account.merged.insert(view.id.to_string());
            }
        }
    }
    account
}

impl Account {
    fn take(&mut self, batch: &StoredBatch) {
        for (_, input) in &batch.inputs {
            match input {
                StoredInput::Events(events) => {
                    self.numbers.extend(events.iter().filter_map(|event| match &event.kind {
                        EventKind::Metric { name, value, .. } if name.as_str() == "number" => Some(*value as u64),
                        _ => None,
                    }));
                }
                StoredInput::Resumed(..) => self.lives += 1,
                _ => {}
            }
        }
        self.deliveries.extend(batch.decided.iter().filter_map(|decided| match decided {
            Decided::Delivery(id, _) => Some(id.to_string()),
            Decided::Step(_) => None,
        }));
    }
}
