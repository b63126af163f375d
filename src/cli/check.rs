//! `selfheal check`: every mistake of a policy folder.

use std::io::IsTerminal;

use serde_json::json;

use super::args::CheckArgs;
use super::{exit, output};
use crate::adapter::Catalog;
use crate::app::policies::PolicyLoader;
use crate::policy::record::Recorded;
use crate::policy::{Level, diagnostic};

pub fn check(args: &CheckArgs) -> anyhow::Result<u8> {
    let dir = std::path::absolute(&args.policy.policy)?;
    let loaded = PolicyLoader::new(dir.clone(), Catalog::new(dir)).load();
    let (diagnostics, summary) = match &loaded {
        Ok(Recorded { policy, .. }) => (
            policy.warnings.clone(),
            format!(
                "{} rules, {} playbooks, {} deployments, {} receivers",
                policy.rules.len(),
                policy.playbooks.len(),
                policy.deployments.len(),
                policy.receivers.len()
            ),
        ),
        Err(failure) => (failure.diagnostics(), String::new()),
    };
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Level::Error).count();
    let warnings = diagnostics.len() - errors;
    if args.json {
        output::json(&json!({ "diagnostics": diagnostics }));
    } else {
        anstream::eprint!("{}", diagnostic::render(&diagnostics, std::io::stderr().is_terminal()));
        if errors == 0 {
            anstream::println!(
                "ok: {summary}{}",
                if warnings > 0 { format!(", {warnings} warnings") } else { String::new() }
            );
        } else {
            anstream::eprintln!("{errors} errors, {warnings} warnings");
        }
    }
    Ok(if errors == 0 { 0 } else { exit::FAILED })
}
