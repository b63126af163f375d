//! Replaces files atomically, with a mode that only their owner can read: rotated tokens, signing keys, the state of
//! supervised processes.
//!
//! The crate knows nothing of selfheal: paths and bytes only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the names of temporary files differ between concurrent writers of one file.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Replaces the content of `path` by `bytes`, with mode 0600, and makes missing folders. A reader sees the old content or
/// the new one, also after a power failure. When the function returns, the new content is on disk.
///
/// # Errors
/// The file cannot be written; the old content is untouched.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_private_dir(folder)?;
    let name = path.file_name().ok_or_else(|| io::Error::other(format!("{} names no file", path.display())))?;
    let serial = WRITES.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".{}.{}.{serial}.tmp", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // the error that matters is the one above; a leftover is only untidy
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes `folder` and its missing parents, with mode 0700.
///
/// # Errors
/// A folder cannot be made.
pub fn make_private_dir(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/token");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_write_that_cannot_be_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir_all(path.join("by/a/folder")).unwrap();
        assert!(write_private(&path, b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
