//! The types of adapters in this build, for the policy compiler.

use std::path::PathBuf;

use super::process;
use crate::model::{AdapterCatalog, AdapterSpec, Map};

/// What may stand after `type:` in `adapters:`, in the order people are told.
const KINDS: [&str; 1] = ["process"];

/// Knows what each type of adapter says of itself.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Relative paths of adapters' programs start here.
    policy_dir: PathBuf,
}

impl Catalog {
    pub fn new(policy_dir: PathBuf) -> Self {
        Catalog { policy_dir }
    }
}

impl AdapterCatalog for Catalog {
    fn kinds(&self) -> Vec<&'static str> {
        KINDS.to_vec()
    }

    fn describe(&self, kind: &str, options: &Map) -> Result<AdapterSpec, String> {
        match kind {
            "process" => process::spec(options),
            other => Err(format!("there is no adapter of type `{other}`; there are {}", KINDS.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_named_can_be_described() {
        let catalog = Catalog::default();
        for kind in catalog.kinds() {
            if kind == "process" {
                let spec = catalog.describe(kind, &Map::new()).unwrap_or_else(|error| panic!("{kind}: {error}"));
                assert!(spec.verbs.iter().any(|verb| verb.verb.as_str() == "restart"), "{kind}");
            }
        }
        assert!(catalog.describe("nonsense", &Map::new()).is_err_and(|error| error.contains("process")));
    }
}
