//! selfheal: alerting that repairs.
//!
//! The crate is three layers; an import only points down (`ARCHITECTURE.md` has the map, a test holds it):
//! the *core* (`model`, `script`, `rule`, `alert`, `playbook`, `policy`) and the *engine* are pure: no clock, no
//! file, no socket, no random number; the *edges* (`source`, `adapter`, `notify`, `store`, `reload`, `api`) do the
//! I/O and talk to the engine only; the *shell* (`app`, `cli`, `main`) puts them together.

pub mod adapter;
pub mod alert;
pub mod api;
pub mod app;
pub mod cli;
pub mod engine;
pub mod model;
pub mod notify;
pub mod playbook;
pub mod policy;
pub mod reload;
pub mod rule;
pub mod script;
pub mod source;
pub mod store;
