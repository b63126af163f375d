//! Holds the house together: an import only points down, siblings do not import each other.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of one rank are siblings. A module may import what has a lower rank, and itself.
const RANKS: [&[&str]; 9] = [
    &["model"],
    &["script"],
    &["rule", "alert", "playbook"],
    &["policy"],
    &["engine"],
    &["source", "adapter", "notify", "store", "reload", "api"],
    &["app"],
    &["cli"],
    &["main", "lib"],
];

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&module))
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

/// Every top-level module that a source text names after `crate::`, also inside `crate::{a, b::c}`.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut part = String::new();
            for letter in list.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => {
                        found.push(word(part.trim()));
                        part.clear();
                        continue;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                part.push(letter);
            }
            found.push(word(part.trim()));
        } else {
            found.push(word(rest));
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn imports_only_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 50, "the scan found only {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&src).unwrap_or(&file);
        let first = inside.iter().next().map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
        let own = first.trim_end_matches(".rs");
        let own_rank = rank(own).unwrap_or_else(|| panic!("module `{own}` has no rank; give it one in this test"));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for target in imports(&code) {
            // names that are no module (a macro, a re-export of the crate root) have no rank
            if let Some(target_rank) = rank(&target)
                && target != own
                && target_rank >= own_rank
            {
                wrong.push(format!("{}: {own} imports {target}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not point down:\n{}", wrong.join("\n"));
}

#[test]
fn the_core_and_the_engine_touch_nothing_outside() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for module in RANKS[..5].iter().flat_map(|rank| rank.iter()) {
        let mut files = Vec::new();
        rust_files(&src.join(module), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for forbidden in
                ["tokio::", "std::fs", "std::net", "std::process", "Instant::now", "SystemTime", "tracing::"]
            {
                if code.contains(forbidden) {
                    wrong.push(format!("{}: {forbidden}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the core reaches outside:\n{}", wrong.join("\n"));
}

#[test]
fn the_import_scan_sees_what_it_should() {
    assert_eq!(imports("use crate::model::{A, B};"), ["model"]);
    assert_eq!(imports("use crate::{engine::x, api::{a, b}, model};"), ["engine", "api", "model"]);
}
