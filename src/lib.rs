//! The composition of selfheal: the engine's thread, its edges, and the command line. Everything else is a crate of its
//! own under `crates/` (`ARCHITECTURE.md` has the map).

pub mod app;
pub mod cli;
