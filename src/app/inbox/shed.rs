//! What a full lane refuses, counted, and said once for each burst: when it begins, and when it is over with how much
//! it was. A request more or less is no line in the log.

/// Of one lane.
#[derive(Debug, Default)]
pub(super) struct Shed {
    refused: u64,
    bursts: u64,
    burst: Option<Burst>,
}

/// Since the lane was last half empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Burst {
    requests: u64,
    refused: u64,
}

impl Shed {
    /// Everything that was ever refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How many bursts there were, with the one that goes on.
    pub fn bursts(&self) -> u64 {
        self.bursts
    }

    /// Whether one goes on.
    pub fn goes_on(&self) -> bool {
        self.burst.is_some()
    }

    /// Counts one request with so many events.
    pub fn refuse(&mut self, lane: &'static str, events: usize) {
        self.refused += events as u64;
        if self.burst.is_none() {
            tracing::warn!(lane, "a lane into the engine is full: what comes is refused until there is room");
        }
        self.bursts += u64::from(self.burst.is_none());
        let burst = self.burst.get_or_insert_default();
        burst.requests += 1;
        burst.refused += events as u64;
    }

    /// There is room again. Gives the burst that is over.
    pub fn relax(&mut self, lane: &'static str) -> Option<Burst> {
        let over = self.burst.take()?;
        let Burst { requests, refused } = over;
        tracing::warn!(lane, requests, refused, "a lane into the engine has room again; so much was refused");
        Some(over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_said_once_with_all_that_was_refused_in_it() {
        let mut shed = Shed::default();
        assert_eq!(shed.relax("metrics"), None, "nothing was refused");
        for _ in 0..3 {
            shed.refuse("metrics", 100);
        }
        assert_eq!(shed.relax("metrics"), Some(Burst { requests: 3, refused: 300 }));
        assert_eq!(shed.relax("metrics"), None, "it is over");
        shed.refuse("metrics", 1);
        assert_eq!(shed.relax("metrics"), Some(Burst { requests: 1, refused: 1 }));
        assert_eq!(shed.refused(), 301);
    }
}
