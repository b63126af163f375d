//! `releases/<version>/` and the link `current` that says which of them runs.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where a replica starts, and what version that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub dir: PathBuf,
    /// `None`: the deployment has no releases.
    pub version: Option<String>,
}

/// Where a replica started now would run.
///
/// # Errors
/// The folder is missing, or it has releases and `current` leads to none of them.
pub fn place(dir: &Path) -> Result<Place, String> {
    if !dir.is_dir() {
        return Err(format!("the folder {} does not exist", dir.display()));
    }
    if !dir.join("releases").is_dir() {
        return Ok(Place { dir: dir.to_owned(), version: None });
    }
    let there = || known(&versions(dir));
    let link = dir.join("current");
    let resolved = fs::canonicalize(&link)
        .map_err(|error| format!("{} leads nowhere ({error}); there are {}", link.display(), there()))?;
    let version = version_in(dir, &resolved).ok_or_else(|| {
        format!("{} leads to {}, which is no release; there are {}", link.display(), resolved.display(), there())
    })?;
    Ok(Place { dir: resolved, version: Some(version) })
}

/// The version `current` leads to.
pub fn current(dir: &Path) -> Option<String> {
    version_in(dir, &fs::canonicalize(dir.join("current")).ok()?)
}

fn version_in(dir: &Path, resolved: &Path) -> Option<String> {
    let releases = fs::canonicalize(dir.join("releases")).ok()?;
    let inside = resolved.strip_prefix(releases).ok()?;
    let mut parts = inside.components();
    let version = parts.next()?.as_os_str().to_str()?;
    parts.next().is_none().then(|| version.to_owned())
}

/// The versions there are, sorted.
pub fn versions(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir.join("releases")) else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| entry.path().is_dir());
    let mut versions: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    versions.retain(|version| !version.starts_with('.'));
    versions.sort();
    versions
}

/// The versions, for people.
pub fn known(versions: &[String]) -> String {
    if versions.is_empty() { "none".to_owned() } else { versions.join(", ") }
}

/// Makes `current` lead to `version`, in one step: nobody ever sees it missing.
///
/// # Errors
/// `current` is a folder of its own, or the folder cannot be written; nothing has changed then.
pub fn switch(dir: &Path, version: &str) -> io::Result<()> {
    let temporary = dir.join(format!(".current.{}.tmp", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(Path::new("releases").join(version), &temporary)?;
    let renamed = fs::rename(&temporary, dir.join("current"));
    if renamed.is_err() {
        // the error that matters is the one above
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_says_which_release_runs() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert_eq!(place(dir), Ok(Place { dir: dir.to_owned(), version: None }));
        for version in ["v1", "v2"] {
            fs::create_dir_all(dir.join("releases").join(version)).unwrap();
        }
        assert!(place(dir).is_err_and(|error| error.contains("v1, v2")));
        switch(dir, "v1").unwrap();
        switch(dir, "v2").unwrap();
        let place = place(dir).unwrap();
        assert_eq!(place.version.as_deref(), Some("v2"));
        assert_eq!(place.dir, fs::canonicalize(dir.join("releases/v2")).unwrap());
        assert_eq!(fs::read_link(dir.join("current")).unwrap(), Path::new("releases/v2"));
    }

    #[test]
    fn a_link_out_of_the_releases_is_refused_and_a_folder_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::create_dir_all(dir.join("releases/v1")).unwrap();
        symlink("/", dir.join("current")).unwrap();
        assert!(place(dir).is_err_and(|error| error.contains("no release")));
        fs::remove_file(dir.join("current")).unwrap();
        fs::create_dir(dir.join("current")).unwrap();
        fs::write(dir.join("current/file"), "x").unwrap();
        assert!(switch(dir, "v1").is_err());
        assert!(dir.join("current/file").exists());
    }
}
