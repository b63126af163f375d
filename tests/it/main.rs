//! All integration tests in one binary: one link, one place to look.

mod approval;
mod command_line;
mod crash;
mod examples;
mod explain;
mod fleet;
mod golden;
mod harness;
mod history;
mod ingest;
mod journal_reader;
mod layers;
mod loop_closes;
mod peers;
mod postfix;
mod reload;
mod replay;
mod safety;
mod scenarios;
mod secrets;
mod send;
mod silences;
mod sim;
mod storage;
mod telemetry;
mod world;
