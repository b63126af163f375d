use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn policy(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("inside")).expect("made");
        fs::write(path, text).expect("written");
    }
    dir
}

fn read(dir: &Path) -> Result<Vec<SourceFile>, ReadError> {
    PolicyFolder { dir: dir.to_owned() }.read()
}

fn paths(dir: &Path) -> Vec<String> {
    read(dir).expect("readable").into_iter().map(|file| file.path).collect()
}

#[test]
fn policy_files_are_read_in_order_and_all_else_is_left_alone() {
    let dir = policy(&[
        ("selfheal.yaml", "\u{feff}format: 1\n"),
        ("rules/z.yaml", "z"),
        ("rules/web/a.yaml", "a"),
        ("rules/lib.rhai", "fn f() {}"),
        ("playbooks/restart.yaml", "r"),
        ("templates/mail/text.j2", "t"),
        ("deployments/eu/web.yaml", "d"),
        // what editors and other programs leave behind
        ("rules/.z.yaml.swp", "x"),
        ("rules/.hidden.yaml", "x"),
        ("rules/z.yaml~", "x"),
        ("rules/#z.yaml#", "x"),
        ("rules/4913", "x"),
        ("rules/z.yaml.bak", "x"),
        ("rules/.git/config.yaml", "x"),
        ("rules/yaml", "x"),
        ("playbooks/f.rhai", "x"),
        ("data/journal.yaml", "x"),
        ("tests/scaling.yaml", "x"),
        ("other.yaml", "x"),
    ]);
    // a lock of Emacs: a link to nowhere
    symlink("me@host.1234", dir.path().join("rules/.#z.yaml")).expect("linked");
    assert_eq!(
        paths(dir.path()),
        [
            "deployments/eu/web.yaml",
            "playbooks/restart.yaml",
            "rules/lib.rhai",
            "rules/web/a.yaml",
            "rules/z.yaml",
            "selfheal.yaml",
            "templates/mail/text.j2",
        ]
    );
    let files = read(dir.path()).expect("readable");
    assert_eq!(files[5].text, "format: 1\n");
}

#[test]
fn links_are_followed_and_a_circle_is_an_error() {
    let shared = policy(&[("more/b.yaml", "b")]);
    let dir = policy(&[("selfheal.yaml", "format: 1"), ("rules/a.yaml", "a")]);
    symlink(shared.path().join("more"), dir.path().join("rules/shared")).expect("linked");
    symlink("a.yaml", dir.path().join("rules/again.yaml")).expect("linked");
    assert_eq!(paths(dir.path()), ["rules/a.yaml", "rules/again.yaml", "rules/shared/b.yaml", "selfheal.yaml"]);
    symlink(".", dir.path().join("rules/self")).expect("linked");
    assert!(matches!(read(dir.path()), Err(ReadError::TooDeep { .. })));
}

#[test]
fn what_cannot_be_read_is_named_with_its_reason() {
    let said = |dir: &Path| read(dir).expect_err("unreadable").to_string();
    let dir = policy(&[("rules/a.yaml", "a")]);
    assert!(said(dir.path()).contains("has no selfheal.yaml; `selfheal init` writes one"));
    assert!(said(&dir.path().join("nowhere")).contains("nowhere: No such file"));
    fs::write(dir.path().join("selfheal.yaml"), "format: 1").expect("written");
    fs::write(dir.path().join("rules/a.yaml"), b"alert\xff").expect("written");
    assert!(said(dir.path()).ends_with("rules/a.yaml is not UTF-8: byte 5 is wrong"), "{}", said(dir.path()));
    fs::remove_file(dir.path().join("rules/a.yaml")).expect("removed");
    symlink("gone.yaml", dir.path().join("rules/a.yaml")).expect("linked");
    assert!(said(dir.path()).contains("rules/a.yaml: No such file"), "{}", said(dir.path()));
    fs::remove_file(dir.path().join("rules/a.yaml")).expect("removed");
    fs::write(dir.path().join("rules/a.yaml"), "x".repeat(MAX_FILE as usize + 1)).expect("written");
    assert!(said(dir.path()).contains("a.yaml is larger than 4 MiB"));
    fs::remove_dir_all(dir.path().join("rules")).expect("removed");
    fs::write(dir.path().join("rules"), "no folder").expect("written");
    assert!(said(dir.path()).contains("rules: Not a directory"), "{}", said(dir.path()));
}

#[test]
fn a_policy_is_bounded_in_size_and_in_number() {
    let dir = policy(&[("selfheal.yaml", "format: 1")]);
    fs::create_dir(dir.path().join("rules")).expect("made");
    let large = "x".repeat(MAX_FILE as usize);
    fs::write(dir.path().join("rules/0.yaml"), &large).expect("written");
    for index in 1..=16 {
        fs::hard_link(dir.path().join("rules/0.yaml"), dir.path().join(format!("rules/{index}.yaml"))).expect("linked");
    }
    assert!(matches!(read(dir.path()), Err(ReadError::TotalTooLarge { .. })));
    let dir = policy(&[("selfheal.yaml", "format: 1"), ("rules/0.yaml", "")]);
    for index in 1..=MAX_FILES {
        fs::hard_link(dir.path().join("rules/0.yaml"), dir.path().join(format!("rules/{index}.yaml"))).expect("linked");
    }
    assert!(matches!(read(dir.path()), Err(ReadError::TooManyFiles { .. })));
}
