//! The types of adapters in this build, for the policy compiler.

use super::process;
use crate::model::{AdapterCatalog, AdapterSpec, Map};

/// What may stand after `type:` in `adapters:`, in the order people are told.
const KINDS: [&str; 1] = ["process"];

/// Knows what each type of adapter says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Catalog;

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
        for kind in Catalog.kinds() {
            if kind == "process" {
                let spec = Catalog.describe(kind, &Map::new()).unwrap_or_else(|error| panic!("{kind}: {error}"));
                assert!(spec.verbs.iter().any(|verb| verb.verb.as_str() == "restart"), "{kind}");
            }
        }
        assert!(Catalog.describe("nonsense", &Map::new()).is_err_and(|error| error.contains("process")));
    }
}
