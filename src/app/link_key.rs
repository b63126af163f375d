//! The key that links in messages are signed with: made at the first start, the same ever after.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, anyhow};

use selfheal_api::links::LinkKey;
use selfheal_atomic_file::write_private;

const FILE: &str = "link.key";

/// Reads the key of a data folder, or makes one. One that is damaged is replaced: the links in old messages open
/// nothing then, and people can still answer by the command line.
///
/// # Errors
/// It can be neither read nor written, or the system gives no random numbers.
pub fn open(data_dir: &Path) -> anyhow::Result<LinkKey> {
    let path = data_dir.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => {
            if let Ok(key) = bytes.try_into() {
                return Ok(LinkKey::new(key));
            }
            tracing::warn!(path = %path.display(), "the key of links is damaged; a new one is made");
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let mut key = [0; LinkKey::LENGTH];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut key).map_err(|_| anyhow!("the system gives no random numbers"))?;
    write_private(&path, &key).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(LinkKey::new(key))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_anew_when_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        open(dir.path()).unwrap();
        let first = fs::read(&path).unwrap();
        assert_eq!(first.len(), LinkKey::LENGTH);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        open(dir.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        fs::write(&path, "short").unwrap();
        open(dir.path()).unwrap();
        let second = fs::read(&path).unwrap();
        assert!(second.len() == LinkKey::LENGTH && second != first);
        let other = tempfile::tempdir().unwrap();
        open(other.path()).unwrap();
        assert_ne!(fs::read(other.path().join(FILE)).unwrap(), second);
    }
}
