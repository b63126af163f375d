//! The examples are what people copy, so each of them is checked as people would.

use std::path::Path;
use std::process::Command;

#[test]
fn every_example_policy_is_without_a_mistake() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing, and CI has to have it");
        eprintln!("SKIPPED: python3 is not installed, the examples were not checked");
        return;
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for name in ["own-service", "exec-python"] {
        let checked = Command::new(env!("CARGO_BIN_EXE_selfheal"))
            .args(["check", "--policy"])
            .arg(examples.join(name))
            .env_remove("SELFHEAL_POLICY")
            .output()
            .unwrap_or_else(|error| panic!("selfheal does not start: {error}"));
        let said = [checked.stdout, checked.stderr].concat();
        assert_eq!(checked.status.code(), Some(0), "{name}:\n{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn the_own_service_runs_a_release_by_a_relative_link() {
    let service = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/own-service/service");
    let link = std::fs::read_link(service.join("current")).unwrap_or_else(|error| panic!("no link: {error}"));
    assert_eq!(link, Path::new("releases/v1"));
    assert!(service.join("current/server.py").is_file());
}
