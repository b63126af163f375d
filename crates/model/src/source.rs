//! Where metrics come from that nobody sends: places that selfheal asks itself.

use std::time::Duration;

use smol_str::SmolStr;

use super::{Labels, MetricName, Secret};

/// A place that is asked for metrics, on a rhythm.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Says which in labels (`source`), logs and messages; unique.
    pub name: SmolStr,
    pub kind: SourceKind,
    pub every: Duration,
    /// Of one ask, all of it.
    pub timeout: Duration,
    /// Put on everything it gives; `deployment` says whose it is.
    pub labels: Labels,
    /// The metrics that are kept; none listed is all of them.
    pub only: Vec<NamePattern>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    /// A page of metrics in Prometheus' text format or OpenMetrics.
    Scrape {
        url: String,
        headers: Vec<(String, Secret)>,
        /// Of the server's certificate; a path in the policy folder.
        ca_file: Option<String>,
        /// `false`: any certificate will do.
        verify: bool,
    },
    /// The machine that selfheal runs on.
    Host,
}

impl Source {
    /// Whether a metric of this name is taken.
    pub fn keeps(&self, metric: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|pattern| pattern.matches(metric))
    }
}

/// A metric's name, in which `*` stands for any letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(SmolStr);

impl NamePattern {
    pub fn new(text: &str) -> NamePattern {
        NamePattern(SmolStr::new(text))
    }

    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// What becomes of a metric on its way in.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversion {
    /// What it is called from here on.
    pub name: MetricName,
    /// Its values are multiplied by this.
    pub times: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, name, expected) in [
            ("node_load1", "node_load1", true),
            ("node_load1", "node_load15", false),
            ("node_*", "node_load1", true),
            ("*_total", "errors_total", true),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(NamePattern::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }
}
