//! From a folder to a live policy: read, compile, and again on every save.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::EngineBackend;
use selfheal_adapter::Catalog;
use selfheal_contract::Diagnostic;
use selfheal_contract::diagnostic::{self, Level};
use selfheal_model::fingerprint;
use selfheal_policy::record::{Recorded, compile_recording};
use selfheal_reload::PolicyFolder;

/// Loads one policy folder.
pub struct PolicyLoader {
    dir: PathBuf,
    folder: PolicyFolder,
    catalog: Catalog,
}

/// Why a folder is no policy.
#[derive(Debug)]
pub enum LoadFailure {
    /// A file cannot be read.
    Unreadable(String),
    Mistakes(Vec<Diagnostic>),
}

impl LoadFailure {
    /// Equal for the same mistakes, so that they are said once.
    pub fn fingerprint(&self) -> u64 {
        fingerprint([self.to_string().as_str()])
    }

    /// As `check` shows them.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            LoadFailure::Mistakes(diagnostics) => diagnostics.clone(),
            LoadFailure::Unreadable(why) => vec![Diagnostic {
                file: ".".to_owned(),
                line: 1,
                column: 1,
                length: 1,
                severity: Level::Error,
                code: "unreadable".to_owned(),
                message: why.clone(),
                help: None,
                source_line: String::new(),
            }],
        }
    }
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadFailure::Unreadable(why) => write!(f, "cannot read the policy: {why}"),
            LoadFailure::Mistakes(diagnostics) => f.write_str(&diagnostic::render(diagnostics, false)),
        }
    }
}

impl PolicyLoader {
    pub fn new(dir: PathBuf, catalog: Catalog) -> Self {
        PolicyLoader { folder: PolicyFolder { dir: dir.clone() }, dir, catalog }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads and compiles. Blocks: an `exec` adapter is asked for its verbs.
    ///
    /// # Errors
    /// A file cannot be read, or every mistake of every file.
    pub fn load(&self) -> Result<Recorded, LoadFailure> {
        let files = self.folder.read().map_err(|error| LoadFailure::Unreadable(error.to_string()))?;
        let env = |name: &str| std::env::var(name).ok();
        let file = |path: &str| {
            let text = std::fs::read_to_string(self.dir.join(path)).ok()?;
            Some(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
        };
        compile_recording(&files, &self.catalog, &env, &file).map_err(LoadFailure::Mistakes)
    }
}

/// Reloads whenever something in the folder changed, for as long as the program runs.
pub fn reload_on_save(backend: Arc<EngineBackend>) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = selfheal_reload::watch(backend.policy_dir(), changed);
    tokio::spawn(async move {
        // it watches for as long as it lives
        let _watcher = watcher;
        while changes.recv().await.is_some() {
            // what becomes of the folder after that is nobody's mistake
            if backend.is_draining() {
                return;
            }
            backend.reload().await;
        }
    });
}
