//! The data folder: where it is, and the lock on it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::policies::PolicyLoader;
use selfheal_adapter::Catalog;

/// The data folder: `asked`, given on the command line, is relative to the current directory; `configured`, from the
/// policy, is relative to the policy folder.
///
/// # Errors
/// There is no current directory.
pub fn data_dir(policy_dir: &Path, asked: Option<&Path>, configured: Option<PathBuf>) -> std::io::Result<PathBuf> {
    match asked {
        Some(asked) => std::path::absolute(asked),
        None => {
            std::path::absolute(policy_dir.join(configured.unwrap_or_else(|| PathBuf::from(selfheal_policy::DATA_DIR))))
        }
    }
}

/// The data folder that `run` would use. A policy that does not compile counts as one with the default folder.
///
/// # Errors
/// There is no current directory.
pub fn data_dir_of(policy_dir: &Path, asked: Option<&Path>) -> std::io::Result<PathBuf> {
    let policy_dir = std::path::absolute(policy_dir)?;
    let loader = PolicyLoader::new(policy_dir.clone(), Catalog::new(policy_dir.clone()));
    data_dir(&policy_dir, asked, loader.load().ok().map(|loaded| loaded.policy.data_dir))
}

/// Locks the data folder for this process, because two engines on one data folder would both act.
///
/// # Errors
/// Another selfheal holds the lock, or the folder cannot be written.
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
