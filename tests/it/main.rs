//! All integration tests in one binary: one link, one place to look.

mod command_line;
mod examples;
mod harness;
mod history;
mod ingest;
mod layers;
mod loop_closes;
mod postfix;
mod reload;
mod safety;
mod scenarios;
mod world;
