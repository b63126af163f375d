//! The values behind `${NAME}` and `${file:PATH}`, read at the moment of use: both may change under a running engine.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use selfheal_model::{ResolveSecret, Secret, SecretError, SecretSource};

/// Of a secret's file. Tokens, passwords and keys are far smaller; a device or a log named by mistake is not read to
/// its end.
const MAX_SECRET: u64 = 64 * 1024;

/// Resolves a policy's secrets. Relative files lie in the policy's folder.
#[derive(Clone, Debug)]
pub struct PolicySecrets {
    pub policy_dir: PathBuf,
}

impl ResolveSecret for PolicySecrets {
    fn resolve(&self, secret: &Secret) -> Result<String, SecretError> {
        match secret.source() {
            SecretSource::Literal(text) => Ok(text.clone()),
            SecretSource::Env(name) => std::env::var(name).map_err(|_| SecretError::EnvMissing(name.clone())),
            SecretSource::File(path) => {
                let path = self.policy_dir.join(path);
                read(&path).map_err(|reason| SecretError::File { path, reason })
            }
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut text = String::new();
    // the error of text that is no UTF-8 does not repeat the text
    file.take(MAX_SECRET + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_SECRET {
        return Err(format!("is larger than {} KiB", MAX_SECRET / 1024));
    }
    // editors and `echo` end a file with one newline; more of them, or spaces, may belong to the secret
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(dir: &Path, source: SecretSource) -> Result<String, SecretError> {
        PolicySecrets { policy_dir: dir.to_owned() }.resolve(&Secret::new(source))
    }

    #[test]
    fn a_file_is_read_anew_each_time_without_its_last_newline() {
        let dir = tempfile::tempdir().expect("a folder");
        let token = || SecretSource::File("token".into());
        for (written, expected) in [("one\n", "one"), ("two\r\n", "two"), (" three \n\n", " three \n"), ("", "")] {
            std::fs::write(dir.path().join("token"), written).expect("written");
            assert_eq!(resolve(dir.path(), token()).ok().as_deref(), Some(expected));
        }
        let absolute = SecretSource::File(dir.path().join("token"));
        assert_eq!(resolve(Path::new("/nowhere"), absolute).ok().as_deref(), Some(""));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_its_content_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("binary"), b"sesame\xff\xfe").expect("written");
        std::fs::write(dir.path().join("large"), "x".repeat(70_000)).expect("written");
        std::fs::create_dir(dir.path().join("folder")).expect("made");
        for (name, said) in [
            ("missing", "No such file"),
            ("binary", "UTF-8"),
            ("large", "larger than 64 KiB"),
            ("folder", "no regular"),
        ] {
            let error = resolve(dir.path(), SecretSource::File(name.into())).expect_err("unreadable").to_string();
            assert!(error.contains(said) && error.contains(name) && !error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn the_environment_and_literals_are_taken_as_they_are() {
        let dir = Path::new("/nowhere");
        assert_eq!(resolve(dir, SecretSource::Literal("l\n".into())).ok().as_deref(), Some("l\n"));
        assert_eq!(resolve(dir, SecretSource::Env("PATH".into())).ok(), std::env::var("PATH").ok());
        let error = resolve(dir, SecretSource::Env("SELFHEAL_NO_SUCH_VARIABLE".into())).expect_err("not set");
        assert_eq!(error.to_string(), "environment variable `SELFHEAL_NO_SUCH_VARIABLE` is not set");
    }
}
