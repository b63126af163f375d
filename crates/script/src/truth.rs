//! The answer of a condition.

use smol_str::SmolStr;

/// The answer of a condition. Unknown is *no data*, never false.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Truth {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// Data that decides is missing.
    NoData,
    /// The script failed or exceeded a limit; the text says why, for people.
    Error(SmolStr),
}

impl Truth {
    /// Whether the condition certainly holds.
    pub fn is_true(&self) -> bool {
        matches!(self, Truth::True)
    }

    /// Whether the condition certainly does not hold.
    pub fn is_false(&self) -> bool {
        matches!(self, Truth::False)
    }
}
