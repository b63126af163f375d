//! `selfheal init`: a commented policy folder to start from. It writes into an empty place only.

use std::path::Path;

use anyhow::{Context, bail};

use super::args::InitArgs;
use crate::app::shipped;

const SELFHEAL_YAML: &str = include_str!("init.yaml");

pub fn init(args: &InitArgs) -> anyhow::Result<u8> {
    let dir = &args.dir;
    for taken in ["selfheal.yaml", "rules", "playbooks"] {
        if dir.join(taken).exists() {
            bail!("{} exists already; init writes a new policy only", dir.join(taken).display());
        }
    }
    let program = std::env::current_exe().context("cannot tell where selfheal itself is")?;
    let program = program.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    write(dir, "selfheal.yaml", &SELFHEAL_YAML.replace("@SELFHEAL@", &program))?;
    for (path, text) in shipped::RULES.iter().chain(shipped::PLAYBOOKS) {
        write(dir, path, text)?;
    }
    let at = if dir == Path::new(".") { String::new() } else { format!(" --policy {}", dir.display()) };
    anstream::println!(
        "wrote {}: selfheal.yaml, rules/ and playbooks/\n\nnext:\n  selfheal inbox                 a mailbox to try with, in another terminal\n  selfheal check{at}\n  selfheal run{at}",
        dir.display()
    );
    Ok(0)
}

fn write(dir: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let file = dir.join(path);
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}
