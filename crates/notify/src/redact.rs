//! Keeps the secrets of one try out of what is said about it: a peer may repeat a password or a token in its answer.

use selfheal_contract::DeliveryResult;

/// Shorter values would turn ordinary words of an error into stars.
const MIN_SECRET: usize = 4;
/// Of one sentence about a failure.
const MAX_WHY: usize = 500;

/// The values that one try used and nobody may read.
#[derive(Default)]
pub struct Redactor {
    values: Vec<String>,
}

impl Redactor {
    pub fn hide(&mut self, value: &str) {
        if value.len() >= MIN_SECRET {
            self.values.push(value.to_owned());
            // the longest first: one value may hold another
            self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
    }

    /// One bounded line with every hidden value as `***`.
    pub fn sentence(&self, text: &str) -> String {
        let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for value in &self.values {
            line = line.replace(value.as_str(), "***");
        }
        super::text::clean(&line, MAX_WHY)
    }

    /// The same result, with words that may be logged and shown.
    pub fn result(&self, result: DeliveryResult) -> DeliveryResult {
        match result {
            DeliveryResult::Delivered => DeliveryResult::Delivered,
            DeliveryResult::Transient { why, retry_after } => {
                DeliveryResult::Transient { why: self.sentence(&why), retry_after }
            }
            DeliveryResult::Permanent { why } => DeliveryResult::Permanent { why: self.sentence(&why) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_a_peer_repeats_becomes_stars() {
        let mut redactor = Redactor::default();
        for value in ["open", "open sesame", "x"] {
            redactor.hide(value);
        }
        let said = redactor.sentence("535 no user with\r\npassword `open sesame`\u{1b}[31m, try `open`, x");
        assert_eq!(said, "535 no user with password `***`[31m, try `***`, x");
        assert!(redactor.sentence(&"y".repeat(9_000)).chars().count() <= MAX_WHY + 1);
    }
}
