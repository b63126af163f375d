//! What the end of a run means for the next rung: the one table of it.

/// How a run ended, as far as its ladder is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    Cured,
    Done,
    /// Clear before the first acting step.
    WentAway,
    /// Also: a step failed.
    NotCured,
    RefusedMayPass,
    RefusedForGood,
    Inconclusive,
    /// By a person, or because nobody answered in time.
    Denied,
    Cancelled,
}

/// What the ladder does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing more in this firing; a relapse goes on with the same rung.
    Rest,
    NextRung,
    /// The same rung asks again while the alert fires.
    KeepRung,
    /// Nothing more in this episode; people are told.
    Stop,
    /// No rung is left; people are told the whole story.
    Exhausted,
}

/// The table of SPEC §5.1. `rungs_left`: how many come after the present one.
pub fn after(end: RunEnd, rungs_left: usize) -> Move {
    match end {
        RunEnd::Cured | RunEnd::Done | RunEnd::WentAway => Move::Rest,
        RunEnd::NotCured | RunEnd::RefusedForGood if rungs_left > 0 => Move::NextRung,
        RunEnd::NotCured | RunEnd::RefusedForGood => Move::Exhausted,
        RunEnd::RefusedMayPass => Move::KeepRung,
        RunEnd::Inconclusive | RunEnd::Denied | RunEnd::Cancelled => Move::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_run_decides_the_rung_as_the_table_says() {
        for (end, with_rungs_left, at_the_last) in [
            (RunEnd::Cured, Move::Rest, Move::Rest),
            (RunEnd::Done, Move::Rest, Move::Rest),
            (RunEnd::WentAway, Move::Rest, Move::Rest),
            (RunEnd::NotCured, Move::NextRung, Move::Exhausted),
            (RunEnd::RefusedForGood, Move::NextRung, Move::Exhausted),
            (RunEnd::RefusedMayPass, Move::KeepRung, Move::KeepRung),
            (RunEnd::Inconclusive, Move::Stop, Move::Stop),
            (RunEnd::Denied, Move::Stop, Move::Stop),
            (RunEnd::Cancelled, Move::Stop, Move::Stop),
        ] {
            assert_eq!(after(end, 1), with_rungs_left, "{end:?} with a rung left");
            assert_eq!(after(end, 0), at_the_last, "{end:?} at the last rung");
        }
    }
}
