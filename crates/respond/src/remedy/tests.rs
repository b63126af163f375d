//! Stories of ladders and runs, with detect's part played by hand.

mod approvals;
pub(super) mod bench;
mod fan;
mod fleet;
mod guarded;
mod hand;
mod held;
mod ladder;
mod parts;
mod schedules;
mod steps;
