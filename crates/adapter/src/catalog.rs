//! The types of adapters in this build, for the policy compiler.

use std::path::PathBuf;
use std::sync::Arc;

use super::exec::Described;
use super::{http, process};
use selfheal_model::{AdapterCatalog, AdapterSpec, Map};

/// What may stand after `type:` in `adapters:`, in the order people are told.
const KINDS: [&str; 3] = ["process", "exec", "http"];

/// Knows what each type of adapter says of itself.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Relative paths of adapters' programs start here.
    policy_dir: PathBuf,
    described: Arc<Described>,
}

impl Catalog {
    pub fn new(policy_dir: PathBuf) -> Self {
        Catalog { policy_dir, described: Arc::default() }
    }
}

impl AdapterCatalog for Catalog {
    fn kinds(&self) -> Vec<&'static str> {
        KINDS.to_vec()
    }

    fn describe(&self, kind: &str, options: &Map) -> Result<AdapterSpec, String> {
        match kind {
            "process" => process::spec(options),
            "exec" => self.described.spec(options, &self.policy_dir),
            "http" => http::spec(options),
            other => Err(format!("there is no adapter of type `{other}`; there are {}", KINDS.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_type_that_is_named_can_be_described() {
        let folder = tempfile::tempdir().unwrap();
        let answer = r#"{"verbs":[{"verb":"restart","effect":"change"}]}"#;
        std::fs::write(folder.path().join("ours.sh"), format!("echo '{answer}'\n")).unwrap();
        let catalog = Catalog::new(folder.path().to_owned());
        for kind in catalog.kinds() {
            let options = match kind {
                "exec" => json!({ "command": ["/bin/sh", "ours.sh"] }),
                "http" => json!({ "base_url": "http://127.0.0.1:1", "verbs": { "restart": { "path": "/" } } }),
                _ => json!({}),
            };
            let spec = catalog.describe(kind, options.as_object().unwrap());
            let spec = spec.unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert!(spec.verbs.iter().any(|verb| verb.verb.as_str() == "restart"), "{kind}");
            assert!(spec.verbs.iter().any(|verb| verb.verb.as_str() == "refresh_auth"), "{kind}");
            for written in options.as_object().unwrap().keys() {
                assert!(spec.options.iter().any(|option| option.name == *written), "{kind}: {written}");
            }
        }
        let unknown = catalog.describe("nonsense", &Map::new());
        assert!(unknown.is_err_and(|error| error.contains("process, exec, http")));
    }
}
