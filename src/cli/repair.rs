//! `selfheal repair`: salvage of a damaged journal.

use anyhow::Context;
use serde_json::json;

use super::args::RepairArgs;
use super::{exit, output};
use crate::app::{data_dir_of, lock_data_dir};
use selfheal_store::Store;
use selfheal_store::repair::repair as salvage;

/// Exits 1 when something is lost.
pub fn repair(args: &RepairArgs) -> anyhow::Result<u8> {
    let data_dir = data_dir_of(&args.policy.policy, args.data_dir.as_deref())?;
    let _lock = lock_data_dir(&data_dir)?;
    let report = salvage(&Store::at(&data_dir)).context("the journal cannot be repaired")?;
    if args.json {
        output::json(&json!(report));
    } else if report.is_whole() {
        anstream::println!("nothing is damaged: {} batches are there", report.kept);
    } else {
        for found in &report.found {
            anstream::println!("damaged: {found}");
        }
        let until = report.known_until.map_or("nothing".to_owned(), |at| format!("everything up to {at}"));
        anstream::println!("kept: {} batches; {until} is known", report.kept);
        if report.unusable > 0 {
            anstream::println!(
                "{} later batches can be read and are of no use without what is missing",
                report.unusable
            );
        }
        for file in &report.moved {
            anstream::println!("moved aside: {}", file.display());
        }
        anstream::println!("`selfheal run` goes on from there; what came after is forgotten");
    }
    Ok(if report.is_whole() { 0 } else { exit::FAILED })
}
