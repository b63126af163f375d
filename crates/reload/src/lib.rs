//! The policy folder: read whole, and watched so that a save is live in under a second.
//!
//! Invariant: reading changes nothing and gives all files or the reason why not; watching only says "something changed":
//! whether that is a new policy, the reader finds out by reading.

mod tree;
mod watch;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use selfheal_contract::SourceFile;
use tree::Tree;

pub use watch::{Watching, watch};

/// The file every policy folder has.
pub const CONFIGURATION: &str = "selfheal.yaml";
/// One file. A policy is written by people; what is larger was named by mistake.
pub const MAX_FILE: u64 = 4 << 20;
/// All files together, so that a reload stays a matter of milliseconds and a mistaken link cannot fill the memory.
pub const MAX_TOTAL: u64 = 64 << 20;
/// Files of one policy.
pub const MAX_FILES: usize = 10_000;
/// Folders below the policy folder; more is a link in a circle.
pub const MAX_DEPTH: usize = 16;

/// A folder with `selfheal.yaml`, `rules/`, `playbooks/`, `templates/` and `deployments/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFolder {
    pub dir: PathBuf,
}

/// Why the folder cannot be read. Names the file; the policy before it stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("{dir} has no {CONFIGURATION}; `selfheal init` writes one")]
    NoConfiguration { dir: PathBuf },
    #[error("cannot read {path}: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("{path} is not UTF-8: byte {offset} is wrong")]
    NotText { path: PathBuf, offset: usize },
    #[error("{path} is larger than {} MiB", MAX_FILE >> 20)]
    FileTooLarge { path: PathBuf },
    #[error("the policy in {dir} is larger than {} MiB in all", MAX_TOTAL >> 20)]
    TotalTooLarge { dir: PathBuf },
    #[error("{dir} holds more than {MAX_FILES} policy files")]
    TooManyFiles { dir: PathBuf },
    #[error("{path} lies more than {MAX_DEPTH} folders deep; does a link lead in a circle?")]
    TooDeep { path: PathBuf },
}

impl ReadError {
    /// The file or folder it is about.
    pub fn path(&self) -> &Path {
        match self {
            ReadError::NoConfiguration { dir: path }
            | ReadError::TotalTooLarge { dir: path }
            | ReadError::TooManyFiles { dir: path }
            | ReadError::Unreadable { path, .. }
            | ReadError::NotText { path, .. }
            | ReadError::FileTooLarge { path }
            | ReadError::TooDeep { path } => path,
        }
    }
}

impl PolicyFolder {
    /// Every policy file, in order of path. Links are followed; files and folders whose name begins with a dot and
    /// what editors leave beside a file are not read.
    ///
    /// # Errors
    /// The first file that cannot be read, or a bound that is exceeded.
    pub fn read(&self) -> Result<Vec<SourceFile>, ReadError> {
        let tree = Tree::walk(&self.dir)?;
        if !tree.files.contains_key(CONFIGURATION) {
            return Err(ReadError::NoConfiguration { dir: self.dir.clone() });
        }
        let mut total = 0;
        let mut files = Vec::with_capacity(tree.files.len());
        for (path, at) in tree.files {
            let text = read_text(&at)?;
            total += text.len() as u64;
            if total > MAX_TOTAL {
                return Err(ReadError::TotalTooLarge { dir: self.dir.clone() });
            }
            files.push(SourceFile { path, text });
        }
        Ok(files)
    }

    /// Equal while the folder reads the same, also where it cannot be read.
    fn fingerprint(&self) -> u64 {
        match self.read() {
            Ok(files) => selfheal_model::fingerprint(files.iter().flat_map(|file| [&*file.path, &*file.text])),
            Err(error) => selfheal_model::fingerprint([&*error.to_string()]),
        }
    }
}

fn read_text(path: &Path) -> Result<String, ReadError> {
    let unreadable = |reason: String| ReadError::Unreadable { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    if !file.metadata().map_err(|error| unreadable(error.to_string()))?.is_file() {
        return Err(unreadable("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ReadError::FileTooLarge { path: path.to_owned() });
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| ReadError::NotText { path: path.to_owned(), offset: error.utf8_error().valid_up_to() })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

#[cfg(test)]
mod tests;
