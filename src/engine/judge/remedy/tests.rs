//! Stories of ladders and runs, with detect's part played by hand.

mod bench;
mod guarded;
mod hand;
mod ladder;
mod steps;
