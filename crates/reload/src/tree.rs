//! Which files make up a policy, and which folders must be watched to see them change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use super::{CONFIGURATION, MAX_DEPTH, MAX_FILES, ReadError};

/// The folders of a policy, with the endings that are read in each.
const FOLDERS: [(&str, &[&str]); 4] =
    [("rules", &["yaml", "rhai"]), ("playbooks", &["yaml"]), ("templates", &["j2"]), ("deployments", &["yaml"])];
/// Links followed on one path before it counts as a circle, as Linux does.
const MAX_LINKS: usize = 40;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    /// By the path inside the policy folder, with `/`.
    pub files: BTreeMap<String, PathBuf>,
    /// Every real folder in which something may change that matters: those of the policy, and those that hold a link
    /// on the way to it.
    pub folders: BTreeSet<PathBuf>,
}

impl Tree {
    /// # Errors
    /// A folder cannot be listed or a bound is exceeded. A single file that cannot be read is no error here.
    pub fn walk(dir: &Path) -> Result<Tree, ReadError> {
        let mut tree = Tree::default();
        let outcome = tree.policy(dir);
        outcome.map(|()| tree)
    }

    /// The folders to watch as far as they can be found, and whether that was all of them.
    pub fn folders(dir: &Path) -> (BTreeSet<PathBuf>, bool) {
        let mut tree = Tree::default();
        let whole = tree.policy(dir).is_ok();
        (tree.folders, whole)
    }

    fn policy(&mut self, dir: &Path) -> Result<(), ReadError> {
        self.note_folder(dir);
        // lists the folder, so that one that is not there is an error of its own
        fs::read_dir(dir).map_err(|error| unreadable(dir, &error))?;
        let configuration = dir.join(CONFIGURATION);
        if configuration.symlink_metadata().is_ok() {
            self.note_link(&configuration);
            self.files.insert(CONFIGURATION.to_owned(), configuration);
        }
        for (name, endings) in FOLDERS {
            let folder = dir.join(name);
            if folder.symlink_metadata().is_ok() {
                self.note_link(&folder);
                self.folder(&folder, name, endings, 1)?;
            }
        }
        if self.files.len() > MAX_FILES { Err(ReadError::TooManyFiles { dir: dir.to_owned() }) } else { Ok(()) }
    }

    fn folder(&mut self, folder: &Path, inside: &str, endings: &[&str], depth: usize) -> Result<(), ReadError> {
        if depth > MAX_DEPTH {
            return Err(ReadError::TooDeep { path: folder.to_owned() });
        }
        self.note_folder(folder);
        for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
            let entry = entry.map_err(|error| unreadable(folder, &error))?;
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                tracing::warn!(path = %path.display(), "not read: its name is not UTF-8");
                continue;
            };
            if is_left_behind(name) {
                continue;
            }
            let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
            if kind.is_symlink() {
                self.note_link(&path);
            }
            let inside = format!("{inside}/{name}");
            if path.is_dir() {
                self.folder(&path, &inside, endings, depth + 1)?;
            } else if endings.iter().any(|ending| name.strip_suffix(ending).is_some_and(|stem| stem.ends_with('.'))) {
                self.files.insert(inside, path);
            } else if name.ends_with(".yml") {
                tracing::warn!(path = %path.display(), "not read: policy files end in .yaml");
            }
            if self.files.len() > MAX_FILES {
                return Ok(());
            }
        }
        Ok(())
    }

    fn note_folder(&mut self, folder: &Path) {
        if let Ok(real) = folder.canonicalize() {
            self.folders.insert(real);
        }
        self.note_link(folder);
    }

    /// Notes the folders that hold the links on the way to `path`: to swap one of those is to change what lies behind.
    fn note_link(&mut self, path: &Path) {
        // without a working directory there is nothing to follow a relative path from
        if let Ok(path) = std::path::absolute(path) {
            links_on(&path, &mut self.folders);
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ReadError {
    ReadError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}

/// Hidden files (Kubernetes' `..data` too: it is reached through links), and what editors keep beside a file.
fn is_left_behind(name: &str) -> bool {
    name.starts_with('.') || name.ends_with('~') || (name.starts_with('#') && name.ends_with('#'))
}

/// Walks an absolute path component by component and notes the real folder of every link it comes through.
fn links_on(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    let mut real = PathBuf::new();
    let mut ahead: Vec<PathBuf> = components(path);
    let mut links = 0;
    while let Some(component) = ahead.pop() {
        match component.components().next() {
            Some(Component::ParentDir) => {
                real.pop();
                continue;
            }
            Some(Component::CurDir) | None => continue,
            // the root of an absolute path starts anew
            Some(_) => real.push(&component),
        }
        let Ok(target) = fs::read_link(&real) else { continue };
        real.pop();
        folders.insert(real.clone());
        links += 1;
        if links > MAX_LINKS {
            return;
        }
        ahead.extend(components(&target));
    }
    // where the path breaks off, what is missing may appear in the last folder that is there
    if !real.exists() {
        folders.extend(real.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned));
    }
}

/// Last first, so that the next one is popped.
fn components(path: &Path) -> Vec<PathBuf> {
    path.components().rev().map(|component| PathBuf::from(component.as_os_str())).collect()
}
