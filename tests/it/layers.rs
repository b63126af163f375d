//! Holds the layers: which crate may depend on which, and what the core must never touch.
//!
//! The compiler refuses an import that a `Cargo.toml` does not allow; this test says which ones a `Cargo.toml` may allow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every crate with the crates of this workspace that it may depend on, lowest first.
const MAY_DEPEND_ON: [(&str, &[&str]); 16] = [
    ("atomic-file", &[]),
    ("model", &[]),
    ("contract", &["model"]),
    ("script", &["model"]),
    ("policy", &["contract", "model", "script"]),
    ("messages", &["model", "policy", "script"]),
    ("detect", &["contract", "messages", "model", "policy", "script"]),
    ("respond", &["contract", "messages", "model", "policy", "script"]),
    ("engine", &["contract", "detect", "messages", "model", "policy", "respond"]),
    ("source", &["contract", "model"]),
    ("adapter", &["atomic-file", "contract", "model"]),
    ("notify", &["contract", "model"]),
    ("api", &["contract", "model"]),
    ("reload", &["contract", "model"]),
    ("store", &["contract", "engine", "model", "policy"]),
    ("demo", &["contract", "engine", "model", "policy"]),
];

/// Everything in these can be replayed: they get the time as an argument and ask nothing of the machine.
const PURE: [&str; 8] = ["model", "contract", "script", "policy", "messages", "detect", "respond", "engine"];

/// Crates that reach a clock, a socket, a file, a random number or a log subscriber.
const REACHES_OUTSIDE: [&str; 11] =
    ["tokio", "reqwest", "axum", "lettre", "notify", "rusqlite", "rustix", "procfs", "rand", "getrandom", "tracing"];

/// The same in the standard library, which no `Cargo.toml` keeps out. Clocks are refused by `clippy.toml`.
const STANDARD_OUTSIDE: [&str; 5] = ["std::fs", "std::net", "std::process", "std::thread", "std::env"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names under `[dependencies]` of a manifest.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let name = |line: &str| line.split(['.', '=', ' ']).next().unwrap_or_default().to_owned();
    section.lines().filter(|line| !line.starts_with('#')).map(name).filter(|name| !name.is_empty()).collect()
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{error}")).path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_crate_depends_only_on_what_its_layer_allows() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.into_iter().collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(root().join("crates")).expect("the folder of the crates") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let allowed = allowed.get(name.as_str()).unwrap_or_else(|| panic!("crate `{name}` has no layer in this test"));
        for dependency in dependencies(&read(&root().join("crates").join(&name).join("Cargo.toml"))) {
            let Some(other) = dependency.strip_prefix("selfheal-") else { continue };
            if !allowed.contains(&other) {
                wrong.push(format!("{name} depends on {other}"));
            }
        }
        seen.insert(name);
    }
    assert_eq!(seen.len(), MAY_DEPEND_ON.len(), "a crate that is named here is not there: {seen:?}");
    assert!(wrong.is_empty(), "dependencies that do not point down:\n{}", wrong.join("\n"));
}

#[test]
fn the_core_and_the_engine_reach_nothing_outside() {
    let mut wrong = Vec::new();
    for name in PURE {
        let dir = root().join("crates").join(name);
        let depends = dependencies(&read(&dir.join("Cargo.toml")));
        wrong.extend(REACHES_OUTSIDE.iter().filter(|one| depends.contains(**one)).map(|one| format!("{name}: {one}")));
        let mut files = Vec::new();
        rust_files(&dir.join("src"), &mut files);
        assert!(!files.is_empty(), "{name} has no source");
        for file in files {
            let text = read(&file);
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            let found = STANDARD_OUTSIDE.iter().filter(|one| code.contains(**one));
            wrong.extend(found.map(|one| format!("{}: {one}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "the core reaches outside:\n{}", wrong.join("\n"));
}

#[test]
fn a_manifest_is_read_as_cargo_reads_it() {
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\n# a comment\nselfheal-model.workspace = true\n\
                    tokio = { version = \"1\" }\n\n[dev-dependencies]\nrand = \"0.9\"\n";
    assert_eq!(dependencies(manifest).into_iter().collect::<Vec<_>>(), ["selfheal-model", "tokio"]);
}
