//! The simulator as a program, for long runs: `cargo run --release --example selfheal-sim -- 10000` tells that many
//! random stories, `… -- 10000 5000` those from seed 5000 on. It ends at the first broken promise, with its seed and the
//! acts it needs.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/sim/mod.rs"]
mod sim;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/world/mod.rs"]
mod world;

use std::process::ExitCode;

const SEEDS: u64 = 1_000;
const TELL_EVERY: u64 = 500;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u64>());
    let (Ok(seeds), Ok(from)) = (numbers.next().unwrap_or(Ok(SEEDS)), numbers.next().unwrap_or(Ok(1))) else {
        eprintln!("usage: selfheal-sim [how many seeds] [the first seed]");
        return ExitCode::from(2);
    };
    let progress = |told: u64| {
        if told.is_multiple_of(TELL_EVERY) && told <= seeds {
            eprintln!("{told} of {seeds}");
        }
    };
    match sim::tell(from..from + seeds, progress) {
        Ok(figures) => {
            println!("seeds {from} to {}: {figures}; no promise was broken", from + seeds - 1);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
