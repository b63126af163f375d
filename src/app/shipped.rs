//! The policy that comes with selfheal, embedded in the binary: (path inside a policy folder, text).

macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../", $path)))),*]
    };
}

pub const RULES: &[(&str, &str)] = shipped!["rules/deployment.yaml", "rules/tiers.yaml"];

pub const PLAYBOOKS: &[(&str, &str)] = shipped![
    "playbooks/restart.yaml",
    "playbooks/scale-out.yaml",
    "playbooks/scale-up.yaml",
    "playbooks/rollback.yaml",
    "playbooks/force-rollback.yaml",
    "playbooks/refresh-auth.yaml",
];
