//! The life of a run: its states and the one table of transitions between them.
