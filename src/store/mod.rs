//! What lasts, or is read the moment it is needed: the journal and secrets.
//!
//! Invariant: nothing is released before the journal has taken the batch it was decided in; a secret's value is read
//! when it is used and kept nowhere.

pub mod history;
pub mod journal;
pub mod secrets;

pub use journal::{Appended, Batch, Journal, JournalError, MemoryJournal};
pub use secrets::PolicySecrets;
