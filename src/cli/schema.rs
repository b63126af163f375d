//! `selfheal schema`: the JSON Schema of a kind of policy file, for editors.

use super::args::{SchemaArgs, SchemaKind};
use super::output;
use selfheal_adapter::Catalog;
use selfheal_policy::{FileKind, json_schema};

pub fn schema(args: &SchemaArgs) -> anyhow::Result<u8> {
    let kind = match args.kind {
        SchemaKind::Config => FileKind::Config,
        SchemaKind::Rules => FileKind::Rules,
        SchemaKind::Playbooks => FileKind::Playbooks,
        SchemaKind::Deployments => FileKind::Deployments,
    };
    // no policy folder is read: only what every adapter type of this build declares is in the schema
    output::json(&json_schema(kind, &Catalog::new(std::env::current_dir()?)));
    Ok(0)
}
