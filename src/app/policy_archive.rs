//! The policies a data folder keeps, by version: recovery, snapshots and replay compile them again when they need them.
//!
//! Invariant: a policy is on disk before a batch names it, and is kept while a snapshot or a batch names it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

use selfheal_atomic_file::write_private;
use selfheal_policy::Policy;
use selfheal_policy::record::{Answers, PolicyRecord};
use selfheal_store::Policies;

/// Where what was filled into a policy is kept: it may hold secrets.
const ANSWERS: &str = "secrets/policies";

/// The policies that a data folder keeps, compiled when they are needed.
pub struct PolicyArchive {
    policies: Policies,
    answers: std::path::PathBuf,
    compiled: BTreeMap<String, Arc<Policy>>,
}

/// Cheap to clone; the live engine, the snapshotter and the API share it.
pub type SharedArchive = Arc<Mutex<PolicyArchive>>;

impl PolicyArchive {
    pub fn new(policies: Policies, data_dir: &Path) -> Self {
        PolicyArchive { policies, answers: data_dir.join(ANSWERS), compiled: BTreeMap::new() }
    }

    /// Keeps a policy. To be called before a batch names it, which will not be before `sequence`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(
        &mut self,
        record: &PolicyRecord,
        answers: &Answers,
        policy: &Arc<Policy>,
        sequence: u64,
    ) -> anyhow::Result<()> {
        let version = record.version.as_str();
        write_private(&self.answers.join(version), &answers.to_bytes())
            .with_context(|| format!("cannot keep what was filled into the policy {version}"))?;
        self.policies.put(version, &record.to_bytes(), sequence)?;
        self.compiled.insert(version.to_owned(), policy.clone());
        Ok(())
    }

    /// The policy of this version, if it is kept and still compiles.
    pub fn policy(&mut self, version: &str) -> Option<Arc<Policy>> {
        if let Some(known) = self.compiled.get(version) {
            return Some(known.clone());
        }
        match self.compile(version) {
            Ok(policy) => {
                let policy = Arc::new(policy);
                self.compiled.insert(version.to_owned(), policy.clone());
                Some(policy)
            }
            Err(error) => {
                tracing::error!(version, error = format!("{error:#}"), "a kept policy cannot be used");
                None
            }
        }
    }

    fn compile(&self, version: &str) -> anyhow::Result<Policy> {
        let record = self.policies.get(version)?.context("it is not kept")?;
        let answers = std::fs::read(self.answers.join(version)).context("what was filled into it is not kept")?;
        Ok(PolicyRecord::from_bytes(&record)?.compile(&Answers::from_bytes(&answers)?)?)
    }

    /// # Errors
    /// What is kept cannot be read.
    pub fn named_since(&self, sequence: u64) -> anyhow::Result<BTreeSet<String>> {
        Ok(self.policies.named_since(sequence)?)
    }

    /// Forgets every policy but these.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn retain(&mut self, needed: &BTreeSet<String>) -> anyhow::Result<()> {
        let kept = self.policies.versions()?;
        self.policies.retain(needed)?;
        for version in kept.difference(needed) {
            let answers = self.answers.join(version);
            if answers.exists() {
                std::fs::remove_file(&answers).with_context(|| format!("cannot remove {}", answers.display()))?;
            }
        }
        self.compiled.retain(|version, _| needed.contains(version));
        Ok(())
    }
}

/// A policy by its version, for folding.
pub fn policy_of(archive: &SharedArchive) -> impl FnMut(&str) -> Option<Arc<Policy>> + use<> {
    let archive = archive.clone();
    move |version| archive.lock().unwrap_or_else(PoisonError::into_inner).policy(version)
}
