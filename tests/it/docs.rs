//! What the documents say of tests is true.

use std::fs;
use std::path::Path;

/// `[fail_fast](../tests/it/safety.rs)`: the name and the file of every link to a test.
fn links(text: &str) -> Vec<(&str, &str)> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.flat_map(|row| row.split('[').skip(1));
    cells
        .filter_map(|cell| cell.split_once("](../"))
        .map(|(name, rest)| (name, rest.split(')').next().unwrap_or_default()))
        .collect()
}

#[test]
fn every_test_that_safety_md_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/safety.md")).expect("it is there");
    let links = links(&text);
    assert!(links.len() > 60, "{} links were found", links.len());
    for (name, file) in links {
        let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn safety_{name}(")), "{file} has no test safety_{name}");
    }
}

#[test]
fn the_reference_of_policy_keys_comes_from_the_compiler_s_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/policy-schema.md");
    let page = selfheal_policy::key_reference();
    if std::env::var_os("SELFHEAL_BLESS").is_some() {
        fs::write(&path, &page).expect("the page can be written");
    }
    let written = fs::read_to_string(&path).expect("the page is there");
    assert!(written == page, "{} differs from the tables; SELFHEAL_BLESS=1 writes it anew", path.display());
}
