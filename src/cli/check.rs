//! `selfheal check`: every mistake of a policy folder.

use std::fmt;
use std::hint::black_box;
use std::io::IsTerminal;
use std::time::Instant;

use serde_json::json;

use super::args::CheckArgs;
use super::{exit, output};
use crate::app::policies::PolicyLoader;
use selfheal_adapter::Catalog;
use selfheal_contract::diagnostic::{self, Level};
use selfheal_detect::costs::{RuleCost, RuleWay, costs};
use selfheal_policy::Policy;
use selfheal_policy::record::Recorded;
use selfheal_script::{Evidence, FastPath, Read, Reading, Vars};

/// How often a rule is asked to see what that takes.
const ASKED: u32 = 2_000;

/// A rule's cost with what one evaluation takes on this machine.
struct Explained {
    cost: RuleCost,
    nanoseconds: f64,
}

impl Explained {
    fn json(&self) -> serde_json::Value {
        let mut document = json!(self.cost);
        document["nanoseconds"] = json!(self.nanoseconds.round());
        document
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RuleCost { rule, reads, way, because, asked, keeps } = &self.cost;
        let way = match way {
            RuleWay::Arithmetic => "arithmetic",
            RuleWay::Compiled => "compiled",
        };
        let because = because.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        writeln!(f, "{rule}")?;
        writeln!(f, "  evaluated  {way}, about {:.0} ns{because}", self.nanoseconds)?;
        for (name, items) in [("reads", reads), ("asked", asked), ("keeps", keeps)] {
            for (index, item) in items.iter().enumerate() {
                writeln!(f, "  {:9}  {item}", if index == 0 { name } else { "" })?;
            }
        }
        Ok(())
    }
}

/// Nothing is known: what a rule costs by itself, without what it reads.
struct NoEvidence;

impl Evidence for NoEvidence {
    fn read(&self, _read: &Read) -> Result<Reading, String> {
        Ok(Reading::Number(1.0))
    }
}

#[expect(clippy::disallowed_methods, reason = "what an evaluation takes is measured")]
fn explain(policy: &Policy) -> Vec<Explained> {
    let vars = Vars { settings: policy.settings.clone(), value: Some(1.0), ..Vars::default() };
    let costs = costs(policy).into_iter();
    let measured = costs.zip(policy.rules.values()).map(|(cost, rule)| {
        let programs: Option<Vec<FastPath>> =
            rule.levels.iter().map(|level| level.when.fast_path(&policy.settings)).collect();
        let programs = programs.filter(|_| cost.way == RuleWay::Arithmetic);
        let began = Instant::now();
        for _ in 0..ASKED {
            match &programs {
                Some(programs) => programs.iter().for_each(|program| {
                    black_box(program.run(1.0, |_| Some(1.0)));
                }),
                None => rule.levels.iter().for_each(|level| {
                    black_box(level.when.truth(&vars, &NoEvidence));
                }),
            }
        }
        let nanoseconds = began.elapsed().as_secs_f64() * 1e9 / f64::from(ASKED);
        Explained { cost, nanoseconds }
    });
    measured.collect()
}

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
    let explained = match &loaded {
        Ok(Recorded { policy, .. }) if args.explain => Some(explain(policy)),
        _ => None,
    };
    if args.json {
        let mut document = json!({ "diagnostics": diagnostics });
        if let Some(rules) = &explained {
            document["rules"] = rules.iter().map(Explained::json).collect();
        }
        output::json(&document);
    } else {
        anstream::eprint!("{}", diagnostic::render(&diagnostics, std::io::stderr().is_terminal()));
        if errors == 0 {
            for rule in explained.iter().flatten() {
                anstream::println!("{rule}");
            }
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
